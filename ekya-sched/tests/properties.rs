//! What holds for every scheduler on every problem.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod random;

use std::time::Duration;

use ekya_sched::simulate::{WindowOutcome, run_window};
use ekya_sched::{
    Cloud, DeviceSpec, Fixed, FixedConfig, FixedRes, InferenceOption, NoRetraining, Optimal,
    Problem, RetrainingOption, ScheduleError, Scheduler, Share, Stealing, StreamSpec, Thief,
    Uniform,
};
use proptest::prelude::*;

use random::{Checked, plain_problem, problem};

/// All that retrain on the devices, or not at all.
fn local_schedulers() -> Vec<Box<dyn Scheduler>> {
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

fn schedulers() -> Vec<Box<dyn Scheduler>> {
    let mut all = local_schedulers();
    all.push(Box::new(Cloud::over(5.1, 17.5)));
    all
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
        slow.labelling_delay *= 4;
        for option in slow.streams.iter_mut().flat_map(|stream| &mut stream.retraining) {
            option.gpu_seconds *= 4.0;
            option.startup_seconds *= 4.0;
        }
        for scheduler in local_schedulers() {
            let plan = scheduler.plan(&problem).unwrap();
            let slow = scheduler.plan(&slow).unwrap();
            prop_assert!((plan.mean_accuracy - slow.mean_accuracy).abs() < 1e-9);
            for (a, b) in plan.streams.iter().zip(&slow.streams) {
                prop_assert_eq!(a.retraining, b.retraining);
                prop_assert_eq!(a.timeline.len(), b.timeline.len());
                for (a, b) in a.timeline.iter().zip(&b.timeline) {
                    prop_assert_eq!(a.training_share, b.training_share);
                    prop_assert_eq!(a.inference_share, b.inference_share);
                }
            }
        }
    }

    /// What it finds when it re-plans at completions is never worse than what it had in mind. A
    /// lowest accuracy can come within reach at a completion and then costs something: none here.
    #[test]
    fn optimal_keeps_its_promise(mut problem in plain_problem()) {
        problem.min_accuracy = 0.0;
        let plan = Optimal.plan(&problem).unwrap();
        let outcome = run_window(&Optimal, &problem).unwrap().mean_accuracy;
        prop_assert!(outcome >= plan.mean_accuracy - 1e-6, "{} below {}", outcome, plan.mean_accuracy);
    }

    /// Plans that break a lowest accuracy are not bounded, so there is none here.
    #[test]
    fn nobody_beats_the_bound(mut problem in problem()) {
        problem.min_accuracy = 0.0;
        let bound = Optimal.plan(&problem).unwrap().upper_bound.unwrap();
        for scheduler in local_schedulers() {
            let outcome = run_window(scheduler.as_ref(), &problem).unwrap().mean_accuracy;
            prop_assert!(outcome <= bound + 1e-6, "{}: {} above {}", scheduler.name(), outcome, bound);
        }
    }

    #[test]
    fn optimal_is_never_below_thief(mut problem in plain_problem()) {
        problem.min_accuracy = 0.0;
        let optimal = Optimal.plan(&problem).unwrap().mean_accuracy;
        let thief = run_window(&Thief::default(), &problem).unwrap().mean_accuracy;
        prop_assert!(optimal >= thief - 1e-6, "{} below {}", optimal, thief);
    }

    /// Up to what its search leaves open, which its bound states.
    #[test]
    fn more_devices_never_hurt_optimal(mut problem in plain_problem(), more in 0..2_000_000_u32) {
        problem.min_accuracy = 0.0;
        let few = Optimal.plan(&problem).unwrap();
        for device in &mut problem.devices {
            device.capacity = device.capacity.saturating_add(Share::from_micro(more));
        }
        let many = Optimal.plan(&problem).unwrap();
        prop_assert!(many.upper_bound >= few.upper_bound.map(|bound| bound.min(few.mean_accuracy)));
        prop_assert!(many.mean_accuracy >= few.mean_accuracy - 1e-6, "{} below {}", many.mean_accuracy, few.mean_accuracy);
    }

    #[test]
    fn a_lowest_accuracy_is_held_or_its_breach_is_said(problem in problem()) {
        for scheduler in local_schedulers() {
            let plan = scheduler.plan(&problem).unwrap();
            for stream in &plan.streams {
                let held = stream.accuracy_at(0.0) >= problem.min_accuracy - 1e-6;
                let said = stream.reason.contains("best effort") || stream.reason.contains("lowest");
                prop_assert!(held || said, "{}: {}", scheduler.name(), stream.reason);
            }
        }
    }

    #[test]
    fn more_streams_than_quanta_are_still_planned(streams in 11..60_usize) {
        let problem = Problem {
            devices: vec![DeviceSpec::new(Share::WHOLE)],
            streams: (0..streams).map(|index| StreamSpec {
                name: format!("s{index}"),
                accuracy: 0.5,
                inference: vec![InferenceOption {
                    accuracy_factor: 1.0,
                    share: Share::from_micro(50_000),
                }],
                retraining: vec![RetrainingOption::new(0.9, 5.0)],
                ..StreamSpec::default()
            }).collect(),
            ..Problem::new(Duration::from_secs(100))
        };
        let plan = Checked(&Thief::default()).plan(&problem).unwrap();
        // Twenty streams fit exactly; all that fit are served.
        let served = plan.streams.iter().filter(|stream| stream.now().unwrap().inference.is_some()).count();
        prop_assert!(served >= streams.min(19), "{} of {}", served, streams);
    }
}

