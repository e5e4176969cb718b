//! What holds for every scheduler on every problem.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use ekya_sched::simulate::{WindowOutcome, run_window};
use ekya_sched::{
    DeviceSpec, InferenceOption, NoRetraining, Optimal, Plan, Problem, RetrainingOption,
    ScheduleError, Scheduler, Share, Stealing, StreamSpec, Thief, Uniform,
};
use proptest::prelude::*;

fn schedulers() -> Vec<Box<dyn Scheduler>> {
    let uniform = |inference_fraction| Uniform {
        inference_fraction,
        retraining: 0,
    };
    vec![
        Box::new(NoRetraining),
        Box::new(uniform(0.0)),
        Box::new(uniform(0.5)),
        Box::new(uniform(1.0)),
        Box::new(Optimal),
        Box::new(Thief::default()),
        Box::new(Thief {
            stealing: Stealing::Literal,
        }),
    ]
}

fn share(most: u32) -> impl Strategy<Value = Share> {
    prop_oneof![
        (0..=most).prop_map(Share::from_micro),
        (0..=most / 50_000).prop_map(|twentieths| Share::from_micro(twentieths * 50_000)),
    ]
}

prop_compose! {
    fn stream()(
        device in 0..3_usize,
        accuracy in 0.0..=1.0_f64,
        inference in prop::collection::vec((0.0..=1.0_f64, share(1_200_000)), 0..5),
        retraining in prop::collection::vec((0.0..=1.0_f64, 0.0..300.0_f64), 0..6),
        running in any::<bool>(),
    ) -> StreamSpec {
        StreamSpec {
            name: "s".into(),
            device,
            accuracy,
            inference: inference
                .into_iter()
                .map(|(accuracy_factor, share)| InferenceOption { accuracy_factor, share })
                .collect(),
            training_running: running && retraining.len() == 1,
            retraining: retraining
                .into_iter()
                .map(|(end_accuracy, gpu_seconds)| RetrainingOption { end_accuracy, gpu_seconds })
                .collect(),
        }
    }
}

prop_compose! {
    /// None to three devices, none to twelve streams, options of any quality.
    fn problem()(
        millis in prop_oneof![Just(0), 1..200_000_u64],
        quantum in 20_000..=400_000_u32,
        min_accuracy in prop_oneof![Just(0.0), 0.0..=1.0_f64],
        capacities in prop::collection::vec(share(4_000_000), 0..=3),
        streams in prop::collection::vec(stream(), 0..12),
    ) -> Problem {
        let devices = capacities.len();
        let at_home = |mut stream: StreamSpec| {
            stream.device %= devices.max(1);
            stream
        };
        Problem {
            remaining: Duration::from_millis(millis),
            quantum: Share::from_micro(quantum),
            min_accuracy,
            devices: capacities.into_iter().map(|capacity| DeviceSpec { capacity }).collect(),
            streams: streams.into_iter().map(at_home).collect(),
        }
    }
}

/// Checks every plan that it passes on.
struct Checked<'a>(&'a dyn Scheduler);

impl Scheduler for Checked<'_> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        let plan = self.0.plan(problem)?;
        plan.check(problem)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        Ok(plan)
    }
}

fn assert_fills_the_window(problem: &Problem, outcome: &WindowOutcome) {
    let length = problem.remaining.as_secs_f64();
    for stream in &outcome.streams {
        let first = stream.segments.first().unwrap();
        let last = stream.segments.last().unwrap();
        assert!(first.from == 0.0 && (last.to - length).abs() < 1e-6);
        for pair in stream.segments.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
        assert!((0.0..=1.0 + 1e-9).contains(&stream.mean_accuracy));
    }
}

proptest! {
    #[test]
    fn no_plan_of_a_window_breaks_its_problem(problem in problem()) {
        for scheduler in schedulers() {
            let outcome = run_window(&Checked(scheduler.as_ref()), &problem).unwrap();
            assert_fills_the_window(&problem, &outcome);
        }
    }

    #[test]
    fn equal_problems_give_equal_plans(problem in problem()) {
        for scheduler in schedulers() {
            prop_assert_eq!(scheduler.plan(&problem), scheduler.plan(&problem.clone()));
        }
    }

    #[test]
    fn scaling_all_times_changes_nothing(problem in problem()) {
        let mut slow = problem.clone();
        slow.remaining *= 4;
        for option in slow.streams.iter_mut().flat_map(|stream| &mut stream.retraining) {
            option.gpu_seconds *= 4.0;
        }
        for scheduler in schedulers() {
            let plan = scheduler.plan(&problem).unwrap();
            let slow = scheduler.plan(&slow).unwrap();
            prop_assert!((plan.mean_accuracy - slow.mean_accuracy).abs() < 1e-9);
            for (a, b) in plan.streams.iter().zip(&slow.streams) {
                prop_assert_eq!(a.retraining, b.retraining);
                prop_assert_eq!(a.training_share, b.training_share);
                prop_assert_eq!(a.inference_share, b.inference_share);
            }
        }
    }

    /// What it finds when it re-plans at completions is never worse than what it had in mind. A
    /// lowest accuracy can come within reach at a completion and then costs something: none here.
    #[test]
    fn optimal_keeps_its_promise_below_its_bound(mut problem in problem()) {
        problem.min_accuracy = 0.0;
        let plan = Optimal.plan(&problem).unwrap();
        let bound = plan.upper_bound.unwrap();
        prop_assert!(plan.mean_accuracy <= bound + 1e-9);
        let outcome = run_window(&Optimal, &problem).unwrap().mean_accuracy;
        prop_assert!(outcome >= plan.mean_accuracy - 1e-6, "{} below {}", outcome, plan.mean_accuracy);
        prop_assert!(outcome <= bound + 1e-6, "{} above {}", outcome, bound);
    }

    /// Plans that break a lowest accuracy are not bounded, so there is none here.
    #[test]
    fn nobody_beats_the_bound(mut problem in problem()) {
        problem.min_accuracy = 0.0;
        let bound = Optimal.plan(&problem).unwrap().upper_bound.unwrap();
        for scheduler in schedulers() {
            let outcome = run_window(scheduler.as_ref(), &problem).unwrap().mean_accuracy;
            prop_assert!(outcome <= bound + 1e-6, "{}: {} above {}", scheduler.name(), outcome, bound);
        }
    }

    #[test]
    fn more_streams_than_quanta_are_still_planned(streams in 11..60_usize) {
        let problem = Problem {
            devices: vec![DeviceSpec { capacity: Share::WHOLE }],
            streams: (0..streams).map(|index| StreamSpec {
                name: format!("s{index}"),
                accuracy: 0.5,
                inference: vec![InferenceOption {
                    accuracy_factor: 1.0,
                    share: Share::from_micro(50_000),
                }],
                retraining: vec![RetrainingOption { end_accuracy: 0.9, gpu_seconds: 5.0 }],
                ..StreamSpec::default()
            }).collect(),
            ..Problem::new(Duration::from_secs(100))
        };
        let plan = Checked(&Thief::default()).plan(&problem).unwrap();
        // Twenty streams fit exactly; all that fit are served.
        let served = plan.streams.iter().filter(|stream| stream.inference.is_some()).count();
        prop_assert!(served >= streams.min(19), "{} of {}", served, streams);
    }
}

