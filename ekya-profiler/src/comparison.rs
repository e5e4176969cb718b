//! Whether a candidate is better than the student that serves, from how both scored on the same
//! held-out frames.
//!
//! Neighbouring frames show the same objects, so scores are correlated: the variance of their mean
//! is estimated with the first autocovariances, weighed as by Newey and West (1987), and not as if
//! each frame were news. With few frames that estimate is poor, so it is drawn towards what such
//! differences usually scatter by.
//!
//! What is compared is credit: a right answer counts by how sure it was. Of two students that are
//! right as often, the one that is surer where it is right errs less on the frames that come, and
//! credits scatter less than scores, which say either yes or no: of the students that are truly two
//! points better, a tenth score no higher on 48 frames but get more credit.
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

/// Standard deviations by which a class's loss on held-out frames must be beyond its margin. Of many
/// classes some measure low by chance: with one, a tenth of the students that were truly two points
/// better were refused for a class.
const HELD_OUT_DOUBT: f64 = 2.0;

/// The same on frames that both students were trained on, where a class is not lost by chance.
const REMEMBERED_DOUBT: f64 = 1.0;

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
    /// The serving student and the candidate, frame by frame, in order of time.
    frames: Vec<(Graded, Graded)>,
    /// By class.
    classes: BTreeMap<usize, ClassScores>,
}

/// What a student's answers to a frame are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Graded {
    /// How right they are, in 0..=1.
    pub score: f64,
    /// The same, with right answers counted by how sure they are; at most the score.
    pub credit: f64,
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
    /// How much more credit the candidate got, and how uncertain that is as its gain.
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
    /// It did not get more credit.
    NotBetter,
    /// It did better, but not by enough to be better with the confidence asked for.
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
    /// Adds a frame.
    pub fn add(&mut self, serving: Graded, candidate: Graded) {
        self.frames.push((serving, candidate));
    }

    /// Adds an object of a class, and who had it right.
    pub fn add_object(&mut self, class: usize, serving: bool, candidate: bool) {
        let scores = self.classes.entry(class).or_default();
        scores.objects += 1.0;
        scores.serving += f64::from(u8::from(serving));
        scores.candidate += f64::from(u8::from(candidate));
        scores.disputed += f64::from(u8::from(serving != candidate));
    }

    /// Whether the candidate is to serve, given what was `expected` of its gain beforehand. `None`
    /// when there is nothing to compare on.
    #[must_use]
    pub fn verdict(&self, expected: Option<Estimate>, rule: &Rule) -> Option<Verdict> {
        let differences = self.frames.iter().map(|(s, c)| c.credit - s.credit);
        let measured = mean_of_series(&differences.collect::<Vec<_>>())?;
        let gain = expected.map_or(measured, |expected| expected.combine(measured));
        let count = self.frames.len() as f64;
        let mut verdict = Verdict {
            frames: self.frames.len(),
            serving: self.frames.iter().map(|(s, _)| s.score).sum::<f64>() / count,
            candidate: self.frames.iter().map(|(_, c)| c.score).sum::<f64>() / count,
            measured,
            gain,
            chance: gain.chance_above(0.0),
            refusal: None,
        };
        verdict.refusal = self.refusal(&verdict, rule);
        Some(verdict)
    }

    /// Why a candidate is not to serve for how it does on objects that it was trained on, as the
    /// serving student was: one that has unlearnt a class is no better for what it does on others.
    #[must_use]
    pub fn unlearnt(&self, rule: &Rule) -> Option<Refusal> {
        self.lost_class(rule.class_margin, REMEMBERED_DOUBT)
    }

    fn refusal(&self, verdict: &Verdict, rule: &Rule) -> Option<Refusal> {
        if verdict.measured.mean <= 0.0 {
            return Some(Refusal::NotBetter);
        }
        if verdict.chance < rule.confidence {
            return Some(Refusal::NotProven);
        }
        self.lost_class(rule.class_margin, HELD_OUT_DOUBT)
    }

    /// A class that has lost more than the margin, by so many standard deviations.
    fn lost_class(&self, margin: f64, doubt: f64) -> Option<Refusal> {
        let lost = |(&class, scores): (&usize, &ClassScores)| {
            let (loss, sd) = scores.loss();
            let beyond = loss - doubt * sd > margin;
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

    fn sure(score: f64) -> Graded {
        let credit = score;
        Graded { score, credit }
    }

    fn comparison(differences: &[f64]) -> Comparison {
        let mut comparison = Comparison::default();
        for difference in differences {
            comparison.add(sure(0.5), sure(0.5 + difference));
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
    fn sure_answers_prove_more_than_doubtful_ones_and_scores_alone_nothing() {
        let verdict = |credits: [f64; 2], scores: [f64; 2]| {
            let mut comparison = Comparison::default();
            for _ in 0..20 {
                let [serving, candidate] = [0, 1].map(|who| Graded {
                    score: scores[who],
                    credit: credits[who],
                });
                comparison.add(serving, candidate);
            }
            comparison.verdict(None, &RULE).unwrap()
        };
        let [doubtful, sure] = [0.27, 0.5].map(|credit| verdict([0.25, credit], [0.5, 0.75]));
        assert!(sure.refusal.is_none() && sure.chance > doubtful.chance);
        assert_eq!((sure.serving, sure.candidate), (0.5, 0.75));
        assert_eq!(doubtful.refusal, Some(Refusal::NotProven));
        assert_eq!(verdict([0.25, 0.5], [0.5, 0.5]).refusal, None);
        let refusal = verdict([0.25, 0.25], [0.5, 0.75]).refusal;
        assert_eq!(refusal, Some(Refusal::NotBetter));
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
    fn a_class_unlearnt_is_seen_where_chance_would_be_an_excuse_on_new_frames() {
        let mut better = comparison(&[0.3; 60]);
        for _ in 0..6 {
            better.add_object(1, true, true);
        }
        for _ in 0..4 {
            better.add_object(1, true, false);
        }
        assert_eq!(better.verdict(None, &RULE).unwrap().refusal, None);
        let unlearnt = better.unlearnt(&RULE);
        assert!(
            matches!(unlearnt, Some(Refusal::ClassLost { class: 1, .. })),
            "{unlearnt:?}"
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
                forth.add(sure(a), sure(b));
                back.add(sure(b), sure(a));
            }
            let forth = forth.verdict(None, &RULE).unwrap();
            let back = back.verdict(None, &RULE).unwrap();
            prop_assert!((forth.measured.mean + back.measured.mean).abs() < 1e-9);
            prop_assert!((forth.chance + back.chance - 1.0).abs() < 1e-3);
            prop_assert!(!(forth.refusal.is_none() && back.refusal.is_none()));
        }
    }
}
