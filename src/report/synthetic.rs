//! Made-up records for the tests of the report: no run stands behind their figures.

use ekya_sched::{RetrainingConfig, Share};

use crate::record::*;

/// Streams of every record, with names that must be escaped.
const STREAMS: [&str; 4] = ["north <gate>", "east & \"square\"", "south", "west"];
/// Windows of every record.
const WINDOWS: usize = 5;
/// Length of a window, in seconds.
const WINDOW: f64 = 20.0;

/// A record for every seed, load and scheduler, repeatable.
pub(super) fn records(
    seeds: &[u64],
    loads: &[Option<&str>],
    schedulers: &[&str],
) -> Vec<(Option<String>, RunRecord)> {
    let mut records = Vec::new();
    for (position, load) in loads.iter().enumerate() {
        for seed in seeds {
            for scheduler in schedulers {
                let record = record(scheduler, *seed, position);
                records.push((load.map(str::to_owned), record));
            }
        }
    }
    records
}

fn record(scheduler: &str, seed: u64, load: usize) -> RunRecord {
    let windows: Vec<WindowRecord> = (0..WINDOWS).map(|index| window(scheduler, index)).collect();
    let streams = (0..STREAMS.len())
        .map(|stream| stream_record(scheduler, seed, load, stream))
        .collect();
    RunRecord {
        version: RECORD_VERSION,
        scheduler: scheduler.to_owned(),
        seed,
        window_seconds: WINDOW,
        devices: vec![DeviceRecord {
            name: "cpu0".to_owned(),
            cores: 2,
            busy_seconds: vec![("north <gate>/inference".to_owned(), 31.4)],
        }],
        streams,
        windows,
        complete: true,
    }
}

/// Something in 0..1 that looks random and is always the same.
fn noise(seed: u64, stream: usize, second: usize) -> f64 {
    let mixed = (seed * 7919 + stream as u64 * 104_729 + second as u64 * 1_299_709) % 9973;
    mixed as f64 / 9973.0
}

/// How much better than no retraining the last window of a scheduler is.
fn gain(scheduler: &str) -> f64 {
    match scheduler {
        "none" => 0.0,
        "ekya" => 0.22,
        other => 0.06 + other.len() as f64 / 300.0,
    }
}

fn stream_record(scheduler: &str, seed: u64, load: usize, stream: usize) -> StreamRecord {
    let accuracy_over_time: Vec<AccuracyPoint> = (0..WINDOWS * 20)
        .map(|second| {
            let progress = second as f64 / (WINDOWS * 20) as f64;
            let drift = 0.85 - 0.3 * progress - 0.05 * load as f64 - 0.03 * stream as f64;
            let wobble = 0.12 * (noise(seed, stream, second) - 0.5);
            let accuracy = drift + gain(scheduler) * progress.sqrt() + wobble;
            AccuracyPoint {
                at: second as f64,
                accuracy: accuracy.clamp(0.0, 1.0),
                frames: 10,
            }
        })
        .collect();
    let sum: f64 = accuracy_over_time.iter().map(|point| point.accuracy).sum();
    let mean = sum / accuracy_over_time.len() as f64;
    StreamRecord {
        name: STREAMS[stream].to_owned(),
        classes: vec!["car".to_owned(), "bus".to_owned()],
        frames: FrameCounts {
            arrived: 1000,
            answered: 480,
            skipped: 500,
            dropped: 20,
        },
        true_accuracy: Some(mean),
        measured_accuracy: Some(mean - 0.01),
        accuracy_over_time,
        slowdown: 1.0,
        failure: None,
    }
}

fn window(scheduler: &str, index: usize) -> WindowRecord {
    let from = index as f64 * WINDOW;
    WindowRecord {
        index,
        from,
        to: from + WINDOW,
        streams: (0..STREAMS.len())
            .map(|stream| window_stream(scheduler, index, stream, from))
            .collect(),
    }
}

