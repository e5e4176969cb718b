//! Mean accuracy on the released Cityscapes micro-profiles, planned on the true values.
//!
//! Reads `traces/cityscapes.csv` and `traces/inference_subsampling.csv` below the folder that the
//! environment variable `EKYA_DATA` names; skipped without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ekya_sched::simulate::run_window;
use ekya_sched::{
    DeviceSpec, Fixed, InferenceOption, NoRetraining, Optimal, Problem, RetrainingOption,
    Scheduler, Share, StreamSpec, Thief, Uniform,
};

/// Share of a GPU with which a student answers every frame.
const STUDENT_MICRO: u32 = 250_000;
const STEPS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(200);

/// Streams by window.
type Trace = BTreeMap<String, Vec<StreamSpec>>;

fn read(file: &str) -> Option<String> {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        println!("skipped: EKYA_DATA is not set");
        return None;
    };
    let path = PathBuf::from(data).join("traces").join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            println!("skipped: {}: {error}", path.display());
            None
        }
    }
}

/// Every n-th frame answered, for n between the measured ones too: linear in n.
fn inference(subsampling: &str) -> Vec<InferenceOption> {
    let point = |line: &str| {
        let mut fields = line.split(',').map(|field| field.parse::<f64>().unwrap());
        (fields.next().unwrap(), fields.next().unwrap())
    };
    let points: Vec<(f64, f64)> = subsampling.lines().skip(1).map(point).collect();
    let mut options = Vec::new();
    for pair in points.windows(2) {
        for step in 0..STEPS {
            let part = f64::from(step) / f64::from(STEPS);
            options.push(option(
                pair[0].0 + part * (pair[1].0 - pair[0].0),
                pair[0].1 + part * (pair[1].1 - pair[0].1),
            ));
        }
    }
    options.extend(points.last().map(|&(every, factor)| option(every, factor)));
    options
}

fn option(every: f64, accuracy_factor: f64) -> InferenceOption {
    InferenceOption {
        accuracy_factor,
        share: Share::from_micro((f64::from(STUDENT_MICRO) / every).ceil() as u32),
    }
}

fn load() -> Option<Trace> {
    let inference = inference(&read("inference_subsampling.csv")?);
    let profiles = read("cityscapes.csv")?;
    let mut trace = Trace::new();
    for line in profiles.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |field: usize| fields[field].parse::<f64>().unwrap();
        let streams = trace.entry(fields[1].to_owned()).or_default();
        if streams.last().is_none_or(|stream| stream.name != fields[0]) {
            streams.push(StreamSpec {
                name: fields[0].to_owned(),
                accuracy: number(2),
                inference: inference.clone(),
                ..StreamSpec::default()
            });
        }
        let stream = streams.last_mut().unwrap();
        stream
            .retraining
            .push(RetrainingOption::new(number(9), number(8)));
    }
    Some(trace)
}

/// GPUs that jobs may span, as in the released simulator.
fn problem(streams: &[StreamSpec], gpus: u32) -> Problem {
    Problem {
        devices: vec![DeviceSpec::new(Share::from_micro(gpus * 1_000_000))],
        streams: streams.to_vec(),
        ..Problem::new(WINDOW)
    }
}

fn mean_accuracy(scheduler: &dyn Scheduler, trace: &Trace, gpus: u32) -> f64 {
    let run = |streams: &Vec<StreamSpec>| {
        let problem = problem(streams, gpus);
        scheduler.plan(&problem).unwrap().check(&problem).unwrap();
        run_window(scheduler, &problem).unwrap().mean_accuracy
    };
    trace.values().map(run).sum::<f64>() / trace.len() as f64
}

#[test]
fn thief_reaches_what_the_released_code_reaches() {
    let Some(trace) = load() else { return };
    // The targets; the released code itself reaches .6243, .8281, .8856 and .9028.
    for (gpus, wanted) in [(1, 0.624), (2, 0.828), (4, 0.885), (8, 0.902)] {
        let mean = mean_accuracy(&Thief::default(), &trace, gpus);
        println!("thief, {gpus} GPUs: {mean:.4}");
        assert!(mean >= wanted, "{gpus} GPUs: {mean}");
    }
}

#[test]
fn fair_agrees_with_the_released_code() {
    let Some(trace) = load() else { return };
    let fair = Uniform {
        inference_fraction: 0.5,
        retraining: Fixed::MostAccurate,
    };
    for (gpus, reference) in [(1, 0.4746), (2, 0.6257), (4, 0.8054), (8, 0.8441)] {
        let mean = mean_accuracy(&fair, &trace, gpus);
        println!("fair, {gpus} GPUs: {mean:.4} (released code {reference})");
        assert!((mean - reference).abs() <= 0.004, "{gpus} GPUs: {mean}");
    }
}

#[test]
fn no_retraining_agrees_with_the_released_code() {
    let Some(trace) = load() else { return };
    for (gpus, reference) in [(1, 0.6133), (2, 0.7862), (4, 0.7862), (8, 0.7862)] {
        let mean = mean_accuracy(&NoRetraining, &trace, gpus);
        println!("no retraining, {gpus} GPUs: {mean:.4} (released code {reference})");
        assert!((mean - reference).abs() <= 0.004, "{gpus} GPUs: {mean}");
    }
}

#[test]
fn thief_beats_every_uniform_split() {
    let Some(trace) = load() else { return };
    for gpus in [1, 2, 4, 8] {
        let thief = mean_accuracy(&Thief::default(), &trace, gpus);
        for inference_fraction in [0.3, 0.5, 0.9] {
            for retraining in [0, 8, 17] {
                let uniform = Uniform {
                    inference_fraction,
                    retraining: Fixed::Option(retraining),
                };
                let mean = mean_accuracy(&uniform, &trace, gpus);
                println!(
                    "{}, {gpus} GPUs: {mean:.4}, thief {thief:.4}",
                    uniform.name()
                );
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
        let bounds = trace.values().map(|streams| {
            let plan = Optimal.plan(&problem(streams, gpus)).unwrap();
            plan.upper_bound.unwrap()
        });
        let bound = bounds.sum::<f64>() / trace.len() as f64;
        println!("optimal, {gpus} GPUs: {mean:.4} of at most {bound:.4}");
        assert!(mean >= wanted && mean <= bound, "{gpus} GPUs: {mean}");
        gaps.push(1.0 - mean / bound);
    }
    let gap = gaps.iter().sum::<f64>() / gaps.len() as f64;
    assert!(gap <= 0.015, "{gaps:?}");
}

/// Window by window: nobody who uses the same devices does better.
#[test]
fn optimal_loses_to_nobody() {
    let Some(trace) = load() else { return };
    let uniform = |inference_fraction, retraining| -> Box<dyn Scheduler> {
        Box::new(Uniform {
            inference_fraction,
            retraining: Fixed::Option(retraining),
        })
    };
    let others: Vec<Box<dyn Scheduler>> = vec![
        Box::new(Thief::default()),
        Box::new(NoRetraining),
        uniform(0.5, 0),
        uniform(0.9, 0),
        uniform(0.5, 8),
        uniform(0.9, 17),
    ];
    for gpus in [1, 2, 4, 8] {
        for (window, streams) in &trace {
            let problem = problem(streams, gpus);
            let best = run_window(&Optimal, &problem).unwrap().mean_accuracy;
            for other in &others {
                let mean = run_window(other.as_ref(), &problem).unwrap().mean_accuracy;
                assert!(
                    mean <= best + 1e-9,
                    "{}, window {window}, {gpus} GPUs",
                    other.name()
                );
            }
        }
    }
}