#[test]
fn without_devices_everybody_is_served_as_well_as_it_goes() {
    let problem = Problem {
        streams: vec![StreamSpec {
            name: "a".into(),
            device: 7,
            accuracy: 0.5,
            inference: vec![InferenceOption {
                accuracy_factor: 1.0,
                share: Share::WHOLE,
            }],
            ..StreamSpec::default()
        }],
        ..Problem::new(Duration::from_secs(100))
    };
    for scheduler in schedulers() {
        let plan = Checked(scheduler.as_ref()).plan(&problem).unwrap();
        assert_eq!(plan.streams[0].inference, None);
        assert!(plan.streams[0].reason.contains("best effort"));
    }
}

#[test]
fn a_lowest_accuracy_out_of_reach_is_said() {
    let problem = Problem {
        min_accuracy: 0.6,
        devices: vec![DeviceSpec {
            capacity: Share::WHOLE,
        }],
        streams: vec![StreamSpec {
            name: "a".into(),
            accuracy: 0.5,
            inference: vec![InferenceOption {
                accuracy_factor: 1.0,
                share: Share::from_micro(200_000),
            }],
            retraining: vec![RetrainingOption {
                end_accuracy: 0.9,
                gpu_seconds: 8.0,
            }],
            ..StreamSpec::default()
        }],
        ..Problem::new(Duration::from_secs(100))
    };
    let plan = Thief::default().plan(&problem).unwrap();
    let stream = &plan.streams[0];
    assert_eq!(
        stream.reason,
        "retrain with option 0: +40.0 points after 10.0 s of 100.0 s; \
         accuracy 0.50 is below the lowest acceptable 0.60"
    );
    // What inference does not need makes the retraining faster.
    assert_eq!(stream.training_share, Share::from_micro(800_000));
}

#[test]
fn an_option_longer_than_the_window_is_named_but_not_taken() {
    let problem = Problem {
        devices: vec![DeviceSpec {
            capacity: Share::WHOLE,
        }],
        streams: vec![StreamSpec {
            name: "a".into(),
            accuracy: 0.5,
            retraining: vec![RetrainingOption {
                end_accuracy: 0.9,
                gpu_seconds: 180.0,
            }],
            ..StreamSpec::default()
        }],
        ..Problem::new(Duration::from_secs(100))
    };
    let plan = Thief::default().plan(&problem).unwrap();
    assert_eq!(plan.streams[0].retraining, None);
    let reason = &plan.streams[0].reason;
    assert!(
        reason.contains("gains 40.0 points after 180.0 s of 100.0 s"),
        "{reason}"
    );
}

#[test]
fn the_jobs_of_a_device_only_use_that_device() {
    let stream = |device| StreamSpec {
        name: "a".into(),
        device,
        accuracy: 0.5,
        inference: vec![InferenceOption {
            accuracy_factor: 1.0,
            share: Share::WHOLE,
        }],
        ..StreamSpec::default()
    };
    let capacity = Share::WHOLE;
    let problem = Problem {
        devices: vec![DeviceSpec { capacity }, DeviceSpec { capacity }],
        streams: vec![stream(0), stream(1)],
        ..Problem::new(Duration::from_secs(100))
    };
    let plan = Checked(&Thief::default()).plan(&problem).unwrap();
    assert!(
        plan.streams
            .iter()
            .all(|stream| stream.inference == Some(0))
    );
}

#[test]
fn a_fixed_option_that_is_missing_is_an_error() {
    let uniform = Uniform {
        inference_fraction: 0.5,
        retraining: 3,
    };
    let problem = Problem {
        streams: vec![StreamSpec {
            name: "a".into(),
            retraining: vec![RetrainingOption {
                end_accuracy: 0.9,
                gpu_seconds: 1.0,
            }],
            ..StreamSpec::default()
        }],
        ..Problem::new(Duration::from_secs(100))
    };
    let error = uniform.plan(&problem).unwrap_err();
    assert!(matches!(
        error,
        ScheduleError::NoSuchOption { option: 3, .. }
    ));
}
