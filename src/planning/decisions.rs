//! What a node is to do.

use ekya_sched::{Segment, Share, StreamPlan};
use serde::{Deserialize, Serialize};

use super::parts::Parts;

/// Streams of a part: each takes less than 1 KiB, and a message holds 64.
const STREAMS_A_PART: usize = 48;
/// Segments ahead that are told of a stream.
const AHEAD_MAX: usize = 8;

/// The part of a plan that is one node's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    /// Counts the plans of whoever made it.
    pub plan: u64,
    /// The situation of the node that the plan knew.
    pub about: u64,
    /// What its streams get.
    pub streams: Vec<Decided>,
    /// What retrainings for other nodes get of its devices.
    pub guests: Vec<Guest>,
}

/// What one stream gets, and what becomes of its retraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// Its name.
    pub stream: String,
    /// The version that the plan knew.
    pub version: u64,
    /// Index of its inference configuration; `None` where none fits the share.
    pub inference: Option<usize>,
    /// For inference, of the device that serves it.
    pub inference_share: Share,
    /// For retraining, of the device that retrains it.
    pub training_share: Share,
    /// Index of the retraining option to start now.
    pub start: Option<usize>,
    /// Whether it is retrained at all, now or later.
    pub retrains: bool,
    /// Where, when that is another node.
    pub trained_on: Option<Place>,
    /// Expected accuracy over the plan's horizon.
    pub mean_accuracy: f64,
    /// Why, for people.
    pub reason: String,
    /// The first segments of the plan, in seconds from when it was made, for people: what comes after
    /// the first one is planned anew by then.
    pub ahead: Vec<Ahead>,
}

/// Shares over some time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ahead {
    /// Start, in seconds.
    pub from: f64,
    /// End.
    pub to: f64,
    /// For inference.
    pub inference: Share,
    /// For training.
    pub training: Share,
}

/// A retraining for another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The node whose stream it is.
    pub of: String,
    /// The stream.
    pub stream: String,
    /// Index of the device that it is retrained on.
    pub device: usize,
    /// Its share of that.
    pub share: Share,
}

/// A device of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The node.
    pub node: String,
    /// The device's name on it.
    pub device: String,
}

impl Ahead {
    fn of(segment: &Segment) -> Self {
        Self {
            from: segment.from,
            to: segment.to,
            inference: segment.inference_share,
            training: segment.training_share,
        }
    }
}

impl Decided {
    /// What a plan says of a stream; nothing for one without a time to plan for.
    #[must_use]
    pub fn of(
        stream: String,
        version: u64,
        plan: &StreamPlan,
        trained_on: Option<Place>,
    ) -> Option<Self> {
        let &Segment {
            inference,
            inference_share,
            training_share,
            ..
        } = plan.now()?;
        Some(Self {
            stream,
            version,
            inference,
            inference_share,
            training_share,
            start: plan.retrains_now(),
            retrains: plan.retraining.is_some(),
            trained_on,
            mean_accuracy: plan.mean_accuracy,
            reason: plan.reason.clone(),
            ahead: plan
                .timeline
                .iter()
                .take(AHEAD_MAX)
                .map(Ahead::of)
                .collect(),
        })
    }
}

impl Parts for Decisions {
    fn into_parts(mut self) -> Vec<Self> {
        let mut streams = std::mem::take(&mut self.streams).into_iter();
        let mut guests = std::mem::take(&mut self.guests).into_iter();
        let mut parts = Vec::new();
        loop {
            let part = Self {
                streams: streams.by_ref().take(STREAMS_A_PART).collect(),
                guests: guests.by_ref().take(STREAMS_A_PART).collect(),
                ..self
            };
            if part.streams.is_empty() && part.guests.is_empty() && !parts.is_empty() {
                return parts;
            }
            parts.push(part);
        }
    }

    fn number(&self) -> u64 {
        self.plan
    }

    fn add(&mut self, part: Self) {
        self.streams.extend(part.streams);
        self.guests.extend(part.guests);
    }
}
