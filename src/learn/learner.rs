//! What a stream has learnt from and learns with: the serving student's twin, the newest labels,
//! the memory, and what earlier retrainings have shown.

use std::sync::Arc;

use ekya_models::{Example, ModelError, Student, TrainingOptions};
use ekya_profiler::inference::Measurement;
use ekya_profiler::{
    Estimate, MeasuredCost, MicroProfiler, Outcome as Observation, Profile, Progress, Pruner,
    Situation, measuring_variance,
};
use ekya_sched::RetrainingOption;
use parking_lot::Mutex;

use super::elsewhere::{Elsewhere, Origin};
use super::evaluate::{LearnError, Work, accuracy, profile_inference};
use super::experience::Experience;
use super::gate::compare;
use super::memory::{Kept, Limits, Memory};
use super::pace::Pace;
use super::retrain::{Attempt, Gate, Outcome, Retraining};
use super::split::{Labelled, Split};
use super::trainable::Candidates;
use super::trainer::{Prepare, Prepared, RolledBack};
use crate::config::{InferenceConfig, LearningConfig, Method};
use crate::keep::{Keeper, Retrained};
use crate::stream::Metric;

/// Remembered frames on which no class may be unlearnt, at most: more would cost
/// noticeably beside a short retraining.
const RECALLED: usize = 32;

/// What a stream begins with.
pub struct Beginning {
    /// Name of the stream.
    pub stream: String,
    /// Equal to the student that serves.
    pub student: Box<dyn Student>,
    /// Classes that it has been trained on, the first so many: 0 for random weights.
    pub known_classes: usize,
    /// Frames of earlier times: of an earlier process, or the likes of what the student was first
    /// trained on.
    pub kept: Vec<Kept>,
}

/// Learns for one stream.
pub struct Learner {
    stream: String,
    /// Equal to the student that serves; retrainings start from it.
    pub(super) student: Box<dyn Student>,
    /// Classes that it has been trained on, the first so many.
    known_classes: usize,
    metric: Metric,
    pub(super) learning: LearningConfig,
    inference: InferenceConfig,
    pub(super) split: Split,
    pub(super) memory: Memory,
    pace: Pace,
    /// What retrainings have shown, shared by all streams of the node.
    history: Arc<Experience>,
    /// What the profiler was asked last, and what it expected.
    profiled: Option<(Situation, Vec<Profile>)>,
    /// Times that labels were taken in.
    occasion: u64,
    /// Accuracy of the serving student on the held-out frames.
    serving_on_holdout: Option<f64>,
    /// Which configurations are still profiled.
    pruner: Pruner,
    /// Examples a training step that memory has room for, as far as is known.
    room: usize,
    /// The student that served before, since the last promotion.
    fallback: Option<Fallback>,
    /// Absent where nothing outlives the process.
    pub(super) keeper: Option<Keeper>,
    /// How the student was retrained, when it was promoted and is not on disk yet.
    pub(super) unsaved: Option<Retrained>,
}

/// Bytes of pictures on their way: a camera's noise keeps PNG from making them much smaller than half.
fn travelling_bytes(examples: &[Example]) -> u64 {
    let bytes: usize = examples
        .iter()
        .map(|example| example.image.rgb().len())
        .sum();
    bytes as u64 / 2
}

/// A student that can be gone back to.
struct Fallback {
    student: Box<dyn Student>,
    /// What the serving one is better by, as far as is known.
    gain: Estimate,
    /// Time of the last frame that the gate may have looked at: what is later is news.
    compared_until: f64,
}

impl Learner {
    /// A learner that goes on from `beginning`.
    #[must_use]
    pub fn new(
        beginning: Beginning,
        metric: Metric,
        learning: LearningConfig,
        inference: InferenceConfig,
        history: Arc<Experience>,
        seed: u64,
    ) -> Self {
        let memory = Memory::new(Limits::of(&learning), beginning.kept, seed);
        let pruner = Pruner::new(learning.configurations.len());
        Self {
            stream: beginning.stream,
            student: beginning.student,
            known_classes: beginning.known_classes,
            pace: Pace::new(learning.step_seconds),
            metric,
            learning,
            inference,
            split: Split::default(),
            memory,
            history,
            profiled: None,
            occasion: 0,
            serving_on_holdout: None,
            pruner,
            room: usize::MAX,
            fallback: None,
            keeper: None,
            unsaved: None,
        }
    }

    /// Takes in new labels and measures what was asked for; once more where the process that does so
    /// dies.
    ///
    /// # Errors
    /// See [`Work::minibatch`]. The labels are taken in all the same.
    pub fn prepare(&mut self, order: Prepare, work: &mut Work) -> Result<Prepared, LearnError> {
        let (held_out, recent) = (self.learning.held_out(), self.learning.spread());
        let old = (self.split).advance(order.labelled.clone(), held_out, recent);
        self.remember(&old, work)?;
        self.profiled = None;
        self.serving_on_holdout = None;
        self.occasion += 1;
        let mut prepared = Prepared::default();
        let mut measured = self.measure(&order, &mut prepared, work);
        if let Err(LearnError::Model(ModelError::Process(why))) = &measured {
            tracing::warn!(stream = self.stream, why, "measuring begins again");
            measured = self.measure(&order, &mut prepared, work);
        }
        match measured {
            // The student of before must serve again, whatever else is known.
            Err(error) if prepared.rolled_back.is_some() => {
                tracing::warn!(stream = self.stream, %error, "less is measured than was asked for");
            }
            measured => measured?,
        }
        prepared.gpu_seconds = work.spent();
        Ok(prepared)
    }

