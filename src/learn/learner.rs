//! What a stream has learnt from and learns with: the serving student's twin, the newest labels,
//! the memory, and what earlier retrainings have shown.

use std::sync::Arc;

use ekya_models::{Student, TrainingOptions};
use ekya_profiler::inference::Measurement;
use ekya_profiler::{History, MicroProfiler, Outcome as Observation, Profile, Situation};
use ekya_sched::RetrainingOption;
use parking_lot::Mutex;

use super::evaluate::{LearnError, Work, accuracy, profile_inference};
use super::memory::{Limits, Memory, Remembered};
use super::pace::Pace;
use super::retrain::{Gate, Outcome, Progress, Retraining};
use super::split::{Labelled, Split};
use super::trainable::Candidates;
use super::trainer::{Prepare, Prepared};
use crate::config::{InferenceConfig, LearningConfig, Method};
use crate::stream::Metric;

/// Standard deviation of the difference between the mean scores of two students on one held-out
/// frame, if frames were independent: what makes the gate err. Frames are not, since most show an
/// object that the one before showed too, so it is twice what single frames scatter by.
const FRAME_SD: f64 = 0.7;

/// What a stream begins with.
pub struct Beginning {
    /// Equal to the student that serves.
    pub student: Box<dyn Student>,
    /// Classes that it has been trained on, the first so many: 0 for random weights.
    pub known_classes: usize,
    /// Frames of earlier times.
    pub remembered: Vec<Remembered>,
    /// The run's second 0, in Unix seconds.
    pub began: u64,
}

/// Learns for one stream.
pub struct Learner {
    /// Equal to the student that serves; retrainings start from it.
    student: Box<dyn Student>,
    /// Classes that it has been trained on, the first so many.
    known_classes: usize,
    began: u64,
    metric: Metric,
    learning: LearningConfig,
    inference: InferenceConfig,
    split: Split,
    memory: Memory,
    pace: Pace,
    /// What retrainings have shown, shared by all streams of the node.
    history: Arc<Mutex<History>>,
    /// What the profiler expected last.
    profiles: Vec<Profile>,
    /// The accuracy of the serving student that it expected it from.
    profiled_from: f64,
}

impl Learner {
    /// A learner that goes on from `beginning`.
    #[must_use]
    pub fn new(
        beginning: Beginning,
        metric: Metric,
        learning: LearningConfig,
        inference: InferenceConfig,
        history: Arc<Mutex<History>>,
        seed: u64,
    ) -> Self {
        let memory = Memory::new(Limits::of(&learning), beginning.remembered, seed);
        let (split, profiles) = (Split::default(), Vec::new());
        Self {
            student: beginning.student,
            known_classes: beginning.known_classes,
            began: beginning.began,
            pace: Pace::new(learning.step_seconds),
            metric,
            learning,
            inference,
            split,
            memory,
            history,
            profiles,
            profiled_from: 0.0,
        }
    }

    /// Takes in new labels and measures what was asked for.
    ///
    /// # Errors
    /// See [`Work::minibatch`].
    pub(super) fn prepare(
        &mut self,
        order: Prepare,
        work: &mut Work,
    ) -> Result<Prepared, LearnError> {
        let (held_out, recent) = (self.learning.held_out(), self.learning.spread());
        let old = self.split.advance(order.labelled, held_out, recent);
        self.remember(&old, work)?;
        self.profiles.clear();
        let mut prepared = Prepared::default();
        if order.measure_inference {
            prepared.inference = self.measure_inference(&*self.student, work)?;
        }
        if order.evaluate {
            prepared.accuracy = accuracy(&*self.student, self.split.fresh(), self.metric, work)?;
        }
        if let Some(budget) = order.profile {
            prepared.options = self.profile(prepared.accuracy, budget, order.seed, work)?;
        }
        prepared.gpu_seconds = work.spent();
        Ok(prepared)
    }

    /// Remembers frames that are no longer recent.
    fn remember(&mut self, frames: &[Labelled], work: &mut Work) -> Result<(), LearnError> {
        let frames = frames.iter().map(|one| one.remembered(self.began));
        let (student, method) = (&*self.student, self.learning.method);
        self.memory.remember(frames, |example| match method {
            Method::Icarl => {
                work.minibatch(|| student.features(&example.image, &example.regions()))
            }
            Method::FineTuning => Ok(None),
        })
    }

