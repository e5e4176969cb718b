//! Bytes as a problem in JSON: every scheduler plans it or says why not, and what it plans can be
//! carried out.
#![no_main]

mod json;

use ekya_sched::{
    Cloud, Fixed, FixedConfig, FixedRes, Likeness, NoRetraining, Optimal, Problem, Reuse,
    Scheduler, Stealing, StreamSpec, Thief, Uniform,
};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};

/// Streams, options and devices above which planning takes too long to fuzz.
const STREAMS_MAX: usize = 12;
const OPTIONS_MAX: usize = 24;
const DEVICES_MAX: usize = 8;
/// A window of some thirty years. Beyond, times are too coarse for a plan to be checked to the
/// microsecond.
const SECONDS_MAX: u64 = 1_000_000_000;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    json::mutate(data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(problem) = serde_json::from_slice::<Problem>(bytes) else {
        return Corpus::Keep;
    };
    if is_too_large(&problem) {
        return Corpus::Reject;
    }
    for scheduler in schedulers() {
        if let Ok(plan) = scheduler.plan(&problem)
            && let Err(error) = plan.check(&problem)
        {
            panic!("{}: {error}\n{problem:?}\n{plan:?}", scheduler.name());
        }
    }
    Corpus::Keep
});

fn is_too_large(problem: &Problem) -> bool {
    let options = |spec: &StreamSpec| spec.inference.len() + spec.retraining.len();
    problem.streams.len() > STREAMS_MAX
        || problem.streams.iter().map(options).sum::<usize>() > OPTIONS_MAX
        || problem.devices.len() > DEVICES_MAX
        || problem.remaining.as_secs() > SECONDS_MAX
}

fn schedulers() -> [Box<dyn Scheduler>; 10] {
    let uniform = |retraining| Uniform {
        inference_fraction: 0.5,
        retraining,
    };
    [
        Box::new(NoRetraining),
        Box::new(uniform(Fixed::Option(0))),
        Box::new(uniform(Fixed::MostAccurate)),
        Box::new(FixedRes {
            inference_fraction: 0.5,
        }),
        Box::new(FixedConfig { retraining: 0 }),
        Box::new(Cloud::over(5.1, 17.5)),
        Box::new(Reuse {
            by: Likeness::Classes,
        }),
        Box::new(Thief::default()),
        Box::new(Thief {
            stealing: Stealing::Literal,
        }),
        Box::new(Optimal),
    ]
}
