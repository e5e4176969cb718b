//! What a stream gets over time, piece by piece.

use serde::{Deserialize, Serialize};

use crate::Share;

/// Moments closer than this many seconds are the same; absorbs rounding.
pub(crate) const MOMENT: f64 = 1e-9;

/// A time in which nothing changes for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Seconds from the start of the plan or window.
    pub from: f64,
    /// Seconds from the start of the plan or window.
    pub to: f64,
    /// Index into [`crate::StreamSpec::inference`]; `None` when the share is below the cheapest
    /// option: answer what the share allows (best effort), for which no accuracy is counted.
    pub inference: Option<usize>,
    /// Share of inference; may be more than the option needs when nobody else can use it.
    pub inference_share: Share,
    /// Share of training.
    pub training_share: Share,
    /// Accuracy in this time, in 0..=1.
    pub accuracy: f64,
}

impl Segment {
    /// How long it is, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.to - self.from
    }

    fn continues(&self, before: &Self) -> bool {
        Self {
            from: before.from,
            to: before.to,
            ..*self
        } == *before
    }
}

/// Adds a segment at the end, joined to the last one when nothing changes. Of a window without
/// length, the first segment is kept.
pub(crate) fn push(timeline: &mut Vec<Segment>, segment: Segment) {
    match timeline.last_mut() {
        Some(last) if segment.continues(last) => last.to = segment.to.max(last.to),
        Some(last) if last.seconds() <= 0.0 => *last = segment,
        Some(_) if segment.seconds() <= 0.0 => {}
        _ => timeline.push(segment),
    }
}

/// Accuracy averaged over segments that follow each other; of none at all 0, of an empty window
/// that of its one segment.
pub(crate) fn mean_accuracy(timeline: &[Segment]) -> f64 {
    let seconds: f64 = timeline.iter().map(Segment::seconds).sum();
    if seconds > 0.0 {
        let area = |segment: &Segment| segment.accuracy * segment.seconds();
        return timeline.iter().map(area).sum::<f64>() / seconds;
    }
    timeline.last().map_or(0.0, |segment| segment.accuracy)
}

/// The segment in force at a time.
pub(crate) fn at(timeline: &[Segment], time: f64) -> Option<&Segment> {
    let later = timeline.partition_point(|segment| segment.from <= time);
    timeline[..later].last()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(from: f64, to: f64, accuracy: f64) -> Segment {
        Segment {
            from,
            to,
            inference: None,
            inference_share: Share::ZERO,
            training_share: Share::ZERO,
            accuracy,
        }
    }

    #[test]
    fn equal_neighbours_are_joined_and_empty_ones_dropped() {
        let mut timeline = Vec::new();
        for next in [
            segment(0.0, 0.0, 0.9),
            segment(0.0, 1.0, 0.5),
            segment(1.0, 2.0, 0.5),
            segment(2.0, 2.0, 0.7),
            segment(2.0, 3.0, 0.8),
        ] {
            push(&mut timeline, next);
        }
        assert_eq!(timeline, [segment(0.0, 2.0, 0.5), segment(2.0, 3.0, 0.8)]);
        assert!((mean_accuracy(&timeline) - 0.6).abs() < 1e-12);
        assert_eq!(at(&timeline, 2.0).map(|s| s.accuracy), Some(0.8));
    }

    #[test]
    fn an_empty_window_keeps_its_segment() {
        let mut timeline = Vec::new();
        push(&mut timeline, segment(0.0, 0.0, 0.9));
        assert_eq!(mean_accuracy(&timeline), 0.9);
    }
}
