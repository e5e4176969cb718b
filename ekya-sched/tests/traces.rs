//! Mean accuracy on the released Cityscapes micro-profiles, planned on the true values.
//!
//! Reads `traces/cityscapes.csv` and `traces/inference_subsampling.csv` below the folder that the
//! environment variable `EKYA_DATA` names; skipped without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use ekya_sched::simulate::{
    Devices, PlanOn, Scenario, Trace, WindowRecord, inference_from_csv, throughput_from_csv,
};
use ekya_sched::{Optimal, Scheduler, Thief, scheduler_by_name};

fn open(file: &str) -> Option<File> {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        println!("skipped: EKYA_DATA is not set");
        return None;
    };
    let path = PathBuf::from(data).join("traces").join(file);
    match File::open(&path) {
        Ok(file) => Some(file),
        Err(error) => {
            println!("skipped: {}: {error}", path.display());
            None
        }
    }
}

fn load() -> Option<Trace> {
    Some(Trace::from_csv(open("cityscapes.csv")?).unwrap())
}

/// GPUs that jobs may span, windows of 200 s, a student that needs a quarter of a GPU: as in the
/// released simulator.
fn scenario(trace: &Trace, gpus: u32) -> Scenario<'_> {
    let skipping = open("inference_subsampling.csv").unwrap();
    let inference = inference_from_csv(skipping, Some("c1"), 0.25).unwrap();
    Scenario {
        gpus,
        ..Scenario::new(trace, inference)
    }
}

fn mean(records: &[WindowRecord]) -> f64 {
    let sum: f64 = records.iter().map(|record| record.mean_accuracy).sum();
    sum / records.len() as f64
}

fn mean_accuracy(scheduler: &dyn Scheduler, trace: &Trace, gpus: u32) -> f64 {
    let mean = mean(&scenario(trace, gpus).run(scheduler).unwrap());
    println!("{}, {gpus} GPUs: {mean:.4}", scheduler.name());
    mean
}

#[test]
fn thief_reaches_what_the_released_code_reaches() {
    let Some(trace) = load() else { return };
    // The targets; the released code itself reaches .6243, .8281, .8856 and .9028.
    for (gpus, wanted) in [(1, 0.624), (2, 0.828), (4, 0.885), (8, 0.902)] {
        let mean = mean_accuracy(&Thief::default(), &trace, gpus);
        assert!(mean >= wanted, "{gpus} GPUs: {mean}");
    }
}

#[test]
fn fair_and_no_retraining_agree_with_the_released_code() {
    let Some(trace) = load() else { return };
    let fair = [(1, 0.4746), (2, 0.6257), (4, 0.8054), (8, 0.8441)];
    let none = [(1, 0.6133), (2, 0.7862), (4, 0.7862), (8, 0.7862)];
    for (name, figures) in [("uniform:0.5:best", fair), ("none", none)] {
        let scheduler = scheduler_by_name(name).unwrap();
        for (gpus, reference) in figures {
            let mean = mean_accuracy(scheduler.as_ref(), &trace, gpus);
            assert!(
                (mean - reference).abs() <= 0.004,
                "{name}, {gpus} GPUs: {mean}"
            );
        }
    }
}

#[test]
fn thief_beats_every_uniform_split() {
    let Some(trace) = load() else { return };
    for gpus in [1, 2, 4, 8] {
        let thief = mean_accuracy(&Thief::default(), &trace, gpus);
        for inference in ["0.3", "0.5", "0.9"] {
            for option in ["0", "8", "17"] {
                let name = format!("uniform:{inference}:{option}");
                let uniform = scheduler_by_name(&name).unwrap();
                let mean = mean_accuracy(uniform.as_ref(), &trace, gpus);
                assert!(mean <= thief, "{gpus} GPUs: {mean} above {thief}");
            }
        }
    }
}

