//! Fine-tuning the detection student on a scene of coloured boxes.
//!
//! Needs the weights in the folder that `EKYA_DATA` names; says so and passes when it is not set.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekya_models::{
    BBox, Example, FastestDet, Image, ModelError, Object, Placement, Student, TrainingOptions,
    f1_at, set_compute_threads,
};
use ekya_sched::RetrainingConfig;
use safetensors::SafeTensors;

/// The published weights, or `None` after saying that the test is skipped.
fn weights() -> Option<PathBuf> {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        eprintln!("skipped: EKYA_DATA does not name the folder of real data");
        return None;
    };
    Some(Path::new(&data).join("models/FastestDet_AP05_0.253.safetensors"))
}

fn student() -> Option<FastestDet> {
    set_compute_threads(1);
    Some(
        FastestDet::load(
            &weights()?,
            &["person".to_owned(), "car".to_owned()],
            Placement::Cpu,
        )
        .unwrap(),
    )
}

fn config() -> RetrainingConfig {
    RetrainingConfig {
        epochs: 2,
        batch_size: 4,
        layers_frozen: 4,
        learning_rate: 1e-3,
        ..RetrainingConfig::default()
    }
}

/// A grey street with a red "car" and a blue "person", nothing like COCO's.
fn scene(step: usize) -> Example {
    let (width, height) = (176, 176);
    let mut rgb = vec![110; width * height * 3];
    let at = |x: usize, y: usize, w: usize, h: usize| (x, y, x + w, y + h);
    let boxes = [
        (1, [200, 30, 30], at(10 + step * 17 % 110, 100, 48, 32)),
        (0, [30, 40, 210], at(120 - step * 23 % 110, 30, 24, 48)),
    ];
    let objects = boxes.map(|(class, colour, (x1, y1, x2, y2))| {
        for y in y1..y2 {
            for x in x1..x2 {
                rgb[(y * width + x) * 3..][..3].copy_from_slice(&colour);
            }
        }
        let bbox = BBox {
            x1: x1 as f32,
            y1: y1 as f32,
            x2: x2 as f32,
            y2: y2 as f32,
        };
        Object {
            class,
            score: 1.0,
            bbox,
        }
    });
    let image = Arc::new(Image::new(width, height, rgb).unwrap());
    Example {
        image,
        objects: objects.to_vec(),
    }
}

fn scenes(steps: std::ops::Range<usize>) -> Vec<Example> {
    steps.map(scene).collect()
}

fn f1(student: &dyn Student, examples: &[Example]) -> f64 {
    let scores = examples.iter().filter_map(|example| {
        f1_at(
            &example.objects,
            &student.infer(&example.image, &[], 1.0).unwrap(),
        )
    });
    scores.sum::<f64>() / examples.len() as f64
}

/// All losses of a training, and the student that comes out.
fn trained(
    student: &FastestDet,
    config: &RetrainingConfig,
    seed: u64,
) -> (Vec<f64>, Box<dyn Student>) {
    let mut training = student.train(&scenes(0..16), config, seed).unwrap();
    let losses = (0..training.steps())
        .map(|_| training.step().unwrap().loss)
        .collect();
    (losses, training.student().unwrap())
}

#[test]
fn training_teaches_new_objects_and_leaves_the_serving_student_alone() {
    let Some(student) = student() else { return };
    let later = scenes(40..46);
    let before: Vec<_> = later
        .iter()
        .map(|e| student.infer(&e.image, &[], 1.0).unwrap())
        .collect();
    let config = RetrainingConfig {
        epochs: 10,
        ..config()
    };
    let (losses, retrained) = trained(&student, &config, 3);
    assert_eq!(losses.len(), 40);
    let (old, new) = (f1(&student, &later), f1(retrained.as_ref(), &later));
    assert!(new > 0.8 && new > old + 0.3, "F1 {old:.2} → {new:.2}");
    let after: Vec<_> = later
        .iter()
        .map(|e| student.infer(&e.image, &[], 1.0).unwrap())
        .collect();
    assert_eq!(before, after);
}

