//! Gossip of another node.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ekya_actors::fuzzing::packet(bytes));
