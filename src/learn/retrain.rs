//! One retraining: train a copy, compare it with the serving student on held-out frames, decide.

use ekya_models::{Example, Student};
use ekya_profiler::inference::Measurement;
use ekya_sched::RetrainingConfig;

use super::evaluate::{LearnError, Work, accuracy};
use super::memory::Labelled;
use crate::stream::Metric;

/// How far a retraining is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Minibatches done.
    pub done: usize,
    /// Minibatches in all.
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
    /// Later frames to compare on.
    pub(super) holdout: &'a [Labelled],
    /// How to train.
    pub(super) config: &'a RetrainingConfig,
    /// How answers are scored.
    pub(super) metric: Metric,
    /// Seed of order, augmentation and new weights.
    pub(super) seed: u64,
}

impl Retraining<'_> {
    /// Trains to the end, then through the gate: the retrained student is promoted when it is more
    /// accurate on the held-out frames than the serving one; a tie keeps the serving one.
    ///
    /// # Errors
    /// [`LearnError::Cancelled`] when cut off; the model's own. Nothing is promoted then.
    pub(super) fn run(
        &self,
        work: &mut Work,
        mut report: impl FnMut(Progress),
    ) -> Result<Outcome, LearnError> {
        let mut training =
            work.minibatch(|| self.serving.train(self.examples, self.config, self.seed))?;
        let steps = training.steps();
        for _ in 0..steps {
            let step = work.minibatch(|| training.step())?;
            report(Progress {
                done: step.done,
                steps,
                gpu_seconds: work.spent(),
            });
        }
        let retrained = work.minibatch(|| training.student())?;
        let serving_accuracy = accuracy(self.serving, self.holdout, self.metric, work)?;
        let retrained_accuracy = accuracy(&*retrained, self.holdout, self.metric, work)?;
        // Incomparable (no held-out frame with anything to score) is not better.
        let better = retrained_accuracy > serving_accuracy && serving_accuracy.is_some();
        Ok(Outcome {
            promoted: better.then_some(retrained),
            serving_accuracy,
            retrained_accuracy,
            inference: Vec::new(),
            examples: self.examples.len(),
            gpu_seconds: work.spent(),
        })
    }
}
