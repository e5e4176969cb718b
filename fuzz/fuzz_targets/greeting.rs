//! The first thing that another node says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ekya_actors::fuzzing::greeting(bytes));
