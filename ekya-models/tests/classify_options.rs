//! Trainings in small steps, balanced, with distillation; and trainings that cannot go well.
#![cfg(feature = "torch")]

use std::collections::BTreeMap;

use ekya_models::{
    Architecture, Distillation, Example, ModelError, Sampling, Student, TrainingOptions,
};
use ekya_sched::RetrainingConfig;

use classify_support::{CLASSES, accuracy, fresh, squares, tensors, train_with};

mod classify_support;

fn short() -> RetrainingConfig {
    RetrainingConfig {
        epochs: 2,
        batch_size: 16,
        ..RetrainingConfig::default()
    }
}

fn steps_of(micro_batch: usize) -> TrainingOptions {
    TrainingOptions {
        micro_batch,
        ..TrainingOptions::default()
    }
}

fn distilling(classes: usize, weight: f64) -> TrainingOptions {
    TrainingOptions {
        distillation: Some(Distillation {
            classes,
            weight,
            temperature: 2.0,
        }),
        ..TrainingOptions::default()
    }
}

/// Every example's objects of the classes wanted; examples without any are left out.
fn only(examples: Vec<Example>, wanted: impl Fn(usize) -> bool) -> Vec<Example> {
    let mut examples = examples;
    for example in &mut examples {
        example.objects.retain(|object| wanted(object.class));
    }
    examples.retain(|example| !example.objects.is_empty());
    examples
}

fn floats(tensors: &BTreeMap<String, Vec<u8>>) -> Vec<f32> {
    let bytes = tensors.values().flat_map(|bytes| bytes.as_chunks().0);
    bytes.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn a_minibatch_in_parts_moves_the_weights_as_the_whole_does() {
    let student = fresh(Architecture::Small);
    let config = RetrainingConfig {
        layers_frozen: usize::MAX,
        ..short()
    };
    let examples = squares(20, 1);
    let whole = train_with(&student, &examples, &config, &steps_of(usize::MAX), 3);
    let whole = floats(&tensors(&*whole));
    for micro_batch in [1, 5] {
        let parts = train_with(&student, &examples, &config, &steps_of(micro_batch), 3);
        let parts = floats(&tensors(&*parts));
        let apart = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs());
        let apart = apart.fold(0.0, f32::max);
        assert!(apart < 1e-4, "{apart} apart in parts of {micro_batch}");
    }
    assert_ne!(whole, floats(&tensors(&student)));
}

#[test]
fn steps_count_the_parts_and_say_how_many_crops_they_took() {
    let student = fresh(Architecture::Small);
    let steps = |layers_frozen, micro_batch| {
        let config = RetrainingConfig {
            layers_frozen,
            ..short()
        };
        // 40 crops: three minibatches of 13, 13 and 14.
        let training = student.train_with(&squares(20, 1), &config, &steps_of(micro_batch), 3);
        let mut training = training.unwrap();
        assert_eq!(training.steps(), 2 * training.steps_per_epoch());
        let examples = (0..training.steps_per_epoch())
            .map(|_| training.step().unwrap().examples)
            .collect::<Vec<_>>();
        assert_eq!(examples.iter().sum::<usize>(), 40);
        (examples.len(), examples.into_iter().max().unwrap())
    };
    assert_eq!(steps(usize::MAX, usize::MAX), (3, 14));
    assert_eq!(steps(usize::MAX, 5), (9, 5));
    assert_eq!(steps(usize::MAX, 1), (40, 1));
    // Blocks that normalise by what they see are not given less than eight, if there are as many.
    assert_eq!(steps(0, 1), (6, 7));
}

#[test]
fn small_steps_still_teach_blocks_that_normalise() {
    let student = fresh(Architecture::Small);
    let config = RetrainingConfig {
        epochs: 6,
        ..short()
    };
    let trained = train_with(&student, &squares(100, 1), &config, &steps_of(8), 3);
    let accuracy = accuracy(&*trained, &squares(50, 2));
    assert!(accuracy >= 0.95, "{accuracy}");
}

#[test]
fn the_same_seed_gives_the_same_weights_with_every_option() {
    let student = fresh(Architecture::Small);
    let examples = squares(10, 1);
    for (layers_frozen, head_width) in [(0, 0), (2, 24), (usize::MAX, 24)] {
        let config = RetrainingConfig {
            layers_frozen,
            head_width,
            ..short()
        };
        let options = TrainingOptions {
            micro_batch: 9,
            sampling: Sampling::Balanced,
            ..distilling(3, 0.7)
        };
        let once = |seed| tensors(&*train_with(&student, &examples, &config, &options, seed));
        assert_eq!(once(3), once(3));
        assert_ne!(once(3), once(4));
    }
}

#[test]
fn balanced_sampling_teaches_a_rare_class() {
    let student = fresh(Architecture::Small);
    let mut examples = only(squares(100, 1), |class| class == 0);
    examples.extend(only(squares(20, 2), |class| class == 1).into_iter().take(2));
    let config = RetrainingConfig {
        epochs: 12,
        layers_frozen: usize::MAX,
        learning_rate: 3e-3,
        ..short()
    };
    let test = only(squares(60, 5), |class| class == 1);
    let recall = |sampling| {
        let options = TrainingOptions {
            sampling,
            ..TrainingOptions::default()
        };
        accuracy(
            &*train_with(&student, &examples, &config, &options, 3),
            &test,
        )
    };
    let (uniform, balanced) = (recall(Sampling::Uniform), recall(Sampling::Balanced));
    assert!(
        balanced > 0.9 && balanced > uniform,
        "{balanced}, {uniform}"
    );
}