    fn measure(
        &mut self,
        order: &Prepare,
        prepared: &mut Prepared,
        work: &mut Work,
    ) -> Result<(), LearnError> {
        if prepared.rolled_back.is_none() {
            (prepared.rolled_back, prepared.previous_accuracy) =
                self.look_back(&order.labelled, work)?;
        }
        if order.measure_inference {
            let serving = work.minibatch(|| self.student.fork())?;
            prepared.inference = self.measure_inference(&*serving, work)?;
        }
        if order.evaluate {
            prepared.accuracy = accuracy(&*self.student, self.split.fresh(), self.metric, work)?;
            if let Some(accuracy) = prepared.accuracy {
                let frames = self.split.fresh().count();
                self.pruner.observe_accuracy(accuracy, frames);
            }
        }
        if let Some(budget) = order.profile {
            let before = work.spent();
            prepared.options = self.profile(prepared.accuracy, budget, order.seed, work)?;
            prepared.sample_bytes = travelling_bytes(&self.examples());
            prepared.profile_gpu_seconds = work.spent() - before;
        }
        Ok(())
    }

    /// The student that serves.
    #[must_use]
    pub fn student(&self) -> &dyn Student {
        &*self.student
    }

    /// What a retraining would train on now.
    #[must_use]
    pub fn examples(&self) -> Vec<Example> {
        self.memory.with(&self.split)
    }

