//! Gaussian-process regression: what gains to expect, given some that were observed.
//!
//! Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), algorithm 2.1. With `n`
//! observations it costs `n³/6` multiply-adds once and `n²` for each prediction, so the caller bounds
//! `n`.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use crate::kernel::PRIOR_GAIN;
use crate::{Estimate, Kernel, Point};

/// A gain that was observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Of which retraining.
    pub point: Point,
    /// The gain.
    pub gain: f64,
    /// Variance of the errors of measuring, at least 0; that of chance comes on top.
    pub variance: f64,
}

/// What some observations say of all other retrainings.
#[derive(Debug)]
pub struct Posterior {
    kernel: Kernel,
    points: Vec<Point>,
    factor: Cholesky<f64, Dyn>,
    /// The inverse covariance times what the gains differ from the expected ones by.
    weights: DVector<f64>,
    ln_likelihood: f64,
}

impl Posterior {
    /// Takes the observations in. `None` when they contradict each other beyond what numbers can
    /// express (variances that are not above 0, values that are none).
    #[must_use]
    pub fn new(kernel: &Kernel, observations: &[Observation]) -> Option<Self> {
        let n = observations.len();
        let covariance = DMatrix::from_fn(n, n, |i, j| {
            let (a, b) = (&observations[i], &observations[j]);
            let own = if i == j {
                a.variance + kernel.noise
            } else {
                0.0
            };
            kernel.covariance(&a.point, &b.point) + own
        });
        let factor = Cholesky::new(covariance)?;
        let surprise = |o: &Observation| o.gain - expected(&o.point);
        let surprises = DVector::from_iterator(n, observations.iter().map(surprise));
        let weights = factor.solve(&surprises);
        let ln_determinant: f64 = factor.l_dirty().diagonal().iter().map(|d| d.ln()).sum();
        let ln_likelihood = -0.5 * surprises.dot(&weights) - ln_determinant;
        ln_likelihood.is_finite().then(|| Self {
            kernel: *kernel,
            points: observations.iter().map(|o| o.point.clone()).collect(),
            factor,
            weights,
            ln_likelihood,
        })
    }

    /// What is expected of some retrainings, with what they have in common.
    #[must_use]
    pub fn joint(&self, points: &[Point]) -> Joint {
        let shared = DMatrix::from_fn(self.points.len(), points.len(), |i, j| {
            self.kernel.covariance(&self.points[i], &points[j])
        });
        let mut explained = shared.clone();
        // The factor's diagonal is above 0, so it can be solved for.
        let _ = self
            .factor
            .l_dirty()
            .solve_lower_triangular_mut(&mut explained);
        let mut joint = Joint::prior(&self.kernel, points);
        joint.mean += shared.tr_mul(&self.weights);
        joint.covariance -= explained.tr_mul(&explained);
        joint
    }

    /// Logarithm of the observations' likelihood, up to a constant that depends on their number
    /// only.
    #[must_use]
    pub const fn ln_likelihood(&self) -> f64 {
        self.ln_likelihood
    }
}

/// Gains of some retrainings, normally distributed.
#[derive(Debug, Clone)]
pub struct Joint {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
    noise: f64,
}

impl Joint {
    /// What is expected before anything is observed.
    #[must_use]
    pub fn prior(kernel: &Kernel, points: &[Point]) -> Self {
        let n = points.len();
        Self {
            mean: DVector::from_iterator(n, points.iter().map(expected)),
            covariance: DMatrix::from_fn(n, n, |i, j| kernel.covariance(&points[i], &points[j])),
            noise: kernel.noise,
        }
    }

    /// The gain of the `index`-th retraining, chance included.
    #[must_use]
    pub fn gain(&self, index: usize) -> Estimate {
        Estimate {
            mean: self.mean[index],
            // Rounding must not make a variance less than that of chance.
            sd: (self.covariance[(index, index)].max(0.0) + self.noise).sqrt(),
        }
    }

