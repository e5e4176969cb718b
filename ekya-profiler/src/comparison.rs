//! Whether a candidate is better than the student that serves, from how both scored on the same
//! held-out frames.
//!
//! Neighbouring frames show the same objects, so scores are correlated: the variance of their mean
//! is estimated with the first autocovariances, weighed as by Newey and West (1987), and not as if
//! each frame were news. With few frames that estimate is poor, so it is drawn towards what such
//! differences usually scatter by.
//!
//! What was expected of the retraining beforehand counts as much as its certainty allows: with
//! expectation and measurement both normal, the gain's distribution after both is too, and the
//! candidate is better with the chance that lies above 0.

use std::collections::BTreeMap;

use crate::Estimate;

/// Variance of the difference between two students' scores on one frame, usually.
const USUAL_VARIANCE: f64 = 0.1;

/// With how many frames' weight the estimate is drawn to the usual.
const USUAL_FRAMES: f64 = 8.0;

/// Mean of scores, or of differences of scores, in order of time, with its standard deviation;
/// `None` of none.
#[must_use]
pub fn mean_of_series(scores: &[f64]) -> Option<Estimate> {
    let n = scores.len();
    if n == 0 {
        return None;
    }
    let mean = scores.iter().sum::<f64>() / n as f64;
    let covariance = |lag: usize| -> f64 {
        let pairs = scores.iter().zip(&scores[lag..]);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n as f64
    };
    // Frames up to this far apart may show the same objects.
    let lags = (n as f64).sqrt().ceil() as usize;
    let correlated: f64 = (1..lags.min(n))
        .map(|lag| 2.0 * (1.0 - lag as f64 / lags as f64) * covariance(lag))
        .sum();
    let long_run = (covariance(0) + correlated).max(0.0);
    let weight = n as f64 + USUAL_FRAMES;
    let variance = (n as f64 * long_run + USUAL_FRAMES * USUAL_VARIANCE) / weight;
    Some(Estimate {
        mean,
        sd: (variance / n as f64).sqrt(),
    })
}

/// How two students did on the same frames.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// Scores of the serving student and of the candidate, frame by frame, in order of time.
    scores: Vec<(f64, f64)>,
    /// By class.
    classes: BTreeMap<usize, ClassScores>,
}

/// How two students did on the objects of a class.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct ClassScores {
    objects: f64,
    serving: f64,
    candidate: f64,
    /// Objects that only one of them had right.
    disputed: f64,
}

/// What a candidate must pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The least chance of being better, in 0.5..1.
    pub confidence: f64,
    /// What no class may lose, in accuracy.
    pub class_margin: f64,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Held-out frames with anything to score.
    pub frames: usize,
    /// Mean score of the serving student on them.
    pub serving: f64,
    /// Mean score of the candidate.
    pub candidate: f64,
    /// How much better the candidate measured, and how uncertain that is.
    pub measured: Estimate,
    /// Its gain as measured and expected together.
    pub gain: Estimate,
    /// The chance that it is better.
    pub chance: f64,
    /// Why it is not to serve; `None` when it is.
    pub refusal: Option<Refusal>,
}

/// Why a candidate is not to serve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refusal {
    /// It did not score higher.
    NotBetter,
    /// It scored higher, but not by enough to be better with the confidence asked for.
    NotProven,
    /// A class lost more than it may.
    ClassLost {
        /// Its index.
        class: usize,
        /// How much, in accuracy.
        loss: f64,
    },
}

impl Comparison {
    /// Adds a frame's scores, each in 0..=1.
    pub fn add(&mut self, serving: f64, candidate: f64) {
        self.scores.push((serving, candidate));
    }

    /// Adds an object of a class, and who had it right.
    pub fn add_object(&mut self, class: usize, serving: bool, candidate: bool) {
        let scores = self.classes.entry(class).or_default();
        scores.objects += 1.0;
        scores.serving += f64::from(u8::from(serving));
        scores.candidate += f64::from(u8::from(candidate));
        scores.disputed += f64::from(u8::from(serving != candidate));
    }

    /// Frames added.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.scores.len()
    }

    /// Whether the candidate is to serve, given what was `expected` of its gain beforehand. `None`
    /// when there is nothing to compare on.
    #[must_use]
    pub fn verdict(&self, expected: Option<Estimate>, rule: &Rule) -> Option<Verdict> {
        let differences: Vec<f64> = self.scores.iter().map(|(s, c)| c - s).collect();
        let measured = mean_of_series(&differences)?;
        let gain = expected.map_or(measured, |expected| expected.combine(measured));
        let chance = gain.chance_above(0.0);
        let frames = self.scores.len();
        let mean =
            |of: fn(&(f64, f64)) -> f64| self.scores.iter().map(of).sum::<f64>() / frames as f64;
        Some(Verdict {
            frames,
            serving: mean(|scores| scores.0),
            candidate: mean(|scores| scores.1),
            measured,
            gain,
            chance,
            refusal: self.refusal(measured, chance, rule),
        })
    }

    fn refusal(&self, measured: Estimate, chance: f64, rule: &Rule) -> Option<Refusal> {
        if measured.mean <= 0.0 {
            return Some(Refusal::NotBetter);
        }
        if chance < rule.confidence {
            return Some(Refusal::NotProven);
        }
        let lost = |(&class, scores): (&usize, &ClassScores)| {
            let (loss, sd) = scores.loss();
            let beyond = loss - sd > rule.class_margin;
            beyond.then_some(Refusal::ClassLost { class, loss })
        };
        self.classes.iter().find_map(lost)
    }
}

