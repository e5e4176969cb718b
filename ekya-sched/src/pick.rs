//! PickConfigs (the paper's Algorithm 2): the best configurations of one stream under given shares.

use crate::timeline::push;
use crate::{Problem, Segment, Share, StreamPlan, StreamSpec, Throughput, reason};

/// Two accuracies closer than this are the same; keeps rounding from deciding anything.
pub(crate) const EPSILON: f64 = 1e-9;

/// One stream, prepared for being asked many times.
pub(crate) struct Picker<'a> {
    pub(crate) weight: f64,
    accuracy: f64,
    /// Seconds left of the window.
    remaining: f64,
    /// Seconds until a retraining may start.
    delay: f64,
    /// Bytes that a retraining may occupy; `None` when none may run.
    training_memory: Option<u64>,
    /// a_MIN, or 0 when the stream cannot reach it with the whole device.
    floor: f64,
    /// Inference options that no other dominates, by rising share and rising factor.
    levels: Vec<Level>,
    /// Retraining options that no other dominates, by rising work.
    front: Vec<Candidate>,
    throughput: &'a Throughput,
}

/// An inference option that no other dominates.
pub(crate) struct Level {
    pub(crate) share: Share,
    pub(crate) factor: f64,
    pub(crate) option: usize,
}

/// A retraining option that no other dominates.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    /// GPU-seconds left to do.
    pub(crate) work: f64,
    pub(crate) startup: f64,
    pub(crate) memory: u64,
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
    /// Accuracy once the retraining has ended, when every frame is answered.
    pub(crate) end_accuracy: f64,
    /// Seconds until the retraining computes: labels are there, its start-up is over.
    pub(crate) computes_in: f64,
    /// Seconds until the retraining ends; infinite without one.
    pub(crate) ends_in: f64,
    /// Accuracy averaged over the remaining window, with the bonus.
    pub(crate) mean: f64,
    /// What the share that is handed back is worth to others.
    pub(crate) bonus: f64,
    /// How far the accuracy is below a_MIN until the retraining ends.
    pub(crate) shortfall: f64,
}

impl<'a> Picker<'a> {
    /// For a stream of a problem with one device, on which a retraining may occupy so many bytes.
    fn new(spec: &'a StreamSpec, problem: &Problem, training_memory: Option<u64>) -> Self {
        let levels = levels(spec);
        let capacity = problem.capacity();
        let within = |level: &&Level| level.share <= capacity;
        let reachable = levels.iter().rev().find(within).map_or(0.0, |l| l.factor) * spec.accuracy;
        let floor = if reachable + EPSILON >= problem.min_accuracy {
            problem.min_accuracy
        } else {
            0.0
        };
        Self {
            weight: spec.weight,
            accuracy: spec.accuracy,
            remaining: problem.remaining.as_secs_f64(),
            delay: problem.delay_of(spec),
            training_memory,
            floor,
            levels,
            front: front(spec, problem, training_memory),
            throughput: &spec.throughput,
        }
    }

    /// Whether any retraining may be worth its share.
    pub(crate) const fn may_train(&self) -> bool {
        !self.front.is_empty()
    }

    /// What the inference options need, rising.
    pub(crate) fn needs(&self) -> impl DoubleEndedIterator<Item = Share> {
        self.levels.iter().map(|level| level.share)
    }

    /// The most that inference can make use of.
    pub(crate) fn most_useful(&self) -> Share {
        self.levels.last().map_or(Share::ZERO, |level| level.share)
    }

    /// The most that training can make use of.
    pub(crate) fn most_useful_to_train(&self) -> Share {
        self.throughput.largest_useful()
    }