#[test]
fn optimal_is_within_a_point_and_a_half_of_its_bound() {
    let Some(trace) = load() else { return };
    let mut gaps = Vec::new();
    for (gpus, wanted) in [(1, 0.632), (2, 0.841), (4, 0.895), (8, 0.914)] {
        let mean = mean_accuracy(&Optimal, &trace, gpus);
        let scenario = scenario(&trace, gpus);
        let bounds = (0..trace.windows()).map(|window| scenario.upper_bound(window, None).unwrap());
        let bound = bounds.sum::<f64>() / trace.windows() as f64;
        println!("  of at most {bound:.4}");
        assert!(mean >= wanted && mean <= bound, "{gpus} GPUs: {mean}");
        gaps.push(1.0 - mean / bound);
    }
    let gap = gaps.iter().sum::<f64>() / gaps.len() as f64;
    println!("gaps {gaps:?}, mean {gap:.4}");
    assert!(gap <= 0.015, "{gaps:?}");
}

/// Window by window: nobody who uses the same devices does better than `Optimal`.
fn assert_optimal_loses_to_nobody(scenario: &Scenario<'_>) {
    let others = [
        "thief",
        "thief:literal",
        "none",
        "uniform:0.5:0",
        "uniform:0.9:0",
        "uniform:0.5:9",
        "uniform:0.9:17",
        "uniform:0.5:best",
        "fixed-res",
        "fixed-config:0",
        "fixed-config:9",
    ];
    let best = scenario.run(&Optimal).unwrap();
    for name in others {
        let scheduler = scheduler_by_name(name).unwrap();
        let other = scenario.run(scheduler.as_ref()).unwrap();
        for (best, other) in best.iter().zip(&other) {
            let (gpus, best, mean) = (best.gpus, best.mean_accuracy, other.mean_accuracy);
            assert!(
                mean <= best + 1e-9,
                "{name}, {gpus} GPUs: {mean} above {best}"
            );
        }
    }
}

#[test]
fn optimal_loses_to_nobody() {
    let Some(trace) = load() else { return };
    for gpus in [1, 2, 3, 4, 6, 8] {
        assert_optimal_loses_to_nobody(&scenario(&trace, gpus));
    }
}

#[test]
fn optimal_loses_to_nobody_where_no_job_spans_devices() {
    let Some(trace) = load() else { return };
    for gpus in [2, 4, 8] {
        assert_optimal_loses_to_nobody(&Scenario {
            devices: Devices::Separate,
            ..scenario(&trace, gpus)
        });
    }
}

#[test]
fn optimal_loses_to_nobody_where_training_is_not_linear() {
    let (Some(trace), Some(measured)) = (load(), open("gpu_share_vs_time.csv")) else {
        return;
    };
    let throughput = throughput_from_csv(measured).unwrap();
    for gpus in [1, 2, 4] {
        assert_optimal_loses_to_nobody(&Scenario {
            throughput: throughput.clone(),
            ..scenario(&trace, gpus)
        });
    }
}

#[test]
fn optimal_loses_to_nobody_when_labels_come_late() {
    let Some(trace) = load() else { return };
    for gpus in [1, 2, 4] {
        assert_optimal_loses_to_nobody(&Scenario {
            labelling_delay: Duration::from_secs(30),
            ..scenario(&trace, gpus)
        });
    }
}

#[test]
fn more_gpus_never_hurt_optimal() {
    let Some(trace) = load() else { return };
    let mut before = 0.0;
    for gpus in 0..=10 {
        let mean = mean_accuracy(&Optimal, &trace, gpus);
        assert!(mean >= before, "{gpus} GPUs: {mean} below {before}");
        before = mean;
    }
}

#[test]
fn planning_on_predictions_costs_accuracy() {
    let Some(trace) = load() else { return };
    for gpus in [1, 2, 4, 8] {
        let told = Scenario {
            plan_on: PlanOn::Predicted,
            ..scenario(&trace, gpus)
        };
        let on_predicted = mean(&told.run(&Thief::default()).unwrap());
        let on_true = mean_accuracy(&Thief::default(), &trace, gpus);
        println!("  on predictions {on_predicted:.4}");
        assert!(on_predicted <= on_true);
    }
}
