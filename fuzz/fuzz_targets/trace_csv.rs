//! Bytes as a trace in CSV: it is simulated or refused, and never panics.
#![no_main]

use ekya_sched::Thief;
use ekya_sched::simulate::{Scenario, Trace, inference_from_csv, throughput_from_csv};
use libfuzzer_sys::fuzz_target;

const SKIPPING: &str = "every,factor\n1,1\n2,0.8\n5,0.4\n20,0.1\n";
/// Larger traces are simulated too slowly for a fuzzer.
const STREAMS_MAX: usize = 8;
const WINDOWS_MAX: usize = 4;

fuzz_target!(|bytes: &[u8]| {
    // The same bytes as the other files that a simulation reads.
    let _ = inference_from_csv(bytes, None, 0.25);
    let _ = throughput_from_csv(bytes);
    let Ok(trace) = Trace::from_csv(bytes) else {
        return;
    };
    let trace = trace.clone().with_reuse(bytes).unwrap_or(trace);
    if trace.streams() <= STREAMS_MAX && trace.windows() <= WINDOWS_MAX {
        let inference = inference_from_csv(SKIPPING.as_bytes(), None, 0.25);
        let scenario = Scenario::new(&trace, inference.expect("a profile"));
        scenario.run(&Thief::default()).expect("the thief plans what a trace can say");
    }
});
