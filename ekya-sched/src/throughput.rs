//! How fast a retraining is under a share of its device.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Share;

/// Speed of training against its share: 1 is the speed on a whole device.
///
/// Linear between corners, from nothing at no share to the first, and flat after the last, which
/// is the largest share that is of any use. By default speed equals share, without an end: then a
/// retraining that may span several devices is as many times faster.
///
/// On a GPU small jobs are seldom linear: in the paper's measurements a tenth of a GPU makes a job
/// 2.8 times slower, not ten times. [`Throughput::measured`] takes such measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Corner>", into = "Vec<Corner>")]
pub struct Throughput {
    corners: Vec<Corner>,
}

/// Above this, ends of retrainings could not be told apart in time.
const SPEED_MAX: f64 = 1e6;

/// A measured point of a [`Throughput`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corner {
    /// Share of the device.
    pub share: Share,
    /// Speed under this share; 1 on a whole device.
    pub speed: f64,
}

/// Points that are no throughput.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ThroughputError {
    /// Nothing was measured.
    #[error("a throughput needs at least one point")]
    Empty,
    /// Shares have to rise.
    #[error("point {index}: share {share} is not above the one before (the first: above zero)")]
    Share {
        /// Index of the point.
        index: usize,
        /// Its share.
        share: Share,
    },
    /// A speed that is none, or falls.
    #[error(
        "point {index}: speed {speed} is not a number above zero, at most a million, that is at least the one before"
    )]
    Speed {
        /// Index of the point.
        index: usize,
        /// What was given.
        speed: f64,
    },
}

/// A piece of the concave hull of a [`Throughput`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Piece {
    /// Devices.
    pub(crate) width: f64,
    /// Speed per device.
    pub(crate) slope: f64,
}

impl Default for Throughput {
    fn default() -> Self {
        Self::linear_to(Share::from_micro(u32::MAX))
    }
}

impl Throughput {
    /// Speed equals share up to the largest share that is of use; a share of zero is taken for one
    /// micro-GPU.
    #[must_use]
    pub fn linear_to(largest: Share) -> Self {
        let share = largest.max(Share::from_micro(1));
        let speed = share.as_f64();
        Self {
            corners: vec![Corner { share, speed }],
        }
    }

    /// From measurements of one job under rising shares: the share, and the seconds that the job
    /// took. The last share should be a whole device, on which speed is 1; if it is less, its speed is
    /// taken to equal it. Speeds that fall by noise are levelled.
    ///
    /// # Errors
    /// Without points, with shares that do not rise, or with seconds that are not above zero.
    pub fn measured(points: &[(Share, f64)]) -> Result<Self, ThroughputError> {
        let &(last_share, last_seconds) = points.last().ok_or(ThroughputError::Empty)?;
        // Speed on a whole device, by the share of the last point if that is less.
        let whole = last_seconds * last_share.as_f64().min(1.0);
        let mut fastest = 0.0;
        let corner = |&(share, seconds): &(Share, f64)| {
            fastest = f64::max(fastest, whole / seconds);
            let speed = if seconds > 0.0 { fastest } else { f64::NAN };
            Corner { share, speed }
        };
        Self::try_from(points.iter().map(corner).collect::<Vec<_>>())
    }

    /// Speed under a share; 1 on a whole device.
    #[must_use]
    pub fn speed(&self, share: Share) -> f64 {
        self.speed_at(share.as_f64())
    }

    /// The same, for a share in devices.
    pub(crate) fn speed_at(&self, devices: f64) -> f64 {
        let mut from = (0.0, 0.0);
        for corner in &self.corners {
            let to = (corner.share.as_f64(), corner.speed);
            if devices < to.0 {
                return from.1 + (devices - from.0) / (to.0 - from.0) * (to.1 - from.1);
            }
            from = to;
        }
        from.1
    }

    /// The largest share that makes a retraining any faster.
    #[must_use]
    pub fn largest_useful(&self) -> Share {
        self.corners[self.corners.len() - 1].share
    }

    /// The smallest share under which speed is at least so high, to the nearest micro-GPU; `None`
    /// where no share is enough, and for what is no number.
    #[must_use]
    pub fn share_for(&self, speed: f64) -> Option<Share> {
        if speed <= 0.0 {
            return Some(Share::ZERO);
        }
        let mut from = (0.0, 0.0);
        for corner in &self.corners {
            let to = (corner.share.as_f64(), corner.speed);
            if speed <= to.1 {
                // Above `from.1`, or an earlier corner had been enough: no division by zero.
                let devices = from.0 + (speed - from.1) / (to.1 - from.1) * (to.0 - from.0);
                let micro = (devices * f64::from(Share::WHOLE.micro())).round();
                // At most the corner's own share.
                return Some(Share::from_micro(micro as u32).min(corner.share));
            }
            from = to;
        }
        None
    }

    /// This curve, flat from a share on.
    pub(crate) fn cut_to(&self, share: Share) -> Self {
        let below = |corner: &&Corner| corner.share < share;
        let mut corners: Vec<Corner> = self.corners.iter().take_while(below).copied().collect();
        let speed = self.speed(share);
        if corners.len() < self.corners.len() && speed > 0.0 {
            corners.push(Corner { share, speed });
        }
        Self { corners }
    }

