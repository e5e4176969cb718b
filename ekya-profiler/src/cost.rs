//! What retrainings cost, from what they have cost.
//!
//! Configurations that differ in epochs and data fraction only are of one *kind*: their cost is a
//! straight line over the work, that is epochs × data fraction × labelled pictures. The line is
//! fitted to what retrainings of the kind really took, set-up, validation and gate included. A kind
//! that was never retrained is taken to cost what its micro-profile says, times the ratio by which
//! micro-profiles have been wrong for others.

use ekya_sched::RetrainingConfig;
use serde::{Deserialize, Serialize};

/// Kinds remembered; the ones not used for longest are forgotten.
const KINDS_MAX: usize = 64;

/// An observation counts half after so many later ones of its kind: batches may grow, and other
/// work may come to the machine.
const HALF_LIFE: f64 = 8.0;

/// Observed costs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Costs {
    /// Least recently used first.
    kinds: Vec<Kind>,
    /// Of ln(observed / micro-profiled), over all kinds.
    ratio: f64,
    ratios: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    /// With one epoch of all the data.
    config: RetrainingConfig,
    /// Decayed sums over observations: weight, work, work², seconds, work · seconds.
    sums: [f64; 5],
    /// Seconds for a unit of work, as the last micro-profile said, and those for none.
    profiled: Option<(f64, f64)>,
}

/// Work of a retraining in passes over one picture.
#[must_use]
pub(crate) fn work(config: &RetrainingConfig, pictures: usize) -> f64 {
    config.epochs as f64 * config.data_fraction * pictures as f64
}

/// Whether two configurations differ in epochs and data fraction only.
#[must_use]
pub(crate) fn of_one_kind(a: &RetrainingConfig, b: &RetrainingConfig) -> bool {
    kind_of(a) == kind_of(b)
}

fn kind_of(config: &RetrainingConfig) -> RetrainingConfig {
    RetrainingConfig {
        epochs: 1,
        data_fraction: 1.0,
        ..config.clone()
    }
}

impl Costs {
    /// Takes in what a retraining on so many labelled pictures cost; what is no positive number is
    /// left out.
    pub fn record(&mut self, config: &RetrainingConfig, pictures: usize, gpu_seconds: f64) {
        let work = work(config, pictures);
        if !(gpu_seconds > 0.0 && gpu_seconds.is_finite() && work > 0.0 && work.is_finite()) {
            return;
        }
        let mut kind = self.take(config);
        if let Some((rate, fixed)) = kind.profiled {
            self.ratios = (self.ratios + 1.0).min(HALF_LIFE);
            let ratio = (gpu_seconds / (fixed + rate * work)).ln();
            self.ratio += (ratio - self.ratio) / self.ratios;
        }
        let keep = 0.5_f64.powf(HALF_LIFE.recip());
        let new = [1.0, work, work * work, gpu_seconds, work * gpu_seconds];
        for (sum, new) in kind.sums.iter_mut().zip(new) {
            *sum = *sum * keep + new;
        }
        self.kinds.push(kind);
    }

    /// Takes in what a micro-profile measured: seconds for a unit of work and those for none.
    pub fn record_profiled(&mut self, config: &RetrainingConfig, rate: f64, fixed: f64) {
        let sound = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        if !(sound(rate) && sound(fixed) && rate + fixed > 0.0) {
            return;
        }
        let mut kind = self.take(config);
        kind.profiled = Some((rate, fixed));
        self.kinds.push(kind);
    }

    /// What a retraining on so many pictures will cost, in GPU-seconds; `None` when its kind was
    /// neither retrained nor profiled.
    #[must_use]
    pub fn expect(&self, config: &RetrainingConfig, pictures: usize) -> Option<f64> {
        let kind = kind_of(config);
        let known = self.kinds.iter().find(|known| known.config == kind)?;
        let work = work(config, pictures);
        known.observed(work).or_else(|| {
            let (rate, fixed) = known.profiled?;
            Some((fixed + rate * work) * self.ratio.exp())
        })
    }

