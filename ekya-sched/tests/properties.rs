//! What holds for every scheduler on every problem.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod random;

use ekya_sched::simulate::{WindowOutcome, run_window};
use ekya_sched::{Optimal, Problem, Scheduler, Share, Thief};
use proptest::prelude::*;

use random::{Checked, local_schedulers, plain_problem, problem, schedulers};

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
        for stream in &mut slow.streams {
            stream.transfer_seconds = stream.transfer_seconds.map(|seconds| seconds * 4.0);
            for option in &mut stream.retraining {
                option.gpu_seconds *= 4.0;
                option.startup_seconds *= 4.0;
            }
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
}
