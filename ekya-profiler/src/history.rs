//! What earlier windows taught: gains and costs of real retrainings.
//!
//! # How the evidence is combined
//!
//! There are three sources for the gain of a configuration. The first enters the third; the second
//! and the third are estimates, each with a standard deviation, and are averaged with the inverse of
//! their variances as weights ([`Estimate::combine`]), as for independent normal errors:
//!
//! 1. a weak prior: a retraining removes a quarter of the error, give or take 0.15;
//! 2. the micro-profile of this window, that is the curve, less the mean error that it had in
//!    earlier windows. Its deviation is what the number of validation examples, the length of the
//!    extrapolation and its earlier errors suggest, whichever is largest;
//! 3. the gains that real retrainings had before, as a straight line a configuration:
//!    `gain = a + b · (1 − start accuracy)`, by least squares. `a` is what it does to a student that
//!    had nothing to learn, which with few pictures is harm. Each configuration's line is pulled
//!    towards that of all of them together with the weight of [`POOLED_OUTCOMES`] outcomes, so that
//!    one never tried is not unknown, and one lucky outcome decides nothing; that of all is pulled
//!    towards the prior in the same way.
//!
//! With no history the prediction is the curve, drawn towards the prior by as much as the curve
//! is doubtful; with a few outcomes the history outweighs a curve that comes from ten pictures.
//! Outcomes count half after [`HALF_LIFE`] later ones, or as many as
//! [`History::with_half_life`] was told.
//!
//! Costs are corrected by the ratio of observed to predicted GPU-seconds (a geometric mean, with
//! the same pooling). A configuration that was retrained before but not profiled this time is
//! predicted from its observed GPU-seconds.

use ekya_sched::RetrainingConfig;
use serde::{Deserialize, Serialize};

/// Outcomes, of all configurations, after which an outcome counts half: with four streams and
/// three retrainings of each a window, about three windows.
pub const HALF_LIFE: f64 = 32.0;

/// With how many outcomes' weight a configuration is pulled towards all others.
pub const POOLED_OUTCOMES: f64 = 2.0;

/// Gain that is expected of a retraining that nothing is known of, as a part of the error.
const PRIOR_GAIN: f64 = 0.25;

/// Standard deviation of a gain about the prior.
const PRIOR_SD: f64 = 0.15;

/// No history is more certain than this.
const SD_MIN: f64 = 0.03;

/// Where the errors of the imagined outcomes lie that pull a line: their mean, and their standard
/// deviation.
const USUAL_ERROR: (f64, f64) = (0.35, 0.2);

/// Most configurations remembered; the ones not used for longest are forgotten.
const CONFIGS_MAX: usize = 256;

/// A value with its standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
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

    /// How much better a student has to measure than the one before, with errors of standard
    /// deviation `gate_sd`, for a gain to be likelier than a loss: not at all where a gain was
    /// expected, by more the surer a loss was.
    ///
    /// With a gain `g ~ N(mean, sd²)` measured as `d ~ N(g, gate_sd²)`, the mean of `g` given `d` is
    /// above 0 exactly when `d > −mean · gate_sd² / sd²`.
    #[must_use]
    pub fn gate(self, gate_sd: f64) -> f64 {
        (-self.mean * (gate_sd / self.sd.max(1e-9)).powi(2)).max(0.0)
    }

    /// What a gain is worth behind that [gate](Self::gate): a loss is seldom suffered, so a doubtful
    /// gain is worth more than its mean.
    ///
    /// With threshold `c` the mean of `g` where `d > c`, and of 0 elsewhere, is
    /// mean · Φ(z) + sd²/s · φ(z) with s² = sd² + gate_sd² and z = (mean − c)/s.
    #[must_use]
    pub fn behind_gate(self, gate_sd: f64) -> f64 {
        let s = self.sd.hypot(gate_sd).max(1e-9);
        let z = (self.mean - self.gate(gate_sd)) / s;
        let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
        self.mean * normal_distribution(z) + self.sd * self.sd / s * density
    }
}

/// Φ, by a logistic function with a cubic term: within 0.0002 of it (Page 1977).
fn normal_distribution(z: f64) -> f64 {
    let exponent = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044_715 * z * z * z);
    1.0 / (1.0 + (-exponent).exp())
}

