//! What earlier windows taught: gains and costs of real retrainings.
//!
//! # How the evidence is combined
//!
//! Three estimates of the gain of a configuration, each with a standard deviation, are averaged
//! with the inverse of their variances as weights ([`Estimate::combine`]), as for independent
//! normal errors:
//!
//! 1. a weak prior: a retraining removes a quarter of the error, give or take 0.15;
//! 2. the micro-profile of this window, that is the curve, less the mean error that it had in
//!    earlier windows. Its deviation is what the number of validation examples, the length of the
//!    extrapolation and its earlier errors suggest, whichever is largest;
//! 3. the gains that real retrainings had before. Gain is taken to be proportional to the error
//!    that there was to remove, `gain = r · (1 − start accuracy)`: one number `r` a
//!    configuration, which two outcomes determine well enough. Each configuration's `r` is pulled
//!    towards that of all of them together with the weight of [`POOLED_OUTCOMES`] outcomes, so that
//!    one never tried is not unknown, and one lucky outcome decides nothing.
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

/// Outcomes, of all configurations, after which an outcome counts half: with four streams and a
/// retraining in most windows, about eight windows.
pub const HALF_LIFE: f64 = 32.0;

/// With how many outcomes' weight a configuration is pulled towards all others.
pub const POOLED_OUTCOMES: f64 = 2.0;

/// Gain that is expected of a retraining that nothing is known of, as a part of the error.
const PRIOR_GAIN: f64 = 0.25;

/// Standard deviation of a gain about the prior.
const PRIOR_SD: f64 = 0.15;

/// No history is more certain than this.
const SD_MIN: f64 = 0.03;

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
    /// What it cost, on a whole device.
    pub gpu_seconds: f64,
    /// [`Profile::curve_accuracy`](crate::Profile::curve_accuracy) of the profile that led to it.
    pub curve_accuracy: Option<f64>,
    /// [`Profile::measured_gpu_seconds`](crate::Profile::measured_gpu_seconds) of that profile.
    pub measured_gpu_seconds: Option<f64>,
}

/// Decayed sums over the outcomes. Keep one for all streams that are of one kind (same student,
/// similar scenes): they learn from each other.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// What one outcome leaves of the weight of those before.
    decay: f64,
    /// Least recently used first.
    configs: Vec<(RetrainingConfig, Sums)>,
    all: Sums,
}

/// Sums over outcomes, each multiplied by its weight.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sums {
    weight: f64,
    /// gain · error, error², gain²; error is 1 − start accuracy.
    gain_error: f64,
    error_squared: f64,
    gain_squared: f64,
    curve: Moments,
    /// Of ln(observed / measured GPU-seconds).
    cost_ratio: Moments,
    /// Of the observed GPU-seconds.
    cost: Moments,
}

/// Weight, sum and sum of squares of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
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
        self.gain_error += gain * error;
        self.error_squared += error * error;
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
        self.gain_error *= factor;
        self.error_squared *= factor;
        self.gain_squared *= factor;
        self.curve.decay(factor);
        self.cost_ratio.decay(factor);
        self.cost.decay(factor);
    }

    /// The part `r` of the error that a retraining removes, pulled towards `pooled`.
    fn removed_part(&self, pooled: f64) -> f64 {
        // The pull has the weight of outcomes with a usual error.
        let pull = POOLED_OUTCOMES * (self.error_squared / self.weight.max(1e-9)).max(0.01);
        (self.gain_error + pull * pooled) / (self.error_squared + pull)
    }

    /// Mean squared deviation of the gains from `r · error`.
    fn gain_variance(&self, r: f64) -> f64 {
        let sum = self.gain_squared - 2.0 * r * self.gain_error + r * r * self.error_squared;
        (sum / self.weight.max(1e-9)).max(0.0)
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
        }
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
        let pooled = self.all.removed_part(PRIOR_GAIN);
        let r = sums.removed_part(pooled);
        let variance = self.all.gain_variance(pooled).max(SD_MIN * SD_MIN);
        // Other configurations' outcomes tell less about this one.
        let others = (self.all.weight - sums.weight).clamp(0.0, POOLED_OUTCOMES);
        let evidence = sums.weight + others / 2.0;
        let known = Estimate {
            mean: r * error,
            sd: (variance * (1.0 + 1.0 / evidence.max(1e-6))).sqrt(),
        };
        prior.combine(known)
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

    /// Mean GPU-seconds that this configuration really took; `None` when it was never retrained.
    #[must_use]
    pub fn observed_gpu_seconds(&self, config: &RetrainingConfig) -> Option<f64> {
        let cost = self.sums(config).cost;
        (cost.weight > 0.0).then(|| cost.sum / cost.weight)
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
        let observed = history.observed_gpu_seconds(&config(10));
        assert!(observed.is_some_and(|seconds| (seconds - 10.0).abs() < 1e-9));
    }

    #[test]
    fn numbers_that_are_none_change_nothing() {
        let mut history = History::new();
        history.record(&outcome(10, f64::NAN, 0.5));
        history.record(&outcome(10, 0.5, 1.5));
        assert_eq!(history, History::new());
    }
}