#[test]
fn without_devices_everybody_is_served_as_well_as_it_goes() {
    let problem = Problem {
        streams: vec![StreamSpec {
            name: "a".into(),
            device: Some(7),
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
        assert_eq!(plan.streams[0].now().unwrap().inference, None);
        assert!(plan.streams[0].reason.contains("best effort"));
    }
}

#[test]
fn a_lowest_accuracy_out_of_reach_is_said() {
    let problem = Problem {
        min_accuracy: 0.6,
        devices: vec![DeviceSpec::new(Share::WHOLE)],
        streams: vec![StreamSpec {
            name: "a".into(),
            accuracy: 0.5,
            inference: vec![InferenceOption {
                accuracy_factor: 1.0,
                share: Share::from_micro(200_000),
            }],
            retraining: vec![RetrainingOption::new(0.9, 8.0)],
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
    assert_eq!(
        stream.now().unwrap().training_share,
        Share::from_micro(800_000)
    );
}

#[test]
fn an_option_longer_than_the_window_is_named_but_not_taken() {
    let problem = Problem {
        devices: vec![DeviceSpec::new(Share::WHOLE)],
        streams: vec![StreamSpec {
            name: "a".into(),
            accuracy: 0.5,
            retraining: vec![RetrainingOption::new(0.9, 180.0)],
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
        device: Some(device),
        accuracy: 0.5,
        inference: vec![InferenceOption {
            accuracy_factor: 1.0,
            share: Share::WHOLE,
        }],
        ..StreamSpec::default()
    };
    let capacity = Share::WHOLE;
    let problem = Problem {
        devices: vec![DeviceSpec::new(capacity), DeviceSpec::new(capacity)],
        streams: vec![stream(0), stream(1)],
        ..Problem::new(Duration::from_secs(100))
    };
    let plan = Checked(&Thief::default()).plan(&problem).unwrap();
    assert!(
        plan.streams
            .iter()
            .all(|stream| stream.now().unwrap().inference == Some(0))
    );
}

#[test]
fn a_fixed_option_that_is_missing_is_an_error() {
    let uniform = Uniform {
        inference_fraction: 0.5,
        retraining: Fixed::Option(3),
    };
    let problem = Problem {
        streams: vec![StreamSpec {
            name: "a".into(),
            retraining: vec![RetrainingOption::new(0.9, 1.0)],
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