/// How a real retraining went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The configuration.
    pub config: RetrainingConfig,
    /// Accuracy of the serving student before, on the held-out examples.
    pub start_accuracy: f64,
    /// Accuracy of the retrained student on the same examples, promoted or not.
    pub end_accuracy: f64,
    /// What it cost, on a whole device; 0 when that is not known.
    pub gpu_seconds: f64,
    /// [`Profile::curve_accuracy`](crate::Profile::curve_accuracy) of the profile that led to it.
    pub curve_accuracy: Option<f64>,
    /// [`Profile::measured_gpu_seconds`](crate::Profile::measured_gpu_seconds) of that profile.
    pub measured_gpu_seconds: Option<f64>,
}

/// Decayed sums over the outcomes. Keep one for all streams that are of one kind (same student,
/// similar scenes): they learn from each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// What one outcome leaves of the weight of those before.
    decay: f64,
    /// Least recently used first.
    configs: Vec<(RetrainingConfig, Sums)>,
    all: Sums,
    /// What the last micro-profile of a configuration said, in GPU-seconds; oldest first.
    profiled_costs: Vec<(RetrainingConfig, f64)>,
}

/// Sums over outcomes, each multiplied by its weight.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Sums {
    weight: f64,
    /// error, gain · error, error², gain, gain²; error is 1 − start accuracy.
    error: f64,
    gain_error: f64,
    error_squared: f64,
    gain: f64,
    gain_squared: f64,
    curve: Moments,
    /// Of ln(observed / measured GPU-seconds).
    cost_ratio: Moments,
    /// Of the observed GPU-seconds.
    cost: Moments,
}

/// A gain as a straight line over the error that there is to remove.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    base: f64,
    slope: f64,
}

impl Line {
    /// What is expected of a retraining that nothing is known of.
    const PRIOR: Self = Self {
        base: 0.0,
        slope: PRIOR_GAIN,
    };

    fn at(self, error: f64) -> f64 {
        self.base + self.slope * error
    }
}

