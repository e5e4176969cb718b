//! How well the history alone predicts the released Cityscapes micro-profiles, each stream from
//! the outcomes of the other streams, without training anything.
//!
//! Reads `traces/cityscapes.csv` below the folder that the environment variable `EKYA_DATA` names;
//! skipped without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use ekya_profiler::{History, Outcome};
use ekya_sched::RetrainingConfig;

struct Row {
    stream: String,
    window: u32,
    published_prediction: f64,
    outcome: Outcome,
}

fn parse(line: &str) -> Row {
    let fields: Vec<&str> = line.split(',').collect();
    let number = |field: usize| fields[field].parse::<f64>().unwrap();
    Row {
        stream: fields[0].to_owned(),
        window: fields[1].parse().unwrap(),
        published_prediction: number(10),
        outcome: Outcome {
            config: RetrainingConfig {
                epochs: fields[7].parse().unwrap(),
                batch_size: 64,
                head_width: fields[4].parse().unwrap(),
                layers_frozen: if fields[5] == "true" { usize::MAX } else { 0 },
                data_fraction: number(6),
                ..RetrainingConfig::default()
            },
            start_accuracy: number(2),
            end_accuracy: number(9),
            gpu_seconds: number(8),
            curve_accuracy: None,
            measured_gpu_seconds: None,
        },
    }
}

fn rows() -> Option<Vec<Row>> {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        println!("skipped: EKYA_DATA is not set");
        return None;
    };
    let path = std::path::Path::new(&data).join("traces/cityscapes.csv");
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.lines().skip(1).map(parse).collect()),
        Err(error) => {
            println!("skipped: {}: {error}", path.display());
            None
        }
    }
}

/// The gain of each row, from the outcomes of the other streams.
fn predict(rows: &[Row], row: &Row) -> f64 {
    let mut history = History::with_half_life(1000.0);
    for other in rows.iter().filter(|other| other.stream != row.stream) {
        history.record(&other.outcome);
    }
    let start = row.outcome.start_accuracy;
    let gain = history.gain(&row.outcome.config, start).mean;
    (start + gain).clamp(0.0, 1.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Mean over streams and windows of what choosing the best prediction loses.
fn regret(rows: &[Row], predictions: &[f64]) -> f64 {
    let mut windows: BTreeMap<(&str, u32), Vec<(f64, f64)>> = BTreeMap::new();
    for (row, &predicted) in rows.iter().zip(predictions) {
        let window = windows.entry((&row.stream, row.window)).or_default();
        window.push((predicted, row.outcome.end_accuracy));
    }
    let lost = |options: &Vec<(f64, f64)>| {
        let best = options.iter().map(|option| option.1).fold(0.0, f64::max);
        best - options.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
    };
    windows.values().map(lost).sum::<f64>() / windows.len() as f64
}

fn report(name: &str, rows: &[Row], predictions: &[f64]) -> (f64, f64) {
    let errors = rows.iter().zip(predictions);
    let errors = errors.map(|(row, p)| (row.outcome.end_accuracy - p).abs());
    let (error, regret) = (median(errors.collect()), regret(rows, predictions));
    println!("{name}: median error {error:.4}, regret {regret:.4}");
    (error, regret)
}

#[test]
fn the_history_alone_beats_the_published_profiler() {
    let Some(rows) = rows() else { return };
    let published: Vec<f64> = rows.iter().map(|row| row.published_prediction).collect();
    let ours: Vec<f64> = rows.iter().map(|row| predict(&rows, row)).collect();
    let published = report("published", &rows, &published);
    let ours = report("history", &rows, &ours);
    assert!(ours.0 < published.0);
    assert!(ours.1 < published.1 / 3.0);
}
