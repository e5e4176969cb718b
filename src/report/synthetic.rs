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
pub(crate) fn records(
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
        overhead_share: Some(Share::from_micro(300_000)),
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

/// How much better than no retraining the end of a run is, and how much is lost to late answers.
fn effect(scheduler: &str) -> (f64, f64) {
    match scheduler {
        "none" => (0.0, 0.0),
        "ekya" => (0.22, 0.01),
        other => {
            let letters = letters(other);
            let percent = |number: u64| number as f64 / 100.0;
            (0.05 + percent(letters % 13), percent(letters % 7))
        }
    }
}

fn letters(name: &str) -> u64 {
    name.bytes().map(u64::from).sum()
}

fn stream_record(scheduler: &str, seed: u64, load: usize, stream: usize) -> StreamRecord {
    let accuracy_over_time: Vec<AccuracyPoint> = (0..WINDOWS * 20)
        .map(|second| {
            let progress = second as f64 / (WINDOWS * 20) as f64;
            let drift = 0.85 - 0.3 * progress - 0.05 * load as f64 - 0.03 * stream as f64;
            let wobble = 0.12 * (noise(seed, stream, second) - 0.5);
            // Each scheduler has its own luck, or there would be nothing for an interval to span.
            let luck = 0.03 * (noise(seed + letters(scheduler), stream, 0) - 0.5);
            let (gain, loss) = effect(scheduler);
            let accuracy = drift + (gain + luck) * progress.sqrt() - loss + wobble;
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
            late: 3,
            failed: 0,
        },
        true_accuracy: Some(mean),
        measured_accuracy: Some(mean - 0.01),
        measured_sd: Some(0.01),
        accuracy_over_time,
        slowdown: 1.0,
        failure: None,
        continued_from: None,
        not_kept: 0,
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
    let retrains = scheduler != "none" && (index + stream).is_multiple_of(2);
    let decision = |at: f64, text: &str| Decision {
        at,
        text: text.to_owned(),
    };
    WindowStream {
        true_accuracy: Some(0.7),
        measured_accuracy: Some(0.69),
        measured_sd: Some(0.03),
        predicted_accuracy: retrains.then_some(0.72),
        labelling_seconds: 1.2,
        profiling_seconds: if scheduler == "ekya" { 2.1 } else { 0.0 },
        student_accuracy: Some(0.7),
        inference: [(1, 1.0, 120_000), (2, 0.93, 60_000), (4, 0.8, 30_000)]
            .map(|(sample_every, accuracy_factor, micro)| InferenceRecord {
                sample_every,
                resolution: 1.0,
                accuracy_factor,
                share: Share::from_micro(micro),
            })
            .to_vec(),
        profiles: vec![ProfileRecord {
            config: RetrainingConfig::default(),
            end_accuracy: 0.78,
            gpu_seconds: 4.0,
        }],
        segments: segments(from, stream, retrains),
        retrainings: retrains
            .then(|| retraining(from, stream))
            .into_iter()
            .collect(),
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
        to: Some(from + 14.0),
        cut_off: stream == 3,
        gpu_seconds: 2.3,
        predicted_accuracy: Some(0.78),
        predicted_gpu_seconds: Some(4.0),
        examples: 312,
        serving_accuracy: (stream != 3).then_some(0.69),
        retrained_accuracy: (stream != 3).then_some(if stream == 2 { 0.66 } else { 0.77 }),
        held_out: 18,
        difference_sd: (stream != 3).then_some(0.04),
        chance: (stream != 3).then_some(if stream == 2 { 0.3 } else { 0.97 }),
        rolled_back: None,
        promoted: stream < 2,
    }
}

/// Fails unless [`check_markup`] passes.
pub(super) fn assert_well_formed(markup: &str) {
    assert_eq!(check_markup(markup), Ok(()));
}

/// Checks that every tag of a piece of HTML or SVG is closed in order and no bare `<` or `&` is in a
/// text or an attribute. Void elements of HTML may stay open.
fn check_markup(markup: &str) -> Result<(), String> {
    const VOID: [&str; 3] = ["meta", "br", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut parts = markup.split('<');
    check_entities(parts.next().unwrap_or_default())?;
    for part in parts {
        let (tag, text) = part.split_once('>').ok_or(format!("<{part} never ends"))?;
        check_entities(tag)?;
        check_entities(text)?;
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("open quote in <{tag}>"));
        }
        let name = tag.trim_matches('/').split_whitespace().next();
        let name = name.ok_or("a tag without a name")?;
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes another tag"));
            }
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            if !name.chars().all(|c| c.is_ascii_alphanumeric()) {
                return Err(format!("<{tag}> is no tag"));
            }
            open.push(name);
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!("never closed: {open:?}"))
    }
}

fn check_entities(text: &str) -> Result<(), String> {
    for after in text.split('&').skip(1) {
        match after.split_once(';') {
            Some((entity, _)) if (1..7).contains(&entity.len()) => {}
            _ => return Err(format!("bare & before {after:?}")),
        }
    }
    Ok(())
}

#[test]
fn the_check_of_markup_can_fail() {
    for good in ["", "<p>a &amp; b</p>", "<svg><line x=\"1\"/></svg>"] {
        assert_eq!(check_markup(good), Ok(()));
    }
    for bad in [
        "<p>",
        "<p></b>",
        "<p>a & b</p>",
        "<p title=\"x></p>",
        "</p>",
        "<",
    ] {
        assert!(check_markup(bad).is_err(), "{bad}");
    }
}
