//! PickConfigs (the paper's Algorithm 2): the best configurations of one stream under given shares.

use crate::{Problem, Share, StreamPlan, StreamSpec, reason};

/// Two accuracies closer than this are the same; keeps rounding from deciding anything.
pub(crate) const EPSILON: f64 = 1e-9;

/// One stream, prepared for being asked many times.
pub(crate) struct Picker {
    accuracy: f64,
    /// Seconds left of the window.
    remaining: f64,
    /// a_MIN, or 0 when the stream cannot reach it with the whole device.
    floor: f64,
    /// Inference options that no other dominates, by rising share and rising factor.
    levels: Vec<Level>,
    /// Retraining options that no other dominates, by rising cost and rising end accuracy.
    front: Vec<Candidate>,
}

/// An inference option that no other dominates.
pub(crate) struct Level {
    pub(crate) share: Share,
    pub(crate) factor: f64,
    pub(crate) option: usize,
}

/// A retraining option that no other dominates.
pub(crate) struct Candidate {
    pub(crate) gpu_seconds: f64,
    pub(crate) end_accuracy: f64,
    pub(crate) option: usize,
}

/// The configurations chosen, and what they are worth.
#[derive(Clone, Copy)]
pub(crate) struct Pick {
    pub(crate) inference: Option<usize>,
    /// What the inference option needs.
    pub(crate) needed: Share,
    pub(crate) retraining: Option<usize>,
    /// Seconds until the retraining ends; infinite without one.
    pub(crate) ends_in: f64,
    /// Accuracy averaged over the remaining window.
    pub(crate) mean: f64,
    /// How far the accuracy is below a_MIN until the retraining ends.
    pub(crate) shortfall: f64,
}

impl Picker {
    pub(crate) fn new(spec: &StreamSpec, problem: &Problem) -> Self {
        let levels = levels(spec);
        let capacity = problem.capacity_of(spec);
        let within = |level: &&Level| level.share <= capacity;
        let reachable = levels.iter().rev().find(within).map_or(0.0, |l| l.factor) * spec.accuracy;
        let floor = if reachable + EPSILON >= problem.min_accuracy {
            problem.min_accuracy
        } else {
            0.0
        };
        Self {
            accuracy: spec.accuracy,
            remaining: problem.remaining.as_secs_f64(),
            floor,
            levels,
            front: front(spec),
        }
    }

    /// What the inference options need, rising.
    pub(crate) fn needs(&self) -> impl Iterator<Item = Share> {
        self.levels.iter().map(|level| level.share)
    }

    /// The most that inference can make use of.
    pub(crate) fn most_useful(&self) -> Share {
        self.levels.last().map_or(Share::ZERO, |level| level.share)
    }

    /// The best configurations under these shares. A retraining that does not end in the window,
    /// or makes nothing better, is not chosen. Once it has ended, its share is taken to go to the
    /// stream's inference.
    pub(crate) fn pick(&self, inference: Share, training: Share) -> Pick {
        let mut best = self.serve(inference);
        let now = best.mean;
        if training == Share::ZERO || self.front.is_empty() {
            return best;
        }
        let after = self.factor_at(inference.saturating_add(training));
        let speed = training.as_f64();
        for candidate in &self.front {
            let ends_in = candidate.gpu_seconds / speed;
            if ends_in > self.remaining {
                break;
            }
            let mean = self.blend(now, candidate.end_accuracy * after, ends_in);
            if mean > best.mean + EPSILON {
                best = Pick {
                    retraining: Some(candidate.option),
                    ends_in,
                    mean,
                    ..best
                };
            }
        }
        best
    }

