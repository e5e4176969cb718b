//! A retraining as the regression sees it: who, when, how, and from where.

use ekya_sched::RetrainingConfig;
use serde::{Deserialize, Serialize};

/// How far two configurations are apart that have nothing but their names, in the unit of the
/// others' distances: as far as the cheapest of a usual list from the costliest.
const APART: f64 = 2.0;

/// A retraining whose gain is known or wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Name of the stream.
    pub stream: String,
    /// What the retrainings of a stream that start alike have in common: the number of the window,
    /// or of the round.
    pub occasion: u64,
    /// What is trained how.
    pub config: Features,
    /// Accuracy of the serving student, in 0..=1.
    pub start_accuracy: f64,
}

impl Point {
    /// The error that there is to remove.
    #[must_use]
    pub fn error(&self) -> f64 {
        1.0 - self.start_accuracy
    }
}

/// A retraining configuration as a place in space: the nearer two are, the more alike are their
/// gains taken to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Features(Vec<f64>);

impl Features {
    /// The place of the `index`-th of some configurations of which nothing but the names are known:
    /// each is as far from every other.
    #[must_use]
    pub fn nameless(index: usize) -> Self {
        let mut place = vec![0.0; index + 1];
        place[index] = APART / std::f64::consts::SQRT_2;
        Self(place)
    }

    /// Squared distance; a place with fewer coordinates has zeros for the others.
    #[must_use]
    pub fn squared_distance(&self, other: &Self) -> f64 {
        let length = self.0.len().max(other.0.len());
        let at = |place: &Self, i: usize| place.0.get(i).copied().unwrap_or(0.0);
        (0..length)
            .map(|i| (at(self, i) - at(other, i)).powi(2))
            .sum()
    }
}

impl From<&RetrainingConfig> for Features {
    /// Amounts by their logarithms, each divided by how much it has to change to matter as much as
    /// tripling the epochs.
    fn from(config: &RetrainingConfig) -> Self {
        let log = |value: f64| value.max(1e-9).ln();
        // A head alone learns otherwise than any part of the network does.
        let head_only = config.layers_frozen >= HEAD_ONLY;
        let frozen = config.layers_frozen.min(HEAD_ONLY) as f64;
        Self(vec![
            log(config.epochs as f64),
            log(config.data_fraction) / 1.4,
            log(config.head_width.max(1) as f64) / 4.0,
            if head_only { 1.4 } else { 0.0 },
            log(1.0 + frozen) / 2.0,
            log(config.learning_rate) / 1.4,
            log(config.batch_size as f64) / 2.0,
        ])
    }
}

/// No student has more blocks than this before its head.
const HEAD_ONLY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(epochs: usize, layers_frozen: usize) -> Features {
        Features::from(&RetrainingConfig {
            epochs,
            layers_frozen,
            ..RetrainingConfig::default()
        })
    }

    #[test]
    fn likes_are_near_and_differences_add_up() {
        let from = config(10, 0);
        assert_eq!(from.squared_distance(&from), 0.0);
        let near = from.squared_distance(&config(12, 0));
        let far = from.squared_distance(&config(30, 0));
        let farther = from.squared_distance(&config(30, usize::MAX));
        assert!(near < 0.1 && near < far && far < farther);
    }

    #[test]
    fn nameless_ones_are_equally_far_apart() {
        let [a, b, c] = [0, 1, 5].map(Features::nameless);
        assert!((a.squared_distance(&b) - 4.0).abs() < 1e-12);
        assert!((a.squared_distance(&c) - 4.0).abs() < 1e-12);
    }

    #[test]
    fn senseless_configurations_have_a_place_too() {
        let nothing = RetrainingConfig {
            epochs: 0,
            batch_size: 0,
            data_fraction: 0.0,
            learning_rate: 0.0,
            ..RetrainingConfig::default()
        };
        let distance = Features::from(&nothing).squared_distance(&config(10, 0));
        assert!(distance.is_finite());
    }
}