    /// Takes in an estimate of the `index`-th gain: the others follow as far as they have something
    /// in common with it.
    pub fn observe(&mut self, index: usize, estimate: Estimate) {
        let common = self.covariance.column(index).into_owned();
        let variance = common[index].max(0.0) + estimate.sd.powi(2);
        let surprise = estimate.mean - self.mean[index];
        if variance > 0.0 && surprise.is_finite() {
            self.mean.axpy(surprise / variance, &common, 1.0);
            self.covariance.ger(-1.0 / variance, &common, &common, 1.0);
        }
    }
}

/// The gain before any evidence.
fn expected(point: &Point) -> f64 {
    PRIOR_GAIN * point.error()
}

/// Most that a variance is raised or lowered by when it is fitted.
const FACTOR_MAX: f64 = 16.0;

/// Passes over all variances, at most.
const PASSES: usize = 6;

/// A part of a kernel that is fitted as one.
type Group = fn(&mut Kernel, f64);

/// Configurations, streams, occasions, chance: what is specific to data. The others only say that
/// little is known beforehand.
const GROUPS: [Group; 4] = [
    |kernel, factor| {
        kernel.config *= factor;
        kernel.config_error *= factor;
    },
    |kernel, factor| {
        kernel.stream *= factor;
        kernel.stream_config *= factor;
    },
    |kernel, factor| {
        kernel.occasion *= factor;
        kernel.occasion_config *= factor;
    },
    |kernel, factor| kernel.noise *= factor,
];

