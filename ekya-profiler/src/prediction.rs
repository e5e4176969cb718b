//! What is expected of the active configurations, as it grows with what runs on samples show.

use ekya_sched::RetrainingConfig;

use crate::cost::{of_one_kind, work};
use crate::curve::EXTRAPOLATION_DOUBT;
use crate::observed::{Extrapolated, Observed};
use crate::{Costs, Estimate, History, Joint, MeasuredCost, Point, Profile, Situation};

/// How much of the error that is left may go, or not, in training for e times as long: one deviation,
/// as a part of it. A curve that is still flat says little of what comes later.
const LATER_DOUBT: f64 = 0.1;

/// A run is worth its cost when it can be expected to take at least this part of the variance of a
/// gain away.
const WORTH: f64 = 0.2;

/// Expected gains and costs. Groups hold places in `active`.
pub(crate) struct Prediction<'a> {
    configs: &'a [RetrainingConfig],
    active: Vec<usize>,
    pub(crate) situation: &'a Situation,
    history: &'a History,
    joint: Joint,
    costs: Costs,
    promised: Vec<Option<f64>>,
}

impl<'a> Prediction<'a> {
    pub(crate) fn new(
        configs: &'a [RetrainingConfig],
        active: &[usize],
        situation: &'a Situation,
        history: &'a History,
    ) -> Self {
        let known = |&index: &usize| index < configs.len();
        let mut active: Vec<usize> = active.iter().copied().filter(known).collect();
        active.sort_unstable();
        active.dedup();
        let points: Vec<Point> = active
            .iter()
            .map(|&index| situation.point(&configs[index]))
            .collect();
        Self {
            configs,
            situation,
            history,
            joint: history.expect(&points),
            costs: history.costs().clone(),
            promised: vec![None; active.len()],
            active,
        }
    }

    pub(crate) fn config(&self, place: usize) -> &'a RetrainingConfig {
        &self.configs[self.active[place]]
    }

    /// Configurations that share a run, those with most doubt first.
    pub(crate) fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for place in 0..self.active.len() {
            let shares =
                |group: &&mut Vec<usize>| of_one_kind(self.config(group[0]), self.config(place));
            match groups.iter_mut().find(shares) {
                Some(group) => group.push(place),
                None => groups.push(vec![place]),
            }
        }
        groups.sort_by(|a, b| self.doubt(b).total_cmp(&self.doubt(a)));
        groups
    }

    /// The largest deviation of a gain in the group.
    fn doubt(&self, group: &[usize]) -> f64 {
        let sd = |&place: &usize| self.joint.gain(place).sd;
        group.iter().map(sd).fold(0.0, f64::max)
    }

    /// Whether validating on the held-out examples says anything that is not known better.
    pub(crate) fn is_worth_it(&self, group: &[usize]) -> bool {
        let noise = self.situation.noise(self.situation.start_accuracy).powi(2);
        let doubt = self.doubt(group).powi(2);
        doubt >= WORTH * (doubt + noise)
    }

    /// Whether nothing tells the cost of one of the group.
    pub(crate) fn is_unknown(&self, group: &[usize]) -> bool {
        group.iter().any(|&place| self.gpu_seconds(place).is_none())
    }

    fn gpu_seconds(&self, place: usize) -> Option<f64> {
        self.costs
            .expect(self.config(place), self.situation.pictures)
    }

    /// What the curve promises for a configuration.
    fn promise(&self, place: usize, observed: &Observed, group: usize) -> Option<(f64, Estimate)> {
        let Extrapolated { end, rise, stretch } = observed.extrapolate(self.config(place))?;
        let gain = end - self.situation.start_accuracy;
        // The noise is the same for all of the group, and must not be averaged away over it.
        let noise = self.situation.noise(end) * (group as f64).sqrt();
        let later = LATER_DOUBT * (1.0 - end) * stretch.max(1.0).ln();
        let sd = noise.hypot(later.max(EXTRAPOLATION_DOUBT * rise));
        let estimate = self.history.corrected_curve(gain, sd);
        Some((gain, estimate))
    }

    /// The gains as they would be with what was observed.
    fn with(&self, group: &[usize], observed: &Observed) -> Joint {
        let mut joint = self.joint.clone();
        for &place in group {
            if let Some((_, estimate)) = self.promise(place, observed, group.len()) {
                joint.observe(place, estimate);
            }
        }
        joint
    }

    pub(crate) fn take_in(&mut self, group: &[usize], observed: &Observed, cost: &MeasuredCost) {
        self.joint = self.with(group, observed);
        for &place in group {
            let promise = self.promise(place, observed, group.len());
            self.promised[place] = promise.map(|(gain, _)| gain);
        }
        self.costs
            .record_profiled(&cost.config, cost.rate, cost.fixed);
    }

    /// Whether training on can change nothing: every configuration of the group is beaten beyond
    /// doubt by one that is no costlier, or not affordable.
    pub(crate) fn cannot_win(&self, group: &[usize], observed: &Observed) -> bool {
        let joint = self.with(group, observed);
        let measured = observed.cost(self.config(group[0]), self.situation.pictures);
        let cost = |place: usize| {
            let work = work(self.config(place), self.situation.pictures);
            let known = self.gpu_seconds(place);
            known.unwrap_or(measured.fixed + measured.rate * work)
        };
        let beaten = |place: usize| {
            let highest = joint.gain(place).interval().1;
            cost(place) > self.situation.affordable_gpu_seconds
                || (0..self.active.len()).any(|other| {
                    !group.contains(&other)
                        && self.gpu_seconds(other).is_some_and(|s| s <= cost(place))
                        && joint.gain(other).interval().0 > highest
                })
        };
        group.iter().all(|&place| beaten(place))
    }

    /// Of every configuration whose cost is known.
    pub(crate) fn profiles(&self) -> Vec<Profile> {
        let start = self.situation.start_accuracy;
        let of = |place: usize| {
            let gain = self.joint.gain(place);
            let end = Estimate {
                mean: start + gain.mean,
                sd: gain.sd.hypot(self.situation.start_sd),
            };
            let (low, high) = end.interval();
            let accuracy = |value: f64| value.clamp(0.0, 1.0);
            Some(Profile {
                config: self.active[place],
                end_accuracy: accuracy(end.mean),
                end_sd: end.sd,
                interval: (accuracy(low), accuracy(high)),
                gain,
                gpu_seconds: self.gpu_seconds(place)?,
                promised_gain: self.promised[place],
            })
        };
        (0..self.active.len()).filter_map(of).collect()
    }
}
