//! What a stream has learnt from and learns with: the serving student's twin, the window's labels,
//! the memory, and what earlier retrainings have shown.

use std::sync::Arc;

use ekya_models::{Example, Student};
use ekya_profiler::inference::Measurement;
use ekya_profiler::{History, MicroProfiler, Outcome as Observation, Profile, Situation};
use ekya_sched::RetrainingOption;
use parking_lot::Mutex;

use super::evaluate::{LearnError, Work, accuracy, profile_inference};
use super::memory::{Memory, Split};
use super::retrain::{Outcome, Progress, Retraining};
use super::trainable::Candidates;
use super::trainer::{Prepare, Prepared};
use crate::config::{InferenceConfig, LearningConfig};
use crate::stream::Metric;

/// Learns for one stream.
pub struct Learner {
    /// Equal to the student that serves; retrainings start from it.
    student: Box<dyn Student>,
    metric: Metric,
    learning: LearningConfig,
    inference: InferenceConfig,
    split: Split,
    memory: Memory,
    /// What retrainings have shown, shared by all streams of the node.
    history: Arc<Mutex<History>>,
    /// What the profiler expected in this window.
    profiles: Vec<Profile>,
}

impl Learner {
    /// A learner that starts from `student`, which was trained on the likes of `exemplars`.
    #[must_use]
    pub fn new(
        student: Box<dyn Student>,
        metric: Metric,
        learning: LearningConfig,
        inference: InferenceConfig,
        history: Arc<Mutex<History>>,
        exemplars: Vec<Example>,
        seed: u64,
    ) -> Self {
        let memory = Memory::new(learning.memory, exemplars, seed);
        let (split, profiles) = (Split::default(), Vec::new());
        Self {
            student,
            metric,
            learning,
            inference,
            split,
            memory,
            history,
            profiles,
        }
    }

    /// Takes the labels as the window's and measures what was asked for.
    ///
    /// # Errors
    /// See [`Work::minibatch`].
    pub(super) fn prepare(
        &mut self,
        order: Prepare,
        work: &mut Work,
    ) -> Result<Prepared, LearnError> {
        self.memory.remember(&self.split);
        self.split = Split::new(order.labelled, self.learning.holdout);
        self.profiles.clear();
        let mut prepared = Prepared::default();
        if order.measure_inference {
            prepared.inference = self.measure_inference(&*self.student, work)?;
        }
        if order.evaluate {
            prepared.accuracy = accuracy(&*self.student, self.split.fresh(), self.metric, work)?;
        }
        if order.profile {
            prepared.options = self.profile(prepared.accuracy, order.seed, work)?;
        }
        prepared.gpu_seconds = work.spent();
        Ok(prepared)
    }

    fn measure_inference(
        &self,
        student: &dyn Student,
        work: &mut Work,
    ) -> Result<Vec<Measurement>, LearnError> {
        profile_inference(
            student,
            &self.split.burst,
            self.metric,
            &self.inference,
            work,
        )
    }

    /// What each configuration would give and cost. Gains are measured on the held-out frames and
    /// added to `accuracy`, which stands on more frames.
    fn profile(
        &mut self,
        accuracy_on_all: Option<f64>,
        seed: u64,
        work: &mut Work,
    ) -> Result<Vec<(usize, RetrainingOption)>, LearnError> {
        let on_holdout = accuracy(&*self.student, &self.split.holdout, self.metric, work)?;
        let (Some(start_accuracy), Some(serving)) = (on_holdout, accuracy_on_all) else {
            return Ok(Vec::new());
        };
        let examples = self.memory.with(&self.split);
        let history = self.history.lock().clone();
        let mut candidates = Candidates {
            student: &*self.student,
            examples: &examples,
            holdout: &self.split.holdout,
            start_accuracy,
            metric: self.metric,
            epochs: self.learning.profile_epochs,
            seed,
            work,
            training: None,
        };
        let situation = Situation {
            start_accuracy,
            validation_examples: self.split.holdout.len(),
            budget_gpu_seconds: f64::INFINITY,
            affordable_gpu_seconds: f64::INFINITY,
        };
        let profiler = MicroProfiler {
            sample_fraction: self.learning.profile_fraction,
            epochs: self.learning.profile_epochs,
        };
        let configurations = &self.learning.configurations;
        let all: Vec<usize> = (0..configurations.len()).collect();
        let profiling =
            profiler.profile(&mut candidates, configurations, &all, &situation, &history)?;
        self.profiles = profiling.profiles;
        let option = |profile: &Profile| {
            let gain = profile.end_accuracy - start_accuracy;
            let end_accuracy = (serving + gain).clamp(0.0, 1.0);
            (
                profile.config,
                RetrainingOption {
                    end_accuracy,
                    gpu_seconds: profile.gpu_seconds,
                },
            )
        };
        Ok(self.profiles.iter().map(option).collect())
    }

    /// Retrains with one of the configurations. On promotion the twin follows.
    ///
    /// # Errors
    /// See [`Retraining::run`].
    pub(super) fn retrain(
        &mut self,
        configuration: usize,
        seed: u64,
        work: &mut Work,
        report: impl FnMut(Progress),
    ) -> Result<Outcome, LearnError> {
        let examples = self.memory.with(&self.split);
        let retraining = Retraining {
            serving: &*self.student,
            examples: &examples,
            holdout: &self.split.holdout,
            config: &self.learning.configurations[configuration],
            metric: self.metric,
            seed,
        };
        let mut outcome = retraining.run(work, report)?;
        if let Some(student) = &outcome.promoted {
            outcome.inference = self.measure_inference(&**student, work)?;
            outcome.gpu_seconds = work.spent();
            self.student = student.fork()?;
        }
        self.observe(configuration, &outcome);
        Ok(outcome)
    }

    /// Lets the next profiles know how this retraining went.
    fn observe(&self, configuration: usize, outcome: &Outcome) {
        let (Some(start_accuracy), Some(end_accuracy)) =
            (outcome.serving_accuracy, outcome.retrained_accuracy)
        else {
            return;
        };
        let profile = self
            .profiles
            .iter()
            .find(|profile| profile.config == configuration);
        self.history.lock().record(&Observation {
            config: self.learning.configurations[configuration].clone(),
            start_accuracy,
            end_accuracy,
            gpu_seconds: outcome.gpu_seconds,
            curve_accuracy: profile.and_then(|profile| profile.curve_accuracy),
            measured_gpu_seconds: profile.and_then(|profile| profile.measured_gpu_seconds),
        });
    }
}
