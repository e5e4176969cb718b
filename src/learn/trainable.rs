//! A student as the micro-profiler sees it.

use ekya_models::{Example, Student, TrainingOptions};
use ekya_profiler::{Epoch, Start, Trainable};
use ekya_sched::RetrainingConfig;

use super::evaluate::{LearnError, Work, accuracy};
use super::pace::{Pace, Timed};
use super::split::Labelled;
use crate::stream::Metric;

/// A sample smaller than this teaches nothing about a configuration.
const SAMPLE_MIN: usize = 8;

/// Copies of the serving student that are trained on samples.
pub(super) struct Candidates<'a> {
    pub(super) student: &'a dyn Student,
    pub(super) examples: &'a [Example],
    pub(super) holdout: &'a [Labelled],
    /// Accuracy of the serving student, on all that is labelled.
    pub(super) serving: f64,
    /// Its accuracy on the held-out frames alone, which are few: what they are easier or harder by
    /// is taken off the candidates' accuracies.
    pub(super) on_holdout: f64,
    pub(super) metric: Metric,
    pub(super) epochs: usize,
    pub(super) seed: u64,
    pub(super) work: &'a mut Work,
    /// How to train, but for the size of steps, which `pace` says.
    pub(super) options: TrainingOptions,
    pub(super) pace: &'a mut Pace,
    pub(super) training: Option<(RetrainingConfig, Timed)>,
}

impl Trainable for Candidates<'_> {
    type Error = LearnError;

    fn start(
        &mut self,
        config: &RetrainingConfig,
        sample_fraction: f64,
    ) -> Result<Start, LearnError> {
        let before = self.work.spent();
        let wanted = (self.examples.len() as f64 * sample_fraction).round() as usize;
        let count = wanted.clamp(SAMPLE_MIN.min(self.examples.len()), self.examples.len());
        let sample: Vec<Example> = (0..count)
            .map(|i| self.examples[i * self.examples.len() / count].clone())
            .collect();
        let config = RetrainingConfig {
            epochs: self.epochs,
            data_fraction: 1.0,
            ..config.clone()
        };
        let student = self.student;
        let seed = self.seed;
        let options = TrainingOptions {
            micro_batch: self.pace.micro_batch(&config),
            ..self.options.clone()
        };
        let training = self
            .work
            .minibatch(|| student.train_with(&sample, &config, &options, seed))?;
        let start = Start {
            sample_fraction: count as f64 / self.examples.len().max(1) as f64,
            accuracy: (config.head_width == 0).then_some(self.serving),
            gpu_seconds: self.work.spent() - before,
        };
        self.training = Some((config, self.pace.timed(training)));
        Ok(start)
    }

    fn train_epoch(&mut self) -> Result<Epoch, LearnError> {
        let Some((config, timed)) = &mut self.training else {
            return Err(LearnError::Cancelled);
        };
        let before = self.work.spent();
        timed.train_epoch(self.work)?;
        self.pace.learn(config, timed);
        let trained = self.work.spent();
        let student = self.work.minibatch(|| timed.training().student())?;
        let accuracy = accuracy(&*student, self.holdout, self.metric, self.work)?;
        Ok(Epoch {
            accuracy: accuracy.map_or(f64::NAN, |accuracy| {
                (self.serving + accuracy - self.on_holdout).clamp(0.0, 1.0)
            }),
            training_gpu_seconds: trained - before,
            validation_gpu_seconds: self.work.spent() - trained,
        })
    }
}
