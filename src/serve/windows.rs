//! What the API says of windows: accuracies for charts, the open one as a timeline, one stream in full,
//! and why it was or was not retrained.

use std::collections::BTreeMap;

use serde::Serialize;

use super::live::Face;
use super::view::in_words;
use crate::planning::Ahead;
use crate::record::{Decision, RetrainingRecord, ShareSegment, WindowRecord, WindowStream};
use crate::schedule::{Timeline, Windows};

/// A window, by name of stream.
#[derive(Debug, Serialize)]
pub(super) struct Accuracies {
    index: usize,
    from: f64,
    to: f64,
    streams: BTreeMap<String, Accuracy>,
}

#[derive(Debug, Serialize)]
struct Accuracy {
    measured: Option<f64>,
    sd: Option<f64>,
    frames: usize,
    predicted: Option<f64>,
    /// Of the student before the last promotion.
    previous: Option<f64>,
}

pub(super) fn accuracies(Windows { streams, windows }: &Windows) -> Vec<Accuracies> {
    let accuracy = |(name, entry): (&String, &WindowStream)| {
        let accuracy = Accuracy {
            measured: entry.measured_accuracy,
            sd: entry.measured_sd,
            frames: entry.labelled_frames,
            predicted: entry.predicted_accuracy,
            previous: entry.previous_accuracy,
        };
        (name.clone(), accuracy)
    };
    let window = |window: &WindowRecord| Accuracies {
        index: window.index,
        from: window.from,
        to: window.to,
        streams: streams.iter().zip(&window.streams).map(accuracy).collect(),
    };
    windows.iter().map(window).collect()
}

/// The open window, past and planned.
#[derive(Debug, Serialize)]
pub(super) struct PlanView {
    now: f64,
    from: f64,
    to: f64,
    streams: Vec<StreamPlan>,
}

#[derive(Debug, Serialize)]
struct StreamPlan {
    name: String,
    device: String,
    segments: Vec<SegmentView>,
    retrainings: Vec<RetrainingView>,
}

/// Shares over some time.
#[derive(Debug, Serialize)]
struct SegmentView {
    from: f64,
    to: f64,
    inference: f64,
    training: f64,
    /// Whether it lies ahead.
    planned: bool,
}

#[derive(Debug, Serialize)]
struct RetrainingView {
    from: f64,
    to: Option<f64>,
    configuration: String,
    outcome: &'static str,
}

pub(super) fn plan(timeline: &Timeline, faces: &[Face]) -> PlanView {
    let window = timeline.window.windows.first();
    let (from, to) = window.map_or((0.0, 0.0), |window| (window.from, window.to));
    let stream = |face: &Face| {
        let mut names = timeline.window.streams.iter();
        let index = names.position(|name| *name == face.name)?;
        let entry = window?.streams.get(index)?;
        Some(StreamPlan {
            name: face.name.clone(),
            device: face.device.clone(),
            segments: segments(timeline, index, entry, to),
            retrainings: entry.retrainings.iter().map(RetrainingView::of).collect(),
        })
    };
    PlanView {
        now: timeline.now,
        from,
        to,
        streams: faces.iter().filter_map(stream).collect(),
    }
}

/// What was granted, what is, and what the plan intends for the rest of the window.
fn segments(timeline: &Timeline, index: usize, entry: &WindowStream, to: f64) -> Vec<SegmentView> {
    let now = timeline.now;
    let in_force = timeline.in_force.get(index).copied().flatten();
    let ahead = timeline.ahead.get(index).into_iter().flatten();
    let ahead = ahead.filter(|one| one.to > now && one.from < to);
    let planned = ahead.map(|one| SegmentView {
        from: one.from.max(now),
        to: one.to.min(to),
        planned: true,
        ..SegmentView::of(one)
    });
    let past = entry.segments.iter().map(SegmentView::from);
    past.chain(in_force.as_ref().map(SegmentView::of))
        .chain(planned)
        .collect()
}

impl SegmentView {
    fn of(ahead: &Ahead) -> Self {
        Self {
            from: ahead.from,
            to: ahead.to,
            inference: ahead.inference.as_f64(),
            training: ahead.training.as_f64(),
            planned: false,
        }
    }
}

impl From<&ShareSegment> for SegmentView {
    fn from(segment: &ShareSegment) -> Self {
        Self {
            from: segment.from,
            to: segment.to,
            inference: segment.inference_granted.as_f64(),
            training: segment.training_granted.as_f64(),
            planned: false,
        }
    }
}

impl RetrainingView {
    fn of(record: &RetrainingRecord) -> Self {
        let outcome = match (record.to, record.cut_off, record.promoted) {
            (None, ..) => "running",
            (_, true, _) => "cut off",
            (.., true) => "promoted",
            (.., false) => "dropped",
        };
        Self {
            from: record.from,
            to: record.to,
            configuration: in_words(&record.config),
            outcome,
        }
    }
}

/// A window of one stream.
#[derive(Debug, Serialize)]
pub(super) struct WindowView {
    index: usize,
    from: f64,
    to: f64,
    #[serde(flatten)]
    stream: WindowStream,
}

pub(super) fn in_full(windows: Windows) -> Vec<WindowView> {
    let view = |window: WindowRecord| {
        let stream = window.streams.into_iter().next()?;
        Some(WindowView {
            index: window.index,
            from: window.from,
            to: window.to,
            stream,
        })
    };
    windows.windows.into_iter().filter_map(view).collect()
}

/// Why a stream was or was not retrained, the newest first.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    stream: String,
    decisions: Vec<Decision>,
    retrainings: Vec<RetrainingRecord>,
}

pub(super) fn explain(stream: String, windows: Windows) -> Explanation {
    let newest = in_full(windows).into_iter().rev();
    let (mut decisions, mut retrainings) = (Vec::new(), Vec::new());
    for window in newest {
        decisions.extend(window.stream.decisions.into_iter().rev());
        retrainings.extend(window.stream.retrainings.into_iter().rev());
    }
    Explanation {
        stream,
        decisions,
        retrainings,
    }
}
