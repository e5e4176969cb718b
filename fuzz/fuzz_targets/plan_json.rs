//! Bytes as a plan in JSON: it is found to fit a problem or refused, and never panics.
#![no_main]

mod json;

use std::sync::LazyLock;

use ekya_sched::{Plan, Problem};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

static PROBLEM: LazyLock<Problem> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../seeds/problem_json/two_devices.json"))
        .expect("the seed is a problem")
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    json::mutate(data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = serde_json::from_slice::<Plan>(bytes) {
        // Read by people and by the live system before anything is carried out.
        let _ = (plan.gap(), plan.first_completion());
        for stream in &plan.streams {
            let _ = (stream.now(), stream.retrains_now(), stream.accuracy_at(7.0));
        }
        let _ = plan.check(&PROBLEM);
    }
});