/// Weight, sum and sum of squares of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Moments {
    weight: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.weight += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn decay(&mut self, factor: f64) {
        self.weight *= factor;
        self.sum *= factor;
        self.squares *= factor;
    }

    fn include(&mut self, other: &Self) {
        self.weight += other.weight;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Mean, pulled towards `pooled` with the weight of [`POOLED_OUTCOMES`].
    fn mean_towards(&self, pooled: f64) -> f64 {
        (self.sum + POOLED_OUTCOMES * pooled) / (self.weight + POOLED_OUTCOMES)
    }
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        let error = 1.0 - outcome.start_accuracy;
        let gain = outcome.end_accuracy - outcome.start_accuracy;
        self.weight += 1.0;
        self.error += error;
        self.gain_error += gain * error;
        self.error_squared += error * error;
        self.gain += gain;
        self.gain_squared += gain * gain;
        if let Some(curve) = outcome.curve_accuracy.filter(|curve| curve.is_finite()) {
            self.curve.add(curve - outcome.end_accuracy);
        }
        if outcome.gpu_seconds > 0.0 {
            self.cost.add(outcome.gpu_seconds);
            let measured = outcome
                .measured_gpu_seconds
                .filter(|&m| m.is_finite() && m > 0.0);
            if let Some(measured) = measured {
                self.cost_ratio.add((outcome.gpu_seconds / measured).ln());
            }
        }
    }

    fn decay(&mut self, factor: f64) {
        self.weight *= factor;
        self.error *= factor;
        self.gain_error *= factor;
        self.error_squared *= factor;
        self.gain *= factor;
        self.gain_squared *= factor;
        self.curve.decay(factor);
        self.cost_ratio.decay(factor);
        self.cost.decay(factor);
    }

    fn include(&mut self, other: &Self) {
        self.weight += other.weight;
        self.error += other.error;
        self.gain_error += other.gain_error;
        self.error_squared += other.error_squared;
        self.gain += other.gain;
        self.gain_squared += other.gain_squared;
        self.curve.include(&other.curve);
        self.cost_ratio.include(&other.cost_ratio);
        self.cost.include(&other.cost);
    }

    /// The line through the gains, pulled towards another: least squares over the outcomes and
    /// [`POOLED_OUTCOMES`] imagined ones on that other line.
    fn line(&self, towards: Line) -> Line {
        let pull = POOLED_OUTCOMES;
        let (mean, sd) = USUAL_ERROR;
        let squared = mean * mean + sd * sd;
        let weight = self.weight + pull;
        let error = (self.error + pull * mean) / weight;
        let gain = (self.gain + pull * towards.at(mean)) / weight;
        let error_squared = (self.error_squared + pull * squared) / weight;
        let imagined = towards.base * mean + towards.slope * squared;
        let gain_error = (self.gain_error + pull * imagined) / weight;
        // The imagined outcomes keep the variance of the errors above zero.
        let slope = (gain_error - gain * error) / (error_squared - error * error);
        Line {
            base: gain - slope * error,
            slope,
        }
    }

    /// Sum of the squared deviations of the gains from a line.
    fn squared_deviation(&self, line: Line) -> f64 {
        let Line { base, slope } = line;
        let sum = self.gain_squared - 2.0 * base * self.gain - 2.0 * slope * self.gain_error
            + base * base * self.weight
            + 2.0 * base * slope * self.error
            + slope * slope * self.error_squared;
        sum.max(0.0)
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// Nothing known.
    #[must_use]
    pub fn new() -> Self {
        Self::with_half_life(HALF_LIFE)
    }

    /// Nothing known; outcomes will count half after `half_life` later ones (at least 1).
    #[must_use]
    pub fn with_half_life(half_life: f64) -> Self {
        Self {
            decay: 0.5_f64.powf(half_life.max(1.0).recip()),
            configs: Vec::new(),
            all: Sums::default(),
            profiled_costs: Vec::new(),
        }
    }

    /// The same evidence with each configuration's weighing at most `outcomes` new ones, and decaying
    /// as it does by default: how a node takes up what was found out elsewhere, which the outcomes
    /// of its own streams soon outweigh.
    #[must_use]
    pub fn as_prior(mut self, outcomes: f64) -> Self {
        self.decay = Self::new().decay;
        self.all = Sums::default();
        for (_, sums) in &mut self.configs {
            if sums.weight > outcomes {
                sums.decay(outcomes / sums.weight);
            }
            self.all.include(sums);
        }
        self
    }

    /// Takes in how a retraining went. Outcomes whose accuracies or cost are no numbers are left
    /// out.
    pub fn record(&mut self, outcome: &Outcome) {
        let fraction = |value: f64| (0.0..=1.0).contains(&value);
        let usable = fraction(outcome.start_accuracy)
            && fraction(outcome.end_accuracy)
            && outcome.gpu_seconds.is_finite();
        if !usable {
            return;
        }
        self.all.decay(self.decay);
        for (_, sums) in &mut self.configs {
            sums.decay(self.decay);
        }
        self.all.add(outcome);
        let known = self
            .configs
            .iter()
            .position(|(config, _)| *config == outcome.config);
        let mut entry = match known {
            Some(index) => self.configs.remove(index),
            None => (outcome.config.clone(), Sums::default()),
        };
        entry.1.add(outcome);
        self.configs.push(entry);
        if self.configs.len() > CONFIGS_MAX {
            self.configs.remove(0);
        }
    }

    /// How many outcomes of this configuration are remembered, older ones counting less.
    #[must_use]
    pub fn outcomes(&self, config: &RetrainingConfig) -> f64 {
        self.sums(config).weight
    }

    /// The gain that earlier retrainings and the prior let expect; estimates 1 and 3 of the
    /// [module's rule](self).
    #[must_use]
    pub fn gain(&self, config: &RetrainingConfig, start_accuracy: f64) -> Estimate {
        let error = 1.0 - start_accuracy;
        let prior = Estimate {
            mean: PRIOR_GAIN * error,
            sd: PRIOR_SD,
        };
        if self.all.weight <= 0.0 {
            return prior;
        }
        let sums = self.sums(config);
        let pooled = self.all.line(Line::PRIOR);
        let line = sums.line(pooled);
        let variance_of = |sums: &Sums, line: Line, variance: f64| {
            let sum = sums.squared_deviation(line) + POOLED_OUTCOMES * variance;
            sum / (sums.weight + POOLED_OUTCOMES)
        };
        let variance = variance_of(&self.all, pooled, PRIOR_SD * PRIOR_SD);
        let variance = variance_of(&sums, line, variance);
        // Other configurations' outcomes tell less about this one.
        let others = (self.all.weight - sums.weight).clamp(0.0, POOLED_OUTCOMES);
        let evidence = sums.weight + others / 2.0;
        Estimate {
            mean: line.at(error),
            sd: (variance * (1.0 + 1.0 / evidence.max(1e-6)))
                .sqrt()
                .max(SD_MIN),
        }
    }

    /// The micro-profile's estimate of the gain, corrected by what it was wrong by before;
    /// estimate 2 of the [module's rule](self). `sd` is how uncertain the curve is by itself.
    #[must_use]
    pub fn corrected_curve(&self, curve_gain: f64, sd: f64) -> Estimate {
        let curve = &self.all.curve;
        let bias = curve.mean_towards(0.0);
        let squared =
            (curve.squares + POOLED_OUTCOMES * sd * sd) / (curve.weight + POOLED_OUTCOMES);
        Estimate {
            mean: curve_gain - bias,
            sd: sd.max((squared - bias * bias).max(0.0).sqrt()).max(SD_MIN),
        }
    }

    /// What a measured cost of this configuration is to be multiplied with.
    #[must_use]
    pub fn cost_ratio(&self, config: &RetrainingConfig) -> f64 {
        let pooled = self.all.cost_ratio.mean_towards(0.0);
        self.sums(config).cost_ratio.mean_towards(pooled).exp()
    }

    /// Mean GPU-seconds that this configuration really took, else what its last micro-profile
    /// said; `None` when it was neither retrained with nor profiled.
    #[must_use]
    pub fn known_gpu_seconds(&self, config: &RetrainingConfig) -> Option<f64> {
        let cost = self.sums(config).cost;
        if cost.weight > 0.0 {
            return Some(cost.sum / cost.weight);
        }
        let profiled = self
            .profiled_costs
            .iter()
            .find(|(known, _)| known == config);
        profiled.map(|(_, gpu_seconds)| *gpu_seconds)
    }

    /// Takes in what a micro-profile said that a configuration would cost.
    pub fn record_profiled_cost(&mut self, config: &RetrainingConfig, gpu_seconds: f64) {
        if !(gpu_seconds.is_finite() && gpu_seconds >= 0.0) {
            return;
        }
        self.profiled_costs.retain(|(known, _)| known != config);
        self.profiled_costs.push((config.clone(), gpu_seconds));
        if self.profiled_costs.len() > CONFIGS_MAX {
            self.profiled_costs.remove(0);
        }
    }

    fn sums(&self, config: &RetrainingConfig) -> Sums {
        let known = self.configs.iter().find(|(known, _)| known == config);
        known.map_or(Sums::default(), |(_, sums)| *sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(epochs: usize) -> RetrainingConfig {
        RetrainingConfig {
            epochs,
            ..RetrainingConfig::default()
        }
    }

    fn outcome(epochs: usize, start_accuracy: f64, end_accuracy: f64) -> Outcome {
        Outcome {
            config: config(epochs),
            start_accuracy,
            end_accuracy,
            gpu_seconds: 10.0,
            curve_accuracy: None,
            measured_gpu_seconds: None,
        }
    }

    #[test]
    fn gains_follow_the_error_that_there_is_to_remove() {
        let mut history = History::new();
        for _ in 0..6 {
            history.record(&outcome(10, 0.5, 0.75));
        }
        let [low, high] = [0.4, 0.8].map(|start| history.gain(&config(10), start).mean);
        assert!((low - 0.3).abs() < 0.06, "{low}");
        assert!((high - 0.1).abs() < 0.03, "{high}");
    }

    #[test]
    fn a_configuration_that_harms_who_has_nothing_to_learn_is_seen_through() {
        let mut history = History::new();
        for _ in 0..20 {
            history.record(&outcome(10, 0.4, 0.6));
            history.record(&outcome(10, 0.9, 0.82));
        }
        let [low, high] = [0.4, 0.9].map(|start| history.gain(&config(10), start).mean);
        assert!((low - 0.2).abs() < 0.03, "{low}");
        assert!((high + 0.08).abs() < 0.03, "{high}");
    }

    #[test]
    fn a_profiled_cost_counts_until_there_is_a_real_one() {
        let mut history = History::new();
        assert_eq!(history.known_gpu_seconds(&config(10)), None);
        history.record_profiled_cost(&config(10), 4.0);
        assert_eq!(history.known_gpu_seconds(&config(10)), Some(4.0));
        history.record(&outcome(10, 0.5, 0.6));
        assert_eq!(history.known_gpu_seconds(&config(10)), Some(10.0));
    }

    #[test]
    fn configurations_differ_once_they_were_tried() {
        let mut history = History::new();
        for _ in 0..4 {
            history.record(&outcome(10, 0.5, 0.8));
            history.record(&outcome(1, 0.5, 0.5));
        }
        let long = history.gain(&config(10), 0.5);
        let short = history.gain(&config(1), 0.5);
        let untried = history.gain(&config(5), 0.5);
        assert!(long.mean > untried.mean && untried.mean > short.mean);
        assert!(untried.sd > long.sd);
    }

    #[test]
    fn a_curve_that_was_wrong_is_trusted_less_and_set_right() {
        let mut history = History::new();
        for end_accuracy in [0.5, 0.6, 0.4, 0.5] {
            history.record(&Outcome {
                curve_accuracy: Some(0.8),
                ..outcome(10, 0.5, end_accuracy)
            });
        }
        let curve = history.corrected_curve(0.3, 0.05);
        assert!(curve.mean < 0.15, "{}", curve.mean);
        assert!(curve.sd > 0.05);
    }

    #[test]
    fn costs_are_set_right_by_what_was_observed() {
        let mut history = History::new();
        for _ in 0..8 {
            history.record(&Outcome {
                measured_gpu_seconds: Some(5.0),
                ..outcome(10, 0.5, 0.6)
            });
        }
        let ratio = history.cost_ratio(&config(10));
        assert!((1.7..=2.0).contains(&ratio), "{ratio}");
        assert_eq!(History::new().cost_ratio(&config(10)), 1.0);
        let observed = history.known_gpu_seconds(&config(10));
        assert!(observed.is_some_and(|seconds| (seconds - 10.0).abs() < 1e-9));
    }

    #[test]
    fn a_prior_says_the_same_and_is_soon_outweighed() {
        let mut elsewhere = History::with_half_life(1e9);
        for _ in 0..100 {
            elsewhere.record(&outcome(10, 0.5, 0.7));
        }
        let mut history = elsewhere.as_prior(8.0);
        assert!((history.outcomes(&config(10)) - 8.0).abs() < 1e-9);
        let before = history.gain(&config(10), 0.5).mean;
        assert!((before - 0.2).abs() < 0.02, "{before}");
        for _ in 0..16 {
            history.record(&outcome(10, 0.5, 0.5));
        }
        let after = history.gain(&config(10), 0.5).mean;
        assert!(after < 0.08, "{after}");
    }

    #[test]
    fn a_gate_asks_for_proof_where_a_loss_was_expected() {
        let gate = |mean| Estimate { mean, sd: 0.1 }.gate(0.2);
        assert_eq!(gate(0.05), 0.0);
        assert!((gate(-0.05) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_gate_spares_most_of_a_loss_and_keeps_a_sure_gain() {
        let worth = |mean, sd, gate_sd| Estimate { mean, sd }.behind_gate(gate_sd);
        assert!((worth(0.1, 0.01, 0.01) - 0.1).abs() < 1e-3);
        assert!(worth(-0.1, 0.01, 0.01).abs() < 1e-3);
        // A fair coin of a gain: half of the mean absolute deviation, through a perfect gate.
        assert!((worth(0.0, 0.1, 0.0) - 0.039_894).abs() < 1e-4);
        assert!(worth(0.0, 0.1, 0.1) < worth(0.0, 0.1, 0.0));
    }

    #[test]
    fn numbers_that_are_none_change_nothing() {
        let mut history = History::new();
        history.record(&outcome(10, f64::NAN, 0.5));
        history.record(&outcome(10, 0.5, 1.5));
        assert_eq!(history, History::new());
    }
}
