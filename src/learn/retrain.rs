//! One retraining: train a copy, compare it with the serving student on held-out frames, decide.

use ekya_models::{Example, Student, TrainingOptions};
use ekya_profiler::comparison::{Rule, Verdict};
use ekya_profiler::inference::Measurement;
use ekya_profiler::{Estimate, Progress, measuring_variance};
use ekya_sched::RetrainingConfig;

use super::evaluate::{LearnError, Work, accuracy};
use super::gate::{compare, recall};
use super::pace::Pace;
use super::split::Labelled;
use crate::stream::Metric;

/// Parts of a retraining after which the student as trained so far is measured.
const MEASURED_PARTS: usize = 4;

/// How a retraining ended.
pub struct Outcome {
    /// The retrained student, when it passed the gate.
    pub promoted: Option<Box<dyn Student>>,
    /// How it did at the gate; `None` when no held-out frame had anything to score, which is not
    /// better.
    pub verdict: Option<Verdict>,
    /// Inference configurations measured on the promoted student; empty when none was.
    pub inference: Vec<Measurement>,
    /// Labelled pictures that were there to train on.
    pub examples: usize,
    /// Device seconds spent, gate and inference profile included.
    pub gpu_seconds: f64,
}

/// What to retrain on and how.
pub struct Retraining<'a> {
    /// The serving student, which stays as it is.
    pub serving: &'a dyn Student,
    /// Labelled pictures to train on.
    pub examples: &'a [Example],
    /// How to train.
    pub config: &'a RetrainingConfig,
    /// How to carry it out.
    pub options: &'a TrainingOptions,
    /// How answers are scored.
    pub metric: Metric,
    /// Seed of order, augmentation and new weights.
    pub seed: u64,
}

/// What a retrained student must pass.
pub struct Gate<'a> {
    /// Frames to compare on, later than those trained on; asked for when training is over.
    pub held_out: &'a dyn Fn() -> Vec<Labelled>,
    /// Frames of earlier times, on which no class may be unlearnt.
    pub remembered: &'a [Example],
    /// Frames to measure on while it trains, and the serving student's accuracy on them.
    pub meanwhile: (&'a [Labelled], f64),
    /// The gain that the profile let expect.
    pub expected: Option<Estimate>,
    /// When it is proven.
    pub rule: Rule,
}

impl Retraining<'_> {
    /// Trains to the end, then through the gate.
    ///
    /// # Errors
    /// [`LearnError::Cancelled`] when cut off; the model's own. Nothing is promoted then.
    pub fn run(
        &self,
        gate: &Gate<'_>,
        pace: &mut Pace,
        work: &mut Work,
        report: impl FnMut(Progress),
    ) -> Result<Outcome, LearnError> {
        let retrained = self.train(gate, pace, work, report)?;
        let held_out = (gate.held_out)();
        let compared = compare(self.serving, &*retrained, &held_out, self.metric, work)?;
        let mut verdict = compared.verdict(gate.expected, &gate.rule);
        if let Some(verdict) = verdict.as_mut().filter(|verdict| verdict.refusal.is_none()) {
            let recalled = recall(self.serving, &*retrained, gate.remembered, work)?;
            verdict.refusal = recalled.unlearnt(&gate.rule);
        }
        let passed = verdict.as_ref().is_some_and(|v| v.refusal.is_none());
        Ok(Outcome {
            promoted: passed.then_some(retrained),
            verdict,
            inference: Vec::new(),
            examples: self.examples.len(),
            gpu_seconds: work.spent(),
        })
    }

    /// A retrained copy; `pace` learns from it. Now and then there is a look at what the steps have
    /// brought.
    fn train(
        &self,
        gate: &Gate<'_>,
        pace: &mut Pace,
        work: &mut Work,
        mut report: impl FnMut(Progress),
    ) -> Result<Box<dyn Student>, LearnError> {
        let mut training = pace.timed(work.minibatch(|| {
            self.serving
                .train_with(self.examples, self.config, self.options, self.seed)
        })?);
        let steps = training.training().steps();
        let part = steps.div_ceil(MEASURED_PARTS).max(1);
        let mut done = 0;
        while done < steps {
            let measured = (done / part + 1) * part;
            done = training.advance(measured.min(steps), work)?;
            let accuracy = if done.is_multiple_of(part) && done < steps {
                let so_far = work.minibatch(|| training.training().student())?;
                self.measure(&*so_far, gate, work)?
            } else {
                None
            };
            report(Progress {
                done,
                steps,
                gpu_seconds: work.spent(),
                accuracy,
            });
        }
        pace.learn(self.config, &training);
        work.minibatch(|| training.training().student())
    }

    /// Gain of a student over the serving one on the frames for that.
    fn measure(
        &self,
        student: &dyn Student,
        gate: &Gate<'_>,
        work: &mut Work,
    ) -> Result<Option<Estimate>, LearnError> {
        let (frames, serving) = gate.meanwhile;
        let accuracy = accuracy(student, frames, self.metric, work)?;
        Ok(accuracy.map(|accuracy| Estimate {
            mean: accuracy - serving,
            sd: measuring_variance(frames.len()).sqrt(),
        }))
    }
}
