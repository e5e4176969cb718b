//! A synthetic problem that a classifier learns in seconds: squares of four colours in noise.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ekya_models::{
    Architecture, BBox, Classifier, Example, Image, Object, Placement, Student, TrainingOptions,
};
use ekya_sched::RetrainingConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

const COLOURS: [[u8; 3]; 4] = [[200, 60, 60], [60, 200, 60], [60, 60, 200], [190, 190, 60]];
pub(crate) const CLASSES: usize = COLOURS.len();
const PICTURE: usize = 96;
const SQUARE: usize = 24;

/// Pictures with two squares each.
pub(crate) fn squares(pictures: usize, seed: u64) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..pictures).map(|_| picture(&mut rng)).collect()
}

fn picture(rng: &mut ChaCha8Rng) -> Example {
    let mut rgb: Vec<u8> = (0..PICTURE * PICTURE * 3)
        .map(|_| rng.random_range(60..200))
        .collect();
    let objects = [4, 60].map(|left| {
        let class = rng.random_range(0..CLASSES);
        let (x, y) = (
            left + rng.random_range(0..8),
            rng.random_range(0..PICTURE - SQUARE),
        );
        for row in y..y + SQUARE {
            for column in x..x + SQUARE {
                for channel in 0..3 {
                    let noise = rng.random_range(-40..=40);
                    let value = i32::from(COLOURS[class][channel]) + noise;
                    rgb[(row * PICTURE + column) * 3 + channel] = value.clamp(0, 255) as u8;
                }
            }
        }
        let (x, y, side) = (x as f32, y as f32, SQUARE as f32);
        Object {
            class,
            score: 1.0,
            bbox: BBox {
                x1: x,
                y1: y,
                x2: x + side,
                y2: y + side,
            },
        }
    });
    Example {
        image: Arc::new(Image::new(PICTURE, PICTURE, rgb).unwrap()),
        objects: objects.to_vec(),
    }
}

/// A student that has learnt nothing yet.
pub(crate) fn fresh(architecture: Architecture) -> Classifier {
    Classifier::new(architecture, CLASSES, 32, Placement::Cpu, 7).unwrap()
}

/// Trains a copy to the end.
pub(crate) fn train(
    student: &dyn Student,
    examples: &[Example],
    config: &RetrainingConfig,
    seed: u64,
) -> Box<dyn Student> {
    train_with(student, examples, config, &TrainingOptions::default(), seed)
}

/// Trains a copy to the end in a certain way.
pub(crate) fn train_with(
    student: &dyn Student,
    examples: &[Example],
    config: &RetrainingConfig,
    options: &TrainingOptions,
    seed: u64,
) -> Box<dyn Student> {
    let mut training = student.train_with(examples, config, options, seed).unwrap();
    for done in 1..=training.steps() {
        assert_eq!(training.step().unwrap().done, done);
    }
    training.student().unwrap()
}

/// Answers about all objects of the examples.
pub(crate) fn answers(student: &dyn Student, examples: &[Example], resolution: f64) -> Vec<Object> {
    let answer = |example: &Example| {
        let regions = example.regions();
        student.infer(&example.image, &regions, resolution).unwrap()
    };
    examples.iter().flat_map(answer).collect()
}

/// Fraction of objects of which the class is named right.
pub(crate) fn accuracy(student: &dyn Student, examples: &[Example]) -> f64 {
    let answers = answers(student, examples, 1.0);
    let truth = examples.iter().flat_map(|example| &example.objects);
    let right = truth
        .zip(&answers)
        .filter(|(truth, answer)| truth.class == answer.class)
        .count();
    right as f64 / answers.len() as f64
}

/// The bytes of every tensor by name.
pub(crate) fn tensors(student: &dyn Student) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    student.save(&path).unwrap();
    named_bytes(&path)
}

pub(crate) fn named_bytes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect()
}
