//! What earlier retrainings taught: their gains, their costs, and how wrong micro-profiles were.
//!
//! Gains are predicted from all outcomes together by a [`Posterior`] under a [`Kernel`], which says
//! how much one retraining tells about another. Outcomes that were measured on few held-out frames
//! count less.

use std::collections::VecDeque;

use ekya_sched::RetrainingConfig;
use serde::{Deserialize, Serialize};

use crate::cost::Costs;
use crate::posterior::fitted;
use crate::{Estimate, Joint, Kernel, Observation, Point, Posterior};

/// Outcomes remembered, besides those of the prior; the oldest are forgotten. With those, they bound
/// what a prediction costs (see [`Posterior`]).
const OUTCOMES_MAX: usize = 192;

/// Variance of the difference between two students' mean scores, times the number of held-out
/// frames: on procedural scenes it scattered about the truth by 8 points with 15 frames and by 4
/// with 48.
const FRAME_VARIANCE: f64 = 0.1;

/// Outcomes whose weight pulls the bias of micro-profiles towards none.
const POOLED_OUTCOMES: f64 = 2.0;

/// No micro-profile is surer than this.
const CURVE_SD_MIN: f64 = 0.03;

/// How a real retraining went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Who was retrained how, when, and from what accuracy.
    pub point: Point,
    /// Accuracy of the retrained student on the same examples, promoted or not.
    pub end_accuracy: f64,
    /// On how many held-out frames both accuracies were measured; `None` for so many that it
    /// makes no difference.
    pub frames: Option<usize>,
}

impl Outcome {
    fn observation(&self) -> Observation {
        Observation {
            point: self.point.clone(),
            gain: self.end_accuracy - self.point.start_accuracy,
            variance: self.frames.map_or(0.0, measuring_variance),
        }
    }

    fn is_usable(&self) -> bool {
        let fraction = |value: f64| (0.0..=1.0).contains(&value);
        fraction(self.point.start_accuracy) && fraction(self.end_accuracy)
    }
}

/// Variance of the errors with which a gain is measured on so many frames.
#[must_use]
pub fn measuring_variance(frames: usize) -> f64 {
    FRAME_VARIANCE / frames.max(1) as f64
}

/// All that is known. Keep one for all streams that have the same kind of student: they learn from
/// each other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    kernel: Kernel,
    /// What was found out elsewhere, beforehand.
    prior: Vec<Outcome>,
    /// Oldest first.
    outcomes: VecDeque<Outcome>,
    /// Of what micro-profiles promised more than retrainings gave: weight, sum, sum of squares.
    curves: [f64; 3],
    costs: Costs,
}

impl History {
    /// Nothing known but what was found out elsewhere. The kernel is fitted to it.
    #[must_use]
    pub fn with_prior(prior: Vec<Outcome>) -> Self {
        let prior: Vec<Outcome> = prior.into_iter().filter(Outcome::is_usable).collect();
        let observations: Vec<Observation> = prior.iter().map(Outcome::observation).collect();
        Self {
            kernel: fitted(&Kernel::default(), &observations),
            prior,
            ..Self::default()
        }
    }

    /// Takes in how a retraining went; outcomes whose accuracies are no numbers are left out.
    pub fn record(&mut self, outcome: Outcome) {
        if outcome.is_usable() {
            self.outcomes.push_back(outcome);
            if self.outcomes.len() > OUTCOMES_MAX {
                self.outcomes.pop_front();
            }
        }
    }

    /// Takes in what a micro-profile had promised, and what the retraining gave.
    pub fn record_curve(&mut self, promised_gain: f64, gain: f64) {
        let error = promised_gain - gain;
        if error.is_finite() {
            for (sum, new) in self.curves.iter_mut().zip([1.0, error, error * error]) {
                *sum += new;
            }
        }
    }

    /// Takes in what a retraining on so many labelled pictures cost.
    pub fn record_cost(&mut self, config: &RetrainingConfig, pictures: usize, gpu_seconds: f64) {
        self.costs.record(config, pictures, gpu_seconds);
    }

    /// What retrainings cost.
    #[must_use]
    pub const fn costs(&self) -> &Costs {
        &self.costs
    }

    /// The same, to take in what a micro-profile measured.
    pub const fn costs_mut(&mut self) -> &mut Costs {
        &mut self.costs
    }

