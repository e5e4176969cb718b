//! One retraining: train a copy, compare it with the serving student on held-out frames, decide.

use ekya_models::{Example, Student, TrainingOptions};
use ekya_profiler::inference::Measurement;
use ekya_sched::RetrainingConfig;

use super::evaluate::{LearnError, Work, accuracy};
use super::pace::{Pace, Timed};
use super::split::Labelled;
use crate::stream::Metric;

/// How far a retraining is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Training steps done.
    pub done: usize,
    /// Training steps in all.
    pub steps: usize,
    /// Device seconds spent.
    pub gpu_seconds: f64,
}

/// How a retraining ended.
pub struct Outcome {
    /// The retrained student, when it passed the gate.
    pub promoted: Option<Box<dyn Student>>,
    /// Accuracy of the serving student on the held-out frames.
    pub serving_accuracy: Option<f64>,
    /// Accuracy of the retrained student on the same frames.
    pub retrained_accuracy: Option<f64>,
    /// By how much it had to be more accurate to be promoted.
    pub margin: f64,
    /// Inference configurations measured on the promoted student; empty when none was.
    pub inference: Vec<Measurement>,
    /// Labelled pictures that were there to train on.
    pub examples: usize,
    /// Device seconds spent, gate and inference profile included.
    pub gpu_seconds: f64,
}

/// What to retrain on and how.
pub(super) struct Retraining<'a> {
    /// The serving student, which stays as it is.
    pub(super) serving: &'a dyn Student,
    /// Labelled pictures to train on.
    pub(super) examples: &'a [Example],
    /// How to train.
    pub(super) config: &'a RetrainingConfig,
    /// How to carry it out.
    pub(super) options: &'a TrainingOptions,
    /// How answers are scored.
    pub(super) metric: Metric,
    /// Seed of order, augmentation and new weights.
    pub(super) seed: u64,
}

/// What a retrained student must pass.
pub(super) struct Gate<'a> {
    /// Frames to compare on, later than those trained on; asked for when training is over.
    pub(super) held_out: &'a dyn Fn() -> Vec<Labelled>,
    /// By how much it must be more accurate on so many of them; not negative.
    pub(super) margin: &'a dyn Fn(usize) -> f64,
}

impl Retraining<'_> {
    /// Trains to the end, then through the gate: the retrained student is promoted when it is more
    /// accurate on the held-out frames than the serving one, by more than the gate's margin; a
    /// tie keeps the serving one.
    ///
    /// # Errors
    /// [`LearnError::Cancelled`] when cut off; the model's own. Nothing is promoted then.
    pub(super) fn run(
        &self,
        gate: &Gate<'_>,
        pace: &mut Pace,
        work: &mut Work,
        report: impl FnMut(Progress),
    ) -> Result<Outcome, LearnError> {
        let retrained = self.train(pace, work, report)?;
        let held_out = (gate.held_out)();
        let serving_accuracy = accuracy(self.serving, &held_out, self.metric, work)?;
        let retrained_accuracy = accuracy(&*retrained, &held_out, self.metric, work)?;
        let margin = (gate.margin)(held_out.len());
        // Incomparable (no held-out frame with anything to score) is not better.
        let better = serving_accuracy
            .zip(retrained_accuracy)
            .is_some_and(|(old, new)| new - old > margin);
        Ok(Outcome {
            promoted: better.then_some(retrained),
            serving_accuracy,
            retrained_accuracy,
            margin,
            inference: Vec::new(),
            examples: self.examples.len(),
            gpu_seconds: work.spent(),
        })
    }

    /// A retrained copy; `pace` learns from it.
    fn train(
        &self,
        pace: &mut Pace,
        work: &mut Work,
        mut report: impl FnMut(Progress),
    ) -> Result<Box<dyn Student>, LearnError> {
        let mut training = Timed::new(work.minibatch(|| {
            self.serving
                .train_with(self.examples, self.config, self.options, self.seed)
        })?);
        let steps = training.training().steps();
        for _ in 0..steps {
            let step = training.step(work)?;
            report(Progress {
                done: step.done,
                steps,
                gpu_seconds: work.spent(),
            });
        }
        pace.learn(self.config, &training);
        work.minibatch(|| training.training().student())
    }
}
