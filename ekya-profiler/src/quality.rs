//! How good predictions were, once the truth is known.
//!
//! What a profiler is for is choosing, so besides errors there are the ranks that it gave and what
//! choosing by it lost, both within a stream and window, where its choices are made.

use std::collections::BTreeMap;

use crate::Estimate;

/// A prediction and what came of it. `G` tells streams and windows apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged<G> {
    /// The stream and window.
    pub group: G,
    /// Accuracy predicted.
    pub predicted: Estimate,
    /// Accuracy reached.
    pub truth: f64,
}

impl<G> Judged<G> {
    fn error(&self) -> f64 {
        (self.predicted.mean - self.truth).abs()
    }

    /// The level of the narrowest interval about the prediction that holds the truth: 0.8 where the
    /// truth is at an end of the 80 % interval. Levels of calibrated predictions are uniform.
    #[must_use]
    pub fn level(&self) -> f64 {
        1.0 - 2.0
            * self
                .predicted
                .chance_above(self.predicted.mean + self.error())
    }
}

/// What there is to say of many predictions. Errors are accuracies: 0.01 is a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// How many.
    pub count: usize,
    /// Median of the absolute errors.
    pub median_error: f64,
    /// Mean of the absolute errors.
    pub mean_error: f64,
    /// Spearman's rank correlation of prediction and truth, mean over groups; those in which all
    /// truths or all predictions are equal have no ranks and are left out.
    pub spearman: f64,
    /// What the configuration predicted best falls short of the truly best one by, mean over
    /// groups.
    pub regret: f64,
    /// Part of the truths that lie in their 80 % intervals.
    pub coverage: f64,
}

impl Quality {
    /// Of some predictions; `None` of none.
    #[must_use]
    pub fn of<G: Ord + Clone>(judged: &[Judged<G>]) -> Option<Self> {
        let mut groups: BTreeMap<G, Vec<&Judged<G>>> = BTreeMap::new();
        for one in judged {
            groups.entry(one.group.clone()).or_default().push(one);
        }
        let error = |one: &Judged<G>| one.error();
        let inside = |one: &&Judged<G>| {
            let (low, high) = one.predicted.interval();
            (low..=high).contains(&one.truth)
        };
        let ranked: Vec<f64> = groups.values().filter_map(|group| ranks(group)).collect();
        let regrets: Vec<f64> = groups.values().map(|group| regret(group)).collect();
        Some(Self {
            count: judged.len(),
            median_error: median(judged.iter().map(error).collect())?,
            mean_error: mean(&judged.iter().map(error).collect::<Vec<_>>())?,
            spearman: mean(&ranked).unwrap_or(0.0),
            regret: mean(&regrets)?,
            coverage: judged.iter().filter(inside).count() as f64 / judged.len() as f64,
        })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The middle of some values, between the two middle ones of an even number; `None` of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    Some(if values.len().is_multiple_of(2) {
        f64::midpoint(values[half - 1], upper)
    } else {
        upper
    })
}

fn ranks<G>(group: &[&Judged<G>]) -> Option<f64> {
    let predicted: Vec<f64> = group.iter().map(|one| one.predicted.mean).collect();
    let truth: Vec<f64> = group.iter().map(|one| one.truth).collect();
    spearman(&predicted, &truth)
}

/// Spearman's rank correlation, equal values sharing their mean rank; `None` where one side is all
/// equal.
#[must_use]
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks_of(a), ranks_of(b));
    let (mean_a, mean_b) = (mean(&a)?, mean(&b)?);
    let (mut products, mut squares_a, mut squares_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        let (a, b) = (a - mean_a, b - mean_b);
        products += a * b;
        squares_a += a * a;
        squares_b += b * b;
    }
    let scale = (squares_a * squares_b).sqrt();
    (scale > 0.0).then(|| products / scale)
}

fn ranks_of(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

fn regret<G>(group: &[&Judged<G>]) -> f64 {
    let best = group
        .iter()
        .map(|one| one.truth)
        .fold(f64::NEG_INFINITY, f64::max);
    let chosen = group
        .iter()
        .max_by(|a, b| a.predicted.mean.total_cmp(&b.predicted.mean));
    chosen.map_or(0.0, |chosen| best - chosen.truth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(group: u32, predicted: f64, truth: f64) -> Judged<u32> {
        Judged {
            group,
            predicted: Estimate {
                mean: predicted,
                sd: 0.1,
            },
            truth,
        }
    }

    #[test]
    fn by_hand() {
        let all = [
            judged(1, 0.5, 0.55),
            judged(1, 0.6, 0.9),
            judged(1, 0.7, 0.75),
            judged(2, 0.5, 0.5),
        ];
        let quality = Quality::of(&all).unwrap();
        assert_eq!(quality.count, 4);
        assert!((quality.median_error - 0.05).abs() < 1e-12);
        assert!((quality.mean_error - 0.1).abs() < 1e-12);
        assert!((quality.spearman - 0.5).abs() < 1e-12);
        assert!((quality.regret - 0.075).abs() < 1e-12);
        assert!((quality.coverage - 0.75).abs() < 1e-12);
        assert_eq!(Quality::of::<u32>(&[]), None);
    }

    #[test]
    fn levels_are_those_of_the_intervals() {
        let (_, high) = judged(1, 0.5, 0.0).predicted.interval();
        assert!((judged(1, 0.5, high).level() - 0.8).abs() < 1e-3);
        assert!(judged(1, 0.5, 0.5).level().abs() < 1e-9);
    }

    /// Kendall and Gibbons' way with ties: ranks 1.5, 1.5, 3 against 1, 2, 3.
    #[test]
    fn ties_share_their_rank() {
        let rho = spearman(&[0.1, 0.1, 0.3], &[1.0, 2.0, 3.0]).unwrap();
        assert!((rho - 0.75_f64.sqrt()).abs() < 1e-12, "{rho}");
        assert_eq!(spearman(&[0.1, 0.1], &[1.0, 2.0]), None);
    }
}
