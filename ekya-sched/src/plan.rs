//! What a scheduler answers.

use serde::{Deserialize, Serialize};

use crate::{Problem, Segment, timeline};

/// Configurations and shares of every stream for the rest of the window.
///
/// The plan says what is expected to happen; the caller asks for a new one whenever a retraining
/// ends, since only then it is known how good the student has become. Until then the plan is
/// carried out as its timelines say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// One entry a stream, in the problem's order.
    pub streams: Vec<StreamPlan>,
    /// Predicted mean over the streams, by their weights, and over the remaining window, in 0..=1;
    /// 0 without streams.
    pub mean_accuracy: f64,
    /// No plan that retrains on these devices and holds the lowest accuracy reaches a higher mean;
    /// `None` when the scheduler does not say.
    #[serde(default)]
    pub upper_bound: Option<f64>,
}

/// What one stream gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPlan {
    /// Index of the device that its inference runs on; `None` when there is none for it.
    pub device: Option<usize>,
    /// Index of the device that it is retrained on; `None` when there is none for it.
    pub training_device: Option<usize>,
    /// Index into [`crate::StreamSpec::cached`] of the student that serves from now on, instead of
    /// the one that did.
    #[serde(default)]
    pub reused: Option<usize>,
    /// Index into [`crate::StreamSpec::retraining`]. It may be planned for later.
    pub retraining: Option<usize>,
    /// When the retraining starts, in seconds from now: its start-up first, which needs no share. 0
    /// for one that runs already.
    pub starts_at: Option<f64>,
    /// The retraining runs elsewhere, such as in the cloud: it needs no share.
    #[serde(default)]
    pub in_cloud: bool,
    /// When the retraining ends, in seconds from now; `None` when it does not in this window.
    pub completes_at: Option<f64>,
    /// Shares over time: segments that follow each other, from now to the end of the window. From
    /// [`StreamPlan::completes_at`] on, the retrained student serves.
    pub timeline: Vec<Segment>,
    /// Predicted accuracy over the remaining window, in 0..=1.
    pub mean_accuracy: f64,
    /// Why, for people.
    pub reason: String,
}

impl Plan {
    /// Puts the streams' plans together, in the problem's order; states no bound.
    #[must_use]
    pub fn new(streams: Vec<StreamPlan>, problem: &Problem) -> Self {
        let mean_accuracy = weighted_mean(&streams, problem);
        Self {
            streams,
            mean_accuracy,
            upper_bound: None,
        }
    }

    /// When the first retraining ends, in seconds from now: the time for the next plan. `None`
    /// when none does in this window.
    #[must_use]
    pub fn first_completion(&self) -> Option<f64> {
        let ends = self.streams.iter().filter_map(|stream| stream.completes_at);
        ends.min_by(f64::total_cmp)
    }

    /// How much better than this plan any other could be, as a fraction of the upper bound; `None`
    /// when there is no bound.
    #[must_use]
    pub fn gap(&self) -> Option<f64> {
        let bound = self.upper_bound?;
        let gap = (bound - self.mean_accuracy) / bound;
        Some(if bound > 0.0 { gap.max(0.0) } else { 0.0 })
    }
}

impl StreamPlan {
    /// A plan with these segments and their mean accuracy; without retraining, devices and reason.
    #[must_use]
    pub fn new(timeline: Vec<Segment>) -> Self {
        Self {
            device: None,
            training_device: None,
            reused: None,
            retraining: None,
            starts_at: None,
            in_cloud: false,
            completes_at: None,
            mean_accuracy: timeline::mean_accuracy(&timeline).clamp(0.0, 1.0),
            timeline,
            reason: String::new(),
        }
    }

    /// What holds from now on; `None` only for a plan that [`Plan::check`] refuses.
    #[must_use]
    pub fn now(&self) -> Option<&Segment> {
        self.timeline.first()
    }

    /// The retraining that is to run from now on.
    #[must_use]
    pub fn retrains_now(&self) -> Option<usize> {
        self.retraining.filter(|_| self.starts_at == Some(0.0))
    }

    /// Predicted accuracy at a time, in seconds from now.
    #[must_use]
    pub fn accuracy_at(&self, time: f64) -> f64 {
        timeline::at(&self.timeline, time).map_or(0.0, |segment| segment.accuracy)
    }
}

/// Mean accuracy by the streams' weights, 0 of nothing.
pub(crate) fn weighted_mean(streams: &[StreamPlan], problem: &Problem) -> f64 {
    problem.weighted_mean(streams.iter().map(|plan| plan.mean_accuracy))
}

/// What plans of one problem are compared by: how far streams are below the lowest accuracy, then
/// the mean accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    /// Averaged over the window, summed over the streams.
    shortfall: f64,
    mean: f64,
}

impl Score {
    pub(crate) fn of(streams: &[StreamPlan], problem: &Problem) -> Self {
        let lowest = problem.min_accuracy;
        let length = problem.remaining.as_secs_f64();
        let below = |s: &Segment| (lowest - s.accuracy).max(0.0) * s.seconds();
        let shortfall = |plan: &StreamPlan| plan.timeline.iter().map(below).sum::<f64>();
        let sum: f64 = streams.iter().map(shortfall).sum();
        Self {
            shortfall: if length > 0.0 { sum / length } else { 0.0 },
            mean: weighted_mean(streams, problem),
        }
    }

    pub(crate) fn beats(&self, other: &Self) -> bool {
        let shortfall = self.shortfall - other.shortfall;
        let least = crate::pick::EPSILON;
        shortfall < -least || (shortfall <= least && self.mean > other.mean + least)
    }
}
