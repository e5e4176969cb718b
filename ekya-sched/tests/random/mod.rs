//! Random problems, all schedulers, and one that checks every plan it passes on.
#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use ekya_sched::{
    CachedStudent, Cloud, DeviceSpec, Fixed, FixedConfig, FixedRes, InferenceOption, Likeness,
    NoRetraining, Optimal, Plan, Problem, RetrainingOption, Reuse, Scene, ScheduleError, Scheduler,
    Share, Stealing, StreamSpec, Thief, Throughput, Uniform,
};
use proptest::prelude::*;

/// Checks every plan that it passes on.
pub(crate) struct Checked<'a>(pub(crate) &'a dyn Scheduler);

impl Scheduler for Checked<'_> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        let plan = self.0.plan(problem)?;
        plan.check(problem)
            .unwrap_or_else(|error| panic!("{}: {error}\n{problem:?}\n{plan:?}", self.name()));
        Ok(plan)
    }
}

/// All that retrain on the devices, or not at all.
pub(crate) fn local_schedulers() -> Vec<Box<dyn Scheduler>> {
    let uniform = |inference_fraction| Uniform {
        inference_fraction,
        retraining: Fixed::Option(0),
    };
    vec![
        Box::new(NoRetraining),
        Box::new(uniform(0.0)),
        Box::new(uniform(0.5)),
        Box::new(uniform(1.0)),
        Box::new(FixedRes {
            inference_fraction: 0.5,
        }),
        Box::new(FixedConfig { retraining: 0 }),
        Box::new(Optimal),
        Box::new(Thief::default()),
        Box::new(Thief {
            stealing: Stealing::Literal,
        }),
    ]
}

/// All of them.
pub(crate) fn schedulers() -> Vec<Box<dyn Scheduler>> {
    let mut all = local_schedulers();
    all.push(Box::new(Cloud::over(5.1, 17.5)));
    all.push(Box::new(Reuse { by: Likeness::Hour }));
    all
}

fn share(most: u32) -> impl Strategy<Value = Share> {
    prop_oneof![
        (0..=most).prop_map(Share::from_micro),
        (0..=most / 50_000).prop_map(|twentieths| Share::from_micro(twentieths * 50_000)),
    ]
}

fn throughput() -> impl Strategy<Value = Throughput> {
    let tenths = |tenths: u32| Share::from_micro(tenths * 100_000);
    prop_oneof![
        3 => Just(Throughput::default()),
        1 => (1..20_u32).prop_map(move |largest| Throughput::linear_to(tenths(largest))),
        1 => prop::collection::vec(1.0..20.0_f64, 1..=10).prop_map(move |seconds| {
            let points = (1..).map(tenths).zip(seconds).collect::<Vec<_>>();
            Throughput::measured(&points).unwrap()
        }),
    ]
}

prop_compose! {
    fn retraining()(
        end_accuracy in 0.0..=1.0_f64,
        gpu_seconds in prop_oneof![9 => 0.0..300.0_f64, 1 => Just(0.0)],
        progress in prop_oneof![3 => Just(0.0), 1 => 0.0..=1.0_f64],
        startup_seconds in prop_oneof![2 => Just(0.0), 1 => 0.0..20.0_f64],
        memory in 0..4_u64,
        spread in prop::option::of(0.0..0.2_f64),
    ) -> RetrainingOption {
        RetrainingOption {
            interval: spread.map(|s| ((end_accuracy - s).max(0.0), (end_accuracy + s).min(1.0))),
            progress,
            startup_seconds,
            memory,
            ..RetrainingOption::new(end_accuracy, gpu_seconds)
        }
    }
}

prop_compose! {
    fn stream()(
        device in prop::option::weighted(0.8, 0..3_usize),
        training_device in prop::option::weighted(0.2, 0..3_usize),
        weight in prop_oneof![2 => Just(1.0), 1 => 0.1..5.0_f64],
        accuracy in 0.0..=1.0_f64,
        memory in 0..4_u64,
        inference in prop::collection::vec((0.0..=1.0_f64, share(1_200_000)), 0..5),
        retraining in prop::collection::vec(retraining(), 0..6),
        throughput in throughput(),
        speeds in prop::option::weighted(0.3, prop::collection::vec(0.1..8.0_f64, 3)),
        transfer_seconds in prop::option::weighted(0.3, 0.0..40.0_f64),
        cached in prop::collection::vec((0.0..24.0_f64, 0.0..=1.0_f64), 0..3),
        running in any::<bool>(),
    ) -> StreamSpec {
        let student = |(hour, accuracy): (f64, f64)| CachedStudent {
            scene: Scene { hour, ..Scene::default() },
            accuracy,
        };
        StreamSpec {
            name: "s".into(),
            device,
            training_device,
            weight,
            accuracy,
            memory,
            inference: inference
                .into_iter()
                .map(|(accuracy_factor, share)| InferenceOption { accuracy_factor, share })
                .collect(),
            training_running: running && retraining.len() == 1,
            retraining,
            throughput,
            speeds: speeds.unwrap_or_default(),
            transfer_seconds,
            scene: Some(Scene::default()),
            cached: cached.into_iter().map(student).collect(),
        }
    }
}

prop_compose! {
    fn device()(
        capacity in share(4_000_000),
        memory in prop::option::weighted(0.3, 0..20_u64),
        node in 0..2_usize,
        training_slots in prop::option::weighted(0.3, 0..4_usize),
        lends in any::<bool>(),
    ) -> DeviceSpec {
        DeviceSpec { capacity, memory, node, training_slots, lends }
    }
}

prop_compose! {
    /// None to three devices, none to twelve streams, options of any quality.
    pub fn problem()(
        millis in prop_oneof![1 => Just(0), 9 => 1..200_000_u64],
        delay in prop_oneof![3 => Just(0), 1 => 0..250_000_u64],
        quantum in 20_000..=400_000_u32,
        min_accuracy in prop_oneof![Just(0.0), 0.0..=1.0_f64],
        devices in prop::collection::vec(device(), 0..=3),
        streams in prop::collection::vec(stream(), 0..12),
    ) -> Problem {
        let modulo = |device: usize| device % devices.len().max(1);
        let at_home = |mut stream: StreamSpec| {
            stream.device = stream.device.map(modulo);
            stream.training_device = stream.training_device.map(modulo);
            stream.speeds.truncate(devices.len());
            stream
        };
        Problem {
            remaining: Duration::from_millis(millis),
            labelling_delay: Duration::from_millis(delay),
            quantum: Share::from_micro(quantum),
            min_accuracy,
            streams: streams.into_iter().map(at_home).collect(),
            devices,
        }
    }
}

prop_compose! {
    /// The same as the paper has it: training speed equals share, and nothing but capacities
    /// limits what runs.
    pub fn plain_problem()(mut problem in problem()) -> Problem {
        problem.labelling_delay = Duration::ZERO;
        for device in &mut problem.devices {
            *device = DeviceSpec::new(device.capacity);
        }
        for stream in &mut problem.streams {
            stream.device.get_or_insert(0);
            stream.training_device = None;
            (stream.speeds, stream.transfer_seconds) = (Vec::new(), None);
            stream.throughput = Throughput::default();
            for option in &mut stream.retraining {
                *option = RetrainingOption::new(option.end_accuracy, option.gpu_seconds);
            }
        }
        problem
    }
}