/// A kernel under which the observations are likelier: each group of its variances is doubled or
/// halved as long as that helps. Costs up to 48 times what [`Posterior::new`] costs.
#[must_use]
pub fn fitted(kernel: &Kernel, observations: &[Observation]) -> Kernel {
    let likelihood = |kernel: &Kernel| {
        Posterior::new(kernel, observations).map_or(f64::NEG_INFINITY, |p| p.ln_likelihood)
    };
    let mut best = (*kernel, likelihood(kernel));
    let mut factors = [1.0; GROUPS.len()];
    for _ in 0..PASSES {
        let before = best.1;
        for (group, so_far) in GROUPS.iter().zip(&mut factors) {
            for factor in [2.0, 0.5] {
                let mut next = best.0;
                group(&mut next, factor);
                let total = *so_far * factor;
                let allowed = (FACTOR_MAX.recip()..=FACTOR_MAX).contains(&total);
                let likely = if allowed { likelihood(&next) } else { best.1 };
                if likely > best.1 {
                    best = (next, likely);
                    *so_far = total;
                    break;
                }
            }
        }
        if best.1 <= before {
            break;
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Features;

    fn point(stream: &str, occasion: u64, config: usize, start_accuracy: f64) -> Point {
        Point {
            stream: stream.to_owned(),
            occasion,
            config: Features::nameless(config),
            start_accuracy,
        }
    }

    fn observed(point: Point, gain: f64) -> Observation {
        Observation {
            point,
            gain,
            variance: 0.0,
        }
    }

    #[test]
    fn nothing_observed_is_the_prior() {
        let posterior = Posterior::new(&Kernel::default(), &[]).unwrap();
        let gain = posterior.joint(&[point("a", 1, 0, 0.6)]).gain(0);
        assert!((gain.mean - 0.1).abs() < 1e-12);
        assert!(gain.sd > 0.1);
    }

    /// Two observations, solved by hand: with covariance c between all three, own variance c + n.
    #[test]
    fn agrees_with_the_formula_for_two() {
        let kernel = Kernel {
            everywhere: 0.04,
            error: 0.0,
            config: 0.0,
            config_error: 0.0,
            stream: 0.0,
            stream_config: 0.0,
            occasion: 0.0,
            occasion_config: 0.0,
            noise: 0.02,
        };
        let two = [
            observed(point("a", 1, 0, 1.0), 0.1),
            observed(point("b", 1, 1, 1.0), 0.3),
        ];
        let gain = Posterior::new(&kernel, &two)
            .unwrap()
            .joint(&[point("c", 1, 2, 1.0)])
            .gain(0);
        // weights 1/(2 + n/c) each: mean 0.4 / 2.5, latent variance c·n/(2c + n), plus n.
        assert!((gain.mean - 0.16).abs() < 1e-12, "{}", gain.mean);
        assert!((gain.sd.powi(2) - (0.008 / 0.1 * 0.1 + 0.02)).abs() < 1e-12);
    }

    /// Conditioning step by step, and on all at once, is the same.
    #[test]
    fn what_is_observed_later_counts_like_what_was_observed_before() {
        let wanted = [point("a", 1, 0, 0.6), point("a", 1, 1, 0.6)];
        let estimate = Estimate { mean: 0.3, sd: 0.1 };
        let kernel = Kernel::default();
        let mut later = Posterior::new(&kernel, &[]).unwrap().joint(&wanted);
        later.observe(1, estimate);
        let at_once = Observation {
            variance: 0.01 - kernel.noise,
            ..observed(wanted[1].clone(), 0.3)
        };
        let before = Posterior::new(&kernel, &[at_once]).unwrap().joint(&wanted);
        for index in [0, 1] {
            let (later, before) = (later.gain(index), before.gain(index));
            assert!((later.mean - before.mean).abs() < 1e-9);
            assert!((later.sd - before.sd).abs() < 1e-9);
        }
    }

    #[test]
    fn what_a_stream_has_shown_outweighs_the_others() {
        let mut seen: Vec<Observation> = (0..10)
            .map(|i| observed(point(&format!("other{i}"), 1, 0, 0.6), 0.2))
            .collect();
        for occasion in 0..4 {
            seen.push(observed(point("own", occasion, 0, 0.6), 0.05));
        }
        let posterior = Posterior::new(&Kernel::default(), &seen).unwrap();
        let own = posterior.joint(&[point("own", 9, 0, 0.6)]).gain(0).mean;
        let new = posterior.joint(&[point("new", 9, 0, 0.6)]).gain(0).mean;
        assert!(own < 0.12 && new > 0.15, "{own} {new}");
    }

    #[test]
    fn a_fit_makes_the_observations_likelier() {
        // They scatter with a variance of 0.0064, of which the default explains 0.002.
        let seen: Vec<Observation> = (0..40)
            .map(|i| observed(point("a", i, 0, 0.6), if i % 2 == 0 { 0.02 } else { 0.18 }))
            .collect();
        let fitted = fitted(&Kernel::default(), &seen);
        let likelihood = |kernel| Posterior::new(&kernel, &seen).unwrap().ln_likelihood();
        assert!(likelihood(fitted) > likelihood(Kernel::default()) + 10.0);
        assert!(fitted.noise + fitted.occasion + fitted.occasion_config > 2.0 * 0.002);
    }

    proptest! {
        #[test]
        fn evidence_never_widens_the_doubt(
            seen in prop::collection::vec(
                (0..3_u64, 0..3_usize, 0.0..=1.0_f64, -1.0..=1.0_f64, 0.0..0.1_f64), 0..20,
            ),
            start in 0.0..=1.0_f64,
        ) {
            let seen: Vec<Observation> = seen
                .into_iter()
                .map(|(occasion, config, start, gain, variance)| Observation {
                    variance,
                    ..observed(point("a", occasion, config, start), gain)
                })
                .collect();
            let wanted = point("a", 1, 1, start);
            let mut doubt = f64::INFINITY;
            for count in 0..=seen.len() {
                let gain = Posterior::new(&Kernel::default(), &seen[..count])
                    .unwrap()
                    .joint(std::slice::from_ref(&wanted))
                    .gain(0);
                prop_assert!(gain.mean.is_finite() && gain.sd > 0.0);
                prop_assert!(gain.sd <= doubt + 1e-9);
                doubt = gain.sd;
            }
        }
    }
}
