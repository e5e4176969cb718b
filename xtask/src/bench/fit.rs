//! How a time grows: the exponent of a power law through measured points.

/// The slope of `ln y` over `ln x` by least squares; `None` for fewer than three points, or where
/// all have the same `x`.
pub(super) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let logs = points.iter().map(|(x, y)| (x.ln(), y.ln()));
    let (sum_x, sum_y) = logs
        .clone()
        .fold((0.0, 0.0), |s, (x, y)| (s.0 + x, s.1 + y));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (mut square, mut product) = (0.0, 0.0);
    for (x, y) in logs {
        square += (x - mean_x) * (x - mean_x);
        product += (x - mean_x) * (y - mean_y);
    }
    (square > 0.0).then_some(product / square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_is_found() {
        let points = [1.0, 2.0, 5.0, 70.0].map(|x: f64| (x, 3.0 * x.powf(1.5)));
        assert!(exponent(&points).is_some_and(|e| (e - 1.5).abs() < 1e-9));
        assert_eq!(exponent(&points[..2]), None);
        assert_eq!(exponent(&[(2.0, 1.0); 3]), None);
    }
}