impl ClassScores {
    /// Accuracy lost, and the standard deviation of measuring it, as if there were two more objects
    /// on which the two agree: one object more or less proves nothing.
    fn loss(&self) -> (f64, f64) {
        let objects = self.objects + 2.0;
        let loss = (self.serving - self.candidate) / objects;
        let differ = (self.disputed + 1.0) / objects;
        (loss, (differ / objects).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = Rule {
        confidence: 0.8,
        class_margin: 0.1,
    };

    fn comparison(differences: &[f64]) -> Comparison {
        let mut comparison = Comparison::default();
        for difference in differences {
            comparison.add(0.5, 0.5 + difference);
        }
        comparison
    }

    #[test]
    fn repeated_frames_are_no_news() {
        let alternating: Vec<f64> = (0..64).map(|i| f64::from(i % 2)).collect();
        let in_runs: Vec<f64> = (0..64).map(|i| f64::from(i / 16 % 2)).collect();
        let sd = |scores: &[f64]| mean_of_series(scores).unwrap().sd;
        assert!(sd(&in_runs) > 2.0 * sd(&alternating));
        assert_eq!(mean_of_series(&[]), None);
    }

    /// Three scores, lags 1 of weight one half: by hand.
    #[test]
    fn agrees_with_the_formula() {
        let mean = mean_of_series(&[0.0, 0.0, 0.9]).unwrap();
        let (own, next) = (0.54 / 3.0, (0.09 - 0.18) / 3.0);
        let variance = (3.0 * (own + next) + 0.8) / 11.0 / 3.0;
        assert!((mean.mean - 0.3).abs() < 1e-12);
        assert!((mean.sd - f64::sqrt(variance)).abs() < 1e-12);
    }

    #[test]
    fn better_on_many_frames_is_proven_and_on_few_it_is_not() {
        let verdict = |frames: usize| {
            let differences: Vec<f64> = (0..frames).map(|i| [0.5, -0.2][i % 2]).collect();
            comparison(&differences).verdict(None, &RULE).unwrap()
        };
        assert_eq!(verdict(100).refusal, None);
        assert_eq!(verdict(2).refusal, Some(Refusal::NotProven));
        assert!(verdict(100).chance > verdict(2).chance);
    }

    #[test]
    fn a_tie_keeps_the_serving_student_whatever_was_expected() {
        let expected = Some(Estimate {
            mean: 0.3,
            sd: 0.01,
        });
        let verdict = comparison(&[0.0; 50]).verdict(expected, &RULE).unwrap();
        assert_eq!(verdict.refusal, Some(Refusal::NotBetter));
        assert_eq!(Comparison::default().verdict(expected, &RULE), None);
    }

    #[test]
    fn what_was_expected_decides_where_frames_are_few() {
        let few = comparison(&[0.2, 0.0, 0.0]);
        let chance = |mean| {
            let expected = Some(Estimate { mean, sd: 0.05 });
            few.verdict(expected, &RULE).unwrap().chance
        };
        assert!(chance(0.1) > 0.9 && chance(-0.1) < 0.5);
    }

    #[test]
    fn a_lost_class_is_seen_among_gains() {
        let mut better = comparison(&[0.3; 60]);
        for _ in 0..20 {
            better.add_object(0, false, true);
            better.add_object(1, true, false);
        }
        let refusal = better.verdict(None, &RULE).unwrap().refusal;
        assert!(
            matches!(refusal, Some(Refusal::ClassLost { class: 1, loss }) if loss > 0.9),
            "{refusal:?}"
        );
    }

    #[test]
    fn one_object_lost_proves_nothing() {
        let mut better = comparison(&[0.3; 60]);
        better.add_object(1, true, false);
        assert_eq!(better.verdict(None, &RULE).unwrap().refusal, None);
    }

    proptest! {
        #[test]
        fn students_changed_over_change_the_sign(
            scores in prop::collection::vec((0.0..=1.0_f64, 0.0..=1.0_f64), 1..40),
        ) {
            let [mut forth, mut back] = [Comparison::default(), Comparison::default()];
            for (a, b) in scores {
                forth.add(a, b);
                back.add(b, a);
            }
            let forth = forth.verdict(None, &RULE).unwrap();
            let back = back.verdict(None, &RULE).unwrap();
            prop_assert!((forth.measured.mean + back.measured.mean).abs() < 1e-9);
            prop_assert!((forth.chance + back.chance - 1.0).abs() < 1e-3);
            prop_assert!(!(forth.refusal.is_none() && back.refusal.is_none()));
        }
    }
}