    /// How to train, but for the size of steps.
    fn options(&self) -> TrainingOptions {
        TrainingOptions {
            sampling: self.learning.sampling,
            distillation: match self.metric {
                Metric::Accuracy => self.learning.distillation(self.known_classes),
                // A detector's old answers are not distilled.
                Metric::F1 => None,
            },
            ..TrainingOptions::default()
        }
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

    /// What each configuration would give and cost. Candidates are compared with the serving
    /// student on the held-out frames; `serving`, its accuracy on all, stands on more frames.
    fn profile(
        &mut self,
        serving: Option<f64>,
        budget_gpu_seconds: f64,
        seed: u64,
        work: &mut Work,
    ) -> Result<Vec<(usize, RetrainingOption)>, LearnError> {
        let on_holdout = accuracy(&*self.student, &self.split.holdout, self.metric, work)?;
        let (Some(on_holdout), Some(serving)) = (on_holdout, serving) else {
            return Ok(Vec::new());
        };
        let examples = self.memory.with(&self.split);
        let history = self.history.lock().clone();
        let options = self.options();
        let mut candidates = Candidates {
            student: &*self.student,
            examples: &examples,
            holdout: &self.split.holdout,
            serving,
            on_holdout,
            metric: self.metric,
            epochs: self.learning.profile_epochs,
            seed,
            work,
            options,
            pace: &mut self.pace,
            training: None,
        };
        let situation = Situation {
            start_accuracy: serving,
            validation_examples: self.split.holdout.len(),
            budget_gpu_seconds,
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
        self.profiled_from = serving;
        self.remember_costs();
        let gate_sd = gate_sd(self.split.holdout.len());
        let option = |profile: &Profile| {
            // The gate drops most of what would turn out a loss.
            let gain = profile.gain.behind_gate(gate_sd);
            let end_accuracy = (serving + gain).clamp(0.0, 1.0);
            let option = RetrainingOption::new(end_accuracy, profile.gpu_seconds);
            (profile.config, option)
        };
        Ok(self.profiles.iter().map(option).collect())
    }

    fn remember_costs(&self) {
        let mut history = self.history.lock();
        for profile in &self.profiles {
            if let Some(gpu_seconds) = profile.measured_gpu_seconds {
                let config = &self.learning.configurations[profile.config];
                history.record_profiled_cost(config, gpu_seconds);
            }
        }
    }

    /// Retrains with one of the configurations; the gate also looks at what of the `newest` labels
    /// has come in the meantime. On promotion the twin follows.
    ///
    /// # Errors
    /// See [`Retraining::run`].
    pub(super) fn retrain(
        &mut self,
        configuration: usize,
        newest: &Mutex<Vec<Labelled>>,
        seed: u64,
        work: &mut Work,
        report: impl FnMut(Progress),
    ) -> Result<Outcome, LearnError> {
        let examples = self.memory.with(&self.split);
        let expected = self.profile_of(configuration).map(|profile| profile.gain);
        let config = &self.learning.configurations[configuration];
        let options = TrainingOptions {
            micro_batch: self.pace.micro_batch(config),
            ..self.options()
        };
        let retraining = Retraining {
            serving: &*self.student,
            examples: &examples,
            config,
            options: &options,
            metric: self.metric,
            seed,
        };
        let gate = Gate {
            held_out: &|| self.split.newest(&newest.lock(), self.learning.held_out()),
            margin: &|frames| expected.map_or(0.0, |gain| gain.gate(gate_sd(frames))),
        };
        let mut outcome = retraining.run(&gate, &mut self.pace, work, report)?;
        if let Some(student) = &outcome.promoted {
            outcome.inference = self.measure_inference(&**student, work)?;
            outcome.gpu_seconds = work.spent();
            self.student = student.fork()?;
            let trained = examples.iter().flat_map(|example| &example.objects);
            let classes = trained.map(|object| object.class + 1).max().unwrap_or(0);
            self.known_classes = self.known_classes.max(classes);
        }
        self.observe(configuration, &outcome);
        Ok(outcome)
    }

    fn profile_of(&self, configuration: usize) -> Option<&Profile> {
        let mut profiles = self.profiles.iter();
        profiles.find(|profile| profile.config == configuration)
    }

    /// Lets the next profiles know how this retraining went.
    fn observe(&self, configuration: usize, outcome: &Outcome) {
        let (Some(start_accuracy), Some(end_accuracy)) =
            (outcome.serving_accuracy, outcome.retrained_accuracy)
        else {
            return;
        };
        let profile = self.profile_of(configuration);
        self.history.lock().record(&Observation {
            config: self.learning.configurations[configuration].clone(),
            start_accuracy,
            end_accuracy,
            gpu_seconds: outcome.gpu_seconds,
            // At the level of the frames that the outcome was measured on.
            curve_accuracy: profile
                .and_then(|profile| profile.curve_accuracy)
                .map(|curve| start_accuracy + curve - self.profiled_from),
            measured_gpu_seconds: profile.and_then(|profile| profile.measured_gpu_seconds),
        });
    }
}

/// Standard deviation of what the gate measures on so many held-out frames.
fn gate_sd(frames: usize) -> f64 {
    FRAME_SD / (frames.max(1) as f64).sqrt()
}