    /// What the profiler expected at the last [`Learner::prepare`] that asked for it.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        self.profiled.as_ref().map_or(&[], |(_, profiles)| profiles)
    }

    /// Remembers frames that are no longer recent.
    fn remember(&mut self, frames: &[Labelled], work: &mut Work) -> Result<(), LearnError> {
        let frames = frames.iter().map(Labelled::kept);
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

    /// Of a student in this process, where students serve.
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
        self.serving_on_holdout = on_holdout;
        let (Some(on_holdout), Some(serving)) = (on_holdout, serving) else {
            return Ok(Vec::new());
        };
        let examples = self.memory.with(&self.split);
        let active = self.pruner.active();
        let all = &self.learning.configurations;
        let experience = Arc::clone(&self.history);
        // Others may have to measure first, and need the device for it.
        work.pause();
        let (history, alone) = experience.known(active.iter().map(|index| &all[*index]));
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
            stream: self.stream.clone(),
            occasion: self.occasion,
            pictures: examples.len(),
            start_accuracy: serving,
            start_sd: measuring_variance(self.split.fresh().count()).sqrt(),
            validation_examples: self.split.holdout.len(),
            budget_gpu_seconds,
            affordable_gpu_seconds: f64::INFINITY,
        };
        let profiler = MicroProfiler {
            sample_fraction: self.learning.profile_fraction,
            epochs: self.learning.profile_epochs,
        };
        let configurations = &self.learning.configurations;
        let profiling = profiler.profile(
            &mut candidates,
            configurations,
            &active,
            &situation,
            &history,
        )?;
        self.pruner.observe(&profiling.profiles);
        self.remember_costs(&profiling.measured_costs);
        drop(alone);
        let gate_sd = measuring_variance(self.split.holdout.len()).sqrt();
        let option = |profile: &Profile| {
            // The gate drops most of what would turn out a loss.
            let gain = profile.gain.behind_gate(gate_sd, self.learning.confidence);
            let end_accuracy = (serving + gain).clamp(0.0, 1.0);
            let option = RetrainingOption {
                interval: Some(profile.interval),
                ..RetrainingOption::new(end_accuracy, profile.gpu_seconds)
            };
            (profile.config, option)
        };
        let options = profiling.profiles.iter().map(option).collect();
        self.profiled = Some((situation, profiling.profiles));
        Ok(options)
    }

    fn remember_costs(&self, measured: &[MeasuredCost]) {
        let mut history = self.history.lock();
        for cost in measured {
            let costs = history.costs_mut();
            costs.record_profiled(&cost.config, cost.rate, cost.fixed);
        }
    }

    /// Retrains with one of the configurations; the gate also looks at what of the `newest` labels
    /// has come in the meantime. On promotion the twin follows. It is trained `elsewhere`, where that is
    /// given.
    ///
    /// # Errors
    /// See [`Retraining::run`].
    pub fn retrain(
        &mut self,
        configuration: usize,
        newest: &Mutex<Vec<Labelled>>,
        seed: u64,
        elsewhere: Option<&Elsewhere>,
        work: &mut Work,
        report: impl FnMut(Progress),
    ) -> Result<Outcome, LearnError> {
        let examples = self.memory.with(&self.split);
        let expected = self.profile_of(configuration).map(|profile| profile.gain);
        let config = &self.learning.configurations[configuration];
        let options = TrainingOptions {
            micro_batch: self.pace.micro_batch(config).min(self.room),
            ..self.options()
        };
        let retraining = Retraining {
            serving: &*self.student,
            examples: &examples,
            config,
            options: &options,
            metric: self.metric,
            seed,
            elsewhere,
        };
        // Nobody is told of what is measured meanwhile where nothing was expected.
        let meanwhile = self
            .serving_on_holdout
            .map_or((&[][..], 0.0), |serving| (&self.split.holdout, serving));
        let gate = Gate {
            held_out: &|| self.split.newest(&newest.lock(), self.learning.held_out()),
            remembered: &self.memory.some(RECALLED),
            meanwhile,
            expected,
            rule: self.learning.rule(),
        };
        let Attempt {
            mut outcome,
            lost_gpu_seconds,
            room,
        } = retraining.run_twice(&gate, &mut self.pace, work, report)?;
        self.room = room.unwrap_or(self.room);
        self.observe(
            configuration,
            &outcome,
            outcome.gpu_seconds - lost_gpu_seconds,
        );
        if let (Some(trained), Some(verdict)) = (outcome.promoted.take(), &outcome.verdict) {
            let gated = work.spent();
            let serving = work.minibatch(|| trained.fork())?;
            outcome.inference = self.measure_inference(&*serving, work)?;
            outcome.promoted = Some(serving);
            outcome.gpu_seconds += work.spent() - gated;
            let seen = self.split.newest(&newest.lock(), 1);
            let latest = seen.last().map_or(f64::NEG_INFINITY, |one| one.at);
            let objects = examples.iter().flat_map(|example| &example.objects);
            let classes = objects.map(|object| object.class + 1).max().unwrap_or(0);
            self.known_classes = self.known_classes.max(classes);
            self.unsaved = Some(Retrained {
                config: self.learning.configurations[configuration].clone(),
                seed,
                accuracy: verdict.candidate,
                held_out: verdict.frames,
            });
            self.fallback = Some(Fallback {
                student: std::mem::replace(&mut self.student, trained),
                gain: verdict.gain,
                compared_until: latest,
            });
        }
        Ok(outcome)
    }

    /// Holds the serving student against the one before it on labels that neither has seen; goes
    /// back to that one when it is proven better. Else says how right that one was.
    fn look_back(
        &mut self,
        labelled: &[Labelled],
        work: &mut Work,
    ) -> Result<(Option<RolledBack>, Option<f64>), LearnError> {
        let Some(fallback) = &mut self.fallback else {
            return Ok((None, None));
        };
        let since = fallback.compared_until;
        let newer = labelled.iter().filter(|one| !one.burst && one.at > since);
        let compared = compare(&*fallback.student, &*self.student, newer, self.metric, work)?;
        let rule = self.learning.rule();
        let Some(verdict) = compared.verdict(Some(fallback.gain), &rule) else {
            return Ok((None, None));
        };
        fallback.gain = verdict.gain;
        if verdict.chance > 1.0 - rule.confidence {
            return Ok((None, Some(verdict.serving)));
        }
        // Before anything changes: either may fail.
        let student = work.minibatch(|| fallback.student.fork())?;
        let inference = self.measure_inference(&*student, work)?;
        if let Some(fallback) = self.fallback.take() {
            self.student = fallback.student;
        }
        self.withdraw();
        let back = RolledBack {
            student,
            verdict,
            inference,
        };
        Ok((Some(back), None))
    }

    fn profile_of(&self, configuration: usize) -> Option<&Profile> {
        let (_, profiles) = self.profiled.as_ref()?;
        profiles
            .iter()
            .find(|profile| profile.config == configuration)
    }

    /// Lets the next profiles know how this retraining went, and what it took of the device.
    fn observe(&self, configuration: usize, outcome: &Outcome, gpu_seconds: f64) {
        let config = &self.learning.configurations[configuration];
        // What has been trained otherwise says nothing about the configuration.
        if outcome.came_from == Some(Origin::Found) {
            return;
        }
        let mut history = self.history.lock();
        // Nor what it takes of another device about this one.
        if outcome.came_from.is_none() {
            history.record_cost(config, outcome.examples, gpu_seconds);
        }
        let (Some(verdict), Some((situation, _))) = (&outcome.verdict, &self.profiled) else {
            return;
        };
        let mut point = situation.point(config);
        point.start_accuracy = verdict.serving;
        history.record(Observation {
            point,
            end_accuracy: verdict.candidate,
            frames: Some(verdict.frames),
        });
        if let Some(promised) = self.profile_of(configuration).and_then(|p| p.promised_gain) {
            history.record_curve(promised, verdict.candidate - verdict.serving);
        }
    }
}