    /// The most accurate inference that fits, with a retraining that was fixed beforehand.
    pub(crate) fn with_fixed(
        &self,
        spec: &StreamSpec,
        option: usize,
        inference: Share,
        training: Share,
    ) -> Pick {
        let serving = self.serve(inference);
        let Some(fixed) = spec.retraining.get(option) else {
            return serving;
        };
        if training == Share::ZERO {
            return serving;
        }
        let ends_in = fixed.gpu_seconds / training.as_f64();
        let end_accuracy = fixed.end_accuracy.max(self.accuracy);
        let after = self.factor_at(inference.saturating_add(training));
        Pick {
            retraining: Some(option),
            ends_in,
            mean: self.blend(serving.mean, end_accuracy * after, ends_in),
            ..serving
        }
    }

    /// Inference alone.
    pub(crate) fn serve(&self, inference: Share) -> Pick {
        let level = self.level_at(inference);
        let mean = self.accuracy * level.map_or(0.0, |level| level.factor);
        Pick {
            inference: level.map(|level| level.option),
            needed: level.map_or(Share::ZERO, |level| level.share),
            retraining: None,
            ends_in: f64::INFINITY,
            mean,
            shortfall: (self.floor - mean).max(0.0),
        }
    }

    /// Mean accuracy when `before` holds for `seconds` and `after` for the rest of the window.
    fn blend(&self, before: f64, after: f64, seconds: f64) -> f64 {
        if seconds >= self.remaining {
            return before;
        }
        before + (after - before) * (1.0 - seconds / self.remaining)
    }

    fn level_at(&self, share: Share) -> Option<&Level> {
        let fitting = self.levels.partition_point(|level| level.share <= share);
        self.levels[..fitting].last()
    }

    fn factor_at(&self, share: Share) -> f64 {
        self.level_at(share).map_or(0.0, |level| level.factor)
    }
}

impl Pick {
    /// The plan of a stream that gets these shares.
    pub(crate) fn into_plan(
        self,
        spec: &StreamSpec,
        problem: &Problem,
        inference_share: Share,
        training_share: Share,
    ) -> StreamPlan {
        let remaining = problem.remaining;
        let ends = std::time::Duration::try_from_secs_f64(self.ends_in).ok();
        let mut plan = StreamPlan {
            inference: self.inference,
            inference_share,
            retraining: self.retraining,
            training_share,
            completes_in: ends.filter(|&ends| ends <= remaining),
            mean_accuracy: self.mean.clamp(0.0, 1.0),
            reason: String::new(),
        };
        plan.reason = reason::of(&plan, spec, problem);
        plan
    }
}

/// One for every stream, in the problem's order.
pub(crate) fn pickers(problem: &Problem) -> Vec<Picker> {
    let streams = problem.streams.iter();
    streams.map(|spec| Picker::new(spec, problem)).collect()
}

/// By rising share and rising factor.
pub(crate) fn levels(spec: &StreamSpec) -> Vec<Level> {
    let mut all: Vec<Level> = spec
        .inference
        .iter()
        .enumerate()
        .map(|(option, spec)| Level {
            share: spec.share,
            factor: spec.accuracy_factor,
            option,
        })
        .collect();
    all.sort_by(|a, b| (a.share.cmp(&b.share)).then(b.factor.total_cmp(&a.factor)));
    let mut best = f64::NEG_INFINITY;
    all.retain(|level| {
        let better = level.factor > best;
        best = best.max(level.factor);
        better
    });
    all
}

/// Those better than the serving student, by rising cost and rising end accuracy.
pub(crate) fn front(spec: &StreamSpec) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = spec
        .retraining
        .iter()
        .enumerate()
        .map(|(option, spec)| Candidate {
            gpu_seconds: spec.gpu_seconds,
            end_accuracy: spec.end_accuracy,
            option,
        })
        .collect();
    all.sort_by(|a, b| {
        (a.gpu_seconds.total_cmp(&b.gpu_seconds)).then(b.end_accuracy.total_cmp(&a.end_accuracy))
    });
    let mut best = spec.accuracy;
    all.retain(|candidate| {
        let better = candidate.end_accuracy > best;
        best = best.max(candidate.end_accuracy);
        better
    });
    all
}