fn window_stream(scheduler: &str, index: usize, stream: usize, from: f64) -> WindowStream {
    let retrains = scheduler != "none" && (index + stream) % 2 == 0;
    let decision = |at: f64, text: &str| Decision {
        at,
        text: text.to_owned(),
    };
    WindowStream {
        true_accuracy: Some(0.7),
        measured_accuracy: Some(0.69),
        predicted_accuracy: retrains.then_some(0.72),
        labelling_seconds: 1.2,
        profiling_seconds: if scheduler == "ekya" { 2.1 } else { 0.0 },
        profiles: vec![ProfileRecord {
            config: RetrainingConfig::default(),
            end_accuracy: 0.78,
            gpu_seconds: 4.0,
        }],
        segments: segments(from, stream, retrains),
        retraining: retrains.then(|| retraining(from, stream)),
        decisions: if retrains {
            vec![
                decision(from + 4.0, "retrain: predicted 69 % → 78 % for 4.0 GPU-s"),
                decision(from + 14.0, "promoted: 77 % > 69 % on 41 held-out <frames>"),
            ]
        } else {
            vec![decision(
                from,
                "no retraining: every configuration costs more than it gains",
            )]
        },
        ..WindowStream::default()
    }
}

fn segments(from: f64, stream: usize, retrains: bool) -> Vec<ShareSegment> {
    let segment = |from: f64, to: f64, inference: u32, training: u32| ShareSegment {
        from,
        to,
        inference_granted: Share::from_micro(inference * 1000),
        inference_used: f64::from(inference) / 1250.0,
        training_granted: Share::from_micro(training * 1000),
        training_used: f64::from(training) / 1050.0,
        sample_every: 2,
        resolution: 1.0,
    };
    if !retrains {
        return vec![segment(from, from + WINDOW, 160 + 10 * stream as u32, 0)];
    }
    vec![
        segment(from, from + 4.0, 160, 60),
        segment(from + 4.0, from + 14.0, 100, 240),
        segment(from + 14.0, from + WINDOW, 200, 0),
    ]
}

fn retraining(from: f64, stream: usize) -> RetrainingRecord {
    RetrainingRecord {
        config: RetrainingConfig::default(),
        from: from + 4.0,
        to: (stream != 3).then_some(from + 14.0),
        gpu_seconds: 2.3,
        examples: 312,
        serving_accuracy: (stream != 3).then_some(0.69),
        retrained_accuracy: (stream != 3).then_some(if stream == 2 { 0.66 } else { 0.77 }),
        promoted: stream < 2,
    }
}

/// Checks that every tag of a piece of HTML or SVG is closed in order and no bare `<` or `&` is in a
/// text or an attribute. Void elements of HTML may stay open.
pub(super) fn assert_well_formed(markup: &str) {
    const VOID: [&str; 3] = ["meta", "br", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut parts = markup.split('<');
    assert_no_bare_ampersand(parts.next().unwrap_or_default());
    for part in parts {
        let (tag, text) = part.split_once('>').expect("a tag that never ends");
        assert_no_bare_ampersand(text);
        assert_no_bare_ampersand(tag);
        assert_eq!(tag.matches('"').count() % 2, 0, "open quote in <{tag}>");
        let name = tag.trim_start_matches('/').trim_end_matches('/');
        let name = name.split_whitespace().next().expect("a tag without name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed by </{name}>");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}>");
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

fn assert_no_bare_ampersand(text: &str) {
    for after in text.split('&').skip(1) {
        let entity = after.split(';').next().unwrap_or_default();
        assert!(
            after.contains(';') && !entity.is_empty() && entity.len() < 7,
            "bare & before {after:?}"
        );
    }
}

#[test]
fn the_check_for_well_formedness_can_fail() {
    for bad in [
        "<p>",
        "<p></b>",
        "<p>a & b</p>",
        "<p title=\"x></p>",
        "</p>",
    ] {
        let bad = bad.to_owned();
        assert!(
            std::panic::catch_unwind(|| assert_well_formed(&bad)).is_err(),
            "{bad}"
        );
    }
}
