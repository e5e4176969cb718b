//! Paired differences and their intervals.
//!
//! Two schedulers are compared on the same scenes: run by run, each difference is taken within one
//! (seed, load), so that what makes a scene hard for everybody cancels out.

use std::collections::BTreeMap;

/// Mean of a sample with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Arithmetic mean.
    pub mean: f64,
    /// Half the width of the interval around the mean; absent for a sample of one.
    pub half_width: Option<f64>,
    /// Size of the sample.
    pub n: usize,
}

impl Estimate {
    /// Mean and two-sided 95 % interval of Student's t, `mean ± t(0.975, n - 1) · s / √n` with the
    /// sample standard deviation s. Absent when there are no samples. It takes the samples for
    /// independent.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let n = samples.len();
        let mean = mean(samples)?;
        let half_width = (n > 1).then(|| {
            let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
            let variance = squares / (n - 1) as f64;
            t_quantile_975(n - 1) * (variance / n as f64).sqrt()
        });
        Some(Self {
            mean,
            half_width,
            n,
        })
    }
}

/// Arithmetic mean; absent for no samples.
#[must_use]
pub fn mean(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
}

/// `a - b` for every key that both have, in the order of the keys.
#[must_use]
pub fn paired_differences<K: Ord + Clone>(
    a: &BTreeMap<K, f64>,
    b: &BTreeMap<K, f64>,
) -> BTreeMap<K, f64> {
    a.iter()
        .filter_map(|(key, a)| b.get(key).map(|b| (key.clone(), a - b)))
        .collect()
}

/// 0.975 quantiles of Student's t for 1 to 30 degrees of freedom (any statistics textbook).
const T_975: [f64; 30] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010,
    2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687,
    2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
];

/// 0.975 quantile of the normal distribution.
const Z_975: f64 = 1.959_963_985;

/// 0.975 quantile of Student's t. Infinite for no degree of freedom; from the table up to 30; beyond,
/// the first three terms of Abramowitz & Stegun 26.7.5, which are within 0.0001 there.
#[must_use]
pub fn t_quantile_975(degrees_of_freedom: usize) -> f64 {
    let Some(row) = degrees_of_freedom.checked_sub(1) else {
        return f64::INFINITY;
    };
    if let Some(quantile) = T_975.get(row) {
        return *quantile;
    }
    let (z, v) = (Z_975, degrees_of_freedom as f64);
    let g1 = (z.powi(3) + z) / 4.0;
    let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    z + g1 / v + g2 / v.powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let golden = [
            (1, 12.706),
            (2, 4.303),
            (8, 2.306),
            (30, 2.042),
            (31, 2.0395),
            (40, 2.0211),
            (60, 2.0003),
            (120, 1.9799),
            (1_000_000, 1.9600),
        ];
        for (degrees, quantile) in golden {
            let got = t_quantile_975(degrees);
            assert!((got - quantile).abs() < 5e-4, "{degrees}: {got}");
        }
        assert_eq!(t_quantile_975(0), f64::INFINITY);
    }

    #[test]
    fn quantiles_fall_with_the_degrees_of_freedom() {
        assert!((1..200).all(|degrees| t_quantile_975(degrees) > t_quantile_975(degrees + 1)));
    }

    /// Student's own sleep data (1908): ten paired differences, mean 1.58, interval 0.70 to 2.46.
    #[test]
    fn interval_of_students_sleep_data() {
        let differences = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
        let estimate = Estimate::of(&differences).unwrap();
        assert!((estimate.mean - 1.58).abs() < 1e-9);
        let half = estimate.half_width.unwrap();
        assert!((estimate.mean - half - 0.700_114).abs() < 1e-4);
        assert!((estimate.mean + half - 2.459_886).abs() < 1e-4);
    }

    #[test]
    fn one_sample_has_no_interval_and_none_has_no_mean() {
        assert_eq!(Estimate::of(&[]), None);
        let one = Estimate::of(&[0.5]).unwrap();
        assert_eq!((one.mean, one.half_width, one.n), (0.5, None, 1));
    }

    #[test]
    fn pairs_are_those_that_both_have() {
        let a = BTreeMap::from([(1, 0.8), (2, 0.7), (3, 0.6)]);
        let b = BTreeMap::from([(2, 0.5), (3, 0.6), (4, 0.1)]);
        let keys: Vec<_> = paired_differences(&a, &b).into_keys().collect();
        assert_eq!(keys, [2, 3]);
    }
}
