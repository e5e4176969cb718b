//! The streams to retrain on: scenes of every kind of drift, and the traffic crops where they are.

use std::path::Path;

use anyhow::{Context as _, Result};
use ekya::learn::Kept;
use ekya::node::{builtin_history, builtin_student, builtin_teacher};
use ekya::source::folder::{FolderConfig, FolderSource};
use ekya::source::scene::{CLASSES, Preset};
use ekya::train;
use ekya::trial::{Round, SceneRounds, folder_rounds};
use ekya_models::{Classifier, Placement, Student};
use ekya_profiler::History;

/// As long as the windows of a live stream are (the paper's take 200 s): in the four seconds of
/// the default, fifteen held-out frames show four or five objects, on which a difference measures
/// with a standard deviation of eight points.
const SCENES: SceneRounds = SceneRounds {
    fps: 10,
    pace: 4.0,
    seconds: 24,
    rounds: 9,
    labels_per_second: 5,
};
/// Seeds of the scenes begin here, far from those of training, rehearsals, tests and demos.
const SEEDS: u64 = 6_000_000;
/// Kinds of drift in a quick run, and rounds.
const QUICK: [Preset; 2] = [Preset::Nightfall, Preset::Newcomers];
const QUICK_ROUNDS: usize = 7;

/// Streams of the traffic crops, in the order of examples/traffic_crops.toml.
const CROPS: [&str; 3] = ["road", "campus", "mixed"];
/// As in that file.
const CROP_CLASSES: [&str; 6] = ["car", "person", "truck", "bus", "bicycle", "motorcycle"];
/// Pictures in a round of crops, so that each stream has six to eleven rounds: every second is
/// labelled, about as many as a window of traffic_crops.toml labels.
const CROP_ROUND: usize = 180;
const CROP_LABEL_EVERY: usize = 2;

/// A stream before anything is learnt from it.
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Round>,
    pub(crate) student: Box<dyn Student>,
    pub(crate) classes: usize,
    /// What the student was first trained on.
    pub(crate) exemplars: Vec<Kept>,
    /// What retrainings of such a student are known to give.
    pub(crate) history: History,
}

/// One stream after the other, each made when it is its turn.
pub(crate) fn all(
    crops: Option<&Path>,
    quick: bool,
) -> Result<impl Iterator<Item = Result<Stream>>> {
    let (presets, rounds): (&[Preset], _) = if quick {
        (&QUICK, QUICK_ROUNDS)
    } else {
        (&Preset::ALL, SCENES.rounds)
    };
    let crops = crops.filter(|_| !quick);
    let scenes = presets.iter().zip(SEEDS..);
    let scenes = scenes.map(move |(preset, seed)| scene(*preset, rounds, seed));
    Ok(scenes.chain(
        crops
            .into_iter()
            .flat_map(|folder| CROPS.map(|name| crop_stream(folder, name))),
    ))
}

fn scene(preset: Preset, rounds: usize, seed: u64) -> Result<Stream> {
    let teacher = builtin_teacher(Placement::Cpu)?;
    Ok(Stream {
        name: format!("{preset:?}").to_lowercase(),
        rounds: SceneRounds { rounds, ..SCENES }.of(preset, seed, &teacher)?,
        student: Box::new(builtin_student(Placement::Cpu)?),
        classes: CLASSES.len(),
        exemplars: train::exemplars()?,
        history: builtin_history().context("the built-in history")?,
    })
}

fn crop_stream(folder: &Path, name: &str) -> Result<Stream> {
    let config = FolderConfig {
        classes: CROP_CLASSES.map(str::to_owned).to_vec(),
        ..FolderConfig::new(folder.join(format!("{name}.csv")))
    };
    let mut source = FolderSource::open(&config)?;
    let weights = folder.join("first.safetensors");
    Ok(Stream {
        name: name.to_owned(),
        rounds: folder_rounds(&mut source, CROP_ROUND, CROP_LABEL_EVERY)?,
        student: Box::new(Classifier::load(&weights, Placement::Cpu)?),
        classes: CROP_CLASSES.len(),
        exemplars: Vec::new(),
        history: History::default(),
    })
}
