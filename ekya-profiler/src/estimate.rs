//! A value with its uncertainty, and what a doubtful gain is worth.

use serde::{Deserialize, Serialize};

/// Standard deviations on either side of the mean that hold 80 % of a normal distribution.
const SD_OF_80_PERCENT: f64 = 1.2816;

/// A value with its standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Expected value.
    pub mean: f64,
    /// Standard deviation, above 0.
    pub sd: f64,
}

impl Estimate {
    /// The mean of independent estimates, each weighed by the inverse of its variance.
    #[must_use]
    pub fn combine(self, other: Self) -> Self {
        let (a, b) = (1.0 / self.sd.powi(2), 1.0 / other.sd.powi(2));
        Self {
            mean: (a * self.mean + b * other.mean) / (a + b),
            sd: (a + b).sqrt().recip(),
        }
    }

    /// The estimate that has this 80 % interval.
    #[must_use]
    pub fn of_interval(low: f64, high: f64) -> Self {
        Self {
            mean: f64::midpoint(low, high),
            sd: ((high - low) / (2.0 * SD_OF_80_PERCENT)).max(1e-6),
        }
    }

    /// Lower and upper end of the 80 % interval.
    #[must_use]
    pub fn interval(self) -> (f64, f64) {
        let half = SD_OF_80_PERCENT * self.sd;
        (self.mean - half, self.mean + half)
    }

    /// The chance that the value is above `threshold`, if it is distributed normally.
    #[must_use]
    pub fn chance_above(self, threshold: f64) -> f64 {
        normal_distribution((self.mean - threshold) / self.sd.max(1e-12))
    }

    /// How much better a student has to measure than the one before, with errors of standard
    /// deviation `gate_sd`, to be better with a chance of at least `confidence`, in 0.5..1, given
    /// this gain was expected; never less than nothing.
    ///
    /// A gain `g ~ N(mean, sd²)` that is measured as `d ~ N(g, gate_sd²)` has then the mean
    /// `(mean · gate_sd² + d · sd²) / s²` with `s² = sd² + gate_sd²`, and the deviation
    /// `sd · gate_sd / s`; the former has to be z deviations, with Φ(z) = `confidence`.
    #[must_use]
    pub fn gate(self, gate_sd: f64, confidence: f64) -> f64 {
        let sd = self.sd.max(1e-9);
        let proof = quantile(confidence) * sd * gate_sd * sd.hypot(gate_sd);
        ((proof - self.mean * gate_sd * gate_sd) / (sd * sd)).max(0.0)
    }

    /// What a gain is worth behind that [gate](Self::gate): a loss is seldom suffered, so a doubtful
    /// gain is worth more than its mean.
    ///
    /// With threshold `c` the mean of `g` where `d > c`, and of 0 elsewhere, is
    /// mean · Φ(z) + sd²/s · φ(z) with s² = sd² + gate_sd² and z = (mean − c)/s.
    #[must_use]
    pub fn behind_gate(self, gate_sd: f64, confidence: f64) -> f64 {
        let s = self.sd.hypot(gate_sd).max(1e-9);
        let z = (self.mean - self.gate(gate_sd, confidence)) / s;
        let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
        self.mean * normal_distribution(z) + self.sd * self.sd / s * density
    }
}

/// The z with Φ(z) = `chance`, by bisection between −8 and 8.
fn quantile(chance: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if normal_distribution(middle) < chance {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Φ, by a logistic function with a cubic term: within 0.0002 of it (Page 1977).
fn normal_distribution(z: f64) -> f64 {
    let exponent = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044_715 * z * z * z);
    1.0 / (1.0 + (-exponent).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_asks_for_proof_where_a_loss_was_expected() {
        let gate = |mean, confidence| Estimate { mean, sd: 0.1 }.gate(0.2, confidence);
        assert_eq!(gate(0.05, 0.5), 0.0);
        assert!((gate(-0.05, 0.5) - 0.2).abs() < 1e-9);
        assert!(gate(0.05, 0.9) > gate(0.05, 0.7));
    }

    /// What the gate asks for is what makes the two estimates together sure enough.
    #[test]
    fn a_gate_is_where_the_chance_is_the_confidence() {
        for (mean, sd, gate_sd, confidence) in [(0.0, 0.1, 0.1, 0.7), (0.03, 0.08, 0.03, 0.9)] {
            let expected = Estimate { mean, sd };
            let measured = Estimate {
                mean: expected.gate(gate_sd, confidence),
                sd: gate_sd,
            };
            let chance = expected.combine(measured).chance_above(0.0);
            assert!((chance - confidence).abs() < 1e-3, "{chance}");
        }
    }

    #[test]
    fn a_gate_spares_most_of_a_loss_and_keeps_a_sure_gain() {
        let worth = |mean, sd, gate_sd| Estimate { mean, sd }.behind_gate(gate_sd, 0.5);
        assert!((worth(0.1, 0.01, 0.01) - 0.1).abs() < 1e-3);
        assert!(worth(-0.1, 0.01, 0.01).abs() < 1e-3);
        // A fair coin of a gain: half of the mean absolute deviation, through a perfect gate.
        assert!((worth(0.0, 0.1, 0.0) - 0.039_894).abs() < 1e-4);
        assert!(worth(0.0, 0.1, 0.1) < worth(0.0, 0.1, 0.0));
        let strict = Estimate { mean: 0.0, sd: 0.1 }.behind_gate(0.1, 0.9);
        assert!(strict < worth(0.0, 0.1, 0.1) && strict > 0.0);
    }

    #[test]
    fn of_two_estimates_the_surer_counts_more() {
        let sure = Estimate { mean: 0.0, sd: 0.1 };
        let doubtful = Estimate { mean: 0.5, sd: 0.2 };
        let both = sure.combine(doubtful);
        assert!((both.mean - 0.1).abs() < 1e-12);
        assert!((both.sd - 0.008_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn chances_are_those_of_the_normal_distribution() {
        let estimate = Estimate { mean: 0.1, sd: 0.1 };
        assert!((estimate.chance_above(0.1) - 0.5).abs() < 1e-9);
        assert!((estimate.chance_above(0.0) - 0.841_345).abs() < 3e-4);
        let (low, high) = estimate.interval();
        let inside = estimate.chance_above(low) - estimate.chance_above(high);
        assert!((inside - 0.8).abs() < 1e-3);
        let back = Estimate::of_interval(low, high);
        assert!((back.mean - 0.1).abs() < 1e-12 && (back.sd - 0.1).abs() < 1e-12);
    }
}
