//! What a stream has learnt from and learns with: the serving student's twin, the newest labels,
//! the memory, and what earlier retrainings have shown.

use std::sync::Arc;

use ekya_models::Student;
use ekya_profiler::inference::Measurement;
use ekya_profiler::{History, MicroProfiler, Outcome as Observation, Profile, Situation};
use ekya_sched::RetrainingOption;
use parking_lot::Mutex;

use super::evaluate::{LearnError, Work, accuracy, profile_inference};
use super::memory::{Kept, Labelled, Memory, Split};
use super::retrain::{Gate, Outcome, Progress, Retraining};
use super::trainable::Candidates;
use super::trainer::{Prepare, Prepared};
use crate::config::{InferenceConfig, LearningConfig};
use crate::keep::{Keeper, Retrained};
use crate::stream::Metric;

/// Standard deviation of the difference between the mean scores of two students on one held-out
/// frame, if frames were independent: what makes the gate err. Frames are not, since most show an
/// object that the one before showed too, so it is twice what single frames scatter by.
const FRAME_SD: f64 = 0.7;

/// Learns for one stream.
pub struct Learner {
    /// Equal to the student that serves; retrainings start from it.
    pub(super) student: Box<dyn Student>,
    metric: Metric,
    pub(super) learning: LearningConfig,
    inference: InferenceConfig,
    pub(super) split: Split,
    pub(super) memory: Memory,
    /// What retrainings have shown, shared by all streams of the node.
    history: Arc<Mutex<History>>,
    /// What the profiler expected last.
    profiles: Vec<Profile>,
    /// The accuracy of the serving student that it expected it from.
    profiled_from: f64,
    /// Absent where nothing outlives the process.
    pub(super) keeper: Option<Keeper>,
    /// How the student was retrained, when it was promoted and is not on disk yet.
    pub(super) unsaved: Option<Retrained>,
}

impl Learner {
    /// A learner that starts from `student` and remembers the frames in `kept`: those of an earlier
    /// process, or the likes of what the student was first trained on.
    #[must_use]
    pub fn new(
        student: Box<dyn Student>,
        metric: Metric,
        learning: LearningConfig,
        inference: InferenceConfig,
        history: Arc<Mutex<History>>,
        kept: Vec<Kept>,
        seed: u64,
    ) -> Self {
        let memory = Memory::new(learning.memory, kept, seed);
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
            profiled_from: 0.0,
            keeper: None,
            unsaved: None,
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
        self.memory.remember(&old);
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
        let retraining = Retraining {
            serving: &*self.student,
            examples: &examples,
            config: &self.learning.configurations[configuration],
            metric: self.metric,
            seed,
        };
        let gate = Gate {
            held_out: &|| self.split.newest(&newest.lock(), self.learning.held_out()),
            margin: &|frames| expected.map_or(0.0, |gain| gain.gate(gate_sd(frames))),
        };
        let mut outcome = retraining.run(&gate, work, report)?;
        if let Some(student) = &outcome.promoted {
            outcome.inference = self.measure_inference(&**student, work)?;
            outcome.gpu_seconds = work.spent();
            self.student = student.fork()?;
            self.unsaved = outcome.retrained_accuracy.map(|accuracy| Retrained {
                config: self.learning.configurations[configuration].clone(),
                seed,
                accuracy,
                held_out: outcome.held_out,
            });
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
