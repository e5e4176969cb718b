//! Rehearsals: every retraining configuration tried to its end on procedural scenes, so that a node
//! knows what each is worth before it has retrained anything.
//!
//! Offline work, like [`crate::train`]: no shares, no windows, and no scene that a demo shows. What
//! comes out is a [`History`] of real outcomes, with which the streams of the built-in student
//! begin. Costs are left out, since they are the machine's.

use std::path::Path;

use ekya_models::{Example, ModelError, Placement, Student, Teacher, TrainingOptions};
use ekya_profiler::{History, Outcome};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{LearningConfig, Method};
use crate::learn::{Labelled, Limits, Memory, Remembered, Split};
use crate::node::{builtin_student, builtin_teacher};
use crate::source::scene::{CLASSES, Preset, SceneConfig, SceneSource};
use crate::source::{Frame, Source, SourceError};
use crate::stream::{Metric, Sample};
use crate::train::{self, TrainError, progress};
use crate::write::{WriteError, write_atomically};

/// Seeds of the scenes begin here, far from those of training, tests and demos.
const SEEDS: u64 = 3_000_000;
/// Frames a second of the scenes.
const FPS: usize = 10;
/// Seconds of traffic in a second, so that a short scene sees many objects.
const PACE: f64 = 4.0;
/// Seconds between two rounds of retraining.
const ROUND_SECONDS: usize = 4;
/// Rounds of a scene; the first only fills the pool of labelled frames.
const ROUNDS: usize = 9;
/// Labelled frames a second.
const LABELS_PER_SECOND: usize = 5;

/// Tries `learning`'s configurations on `scenes` scenes of every preset and writes the history of
/// what came of them to `out`, as JSON.
///
/// # Errors
/// When a scene or a training fails, or `out` cannot be written.
pub fn rehearse(learning: &LearningConfig, scenes: u64, out: &Path) -> Result<(), TrainError> {
    let exemplars = train::exemplars()?;
    let exemplars: Vec<Remembered> = exemplars.into_iter().map(at_the_start).collect();
    let (held_out, recent) = (learning.held_out(), learning.spread());
    let teacher = builtin_teacher(Placement::Cpu)?;
    let bar = progress("rehearsing", scenes as usize * Preset::ALL.len());
    let mut history = History::with_half_life(f64::MAX);
    let mut tried = 0;
    for scene in 0..scenes {
        for (index, preset) in Preset::ALL.into_iter().enumerate() {
            let seed = SEEDS + scene * Preset::ALL.len() as u64 + index as u64;
            let mut rehearsal = Rehearsal {
                student: Box::new(builtin_student(Placement::Cpu)?),
                memory: Memory::new(Limits::of(learning), exemplars.clone(), seed),
                split: Split::default(),
                rng: ChaCha8Rng::seed_from_u64(seed),
            };
            let rounds = rounds(preset, seed)?;
            for pair in rounds.windows(2) {
                let labelled = label(&teacher, &pair[0])?;
                let old = rehearsal.split.advance(labelled, held_out, recent);
                rehearsal.remember(&old, learning.method)?;
                for outcome in rehearsal.round(learning, &pair[1])? {
                    history.record(&outcome);
                    tried += 1;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let json = serde_json::to_vec_pretty(&history).map_err(|error| WriteError {
        path: out.to_owned(),
        step: "put the history into words",
        source: error.into(),
    })?;
    write_atomically(out, &json)?;
    println!("{tried} retrainings: {}", out.display());
    Ok(())
}

/// An example of the first training, before every frame of a scene.
fn at_the_start(example: Example) -> Remembered {
    Remembered {
        example,
        taken_at: 0,
    }
}

/// Frames of a scene that drifts for half of its length, round by round.
fn rounds(preset: Preset, seed: u64) -> Result<Vec<Vec<Frame>>, TrainError> {
    let mut source = SceneSource::new(SceneConfig {
        fps: FPS as f64,
        seed,
        preset: Some(preset),
        drift_seconds: (ROUNDS * ROUND_SECONDS / 2) as f64,
        pace: PACE,
        ..SceneConfig::default()
    })
    .map_err(SourceError::from)?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut frames = Vec::new();
        for _ in 0..FPS * ROUND_SECONDS {
            frames.extend(source.next_frame()?);
        }
        rounds.push(frames);
    }
    Ok(rounds)
}

fn label(teacher: &dyn Teacher, frames: &[Frame]) -> Result<Vec<Labelled>, TrainError> {
    let sampled = frames.iter().step_by(FPS / LABELS_PER_SECOND);
    sampled
        .map(|frame| {
            let labels = teacher.label(&frame.image, &frame.regions)?;
            let sample = Sample {
                frame: frame.clone(),
                at: frame.at.as_secs_f64(),
                answer: None,
                burst: false,
            };
            Ok(Labelled::new(sample, labels))
        })
        .collect()
}

/// One stream in rehearsal.
struct Rehearsal {
    student: Box<dyn Student>,
    memory: Memory,
    split: Split,
    rng: ChaCha8Rng,
}

impl Rehearsal {
    /// Remembers frames that are no longer recent.
    fn remember(&mut self, frames: &[Labelled], method: Method) -> Result<(), ModelError> {
        let frames = frames.iter().map(|one| one.remembered(0));
        self.memory.remember(frames, |example| match method {
            Method::Icarl => self.student.features(&example.image, &example.regions()),
            Method::FineTuning => Ok(None),
        })
    }

    /// Tries every configuration, measured on the frames that come next; goes on with one of them,
    /// drawn at random, when it is better on the held-out frames, much as a live stream would (its
    /// gate asks the teacher, this one the truth).
    fn round(
        &mut self,
        learning: &LearningConfig,
        next: &[Frame],
    ) -> Result<Vec<Outcome>, TrainError> {
        let configs = &learning.configurations;
        let options = TrainingOptions {
            sampling: learning.sampling,
            distillation: learning.distillation(CLASSES.len()),
            ..TrainingOptions::default()
        };
        let examples = self.memory.with(&self.split);
        let seed = self.rng.random();
        let start_accuracy = accuracy(&*self.student, next)?;
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
                config: config.clone(),
                start_accuracy,
                end_accuracy: accuracy(&*retrained, next)?,
                gpu_seconds: 0.0,
                curve_accuracy: None,
                measured_gpu_seconds: None,
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

/// Accuracy against the scene's truth.
fn accuracy<'a>(
    student: &dyn Student,
    frames: impl IntoIterator<Item = &'a Frame>,
) -> Result<f64, ModelError> {
    let mut scores = Vec::new();
    for frame in frames {
        let answers = student.infer(&frame.image, &frame.regions, 1.0)?;
        let truth = frame.truth.as_deref().unwrap_or_default();
        scores.extend(Metric::Accuracy.score(truth, &answers));
    }
    Ok(scores.iter().sum::<f64>() / scores.len().max(1) as f64)
}