    /// Whether speed is proportional to the share, up to `capacity`.
    pub(crate) fn is_linear_to(&self, capacity: Share) -> bool {
        self.corners.len() == 1
            && self.corners[0].share >= capacity
            && (self.corners[0].speed - self.corners[0].share.as_f64()).abs() < 1e-9
    }

    /// Pieces of the concave hull up to `capacity` devices, the steepest first. No share is worth
    /// more than the hull says.
    pub(crate) fn pieces(&self, capacity: f64) -> Vec<Piece> {
        let mut points = vec![(0.0, 0.0)];
        let inside = |corner: &&Corner| corner.share.as_f64() < capacity;
        let corners = self.corners.iter().take_while(inside);
        let corners = corners.map(|corner| (corner.share.as_f64(), corner.speed));
        for point in corners.chain([(capacity, self.speed_at(capacity))]) {
            points.push(point);
            while let [.., a, b, c] = points[..]
                && (b.1 - a.1) * (c.0 - b.0) <= (c.1 - b.1) * (b.0 - a.0)
            {
                points.remove(points.len() - 2);
            }
        }
        let piece = |pair: &[(f64, f64)]| Piece {
            width: pair[1].0 - pair[0].0,
            slope: (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0),
        };
        let pieces = points.windows(2).map(piece);
        pieces
            .filter(|piece| piece.width > 0.0 && piece.slope > 0.0)
            .collect()
    }
}

impl TryFrom<Vec<Corner>> for Throughput {
    type Error = ThroughputError;

    fn try_from(corners: Vec<Corner>) -> Result<Self, ThroughputError> {
        if corners.is_empty() {
            return Err(ThroughputError::Empty);
        }
        let (mut last, mut slowest) = (Share::ZERO, 0.0);
        for (index, &Corner { share, speed }) in corners.iter().enumerate() {
            if share <= last {
                return Err(ThroughputError::Share { index, share });
            }
            if !(speed > 0.0 && speed <= SPEED_MAX && speed >= slowest) {
                return Err(ThroughputError::Speed { index, speed });
            }
            (last, slowest) = (share, speed);
        }
        Ok(Self { corners })
    }
}

impl From<Throughput> for Vec<Corner> {
    fn from(throughput: Throughput) -> Self {
        throughput.corners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenths(tenths: u32) -> Share {
        Share::from_micro(tenths * 100_000)
    }

    fn measured() -> Throughput {
        let points = [(tenths(1), 15.0), (tenths(5), 6.0), (tenths(10), 5.0)];
        Throughput::measured(&points).unwrap_or_default()
    }

    #[test]
    fn speed_equals_share_by_default() {
        let linear = Throughput::default();
        assert!((linear.speed(tenths(80)) - 8.0).abs() < 1e-9);
        assert!(linear.is_linear_to(tenths(80)));
        assert!(!Throughput::linear_to(tenths(10)).is_linear_to(tenths(80)));
        assert_eq!(Throughput::linear_to(tenths(10)).speed(tenths(80)), 1.0);
    }

    #[test]
    fn measured_points_are_met_and_joined() {
        let curve = measured();
        assert!((curve.speed(tenths(1)) - 1.0 / 3.0).abs() < 1e-9);
        assert!((curve.speed(tenths(3)) - (1.0 / 3.0 + 5.0 / 6.0) / 2.0).abs() < 1e-9);
        assert_eq!(curve.speed(tenths(10)), 1.0);
        assert_eq!(curve.speed(tenths(20)), 1.0);
        assert_eq!(curve.speed(Share::ZERO), 0.0);
        assert_eq!(curve.largest_useful(), tenths(10));
    }

    #[test]
    fn pieces_get_flatter_and_reach_the_whole_speed() {
        let pieces = measured().pieces(3.0);
        let speed: f64 = pieces.iter().map(|piece| piece.width * piece.slope).sum();
        assert!((speed - 1.0).abs() < 1e-9);
        assert!(pieces.windows(2).all(|pair| pair[0].slope >= pair[1].slope));
    }

    #[test]
    fn the_share_for_a_speed_is_the_smallest_that_gives_it() {
        let curve = measured();
        assert_eq!(curve.share_for(0.0), Some(Share::ZERO));
        assert_eq!(curve.share_for(1.0 / 6.0), Some(Share::from_micro(50_000)));
        assert_eq!(curve.share_for(1.0), Some(tenths(10)));
        assert_eq!(curve.share_for(1.001), None);
        assert_eq!(curve.share_for(f64::NAN), None);
        let levelled = [(tenths(2), 2.0), (tenths(5), 2.0), (tenths(10), 1.0)];
        let levelled = Throughput::measured(&levelled).unwrap_or_default();
        assert_eq!(levelled.share_for(0.5), Some(tenths(2)));
        assert_eq!(Throughput::default().share_for(2.5), Some(tenths(25)));
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        assert_eq!(Throughput::measured(&[]), Err(ThroughputError::Empty));
        assert!(Throughput::measured(&[(tenths(2), 1.0), (tenths(1), 1.0)]).is_err());
        assert!(Throughput::measured(&[(tenths(2), 0.0)]).is_err());
        assert!(Throughput::measured(&[(tenths(2), f64::NAN)]).is_err());
    }
}
