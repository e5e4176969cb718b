//! Which configurations are still worth profiling.

use crate::Profile;

/// A fall of the serving student's accuracy by this much says that the drift is new (DaCapo, ISCA
/// 2024, has the same), if it is more than few labelled frames can feign.
const NEW_DRIFT: f64 = 0.05;

/// What the newest accuracy weighs in the mean that the next is held against.
const NEWEST: f64 = 0.5;

/// Drops configurations that stay far from the Pareto front of accuracy against GPU-seconds.
///
/// The distance of a configuration in one window is the accuracy that another one reaches above
/// it at no higher cost, so 0 on the front. Every `every_windows` windows the fraction
/// `drop_fraction` with the largest mean distance goes, and of equals the later ones in the list;
/// `keep_min` always stay, and so does what was on the front all the time. The rule has no
/// randomness: equal windows prune equally.
#[derive(Debug, Clone, PartialEq)]
pub struct Pruner {
    every_windows: usize,
    drop_fraction: f64,
    keep_min: usize,
    windows: usize,
    configs: Vec<Standing>,
    /// Decayed mean accuracy of the serving student.
    accuracy: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Standing {
    active: bool,
    distance_sum: f64,
    windows: usize,
}

impl Standing {
    const NEW: Self = Self {
        active: true,
        distance_sum: 0.0,
        windows: 0,
    };

    fn mean_distance(&self) -> f64 {
        match self.windows {
            0 => 0.0,
            windows => self.distance_sum / windows as f64,
        }
    }
}

impl Pruner {
    /// All of `configs` configurations active, pruned as in the paper: every second window a
    /// quarter of those that are left, down to three.
    #[must_use]
    pub fn new(configs: usize) -> Self {
        Self::with_rule(configs, 2, 0.25, 3)
    }

    /// All of `configs` configurations active, pruned every `every_windows` windows (at least 1)
    /// by `drop_fraction` in 0..=1, down to `keep_min`.
    #[must_use]
    pub fn with_rule(
        configs: usize,
        every_windows: usize,
        drop_fraction: f64,
        keep_min: usize,
    ) -> Self {
        Self {
            every_windows: every_windows.max(1),
            drop_fraction: drop_fraction.clamp(0.0, 1.0),
            keep_min,
            windows: 0,
            configs: vec![Standing::NEW; configs],
            accuracy: None,
        }
    }

    /// Indices of the configurations to profile in the next window, rising.
    #[must_use]
    pub fn active(&self) -> Vec<usize> {
        (0..self.configs.len())
            .filter(|&c| self.configs[c].active)
            .collect()
    }

    /// Takes in the profiles of a window, whose [`Profile::config`] are indices into all
    /// configurations, and prunes when it is time.
    pub fn observe(&mut self, profiles: &[Profile]) {
        for profile in profiles {
            if let Some(standing) = self.configs.get_mut(profile.config) {
                standing.distance_sum += distance(profile, profiles);
                standing.windows += 1;
            }
        }
        self.windows += 1;
        if self.windows.is_multiple_of(self.every_windows) {
            self.prune();
        }
    }

    /// Brings every configuration back: what was useless may be needed now that the drift is new.
    pub fn restore(&mut self) {
        self.windows = 0;
        self.configs.fill(Standing::NEW);
    }

    /// Takes in the accuracy of the serving student on so many newly labelled frames; when it has
    /// fallen as it does when the drift is new, every configuration comes back.
    pub fn observe_accuracy(&mut self, accuracy: f64, frames: usize) {
        if !accuracy.is_finite() || frames == 0 {
            return;
        }
        let before = *self.accuracy.get_or_insert(accuracy);
        let noise = 2.0 * (before * (1.0 - before) / frames as f64).sqrt();
        if accuracy < before - noise.max(NEW_DRIFT) {
            self.restore();
        }
        self.accuracy = Some(before + NEWEST * (accuracy - before));
    }

    fn prune(&mut self) {
        let mut order = self.active();
        let spare = order.len().saturating_sub(self.keep_min);
        // Rounded down, at most the number that is active.
        let drop = ((order.len() as f64 * self.drop_fraction) as usize).min(spare);
        let distance = |config: usize| self.configs[config].mean_distance();
        order.sort_by(|&a, &b| distance(b).total_cmp(&distance(a)).then(b.cmp(&a)));
        order.retain(|&config| distance(config) > 0.0);
        for &config in order.iter().take(drop) {
            self.configs[config].active = false;
        }
    }
}

/// Accuracy that another configuration reaches above this one at no higher cost.
fn distance(profile: &Profile, all: &[Profile]) -> f64 {
    all.iter()
        .filter(|other| other.gpu_seconds <= profile.gpu_seconds)
        .map(|other| other.end_accuracy - profile.end_accuracy)
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(config: usize, end_accuracy: f64, gpu_seconds: f64) -> Profile {
        Profile {
            config,
            end_accuracy,
            end_sd: 0.1,
            interval: (end_accuracy, end_accuracy),
            gain: crate::Estimate { mean: 0.0, sd: 0.1 },
            gpu_seconds,
            promised_gain: None,
        }
    }

    fn window() -> Vec<Profile> {
        vec![
            profile(0, 0.6, 1.0),
            profile(1, 0.5, 2.0),
            profile(2, 0.8, 4.0),
            profile(3, 0.7, 8.0),
            profile(4, 0.81, 8.0),
        ]
    }

    #[test]
    fn the_farthest_from_the_front_goes_first() {
        let mut pruner = Pruner::with_rule(5, 2, 0.25, 3);
        pruner.observe(&window());
        assert_eq!(pruner.active(), [0, 1, 2, 3, 4]);
        pruner.observe(&window());
        assert_eq!(pruner.active(), [0, 1, 2, 4]);
        pruner.observe(&window());
        pruner.observe(&window());
        assert_eq!(pruner.active(), [0, 2, 4]);
    }

    #[test]
    fn the_front_is_never_pruned() {
        let mut pruner = Pruner::with_rule(5, 1, 1.0, 0);
        pruner.observe(&window());
        assert_eq!(pruner.active(), [0, 2, 4]);
    }

    #[test]
    fn new_drift_brings_all_back() {
        let after = |accuracies: &[f64], frames: usize| {
            let mut pruner = Pruner::with_rule(5, 1, 1.0, 0);
            pruner.observe(&window());
            for accuracy in accuracies {
                pruner.observe_accuracy(*accuracy, frames);
            }
            pruner.active().len()
        };
        assert_eq!(after(&[0.8, 0.78, 0.82, 0.76], 400), 3);
        assert_eq!(after(&[0.8, 0.7], 400), 5);
        // On ten frames such a fall is chance.
        assert_eq!(after(&[0.8, 0.7], 10), 3);
        assert_eq!(after(&[f64::NAN], 10), 3);
    }
}
