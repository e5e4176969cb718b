//! Retrainings that must not be promoted: faults of kinds that nobody announces.

use std::collections::BTreeMap;

use ekya::learn::Labelled;
use ekya_models::{Example, Object};
use ekya_sched::RetrainingConfig;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// What is wrong with a retraining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Nothing.
    Sound,
    /// Every object has the class of another one.
    ShuffledLabels,
    /// The class that is most frequent now is in no picture to train on.
    ClassMissing,
    /// The learning rate is a hundred times what was meant.
    RateTooHigh,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [
        Self::Sound,
        Self::ShuffledLabels,
        Self::ClassMissing,
        Self::RateTooHigh,
    ];

    pub(crate) const SPOILT: [Self; 3] =
        [Self::ShuffledLabels, Self::ClassMissing, Self::RateTooHigh];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::ShuffledLabels => "labels shuffled",
            Self::ClassMissing => "class missing",
            Self::RateTooHigh => "rate x 100",
        }
    }

    /// Spoils what a retraining is given; `recent` says which class is frequent now.
    pub(crate) fn spoil(
        self,
        examples: &mut Vec<Example>,
        config: &mut RetrainingConfig,
        recent: &[Labelled],
        rng: &mut ChaCha8Rng,
    ) {
        match self {
            Self::Sound => {}
            Self::ShuffledLabels => shuffle(examples, rng),
            Self::ClassMissing => {
                if let Some(class) = most_frequent(recent) {
                    leave_out(examples, class);
                }
            }
            Self::RateTooHigh => config.learning_rate *= 100.0,
        }
    }
}

fn shuffle(examples: &mut [Example], rng: &mut ChaCha8Rng) {
    let mut classes: Vec<usize> = objects(examples).map(|object| object.class).collect();
    classes.shuffle(rng);
    for (object, class) in objects(examples).zip(classes) {
        object.class = class;
    }
}

fn objects(examples: &mut [Example]) -> impl Iterator<Item = &mut Object> {
    examples.iter_mut().flat_map(|example| &mut example.objects)
}

fn most_frequent(recent: &[Labelled]) -> Option<usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for object in recent.iter().flat_map(|one| &one.labels) {
        *counts.entry(object.class).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(class, _)| class)
}

fn leave_out(examples: &mut Vec<Example>, class: usize) {
    for example in examples.iter_mut() {
        example.objects.retain(|object| object.class != class);
    }
    examples.retain(|example| !example.objects.is_empty());
}