    /// Removes a kind from the list to change it and put it back at its end.
    fn take(&mut self, config: &RetrainingConfig) -> Kind {
        let config = kind_of(config);
        let known = self.kinds.iter().position(|known| known.config == config);
        match known {
            Some(index) => self.kinds.remove(index),
            None => {
                if self.kinds.len() >= KINDS_MAX {
                    self.kinds.remove(0);
                }
                Kind {
                    config,
                    sums: [0.0; 5],
                    profiled: None,
                }
            }
        }
    }
}

impl Kind {
    /// Seconds for that much work along the line through what was observed; `None` when nothing
    /// was.
    fn observed(&self, work: f64) -> Option<f64> {
        let [weight, sum, squares, seconds, products] = self.sums;
        if weight <= 0.0 {
            return None;
        }
        let (mean, mean_seconds) = (sum / weight, seconds / weight);
        let variance = squares / weight - mean * mean;
        let proportional = mean_seconds / mean;
        // Where all did the same work, the line goes through nothing at none.
        let slope = if variance > (0.05 * mean).powi(2) {
            let covariance = products / weight - mean * mean_seconds;
            (covariance / variance).clamp(0.0, proportional)
        } else {
            proportional
        };
        Some(mean_seconds + slope * (work - mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(epochs: usize, layers_frozen: usize) -> RetrainingConfig {
        RetrainingConfig {
            epochs,
            layers_frozen,
            ..RetrainingConfig::default()
        }
    }

    fn close(a: Option<f64>, b: f64) {
        assert!(
            a.is_some_and(|a| (a - b).abs() < 1e-6 * b),
            "{a:?}, not {b}"
        );
    }

    #[test]
    fn one_outcome_is_scaled_with_the_work() {
        let mut costs = Costs::default();
        assert_eq!(costs.expect(&config(10, 0), 100), None);
        costs.record(&config(10, 0), 100, 5.0);
        close(costs.expect(&config(20, 0), 100), 10.0);
        close(costs.expect(&config(10, 0), 150), 7.5);
        assert_eq!(costs.expect(&config(10, 3), 100), None);
    }

    #[test]
    fn a_fixed_part_shows_when_the_work_differs() {
        let mut costs = Costs::default();
        for epochs in [5, 10, 20] {
            costs.record(&config(epochs, 0), 100, 1.0 + 0.002 * epochs as f64 * 100.0);
        }
        close(costs.expect(&config(40, 0), 100), 9.0);
        close(costs.expect(&config(1, 0), 100), 1.2);
    }

    #[test]
    fn newer_outcomes_count_more() {
        let mut costs = Costs::default();
        for seconds in [1.0; 8].into_iter().chain([2.0; 16]) {
            costs.record(&config(10, 0), 100, seconds);
        }
        assert!(costs.expect(&config(10, 0), 100).unwrap() > 1.8);
    }

    #[test]
    fn micro_profiles_are_set_right_by_what_others_were_wrong_by() {
        let mut costs = Costs::default();
        for _ in 0..4 {
            costs.record_profiled(&config(1, 0), 0.01, 0.0);
            costs.record(&config(10, 0), 100, 20.0);
        }
        costs.record_profiled(&config(1, 3), 0.005, 1.0);
        close(costs.expect(&config(10, 3), 100), 12.0);
    }

    #[test]
    fn what_is_no_cost_changes_nothing() {
        let mut costs = Costs::default();
        costs.record(&config(10, 0), 0, 1.0);
        costs.record(&config(10, 0), 10, f64::NAN);
        costs.record_profiled(&config(10, 0), f64::INFINITY, 0.0);
        assert_eq!(costs, Costs::default());
    }

    #[test]
    fn kinds_are_bounded() {
        let mut costs = Costs::default();
        for frozen in 0..2 * KINDS_MAX {
            costs.record(&config(10, frozen), 10, 1.0);
        }
        assert_eq!(costs.kinds.len(), KINDS_MAX);
        assert_eq!(costs.expect(&config(10, 0), 10), None);
    }
}
