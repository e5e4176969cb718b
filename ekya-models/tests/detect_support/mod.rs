//! Pictures of coloured rectangles on grey, and what becomes of a student on them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use ekya_models::{BBox, Example, Image, Object, Student, f1_at};
use ekya_sched::RetrainingConfig;

/// Side of the pictures in pixels.
const SIDE: usize = 96;

pub(crate) fn classes() -> Vec<String> {
    ["red", "blue"].map(str::to_owned).to_vec()
}

/// A red rectangle and a blue one, somewhere else in every picture.
pub(crate) fn picture(step: usize) -> Example {
    let mut rgb = vec![110; SIDE * SIDE * 3];
    let boxes = [
        (0, [220, 30, 30], (4 + step * 17 % 44, 56, 40, 28)),
        (1, [30, 40, 220], (64 - step * 23 % 60, 8, 26, 36)),
    ];
    let objects = boxes.map(|(class, colour, (x, y, width, height))| {
        for row in y..y + height {
            for column in x..x + width {
                rgb[(row * SIDE + column) * 3..][..3].copy_from_slice(&colour);
            }
        }
        Object {
            class,
            score: 1.0,
            bbox: BBox {
                x1: x as f32,
                y1: y as f32,
                x2: (x + width) as f32,
                y2: (y + height) as f32,
            },
        }
    });
    Example {
        image: Arc::new(Image::new(SIDE, SIDE, rgb).unwrap()),
        objects: objects.to_vec(),
    }
}

pub(crate) fn pictures(count: usize) -> Vec<Example> {
    (0..count).map(picture).collect()
}

pub(crate) fn config(epochs: usize, layers_frozen: usize) -> RetrainingConfig {
    RetrainingConfig {
        epochs,
        batch_size: 4,
        layers_frozen,
        learning_rate: 2e-3,
        ..RetrainingConfig::default()
    }
}

/// All losses of a training on `examples`, and the student that comes out.
pub(crate) fn trained(
    student: &dyn Student,
    examples: &[Example],
    config: &RetrainingConfig,
) -> (Vec<f64>, Box<dyn Student>) {
    let mut training = student.train(examples, config, 3).unwrap();
    let losses = (0..training.steps())
        .map(|_| training.step().unwrap().loss)
        .collect();
    (losses, training.student().unwrap())
}

/// Mean F1 at IoU 0.3.
pub(crate) fn f1(student: &dyn Student, examples: &[Example]) -> f64 {
    let score = |example: &Example| {
        let answers = student.infer(&example.image, &[], 1.0).unwrap();
        f1_at(&example.objects, &answers).unwrap()
    };
    examples.iter().map(score).sum::<f64>() / examples.len() as f64
}

/// Names of the tensors that differ between what two students save.
pub(crate) fn changed(before: &dyn Student, after: &dyn Student, folder: &Path) -> Vec<String> {
    let read = |student: &dyn Student, name: &str| {
        let path = folder.join(name);
        student.save(&path).unwrap();
        tch::Tensor::read_safetensors(path).unwrap()
    };
    let old = read(before, "before.safetensors");
    let new = read(after, "after.safetensors");
    assert_eq!(old.len(), new.len());
    let differs = |(name, tensor): &(String, tch::Tensor)| {
        let same = |(other, old): &(String, tch::Tensor)| other == name && old == tensor;
        !old.iter().any(same)
    };
    new.into_iter()
        .filter(differs)
        .map(|(name, _)| name)
        .collect()
}