    /// The gains that these retrainings let expect.
    #[must_use]
    pub fn expect(&self, points: &[Point]) -> Joint {
        let all = self.prior.iter().chain(&self.outcomes);
        let observations: Vec<Observation> = all.map(Outcome::observation).collect();
        // Observations that are finite and uncertain, as all here are, can be taken in.
        Posterior::new(&self.kernel, &observations).map_or_else(
            || Joint::prior(&self.kernel, points),
            |known| known.joint(points),
        )
    }

    /// A micro-profile's estimate of a gain, less what they promised too much before. `sd` is how
    /// uncertain it is by itself.
    #[must_use]
    pub fn corrected_curve(&self, promised_gain: f64, sd: f64) -> Estimate {
        let [weight, sum, squares] = self.curves;
        let bias = sum / (weight + POOLED_OUTCOMES);
        let squared = (squares + POOLED_OUTCOMES * sd * sd) / (weight + POOLED_OUTCOMES);
        Estimate {
            mean: promised_gain - bias,
            sd: sd
                .max((squared - bias * bias).max(0.0).sqrt())
                .max(CURVE_SD_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Features;

    fn point(config: usize, start_accuracy: f64) -> Point {
        Point {
            stream: "a".to_owned(),
            occasion: 1,
            config: Features::nameless(config),
            start_accuracy,
        }
    }

    fn outcome(config: usize, start_accuracy: f64, end_accuracy: f64) -> Outcome {
        Outcome {
            point: point(config, start_accuracy),
            end_accuracy,
            frames: None,
        }
    }

    fn gain(history: &History, config: usize, start: f64) -> Estimate {
        history.expect(&[point(config, start)]).gain(0)
    }

    #[test]
    fn nothing_known_is_the_prior() {
        let unknown = gain(&History::default(), 0, 0.6);
        assert!((unknown.mean - 0.1).abs() < 1e-9 && unknown.sd > 0.1);
    }

    #[test]
    fn gains_follow_the_error_that_there_is_to_remove() {
        let mut history = History::default();
        for i in 0..6 {
            let start = 0.3 + 0.1 * f64::from(i);
            history.record(outcome(0, start, start + 0.5 * (1.0 - start)));
        }
        let [low, high] = [0.4, 0.8].map(|start| gain(&history, 0, start).mean);
        assert!((low - 0.3).abs() < 0.03, "{low}");
        assert!((high - 0.1).abs() < 0.03, "{high}");
    }

    #[test]
    fn outcomes_on_few_frames_count_less() {
        let after = |frames| {
            let mut history = History::default();
            history.record(Outcome {
                frames,
                ..outcome(0, 0.6, 0.9)
            });
            gain(&history, 0, 0.6)
        };
        let (few, many) = (after(Some(8)), after(None));
        assert!(few.mean < many.mean && few.sd > many.sd);
    }

    #[test]
    fn what_was_found_out_elsewhere_yields_to_own_outcomes() {
        let elsewhere = (0..60).map(|i| {
            let mut one = outcome(0, 0.5, 0.7);
            one.point.stream = format!("elsewhere{}", i % 6);
            one
        });
        let mut history = History::with_prior(elsewhere.collect());
        let before = gain(&history, 0, 0.5).mean;
        assert!((before - 0.2).abs() < 0.02, "{before}");
        for occasion in 0..16 {
            let mut own = outcome(0, 0.5, 0.5);
            own.point.occasion = occasion;
            history.record(own);
        }
        assert!(gain(&history, 0, 0.5).mean < 0.08);
    }

    #[test]
    fn a_curve_that_was_wrong_is_trusted_less_and_set_right() {
        let mut history = History::default();
        for gain in [0.0, 0.1, -0.1, 0.0] {
            history.record_curve(0.3, gain);
        }
        let curve = history.corrected_curve(0.3, 0.05);
        assert!(curve.mean < 0.15, "{}", curve.mean);
        assert!(curve.sd > 0.05);
    }

    #[test]
    fn numbers_that_are_none_change_nothing_and_memory_is_bounded() {
        let mut history = History::default();
        history.record(outcome(0, f64::NAN, 0.5));
        history.record(outcome(0, 0.5, 1.5));
        history.record_curve(f64::NAN, 0.0);
        assert_eq!(history, History::default());
        for _ in 0..2 * OUTCOMES_MAX {
            history.record(outcome(0, 0.5, 0.6));
        }
        assert_eq!(history.outcomes.len(), OUTCOMES_MAX);
    }
}
