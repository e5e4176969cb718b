//! Rehearsals: every retraining configuration tried to its end on procedural scenes, so that a node
//! knows what each is worth before it has retrained anything.
//!
//! Offline work, like [`crate::train`]: no shares, no windows, and no scene that a demo shows. What
//! comes out is a [`History`] of real outcomes, with which the streams of the built-in student
//! begin. Costs are left out, since they are the machine's.

use std::path::Path;

use ekya_models::{ModelError, Placement, Student, TrainingOptions};
use ekya_profiler::{Features, History, Outcome, Point};
use ekya_sched::RetrainingConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{LearningConfig, Method};
use crate::learn::{Labelled, Limits, Memory, Split};
use crate::node::{builtin_student, builtin_teacher};
use crate::source::Frame;
use crate::source::scene::{CLASSES, Preset};
use crate::train::{self, TrainError, progress};
use crate::trial::{SceneRounds, accuracy};
use crate::write::{WriteError, write_atomically};

/// Seeds of the scenes begin here, far from those of training, tests and demos.
const SEEDS: u64 = 3_000_000;

/// Trained layers, learning rate, epochs and part of the data of what is tried: from the cheapest to
/// the costliest that a user may configure, so that others lie between them.
const TRIED: [(usize, f64, usize, f64); 9] = [
    (usize::MAX, 2e-3, 3, 0.3),
    (usize::MAX, 2e-3, 10, 1.0),
    (3, 1e-3, 3, 0.3),
    (3, 1e-3, 10, 0.3),
    (3, 1e-3, 10, 1.0),
    (0, 5e-4, 3, 0.3),
    (0, 5e-4, 3, 1.0),
    (0, 5e-4, 10, 0.3),
    (0, 5e-4, 10, 1.0),
];

/// Tries configurations of every kind on `scenes` scenes of every preset, learning in other things as
/// `learning` says, and writes the history of what came of them to `out`, as JSON.
///
/// # Errors
/// When a scene or a training fails, or `out` cannot be written.
pub fn rehearse(learning: &LearningConfig, scenes: u64, out: &Path) -> Result<(), TrainError> {
    let exemplars = train::exemplars()?;
    let shape = SceneRounds::default();
    let learning = &LearningConfig {
        samples: shape.seconds * shape.labels_per_second,
        burst: 0,
        configurations: configurations(),
        ..learning.clone()
    };
    let (held_out, recent) = (learning.held_out(), learning.spread());
    let teacher = builtin_teacher(Placement::Cpu)?;
    let bar = progress("rehearsing", scenes as usize * Preset::ALL.len());
    let mut outcomes = Vec::new();
    for scene in 0..scenes {
        for (index, preset) in Preset::ALL.into_iter().enumerate() {
            let seed = SEEDS + scene * Preset::ALL.len() as u64 + index as u64;
            let mut rehearsal = Rehearsal {
                stream: format!("rehearsed-{seed}"),
                student: Box::new(builtin_student(Placement::Cpu)?),
                memory: Memory::new(Limits::of(learning), exemplars.clone(), seed),
                split: Split::default(),
                rng: ChaCha8Rng::seed_from_u64(seed),
            };
            for (occasion, round) in shape.of(preset, seed, &teacher)?.into_iter().enumerate() {
                let old = rehearsal.split.advance(round.labelled, held_out, recent);
                rehearsal.remember(&old, learning.method)?;
                outcomes.extend(rehearsal.round(learning, &round.judged, occasion as u64)?);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let tried = outcomes.len();
    let history = History::with_prior(outcomes);
    let json = serde_json::to_vec_pretty(&history).map_err(|error| WriteError {
        path: out.to_owned(),
        step: "put the history into words",
        source: error.into(),
    })?;
    write_atomically(out, &json)?;
    println!("{tried} retrainings: {}", out.display());
    Ok(())
}

fn configurations() -> Vec<RetrainingConfig> {
    let config = |(layers_frozen, learning_rate, epochs, data_fraction)| RetrainingConfig {
        epochs,
        layers_frozen,
        learning_rate,
        data_fraction,
        ..RetrainingConfig::default()
    };
    TRIED.map(config).to_vec()
}

/// One stream in rehearsal.
struct Rehearsal {
    stream: String,
    student: Box<dyn Student>,
    memory: Memory,
    split: Split,
    rng: ChaCha8Rng,
}

impl Rehearsal {
    /// Remembers frames that are no longer recent.
    fn remember(&mut self, frames: &[Labelled], method: Method) -> Result<(), ModelError> {
        let frames = frames.iter().map(Labelled::kept);
        self.memory.remember(frames, |example| match method {
            Method::Icarl => self.student.features(&example.image, &example.regions()),
            Method::FineTuning => Ok(None),
        })
    }

    /// Tries every configuration, measured on the frames to judge by; goes on with one of them,
    /// drawn at random, when it is better on the held-out frames, much as a live stream would (its
    /// gate asks the teacher, this one the truth).
    fn round(
        &mut self,
        learning: &LearningConfig,
        judged: &[Frame],
        occasion: u64,
    ) -> Result<Vec<Outcome>, TrainError> {
        let configs = &learning.configurations;
        let options = TrainingOptions {
            sampling: learning.sampling,
            distillation: learning.distillation(CLASSES.len()),
            ..TrainingOptions::default()
        };
        let examples = self.memory.with(&self.split);
        let seed = self.rng.random();
        let start_accuracy = accuracy(&*self.student, judged)?;
        let chosen = self.rng.random_range(0..configs.len());
        let mut outcomes = Vec::new();
        let mut promoted = None;
        for (index, config) in configs.iter().enumerate() {
            let mut training = self.student.train_with(&examples, config, &options, seed)?;
            for _ in 0..training.steps() {
                training.step()?;
            }
            let retrained = training.student()?;
            outcomes.push(Outcome {
                point: Point {
                    stream: self.stream.clone(),
                    occasion,
                    config: Features::from(config),
                    start_accuracy,
                },
                end_accuracy: accuracy(&*retrained, judged)?,
                frames: None,
            });
            if index == chosen && self.is_better(&*retrained)? {
                promoted = Some(retrained);
            }
        }
        if let Some(student) = promoted {
            self.student = student;
        }
        Ok(outcomes)
    }

    fn is_better(&self, retrained: &dyn Student) -> Result<bool, ModelError> {
        let held_out = || self.split.holdout.iter().map(|one| &one.frame);
        Ok(accuracy(retrained, held_out())? > accuracy(&*self.student, held_out())?)
    }
}
