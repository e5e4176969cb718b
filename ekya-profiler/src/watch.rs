//! A retraining while it runs: what it has shown so far moves what is expected of it.

use crate::curve::EXTRAPOLATION_DOUBT;
use crate::{AccuracyCurve, Estimate};

/// Accuracies, that before the first step included, before the curve through them is believed.
const POINTS_MIN: usize = 3;

/// A pace that differs by more than this factor from what was expected asks for a new plan.
const PACE_TOLERANCE: f64 = 1.3;

/// The part of a retraining after which its pace is judged: the first epoch may do what later ones
/// need not, such as computing the features of frozen blocks.
const PACE_FROM: f64 = 0.2;

/// The part of a retraining whose minibatches its pace is taken from, the latest most: single ones take
/// several times as long where the processor is short, as under a container's quota.
const PACE_MEMORY: f64 = 0.15;

/// Part of a retraining's work, and GPU-seconds, that are taken to be left at least while it runs: a
/// plan has no share for what is done.
const LEAST_LEFT: f64 = 0.01;

/// How far a retraining is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Minibatches done.
    pub done: usize,
    /// Minibatches in all.
    pub steps: usize,
    /// Device seconds spent.
    pub gpu_seconds: f64,
    /// Accuracy of the student as trained so far, at the level of the one expected, with the
    /// standard deviation of measuring it; where it was measured.
    pub accuracy: Option<Estimate>,
}

/// What left the bounds of what was expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Departure {
    /// It will take so many GPU-seconds in all.
    Pace(f64),
    /// It will end with this accuracy.
    Accuracy(f64),
}

/// What is expected of a running retraining.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    end_accuracy: Estimate,
    gpu_seconds: f64,
    done: usize,
    spent: f64,
    /// GPU-seconds of a minibatch, smoothed; as expected before any was judged.
    pace: Option<f64>,
    /// Part of the steps done, accuracy.
    points: Vec<(f64, f64)>,
}

impl Watch {
    /// Begins with what the profile says. `start_accuracy` is the serving student's.
    #[must_use]
    pub fn new(start_accuracy: f64, end_accuracy: Estimate, gpu_seconds: f64) -> Self {
        Self {
            end_accuracy,
            gpu_seconds,
            done: 0,
            spent: 0.0,
            pace: None,
            points: vec![(0.0, start_accuracy)],
        }
    }

    /// Accuracy expected at the end.
    #[must_use]
    pub const fn end_accuracy(&self) -> Estimate {
        self.end_accuracy
    }

    /// GPU-seconds expected in all.
    #[must_use]
    pub const fn gpu_seconds(&self) -> f64 {
        self.gpu_seconds
    }

    /// GPU-seconds expected from here to the end, above 0.
    #[must_use]
    pub fn remaining(&self) -> f64 {
        let left = self.gpu_seconds - self.spent;
        left.max(LEAST_LEFT * self.gpu_seconds).max(LEAST_LEFT)
    }

    /// Takes in how far it is. Says what has left the bounds of what was expected, which is then
    /// set right: a new plan is due.
    pub fn observe(&mut self, progress: &Progress) -> Option<Departure> {
        let accuracy = self.observe_accuracy(progress);
        let pace = self.observe_pace(progress);
        pace.or(accuracy)
    }

    /// Projects the whole at the present pace; what is behind may have been slower or faster.
    fn observe_pace(&mut self, progress: &Progress) -> Option<Departure> {
        let minibatches = progress.done.saturating_sub(self.done);
        let seconds = progress.gpu_seconds - self.spent;
        (self.done, self.spent) = (progress.done, progress.gpu_seconds);
        if (progress.done as f64) < PACE_FROM * progress.steps as f64 || minibatches == 0 {
            return None;
        }
        let expected = self.gpu_seconds / progress.steps as f64;
        let pace = self.pace.get_or_insert(expected);
        let weight = 1.0 - (-(minibatches as f64) / (PACE_MEMORY * progress.steps as f64)).exp();
        *pace += weight * (seconds / minibatches as f64 - *pace);
        let left = progress.steps.saturating_sub(progress.done);
        let projected = progress.gpu_seconds + *pace * left as f64;
        let ratio = projected / self.gpu_seconds.max(1e-9);
        if (PACE_TOLERANCE.recip()..=PACE_TOLERANCE).contains(&ratio) {
            return None;
        }
        self.gpu_seconds = projected;
        Some(Departure::Pace(projected))
    }

