//! A promotion that later labels prove a mistake is taken back. The students are made up: each gives
//! one answer, and is retrained in a step.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ekya::config::{InferenceConfig, LearningConfig};
use ekya::learn::{Beginning, Labelled, Learner, Prepare, Turn, Work};
use ekya::source::Frame;
use ekya::stream::{Metric, Sample};
use ekya_actors::Device;
use ekya_models::{
    BBox, Example, Image, ModelError, Object, Step, Student, Training, TrainingOptions,
};
use ekya_sched::{RetrainingConfig, Share};
use parking_lot::Mutex;

/// Says that everything is of one class.
#[derive(Clone)]
struct Always(usize);

impl Student for Always {
    fn infer(&self, _: &Image, regions: &[BBox], _: f64) -> Result<Vec<Object>, ModelError> {
        Ok(regions
            .iter()
            .map(|region| object(self.0, *region))
            .collect())
    }

    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(self.clone()))
    }

    fn network(&self) -> String {
        "made up".to_owned()
    }

    fn train_with(
        &self,
        examples: &[Example],
        _: &RetrainingConfig,
        _: &TrainingOptions,
        _: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        let newest = examples.iter().flat_map(|example| &example.objects).next();
        let class = newest.ok_or(ModelError::NoExamples)?.class;
        Ok(Box::new(ToAlways(class)))
    }

    fn save(&self, _: &Path) -> Result<(), ModelError> {
        Ok(())
    }
}

/// Learns to say the class of the first object that it is shown.
struct ToAlways(usize);

impl Training for ToAlways {
    fn steps(&self) -> usize {
        1
    }

    fn steps_per_epoch(&self) -> usize {
        1
    }

    fn step(&mut self) -> Result<Step, ModelError> {
        Ok(Step {
            loss: 0.0,
            done: 1,
            examples: 1,
        })
    }

    fn student(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(Always(self.0)))
    }
}

fn object(class: usize, bbox: BBox) -> Object {
    Object {
        class,
        score: 1.0,
        bbox,
    }
}

/// Forty frames from second `from` on, each with an object of `class`.
fn labels(from: u64, class: usize) -> Vec<Labelled> {
    let bbox = BBox {
        x1: 0.0,
        y1: 0.0,
        x2: 1.0,
        y2: 1.0,
    };
    let image = Arc::new(Image::new(1, 1, vec![0; 3]).unwrap());
    let label = |second| {
        let frame = Frame::new(
            second,
            Duration::from_secs(second),
            image.clone(),
            vec![bbox],
        );
        let sample = Sample {
            at: second as f64,
            taken_at: second,
            frame,
            answer: None,
            burst: false,
        };
        Labelled::new(sample, vec![object(class, bbox)])
    };
    (from..from + 40).map(label).collect()
}

fn work() -> Work {
    let device = Device::new("cpu", 1);
    let job = device.job_with("learning", Share::WHOLE).unwrap();
    Work::new(Arc::new(Turn::new(Arc::new(job))), Arc::default())
}

fn learner() -> Learner {
    let beginning = Beginning {
        stream: "street".to_owned(),
        student: Box::new(Always(0)),
        known_classes: 2,
        kept: Vec::new(),
    };
    Learner::new(
        beginning,
        Metric::Accuracy,
        LearningConfig::default(),
        InferenceConfig::default(),
        Arc::default(),
        1,
    )
}

/// What a look back at the promotion finds with new labels of `class`.
fn take_in(learner: &mut Learner, from: u64, class: usize) -> Option<ekya::learn::RolledBack> {
    let order = Prepare {
        labelled: labels(from, class),
        evaluate: false,
        profile: None,
        measure_inference: false,
        seed: 1,
    };
    learner.prepare(order, &mut work()).unwrap().rolled_back
}

fn answer(student: &dyn Student) -> usize {
    let one = &labels(0, 0)[0].frame;
    student.infer(&one.image, &one.regions, 1.0).unwrap()[0].class
}

/// A learner whose student was promoted for saying class 1.
fn promoted() -> Learner {
    let mut learner = learner();
    assert!(
        take_in(&mut learner, 0, 1).is_none(),
        "nothing to go back to"
    );
    let newest = Mutex::default();
    let outcome = learner
        .retrain(0, &newest, 1, None, &mut work(), |_| {})
        .unwrap();
    assert!(outcome.promoted.is_some(), "{:?}", outcome.verdict);
    assert_eq!(answer(learner.student()), 1);
    learner
}

#[test]
fn a_promotion_that_later_labels_refute_is_taken_back() {
    let mut learner = promoted();
    let mut rolled_back = None;
    // What the gate saw counts, too: a round or some must outweigh it.
    for round in 1..=3 {
        rolled_back = rolled_back.or(take_in(&mut learner, round * 40, 0));
    }
    let rolled_back = rolled_back.expect("the student before is right, the promoted one is not");
    assert_eq!(answer(&*rolled_back.student), 0);
    assert_eq!(answer(learner.student()), 0);
    let verdict = rolled_back.verdict;
    assert!(
        verdict.candidate < verdict.serving && verdict.chance < 0.5,
        "{verdict:?}"
    );
    assert!(
        take_in(&mut learner, 160, 1).is_none(),
        "it is taken back once"
    );
}

#[test]
fn a_promotion_that_later_labels_confirm_stays() {
    let mut learner = promoted();
    for round in 1..=3 {
        assert!(take_in(&mut learner, round * 40, 1).is_none());
    }
    assert_eq!(answer(learner.student()), 1);
}
