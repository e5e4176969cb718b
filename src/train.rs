//! Training from scratch: the built-in weights of the procedural scene, and first students for a
//! user's own labelled folder.
//!
//! Offline work: no shares, no windows. The result is a checkpoint that a configuration can name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ekya_models::{
    Architecture, Classifier, Example, ModelError, Placement, Student, matched_accuracy,
};
use ekya_sched::RetrainingConfig;
use indicatif::{ProgressBar, ProgressStyle};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use crate::clock::unix_seconds;
use crate::learn::Kept;
use crate::source::folder::{FolderConfig, FolderSource};
use crate::source::scene::{CLASSES, Keyframe, SceneConfig, SceneSource};
use crate::source::{Frame, Source, SourceError};
use crate::write::WriteError;

/// Neurons of the hidden layer.
const HEAD_WIDTH: usize = 64;
/// Frames taken from each little scene, so far apart that most objects are new.
const FRAMES_PER_SCENE: usize = 6;
/// Frames rendered for each one taken.
const FRAMES_APART: usize = 15;
/// Seeds of scenes to train on begin here; scenes to test on begin at [`TEST_SEEDS`]. Demos use
/// small seeds, so nothing is ever tested on scenes that a model was trained on.
const TRAINING_SEEDS: u64 = 1_000_000;
/// See [`TRAINING_SEEDS`].
const TEST_SEEDS: u64 = 2_000_000;
/// Frames of its first training that a stream of the built-in student begins to remember with.
const EXEMPLARS: usize = 60;

/// Why training from scratch failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The pictures could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model could not be trained or written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There is nothing to train on.
    #[error("{} holds no labelled picture", path.display())]
    NoPictures {
        /// The folder or manifest.
        path: PathBuf,
    },
    /// A file or folder could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// How much to train.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Frames to train on.
    pub frames: usize,
    /// Passes over them.
    pub epochs: usize,
}

/// Trains the scene's student, on a clear noon without the classes that arrive later, and its
/// teacher, on every condition; writes both to `out` and prints how right each is before and after
/// drift.
///
/// # Errors
/// When a scene is invalid, training fails, or `out` cannot be written.
pub fn train_scene(
    out: &Path,
    student: Option<Effort>,
    teacher: Option<Effort>,
    seed: u64,
) -> Result<(), TrainError> {
    std::fs::create_dir_all(out).map_err(|source| WriteError {
        path: out.to_owned(),
        step: "make the folder",
        source,
    })?;
    if let Some(effort) = student {
        let examples = scene_examples(
            effort.frames,
            TRAINING_SEEDS,
            Conditions::OneNoon,
            &progress("rendering", effort.frames),
        )?;
        let trained = fit(Architecture::Small, CLASSES.len(), &examples, effort, seed)?;
        report("student", &*trained)?;
        trained.save(&out.join("scene-student.safetensors"))?;
    }
    if let Some(effort) = teacher {
        let examples = scene_examples(
            effort.frames,
            TRAINING_SEEDS,
            Conditions::Any,
            &progress("rendering", effort.frames),
        )?;
        let trained = fit(
            Architecture::Teacher,
            CLASSES.len(),
            &examples,
            effort,
            seed,
        )?;
        report("teacher", &*trained)?;
        trained.save(&out.join("scene-teacher.safetensors"))?;
    }
    Ok(())
}

/// Trains a first student on a labelled folder and writes it to `out`.
///
/// # Errors
/// When the folder cannot be read, training fails, or `out` cannot be written.
pub fn train_folder(
    folder: &FolderConfig,
    architecture: Architecture,
    epochs: usize,
    out: &Path,
    seed: u64,
) -> Result<(), TrainError> {
    let mut source = FolderSource::open(folder)?;
    let classes = source.classes().to_vec();
    let mut examples = Vec::new();
    while let Some(frame) = source.next_frame()? {
        examples.extend(example(frame));
    }
    if examples.is_empty() {
        return Err(TrainError::NoPictures {
            path: folder.path.clone(),
        });
    }
    let effort = Effort {
        frames: examples.len(),
        epochs,
    };
    let trained = fit(architecture, classes.len(), &examples, effort, seed)?;
    trained.save(out)?;
    println!(
        "{} examples of {}: {}",
        examples.len(),
        classes.join(", "),
        out.display()
    );
    Ok(())
}

/// Frames of the kind that the built-in student was trained on, for its streams to remember; they
/// count as taken when they are drawn.
///
/// # Errors
/// When a scene cannot be drawn, which is a bug.
pub fn exemplars() -> Result<Vec<Kept>, TrainError> {
    let taken_at = unix_seconds();
    let drawn = scene_examples(
        EXEMPLARS,
        TRAINING_SEEDS,
        Conditions::OneNoon,
        &ProgressBar::hidden(),
    )?;
    let kept = |example| Kept { example, taken_at };
    Ok(drawn.into_iter().map(kept).collect())
}

/// Which scenes to draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// What the student is trained on: a clear noon in which half of the classes are rare.
    OneNoon,
    /// A clear noon with the scene's usual mix of classes.
    Undrifted,
    /// Any lighting, weather, looks and mix of classes.
    Any,
}