#[test]
fn a_seed_repeats_exactly_and_another_does_not() {
    let Some(student) = student() else { return };
    let (first, _) = trained(&student, &config(), 3);
    let (again, _) = trained(&student, &config(), 3);
    let (other, _) = trained(&student, &config(), 4);
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn frozen_blocks_and_statistics_stay_as_they_are() {
    let Some(student) = student() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (frozen, moves) in [(0, true), (1, false)] {
        let config = RetrainingConfig {
            epochs: 1,
            layers_frozen: frozen,
            ..config()
        };
        let path = folder.path().join(format!("{frozen}.safetensors"));
        trained(&student, &config, 1).1.save(&path).unwrap();
        let changed = changed(&weights().unwrap(), &path);
        let stem = changed
            .iter()
            .any(|name| name.starts_with("backbone.first_conv."));
        assert_eq!(stem, moves, "{changed:?}");
        assert!(
            changed
                .iter()
                .any(|name| name.starts_with("backbone.stage2."))
        );
        assert!(
            !changed.iter().any(|name| name.contains("running_")),
            "{changed:?}"
        );
    }
}

/// Names of the tensors that differ between two files.
fn changed(before: &Path, after: &Path) -> Vec<String> {
    let before = tch::Tensor::read_safetensors(before).unwrap();
    let after = tch::Tensor::read_safetensors(after).unwrap();
    let differs = |name: &str, tensor: &tch::Tensor| {
        let old = before.iter().find(|(other, _)| other == name);
        old.is_none_or(|(_, old)| old != tensor)
    };
    after
        .into_iter()
        .filter(|(name, tensor)| differs(name, tensor))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn steps_follow_the_configuration() {
    let Some(student) = student() else { return };
    let config = RetrainingConfig {
        epochs: 3,
        data_fraction: 0.5,
        layers_frozen: 5,
        ..config()
    };
    let mut training = student.train(&scenes(0..11), &config, 1).unwrap();
    // Half of eleven is six, in batches of four.
    assert_eq!((training.steps_per_epoch(), training.steps()), (2, 6));
    for done in 1..=6 {
        assert_eq!(training.step().unwrap().done, done);
    }
    assert!(matches!(training.step(), Err(ModelError::BadInput(_))));
}

#[test]
fn a_minibatch_in_parts_is_several_steps_and_moves_the_weights_after_the_last() {
    let Some(student) = student() else { return };
    let options = TrainingOptions {
        micro_batch: 2,
        ..TrainingOptions::default()
    };
    let config = RetrainingConfig {
        epochs: 1,
        ..config()
    };
    let training = student.train_with(&scenes(0..4), &config, &options, 1);
    let mut training = training.unwrap();
    assert_eq!(training.steps(), 2);
    // The tensors alone: the file's metadata come in no order.
    let saved = |student: &dyn Student| -> BTreeMap<String, Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("student.safetensors");
        student.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors.tensors().into_iter();
        tensors
            .map(|(name, view)| (name, view.data().to_vec()))
            .collect()
    };
    let before = saved(&student);
    assert_eq!(training.step().unwrap().examples, 2);
    assert!(saved(&*training.student().unwrap()) == before);
    training.step().unwrap();
    assert!(saved(&*training.student().unwrap()) != before);
}

#[test]
fn pictures_without_objects_can_be_trained_on() {
    let Some(student) = student() else { return };
    let empty: Vec<Example> = scenes(0..4)
        .into_iter()
        .map(|e| Example {
            objects: Vec::new(),
            ..e
        })
        .collect();
    let mut training = student.train(&empty, &config(), 1).unwrap();
    assert!(training.step().unwrap().loss.is_finite());
}

#[test]
fn a_training_survives_a_thread_whose_gradients_are_off() {
    let Some(student) = student() else { return };
    let (expected, _) = trained(&student, &config(), 3);
    let losses = tch::no_grad(|| trained(&student, &config(), 3).0);
    assert_eq!(losses, expected);
}

#[test]
fn what_cannot_be_trained_on_is_refused() {
    let Some(student) = student() else { return };
    assert!(matches!(
        student.train(&[], &config(), 1),
        Err(ModelError::NoExamples)
    ));
    let mut unknown = scenes(0..1);
    unknown[0].objects[0].class = 2;
    assert!(matches!(
        student.train(&unknown, &config(), 1),
        Err(ModelError::BadInput(_))
    ));
    let bad = [
        RetrainingConfig {
            epochs: 0,
            ..config()
        },
        RetrainingConfig {
            batch_size: 0,
            ..config()
        },
        RetrainingConfig {
            data_fraction: 0.0,
            ..config()
        },
        RetrainingConfig {
            data_fraction: f64::NAN,
            ..config()
        },
        RetrainingConfig {
            learning_rate: -1.0,
            ..config()
        },
    ];
    for config in bad {
        let refused = student.train(&scenes(0..2), &config, 1);
        assert!(
            matches!(refused, Err(ModelError::BadInput(_))),
            "{config:?}"
        );
    }
}
