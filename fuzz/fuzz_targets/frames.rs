//! What another node says on its connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ekya_actors::fuzzing::frames(bytes));