#[test]
fn distillation_holds_on_to_the_old_answers() {
    // A student that knows the first two classes.
    let old = only(squares(80, 1), |class| class < 2);
    let config = RetrainingConfig {
        epochs: 8,
        learning_rate: 3e-3,
        ..short()
    };
    let plain = TrainingOptions::default();
    let student = train_with(&fresh(Architecture::Small), &old, &config, &plain, 3);
    let test = |class| only(squares(60, 7), move |other| other == class);
    assert!(accuracy(&*student, &test(0)) > 0.9);

    let new = only(squares(80, 4), |class| class == 3);
    let head_only = RetrainingConfig {
        epochs: 20,
        layers_frozen: usize::MAX,
        ..config
    };
    let after = |options: TrainingOptions| {
        let trained = train_with(&*student, &new, &head_only, &options, 3);
        [0, 3].map(|class| accuracy(&*trained, &test(class)))
    };
    let [_, learnt] = after(plain);
    assert!(learnt > 0.9, "{learnt}");
    // Old answers about all classes: none of them is the new one.
    let [kept, refused] = after(distilling(CLASSES, 1000.0));
    assert!(kept > 0.9 && refused < 0.1, "{kept}, {refused}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let student = fresh(Architecture::Small);
    let with = |change: fn(&mut Distillation)| {
        let mut options = distilling(2, 1.0);
        options.distillation.iter_mut().for_each(change);
        options
    };
    for options in [
        steps_of(0),
        with(|how| how.classes = 0),
        with(|how| how.classes = CLASSES + 1),
        with(|how| how.weight = -1.0),
        with(|how| how.weight = f64::NAN),
        with(|how| how.temperature = 0.0),
        with(|how| how.temperature = f64::INFINITY),
    ] {
        let refused = student.train_with(&squares(2, 1), &short(), &options, 1);
        assert!(
            matches!(refused, Err(ModelError::BadInput(_))),
            "{options:?}"
        );
    }
}

/// Trains to the end or to an error, and says that the serving student is as it was.
fn endure(
    student: &dyn Student,
    examples: &[Example],
    config: &RetrainingConfig,
    options: &TrainingOptions,
) -> Result<Box<dyn Student>, ModelError> {
    let before = tensors(student);
    let run = || {
        let mut training = student.train_with(examples, config, options, 3)?;
        for _ in 0..training.steps() {
            training.step()?;
        }
        training.student()
    };
    let result = run();
    assert_eq!(tensors(student), before);
    result
}

#[test]
fn little_data_trains_to_finite_weights() {
    let student = fresh(Architecture::Small);
    let one_a_class = (0..CLASSES).map(|class| {
        let of_class = only(squares(20, 1), move |other| other == class);
        let mut one = of_class[0].clone();
        one.objects.truncate(1);
        one
    });
    let one_a_class: Vec<Example> = one_a_class.collect();
    for examples in [&one_a_class[..1], &one_a_class] {
        for (batch_size, micro_batch, layers_frozen) in [
            (1, 1, 0),
            (16, 1, 0),
            (16, usize::MAX, 3),
            (1, 1, usize::MAX),
        ] {
            let config = RetrainingConfig {
                batch_size,
                layers_frozen,
                ..short()
            };
            let options = TrainingOptions {
                micro_batch,
                sampling: Sampling::Balanced,
                ..distilling(CLASSES, 1.0)
            };
            let trained = endure(&student, examples, &config, &options).unwrap();
            assert!(floats(&tensors(&*trained)).iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn a_rate_far_too_high_ends_in_words_or_in_finite_weights() {
    let student = fresh(Architecture::Small);
    let mut diverged = 0;
    for learning_rate in [0.1, 1e6, 1e18, 1e30, f64::MAX] {
        for layers_frozen in [0, usize::MAX] {
            let config = RetrainingConfig {
                learning_rate,
                layers_frozen,
                ..short()
            };
            match endure(&student, &squares(20, 1), &config, &distilling(4, 1.0)) {
                Ok(trained) => assert!(floats(&tensors(&*trained)).iter().all(|x| x.is_finite())),
                Err(ModelError::Diverged { .. } | ModelError::Torch(_)) => diverged += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(diverged > 0, "such a rate leaves nothing finite");
}

#[test]
fn a_last_step_that_goes_too_far_gives_no_student() {
    let student = fresh(Architecture::Small);
    let config = RetrainingConfig {
        epochs: 1,
        batch_size: 1000,
        learning_rate: f64::MAX,
        ..RetrainingConfig::default()
    };
    let error = endure(
        &student,
        &squares(20, 1),
        &config,
        &TrainingOptions::default(),
    );
    let error = error.err().unwrap().to_string();
    assert!(error.contains("no longer finite after 1 steps"), "{error}");
}

#[test]
fn nothing_is_trained_beyond_the_end() {
    let student = fresh(Architecture::Small);
    let mut training = student.train(&squares(4, 1), &short(), 3).unwrap();
    for _ in 0..training.steps() {
        training.step().unwrap();
    }
    assert!(matches!(training.step(), Err(ModelError::BadInput(_))));
}

#[test]
fn features_are_one_vector_a_region() {
    let student = fresh(Architecture::Small);
    let example = squares(1, 1).remove(0);
    let features = student.features(&example.image, &example.regions());
    let features = features.unwrap().unwrap();
    assert_eq!(features.len(), 2);
    assert!(features.iter().all(|one| one.len() == features[0].len()));
    assert_ne!(features[0], features[1]);
    let none = student.features(&example.image, &[]).unwrap();
    assert_eq!(none, Some(Vec::new()));
}
