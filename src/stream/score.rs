//! How right answers are, frame by frame and over time.

use std::collections::BTreeMap;

use ekya_models::{Object, f1_at, matched_accuracy, right_answer};
use serde::{Deserialize, Serialize};

use crate::record::AccuracyPoint;

/// How a frame is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Fraction of objects named rightly (classification).
    Accuracy,
    /// F1 at IoU 0.3 (detection).
    F1,
}

impl Metric {
    /// Score of `answers` against `truth`, 0..=1; `None` for a frame with nothing to score.
    #[must_use]
    pub fn score(self, truth: &[Object], answers: &[Object]) -> Option<f64> {
        match self {
            Self::Accuracy => matched_accuracy(truth, answers),
            Self::F1 => f1_at(truth, answers),
        }
    }

    /// As [`Metric::score`], but where single answers are scored, each right one counts with the
    /// score in 0..=1 that it was given: how right a student is likely to be on frames that differ a
    /// little, on which what it was hardly sure of may turn either way.
    #[must_use]
    pub fn credit(self, truth: &[Object], answers: &[Object]) -> Option<f64> {
        match self {
            Self::Accuracy if truth.is_empty() => None,
            Self::Accuracy => {
                let right = truth.iter().filter_map(|one| right_answer(one, answers));
                let credit: f64 = right.map(|answer| f64::from(answer.score)).sum();
                Some(credit / truth.len() as f64)
            }
            Self::F1 => self.score(truth, answers),
        }
    }
}

/// Mean scores by second.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    seconds: BTreeMap<u64, Mean>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Timeline {
    /// Adds a score at `at` seconds from the start of the run.
    pub fn add(&mut self, at: f64, score: f64) {
        // Saturates for negative times, which no clock here gives.
        let mean = self.seconds.entry(at as u64).or_default();
        mean.sum += score;
        mean.count += 1;
    }

    /// Mean of all scores.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.seconds.values().map(|mean| mean.sum).sum();
        let count: u64 = self.seconds.values().map(|mean| mean.count).sum();
        (count > 0).then(|| sum / count as f64)
    }

    /// One point a second that holds scores.
    #[must_use]
    pub fn points(&self) -> Vec<AccuracyPoint> {
        self.seconds.iter().map(point).collect()
    }

    /// The newest such point to which nothing comes any more.
    #[must_use]
    pub fn last_whole(&self) -> Option<AccuracyPoint> {
        self.seconds.iter().rev().nth(1).map(point)
    }
}

fn point((second, mean): (&u64, &Mean)) -> AccuracyPoint {
    AccuracyPoint {
        at: *second as f64,
        accuracy: mean.sum / mean.count as f64,
        frames: mean.count,
    }
}

#[cfg(test)]
mod tests {
    use ekya_models::BBox;

    use super::*;

    #[test]
    fn credit_is_what_right_answers_were_sure_of() {
        let object = |left: f32, class, score| Object {
            class,
            score,
            bbox: BBox {
                x1: left,
                y1: 0.0,
                x2: left + 1.0,
                y2: 1.0,
            },
        };
        let truth = [object(0.0, 1, 1.0), object(5.0, 2, 1.0)];
        let answers = [object(0.0, 1, 0.5), object(5.0, 3, 0.9)];
        assert_eq!(Metric::Accuracy.credit(&truth, &answers), Some(0.25));
        assert_eq!(Metric::Accuracy.score(&truth, &answers), Some(0.5));
        assert_eq!(Metric::Accuracy.credit(&[], &answers), None);
        for (truth, answers) in [(&truth[..], &answers[..]), (&[], &[])] {
            let f1 = Metric::F1;
            assert_eq!(f1.credit(truth, answers), f1.score(truth, answers));
        }
    }

    #[test]
    fn mean_weighs_frames_not_seconds() {
        let mut timeline = Timeline::default();
        for (at, score) in [(0.1, 1.0), (0.2, 1.0), (0.9, 1.0), (1.5, 0.0)] {
            timeline.add(at, score);
        }
        assert_eq!(timeline.mean(), Some(0.75));
        assert_eq!(timeline.points().len(), 2);
        assert_eq!(timeline.points()[0].frames, 3);
    }
}
