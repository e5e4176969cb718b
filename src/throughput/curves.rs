//! What was measured of one kind of student on one device.

use ekya_sched::Throughput;
use serde::{Deserialize, Serialize};

/// Throughput of one kind of student on one device. The default is what nobody has measured: speed
/// equals share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curves {
    /// Speed of training against the share that it has, beside others that train without end.
    pub training: Throughput,
    /// The same of inference.
    pub inference: Throughput,
    /// Training steps a second, all together, of one job, two, and so on up to the device's depth.
    pub steps_per_second: Vec<f64>,
}

impl Curves {
    /// How many jobs at a time train most, counted from 1; the fewest where several are as good
    /// within a twentieth, which is noise.
    #[must_use]
    pub fn best_depth(&self) -> usize {
        let most = self.steps_per_second.iter().copied().fold(0.0, f64::max);
        let good = |rate: &f64| *rate >= most * 0.95;
        self.steps_per_second.iter().position(good).unwrap_or(0) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_by_side_only_where_that_trains_more() {
        let best = |rates: &[f64]| {
            let steps_per_second = rates.to_vec();
            let curves = Curves {
                steps_per_second,
                ..Curves::default()
            };
            curves.best_depth()
        };
        assert_eq!(best(&[10.0, 10.3, 9.0]), 1);
        assert_eq!(best(&[10.0, 17.0, 21.0]), 3);
        assert_eq!(best(&[]), 1);
    }
}
