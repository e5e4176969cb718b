//! Classifiers learn, leave alone what is frozen, and can be trained again to the same weights.
#![cfg(feature = "torch")]

use std::panic::catch_unwind;

use ekya_models::{
    Architecture, BBox, Classifier, Example, Image, ModelError, Placement, Student, Teacher,
};
use ekya_sched::RetrainingConfig;

use classify_support::{CLASSES, accuracy, answers, fresh, squares, tensors, train};

mod classify_support;

fn short() -> RetrainingConfig {
    RetrainingConfig {
        epochs: 2,
        batch_size: 16,
        ..RetrainingConfig::default()
    }
}

/// Names of the tensors that differ.
fn changed(before: &dyn Student, after: &dyn Student) -> Vec<String> {
    let (before, after) = (tensors(before), tensors(after));
    assert!(before.keys().eq(after.keys()));
    before
        .into_iter()
        .filter(|(name, bytes)| after[name] != *bytes)
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn the_small_student_learns_colours() {
    let student = fresh(Architecture::Small);
    let test = squares(50, 2);
    let before = accuracy(&student, &test);
    assert!(before < 0.7, "untrained, yet {before} right");
    let config = RetrainingConfig {
        epochs: 6,
        batch_size: 16,
        ..RetrainingConfig::default()
    };
    let after = accuracy(&*train(&student, &squares(100, 1), &config, 3), &test);
    assert!(after >= 0.95, "{after}");
}

#[test]
fn training_a_copy_leaves_the_serving_student_as_it_is() {
    let student = fresh(Architecture::Small);
    let test = squares(5, 2);
    let before = answers(&student, &test, 1.0);
    let trained = train(&student, &squares(20, 1), &short(), 3);
    assert_eq!(answers(&student, &test, 1.0), before);
    assert_ne!(answers(&*trained, &test, 1.0), before);
}

#[test]
fn frozen_blocks_keep_weights_and_statistics_and_the_others_move() {
    let student = fresh(Architecture::Small);
    let config = RetrainingConfig {
        layers_frozen: 2,
        ..short()
    };
    let changed = changed(&student, &*train(&student, &squares(20, 1), &config, 3));
    assert!(
        !changed
            .iter()
            .any(|name| name.starts_with("block0.") || name.starts_with("block1.")),
        "{changed:?}"
    );
    let free = tensors(&student).into_keys().filter(|name| {
        name.starts_with("block2.") || name.starts_with("block3.") || name.starts_with("head.")
    });
    assert_eq!(changed, free.collect::<Vec<_>>());
}

#[test]
fn training_the_head_alone_changes_nothing_else_and_still_learns() {
    let student = train(&fresh(Architecture::Small), &squares(30, 1), &short(), 3);
    let config = RetrainingConfig {
        layers_frozen: 99,
        epochs: 30,
        head_width: 16,
        ..short()
    };
    let trained = train(&*student, &squares(100, 4), &config, 3);
    let (before, after) = (tensors(&*student), tensors(&*trained));
    for (name, bytes) in &before {
        assert_eq!(after[name] == *bytes, !name.starts_with("head."), "{name}");
    }
    let accuracy = accuracy(&*trained, &squares(50, 2));
    assert!(accuracy >= 0.8, "{accuracy}");
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let student = fresh(Architecture::Small);
    let examples = squares(20, 1);
    let config = RetrainingConfig {
        head_width: 24,
        ..short()
    };
    let once = tensors(&*train(&student, &examples, &config, 3));
    assert_eq!(once, tensors(&*train(&student, &examples, &config, 3)));
    assert_ne!(once, tensors(&*train(&student, &examples, &config, 4)));
}

#[test]
fn a_fork_shares_nothing() {
    let student = fresh(Architecture::Small);
    let fork = student.fork().unwrap();
    assert_eq!(changed(&student, &*fork), Vec::<String>::new());
    // Training moves a copy of the fork, not the fork; the original lives on after the fork has gone.
    drop(train(&*fork, &squares(10, 1), &short(), 3));
    drop(fork);
    assert_eq!(
        accuracy(&student, &squares(5, 2)),
        accuracy(&fresh(Architecture::Small), &squares(5, 2))
    );
}

#[test]
fn every_network_for_streams_takes_a_step() {
    for (name, [frozen, free]) in [
        ("teacher", ["block0.", "block1."]),
        ("resnet18", ["conv1.", "layer1.0."]),
        ("mobilenetv2:0.5", ["features.0.", "features.1."]),
        ("shufflenetv2:0.5", ["conv1.", "stage2.0."]),
    ] {
        let student = fresh(name.parse().unwrap());
        let config = RetrainingConfig {
            epochs: 1,
            batch_size: 4,
            layers_frozen: 1,
            ..RetrainingConfig::default()
        };
        let mut training = student.train(&squares(4, 1), &config, 3).unwrap();
        assert_eq!((training.steps(), training.steps_per_epoch()), (2, 2));
        let step = training.step().unwrap();
        assert!(step.loss > 0.0 && step.done == 1);
        let changed = changed(&student, &*training.student().unwrap());
        assert!(!changed.iter().any(|name| name.starts_with(frozen)));
        assert!(changed.iter().any(|name| name.starts_with(free)));
    }
}

#[test]
fn steps_count_every_minibatch_of_the_part_that_is_used() {
    let student = fresh(Architecture::Small);
    let steps =
        |config: RetrainingConfig| student.train(&squares(50, 1), &config, 3).unwrap().steps();
    assert_eq!(
        steps(RetrainingConfig {
            epochs: 3,
            batch_size: 32,
            ..short()
        }),
        12
    );
    assert_eq!(
        steps(RetrainingConfig {
            epochs: 3,
            batch_size: 32,
            data_fraction: 0.5,
            ..short()
        }),
        6
    );
    assert_eq!(
        steps(RetrainingConfig {
            epochs: 3,
            batch_size: 1000,
            ..short()
        }),
        3
    );
}

#[test]
fn a_panic_without_gradients_does_not_stop_later_training() {
    let panicked = catch_unwind(|| tch::no_grad(|| panic!("as if a forward pass failed")));
    assert!(panicked.is_err());
    let student = fresh(Architecture::Small);
    assert!(!changed(&student, &*train(&student, &squares(10, 1), &short(), 3)).is_empty());
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let student = fresh(Architecture::Small);
    let refused = |examples: &[Example], config: RetrainingConfig| {
        student.train(examples, &config, 1).err().unwrap()
    };
    assert!(matches!(refused(&[], short()), ModelError::NoExamples));
    let empty = Example {
        objects: Vec::new(),
        ..squares(1, 1).remove(0)
    };
    assert!(matches!(refused(&[empty], short()), ModelError::NoExamples));
    let mut unknown = squares(1, 1);
    unknown[0].objects[0].class = CLASSES;
    assert!(matches!(
        refused(&unknown, short()),
        ModelError::BadInput(_)
    ));
    for config in [
        RetrainingConfig {
            epochs: 0,
            ..short()
        },
        RetrainingConfig {
            batch_size: 0,
            ..short()
        },
        RetrainingConfig {
            data_fraction: 0.0,
            ..short()
        },
        RetrainingConfig {
            data_fraction: f64::NAN,
            ..short()
        },
        RetrainingConfig {
            learning_rate: f64::NAN,
            ..short()
        },
        RetrainingConfig {
            learning_rate: -1.0,
            ..short()
        },
        RetrainingConfig {
            head_width: usize::MAX,
            ..short()
        },
    ] {
        assert!(
            matches!(
                refused(&squares(1, 1), config.clone()),
                ModelError::BadInput(_)
            ),
            "{config:?}"
        );
    }
}

#[test]
fn answers_come_one_a_region_in_order_at_any_resolution() {
    let student = fresh(Architecture::Small);
    let examples = squares(1, 1);
    for resolution in [0.01, 0.25, 0.5, 1.0] {
        let found = answers(&student, &examples, resolution);
        assert_eq!(found.len(), 2);
        for (answer, object) in found.iter().zip(&examples[0].objects) {
            assert_eq!(answer.bbox, object.bbox);
            assert!(answer.class < CLASSES && answer.score > 0.0 && answer.score <= 1.0);
        }
    }
    assert_eq!(student.infer(&examples[0].image, &[], 1.0).unwrap(), []);
    for resolution in [0.0, -1.0, 1.5, f64::NAN] {
        let bbox = examples[0].objects[0].bbox;
        assert!(matches!(
            student.infer(&examples[0].image, &[bbox], resolution),
            Err(ModelError::BadInput(_))
        ));
    }
}

#[test]
fn a_region_does_not_change_the_answer_about_another() {
    let student = fresh(Architecture::Small);
    let example = squares(1, 1).remove(0);
    let both = answers(&student, std::slice::from_ref(&example), 1.0);
    let alone = student
        .infer(&example.image, &[example.objects[1].bbox], 1.0)
        .unwrap();
    assert_eq!(both[1].class, alone[0].class);
    assert!((both[1].score - alone[0].score).abs() < 1e-4);
}

#[test]
fn regions_without_sense_and_empty_pictures_do_not_panic() {
    let student = fresh(Architecture::Small);
    let example = squares(1, 1).remove(0);
    let odd = BBox {
        x1: f32::NAN,
        y1: f32::INFINITY,
        x2: -5.0,
        y2: 1e30,
    };
    assert_eq!(student.infer(&example.image, &[odd], 1.0).unwrap().len(), 1);
    let nothing = Image::new(0, 0, Vec::new()).unwrap();
    assert_eq!(student.infer(&nothing, &[odd], 1.0).unwrap().len(), 1);
}

#[test]
fn a_teacher_labels_as_it_would_infer_at_full_resolution() {
    let teacher = fresh(Architecture::Teacher);
    let example = squares(1, 1).remove(0);
    let regions: Vec<BBox> = example.objects.iter().map(|object| object.bbox).collect();
    assert_eq!(
        teacher.label(&example.image, &regions).unwrap(),
        teacher.infer(&example.image, &regions, 1.0).unwrap()
    );
}

#[test]
fn a_classifier_has_classes_and_a_head() {
    for (classes, head_width) in [(0, 8), (8, 0), (usize::MAX, 8), (8, usize::MAX)] {
        let made = Classifier::new(Architecture::Small, classes, head_width, Placement::Cpu, 1);
        assert!(matches!(made, Err(ModelError::BadInput(_))));
    }
}

#[test]
fn a_grown_classifier_knows_what_it_knew() {
    let student = fresh(Architecture::Small);
    let grown = student.with_classes(CLASSES + 3, 5).unwrap();
    let (before, after) = (tensors(&student), tensors(&grown));
    for (name, bytes) in &before {
        if name.starts_with("head.output.") {
            assert!(after[name].len() > bytes.len() && after[name].starts_with(bytes));
        } else {
            assert_eq!(after[name], *bytes, "{name}");
        }
    }
    let other = student.with_classes(CLASSES + 3, 6).unwrap();
    assert_eq!(
        tensors(&student.with_classes(CLASSES + 3, 5).unwrap()),
        after
    );
    assert_eq!(changed(&grown, &other), ["head.output.weight"]);
}

#[test]
fn a_classifier_grows_by_nothing_and_never_shrinks() {
    let student = fresh(Architecture::Small);
    let same = student.with_classes(CLASSES, 5).unwrap();
    assert_eq!(changed(&student, &same), Vec::<String>::new());
    for classes in [0, CLASSES - 1, usize::MAX] {
        assert!(matches!(
            student.with_classes(classes, 5),
            Err(ModelError::BadInput(_))
        ));
    }
}

#[test]
fn a_grown_classifier_learns_its_new_class() {
    let mut examples = squares(100, 1);
    let known: Vec<Example> = examples
        .iter()
        .filter(|example| {
            example
                .objects
                .iter()
                .all(|object| object.class < CLASSES - 1)
        })
        .cloned()
        .collect();
    let fewer = Classifier::new(Architecture::Small, CLASSES - 1, 32, Placement::Cpu, 7).unwrap();
    let config = RetrainingConfig {
        epochs: 6,
        batch_size: 16,
        ..RetrainingConfig::default()
    };
    let trained = train(&fewer, &known, &config, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("three.safetensors");
    trained.save(&path).unwrap();
    let grown = Classifier::load(&path, Placement::Cpu)
        .unwrap()
        .with_classes(CLASSES, 1)
        .unwrap();
    assert!(accuracy(&grown, &known) >= 0.9);
    examples.truncate(60);
    let test = squares(50, 2);
    let before = accuracy(&grown, &test);
    let after = accuracy(&*train(&grown, &examples, &config, 3), &test);
    assert!(before < 0.85 && after >= 0.95, "{before} and {after}");
}

#[test]
fn a_classifier_is_made_for_crops_of_many_sides_but_not_of_any() {
    let student = fresh(Architecture::Small).with_input_side(48).unwrap();
    assert_eq!(student.input_side(), 48);
    let trained = train(&student, &squares(20, 1), &short(), 3);
    assert_eq!(answers(&*trained, &squares(3, 2), 1.0).len(), 6);
    for side in [0, 15, 1025, usize::MAX] {
        assert!(matches!(
            fresh(Architecture::Small).with_input_side(side),
            Err(ModelError::BadInput(_))
        ));
    }
}