    /// The best configurations under these shares. A retraining that does not end in the window,
    /// or makes nothing better, is not chosen. Before it computes, and once it has ended, its share
    /// is taken to go to the stream's inference.
    ///
    /// Of that share, what the stream's own inference has no use for is worth `handed_back` to
    /// others, in weighted accuracy per device.
    pub(crate) fn pick(&self, inference: Share, training: Share, handed_back: f64) -> Pick {
        let mut best = self.serve(inference);
        if training == Share::ZERO || self.front.is_empty() {
            return best;
        }
        let now = best.mean;
        let both = inference.saturating_add(training);
        let beside = self.factor_at(both);
        let spare = both.saturating_sub(self.most_useful()).as_f64();
        let worth = handed_back * spare / self.weight;
        let speed = self.throughput.speed(training);
        for candidate in &self.front {
            let computes_in = self.delay + candidate.startup;
            let ends_in = computes_in + candidate.work / speed;
            if ends_in > self.remaining {
                continue;
            }
            let bonus = worth * (self.remaining - ends_in) / self.remaining;
            let mean = self.blend(now, beside, candidate.end_accuracy, (computes_in, ends_in));
            let mean = mean + bonus;
            if mean > best.mean + EPSILON {
                best = Pick {
                    retraining: Some(candidate.option),
                    end_accuracy: candidate.end_accuracy,
                    computes_in,
                    ends_in,
                    mean,
                    bonus,
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
        let fits = self
            .training_memory
            .is_some_and(|free| fixed.memory <= free);
        if training == Share::ZERO || self.delay >= self.remaining || !fits {
            return serving;
        }
        let speed = self.throughput.speed(training);
        let computes_in = self.delay + fixed.startup_seconds;
        let ends_in = computes_in + fixed.gpu_seconds_left() / speed;
        let end_accuracy = fixed.end_accuracy.max(self.accuracy);
        let beside = self.factor_at(inference.saturating_add(training));
        Pick {
            retraining: Some(option),
            end_accuracy,
            computes_in,
            ends_in,
            mean: self.blend(serving.mean, beside, end_accuracy, (computes_in, ends_in)),
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
            end_accuracy: self.accuracy,
            computes_in: f64::INFINITY,
            ends_in: f64::INFINITY,
            mean,
            bonus: 0.0,
            shortfall: (self.floor - mean).max(0.0),
        }
    }

    /// Mean accuracy when `now` holds while the retraining computes, between the two times, and
    /// inference has the factor `beside` before and after.
    fn blend(&self, now: f64, beside: f64, end_accuracy: f64, (from, to): (f64, f64)) -> f64 {
        if self.remaining <= 0.0 {
            return now;
        }
        let early = self.accuracy * beside - now;
        let late = end_accuracy * beside - now;
        let rest = (self.remaining - to).max(0.0);
        now + (early * from.min(self.remaining) + late * rest) / self.remaining
    }

    fn level_at(&self, share: Share) -> Option<&Level> {
        let fitting = self.levels.partition_point(|level| level.share <= share);
        self.levels[..fitting].last()
    }

    fn factor_at(&self, share: Share) -> f64 {
        self.level_at(share).map_or(0.0, |level| level.factor)
    }

    /// The plan of a stream that gets these shares and decides for this pick.
    pub(crate) fn plan(
        &self,
        pick: &Pick,
        spec: &StreamSpec,
        problem: &Problem,
        (inference, training): (Share, Share),
    ) -> StreamPlan {
        let completes_at = Some(pick.ends_in).filter(|&ends| ends <= self.remaining);
        let both = inference.saturating_add(training);
        let mut timeline = Vec::new();
        let mut add = |from: f64, to: f64, accuracy: f64, shares: (Share, Share)| {
            let level = self.level_at(shares.0);
            push(
                &mut timeline,
                Segment {
                    from,
                    to,
                    inference: level.map(|level| level.option),
                    inference_share: shares.0,
                    training_share: shares.1,
                    accuracy: accuracy * level.map_or(0.0, |level| level.factor),
                },
            );
        };
        let ends = completes_at.unwrap_or(self.remaining);
        if pick.retraining.is_some() {
            let computes = pick.computes_in.min(ends);
            add(0.0, computes, self.accuracy, (both, Share::ZERO));
            add(computes, ends, self.accuracy, (inference, training));
        } else {
            add(0.0, ends, self.accuracy, (inference, Share::ZERO));
        }
        add(ends, self.remaining, pick.end_accuracy, (both, Share::ZERO));
        let mut plan = StreamPlan::new(timeline);
        plan.retraining = pick.retraining;
        plan.starts_at = pick.retraining.map(|_| self.delay);
        plan.completes_at = completes_at;
        plan.reason = reason::verdict(&plan, spec, problem);
        plan
    }
}

/// One for every stream, in the problem's order.
pub(crate) fn pickers(problem: &Problem) -> Vec<Picker<'_>> {
    let training_memory = problem.training_memory();
    let streams = problem.streams.iter();
    streams
        .map(|spec| Picker::new(spec, problem, training_memory))
        .collect()
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

/// Those better than the serving student that could end in the window on this device, within so much
/// memory ([`Problem::training_memory`]), and that no other dominates, by rising work.
pub(crate) fn front(
    spec: &StreamSpec,
    problem: &Problem,
    training_memory: Option<u64>,
) -> Vec<Candidate> {
    let remaining = problem.remaining.as_secs_f64() - problem.delay_of(spec);
    let fastest = spec.throughput.speed(problem.capacity());
    let Some(memory) = training_memory.filter(|_| remaining > 0.0) else {
        return Vec::new();
    };
    let mut all: Vec<Candidate> = spec
        .retraining
        .iter()
        .enumerate()
        .map(|(option, spec)| Candidate {
            work: spec.gpu_seconds_left(),
            startup: spec.startup_seconds,
            memory: spec.memory,
            end_accuracy: spec.end_accuracy,
            option,
        })
        .filter(|one| one.end_accuracy > spec.accuracy && one.memory <= memory)
        .filter(|one| one.startup + one.work / fastest <= remaining)
        .collect();
    all.sort_by(|a, b| (a.work.total_cmp(&b.work)).then(b.end_accuracy.total_cmp(&a.end_accuracy)));
    let mut kept: Vec<Candidate> = Vec::with_capacity(all.len());
    for one in all {
        let dominated = |other: &Candidate| {
            other.end_accuracy >= one.end_accuracy
                && other.startup <= one.startup
                && other.memory <= one.memory
        };
        if !kept.iter().any(dominated) {
            kept.push(one);
        }
    }
    kept
}
