//! How well the released Cityscapes micro-profiles are predicted, each stream from the outcomes of
//! the others and its own earlier windows, without training anything.
//!
//! Reads `traces/cityscapes.csv` below the folder that the environment variable `EKYA_DATA` names;
//! skipped without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::path::Path;

use ekya_profiler::Estimate;
use ekya_profiler::quality::{Judged, Quality};
use ekya_profiler::trace::predict;
use ekya_sched::simulate::Trace;

fn trace() -> Option<Trace> {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        println!("skipped: EKYA_DATA is not set");
        return None;
    };
    let file = File::open(Path::new(&data).join("traces/cityscapes.csv"));
    Some(Trace::from_csv(file.unwrap()).unwrap())
}

/// The authors' own predictions, which the trace holds.
fn published(trace: &Trace) -> Quality {
    let mut judged = Vec::new();
    for stream in 0..trace.streams() {
        for window in 0..trace.windows() {
            judged.extend(trace.window(stream, window).1.options.iter().map(|option| {
                let predicted = option.predicted_accuracy.unwrap();
                Judged {
                    group: (stream, window),
                    predicted: Estimate {
                        mean: predicted,
                        sd: f64::MIN_POSITIVE,
                    },
                    truth: option.end_accuracy,
                }
            }));
        }
    }
    Quality::of(&judged).unwrap()
}

#[test]
fn predictions_rank_and_their_intervals_hold() {
    let Some(trace) = trace() else { return };
    let judged: Vec<Judged<_>> = predict(&trace)
        .into_iter()
        .map(|predicted| Judged {
            group: (predicted.stream, predicted.window),
            predicted: predicted.accuracy,
            truth: predicted.truth,
        })
        .collect();
    let ours = Quality::of(&judged).unwrap();
    let published = published(&trace);
    println!("published: {published:?}\nours: {ours:?}");
    assert_eq!(ours.count, published.count);
    assert!(ours.median_error <= 0.033, "{ours:?}");
    assert!(ours.mean_error <= 0.043, "{ours:?}");
    assert!(ours.spearman >= 0.75, "{ours:?}");
    assert!((0.7..=0.9).contains(&ours.coverage), "{ours:?}");
    assert!(published.spearman < 0.3 && published.median_error > 0.05);
}