impl Conditions {
    fn draw(self, rng: &mut ChaCha8Rng) -> Keyframe {
        match self {
            Self::OneNoon => {
                let weights = [1.0, 1.0, 0.15, 0.15, 0.15, 1.0, 1.0, 0.15];
                let mix = CLASSES.iter().zip(weights);
                let class_mix = mix
                    .map(|(name, weight)| ((*name).to_owned(), weight))
                    .collect();
                Keyframe {
                    class_mix: Some(class_mix),
                    ..Keyframe::default()
                }
            }
            Self::Undrifted => Keyframe::default(),
            Self::Any => any_condition(rng),
        }
    }
}

/// Any condition that a scene can be in.
fn any_condition(rng: &mut ChaCha8Rng) -> Keyframe {
    let often_zero = |rng: &mut ChaCha8Rng| {
        if rng.random_bool(0.5) {
            0.0
        } else {
            rng.random::<f64>()
        }
    };
    let class_mix = CLASSES
        .iter()
        .map(|name| ((*name).to_owned(), rng.random_range(0.2..1.0)))
        .collect();
    Keyframe {
        at: 0.0,
        lighting: Some(rng.random()),
        rain: Some(often_zero(rng)),
        fog: Some(often_zero(rng)),
        shake: Some(often_zero(rng) * 2.0),
        look: Some(rng.random()),
        class_mix: Some(class_mix),
    }
}

/// `count` frames from many little scenes, each in a condition of its own.
fn scene_examples(
    count: usize,
    seeds: u64,
    conditions: Conditions,
    bar: &ProgressBar,
) -> Result<Vec<Example>, TrainError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seeds);
    let mut examples = Vec::with_capacity(count);
    for scene in 0.. {
        if examples.len() >= count {
            break;
        }
        let config = SceneConfig {
            seed: seeds + scene,
            drift: vec![conditions.draw(&mut rng)],
            ..SceneConfig::default()
        };
        let mut source = SceneSource::new(config).map_err(SourceError::from)?;
        for _ in 0..FRAMES_PER_SCENE {
            let mut last = None;
            for _ in 0..FRAMES_APART {
                last = source.next_frame()?;
            }
            examples.extend(last.and_then(example));
        }
        bar.set_position(examples.len() as u64);
    }
    examples.truncate(count);
    bar.finish_and_clear();
    Ok(examples)
}

/// A frame as an example; its regions are used as boxes, as in live training.
fn example(frame: Frame) -> Option<Example> {
    let mut objects = frame.truth?;
    for (object, region) in objects.iter_mut().zip(&frame.regions) {
        object.bbox = *region;
    }
    Some(Example {
        image: frame.image,
        objects,
    })
}

fn fit(
    architecture: Architecture,
    classes: usize,
    examples: &[Example],
    effort: Effort,
    seed: u64,
) -> Result<Box<dyn Student>, TrainError> {
    let fresh = Classifier::new(architecture, classes, HEAD_WIDTH, Placement::best(), seed)?;
    let config = RetrainingConfig {
        epochs: effort.epochs,
        batch_size: 64,
        learning_rate: 2e-3,
        ..RetrainingConfig::default()
    };
    let mut training = fresh.train(examples, &config, seed)?;
    let bar = progress("training", training.steps());
    for _ in 0..training.steps() {
        let step = training.step()?;
        bar.set_position(step.done as u64);
        bar.set_message(format!("loss {:.3}", step.loss));
    }
    bar.finish_and_clear();
    Ok(training.student()?)
}

/// Accuracy of `model` on `count` frames of scenes that nothing is trained on.
///
/// # Errors
/// When the model fails.
pub fn scene_accuracy(
    model: &dyn Student,
    count: usize,
    conditions: Conditions,
) -> Result<f64, TrainError> {
    let examples = scene_examples(count, TEST_SEEDS, conditions, &ProgressBar::hidden())?;
    Ok(accuracy(model, &examples)?)
}

fn report(name: &str, model: &dyn Student) -> Result<(), TrainError> {
    let plain = scene_accuracy(model, 300, Conditions::Undrifted)?;
    let drifted = scene_accuracy(model, 600, Conditions::Any)?;
    let (plain, drifted) = (plain * 100.0, drifted * 100.0);
    println!("{name}: {plain:.1} % right undrifted, {drifted:.1} % over all conditions");
    Ok(())
}

fn accuracy(model: &dyn Student, examples: &[Example]) -> Result<f64, ModelError> {
    let mut scores = Vec::with_capacity(examples.len());
    for example in examples {
        let answers = model.infer(&example.image, &example.regions(), 1.0)?;
        scores.extend(matched_accuracy(&example.objects, &answers));
    }
    Ok(scores.iter().sum::<f64>() / scores.len().max(1) as f64)
}

pub(crate) fn progress(what: &'static str, length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_prefix(what);
    if let Ok(style) =
        ProgressStyle::with_template("{prefix:>10} {wide_bar} {pos}/{len} {eta} {msg}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
