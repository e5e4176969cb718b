//! The learning curve of the paper: accuracy against epochs.

/// Steps of the search over the asymptote.
const ASYMPTOTES: usize = 64;

/// Weight of the pull towards a low asymptote, against squared accuracy residuals. A handful of
/// noisy points fits a curve that saturates next to the last of them and one that climbs to 1
/// about equally well; then the first is the safer guess.
const PULL: f64 = 2e-3;

/// How wrong the part of a curve's rise may be that lies beyond its points, as a part of it: one
/// standard deviation.
pub(crate) const EXTRAPOLATION_DOUBT: f64 = 0.5;

/// `acc(k) = 1 − (1/(b0·k + b1) + b2)` after `k` epochs, capped to 0..=1.
///
/// All coefficients are at least zero, so the curve never falls; `1 − b2` is where it saturates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccuracyCurve {
    /// How fast the error shrinks with epochs; 0 is a flat curve.
    pub b0: f64,
    /// The inverse of the error that training can remove, before the first epoch; above 0.
    pub b1: f64,
    /// The error that stays however long one trains, in 0..=1.
    pub b2: f64,
}

impl AccuracyCurve {
    /// A curve that is `accuracy` everywhere.
    #[must_use]
    pub fn flat(accuracy: f64) -> Self {
        // An error of 1/b1 + b2; half each, so that both are finite at 0 and at 1.
        let error = 1.0 - accuracy.clamp(0.0, 1.0 - 1e-6);
        Self {
            b0: 0.0,
            b1: 2.0 / error,
            b2: error / 2.0,
        }
    }

    /// Fits the curve to points (epochs, accuracy) by non-negative least squares.
    ///
    /// For a fixed `b2` the curve is linear, `1/(1 − acc − b2) = b0·k + b1`, and is solved in
    /// closed form with the weights that make its residuals those of the accuracy; `b2` is
    /// searched. Two to five points do; points that are no numbers are left out; one point, or
    /// none that rises, gives a flat curve. `None` when there is no point.
    #[must_use]
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let usable = |&&(k, accuracy): &&(f64, f64)| {
            k.is_finite() && k >= 0.0 && (0.0..=1.0).contains(&accuracy)
        };
        let points: Vec<(f64, f64)> = points.iter().filter(usable).copied().collect();
        let highest = points.iter().map(|point| point.1).reduce(f64::max)?;
        let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
        let flat = Self::flat(mean);
        let room = 1.0 - highest;
        let curves = (1..ASYMPTOTES).filter_map(|step| {
            // Quadratic steps: finer next to the highest point.
            let rise = room * (step as f64 / ASYMPTOTES as f64).powi(2);
            let curve = Self::with_asymptote(&points, room - rise)?;
            Some((curve, curve.squared_error(&points) + PULL * rise * rise))
        });
        let first = (flat, flat.squared_error(&points));
        let best = curves.fold(
            first,
            |best, next| if next.1 < best.1 { next } else { best },
        );
        Some(best.0)
    }

    /// Accuracy after that many epochs (of the sample that was fitted), in 0..=1.
    #[must_use]
    pub fn at(&self, epochs: f64) -> f64 {
        let removable = 1.0 / (self.b0 * epochs.max(0.0) + self.b1);
        (1.0 - removable - self.b2).clamp(0.0, 1.0)
    }

    /// The best curve that saturates at `1 − b2`; `None` when none does.
    fn with_asymptote(points: &[(f64, f64)], b2: f64) -> Option<Self> {
        let [mut w, mut wk, mut wkk, mut wy, mut wky] = [0.0; 5];
        for &(k, accuracy) in points {
            let error = 1.0 - accuracy - b2;
            let y = 1.0 / error;
            // d(acc) = error² · dy
            let weight = error.powi(4);
            w += weight;
            wk += weight * k;
            wkk += weight * k * k;
            wy += weight * y;
            wky += weight * k * y;
        }
        let determinant = w * wkk - wk * wk;
        let b0 = (w * wky - wk * wy) / determinant;
        let b1 = (wkk * wy - wk * wky) / determinant;
        let curve = match (b0 >= 0.0, b1 > 0.0) {
            (true, true) => Self { b0, b1, b2 },
            // The active set of two variables: one of them at its bound.
            (false, _) => Self {
                b0: 0.0,
                b1: wy / w,
                b2,
            },
            (true, false) => Self {
                b0: wky / wkk,
                b1: f64::MIN_POSITIVE.sqrt(),
                b2,
            },
        };
        (curve.b0.is_finite() && curve.b1.is_finite() && curve.b1 > 0.0).then_some(curve)
    }

    fn squared_error(&self, points: &[(f64, f64)]) -> f64 {
        let residual = |&(k, accuracy): &(f64, f64)| (self.at(k) - accuracy).powi(2);
        points.iter().map(residual).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_curve_is_found_again() {
        let truth = AccuracyCurve {
            b0: 0.8,
            b1: 2.0,
            b2: 0.1,
        };
        let points: Vec<(f64, f64)> = (0..=10)
            .map(|k| (f64::from(k), truth.at(f64::from(k))))
            .collect();
        let fitted = AccuracyCurve::fit(&points).unwrap();
        for k in [0.0, 5.0, 10.0, 30.0, 100.0] {
            let difference = (fitted.at(k) - truth.at(k)).abs();
            assert!(
                difference < 0.02,
                "at {k}: {} for {}",
                fitted.at(k),
                truth.at(k)
            );
        }
    }

    #[test]
    fn one_point_is_flat_and_none_is_nothing() {
        let fitted = AccuracyCurve::fit(&[(3.0, 0.7)]).unwrap();
        assert!((fitted.at(0.0) - 0.7).abs() < 0.01);
        assert!((fitted.at(100.0) - 0.7).abs() < 0.01);
        assert_eq!(AccuracyCurve::fit(&[(1.0, f64::NAN)]), None);
    }

    #[test]
    fn falling_points_give_a_flat_curve_between_them() {
        let fitted = AccuracyCurve::fit(&[(1.0, 0.7), (2.0, 0.6), (3.0, 0.5)]).unwrap();
        assert!((fitted.at(1.0) - fitted.at(50.0)).abs() < 0.01);
        assert!((fitted.at(2.0) - 0.6).abs() < 0.05);
    }

    proptest! {
        #[test]
        fn is_finite_rising_and_close(
            points in prop::collection::vec((0.0..30.0_f64, 0.0..=1.0_f64), 1..6),
        ) {
            let fitted = AccuracyCurve::fit(&points).unwrap();
            let mut last = 0.0;
            for k in 0..200 {
                let accuracy = fitted.at(f64::from(k));
                prop_assert!((0.0..=1.0).contains(&accuracy));
                prop_assert!(accuracy >= last - 1e-12);
                last = accuracy;
            }
            let mean = points.iter().map(|p| p.1).sum::<f64>() / points.len() as f64;
            let flat = AccuracyCurve::flat(mean);
            prop_assert!(fitted.squared_error(&points) <= flat.squared_error(&points) + 1e-9);
        }
    }
}