    /// Follows the curve through the accuracies so far, as far as it is to be trusted. Asks for a
    /// new plan when that leads out of the 80 % interval.
    fn observe_accuracy(&mut self, progress: &Progress) -> Option<Departure> {
        let measured = progress.accuracy.filter(|a| a.mean.is_finite())?;
        let part = progress.done as f64 / progress.steps.max(1) as f64;
        self.points.push((part, measured.mean));
        if self.points.len() < POINTS_MIN {
            return None;
        }
        let curve = AccuracyCurve::fit(&self.points)?;
        let end = curve.at(1.0);
        let doubt = EXTRAPOLATION_DOUBT * (end - curve.at(part)).abs();
        let sd = measured.sd.hypot(doubt).max(1e-3);
        let expected = self.end_accuracy.combine(Estimate { mean: end, sd });
        let (low, high) = self.end_accuracy.interval();
        if (low..=high).contains(&expected.mean) {
            return None;
        }
        self.end_accuracy = expected;
        Some(Departure::Accuracy(expected.mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        let expected = Estimate {
            mean: 0.8,
            sd: 0.05,
        };
        Watch::new(0.6, expected, 10.0)
    }

    fn progress(done: usize, gpu_seconds: f64) -> Progress {
        Progress {
            done,
            steps: 100,
            gpu_seconds,
            accuracy: None,
        }
    }

    fn measured(done: usize, accuracy: f64, sd: f64) -> Progress {
        Progress {
            accuracy: Some(Estimate { mean: accuracy, sd }),
            ..progress(done, done as f64 / 10.0)
        }
    }

    #[test]
    fn a_slow_retraining_asks_for_a_plan_once() {
        let mut watch = watch();
        assert_eq!(watch.observe(&progress(10, 1.0)), None);
        let departed = watch.observe(&progress(20, 3.0));
        assert!(
            matches!(departed, Some(Departure::Pace(all)) if (14.0..19.0).contains(&all)),
            "{departed:?}"
        );
        for done in [30, 40, 50] {
            let gpu_seconds = 3.0 + (done - 20) as f64 / 5.0;
            assert_eq!(watch.observe(&progress(done, gpu_seconds)), None);
        }
        assert!((watch.gpu_seconds() - 19.0).abs() < 5.0);
    }

    #[test]
    fn minibatches_that_are_slow_by_turns_ask_for_no_plan() {
        let mut watch = watch();
        for done in (2..=100).step_by(2) {
            // Every other one takes seven times as long as the one before.
            let gpu_seconds = 0.05 * (done / 4) as f64 + 0.35 * (done / 4 + done / 2 % 2) as f64;
            assert_eq!(watch.observe(&progress(done, gpu_seconds)), None, "{done}");
        }
    }

    #[test]
    fn a_costly_first_epoch_asks_for_no_plan() {
        let expected = Estimate {
            mean: 0.8,
            sd: 0.05,
        };
        let mut watch = Watch::new(0.6, expected, 2.0);
        // Ten minibatches cost a tenth of a second each, the other ninety a hundredth.
        for done in [4_usize, 10, 20, 60, 100] {
            let gpu_seconds = 0.1 * done.min(10) as f64 + 0.01 * done.saturating_sub(10) as f64;
            assert_eq!(watch.observe(&progress(done, gpu_seconds)), None);
        }
        assert!(watch.remaining() > 0.0);
    }

    #[test]
    fn an_accuracy_as_expected_asks_for_nothing() {
        let mut watch = watch();
        for (done, accuracy) in [(25, 0.7), (50, 0.76), (75, 0.79)] {
            assert_eq!(watch.observe(&measured(done, accuracy, 0.02)), None);
        }
    }

    #[test]
    fn one_that_learns_nothing_is_found_out() {
        let mut watch = watch();
        let all = [25, 50, 75].map(|done| watch.observe(&measured(done, 0.6, 0.02)));
        let departed = all.into_iter().flatten().next();
        assert!(
            matches!(departed, Some(Departure::Accuracy(end)) if end < 0.7),
            "{departed:?}"
        );
        assert!(watch.end_accuracy().mean < 0.7);
    }

    #[test]
    fn few_held_out_frames_prove_nothing() {
        let mut watch = watch();
        for done in [25, 50, 75] {
            assert_eq!(watch.observe(&measured(done, 0.6, 0.2)), None);
        }
    }
}
