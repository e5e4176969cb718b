//! Part of a device.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Part of a device in micro-GPU: an integer, so that ten tenths are exactly one device.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(extend("format" = "share"))]
pub struct Share(u32);

/// A number that is not a share.
#[derive(Debug, Error, PartialEq)]
#[error("a share is a number from 0 to 4294 devices, got {0}")]
pub struct ShareError(f64);

impl Share {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// A whole device.
    pub const WHOLE: Self = Self(1_000_000);

    /// From micro-GPU.
    #[must_use]
    pub const fn from_micro(micro: u32) -> Self {
        Self(micro)
    }

    /// In micro-GPU.
    #[must_use]
    pub const fn micro(self) -> u32 {
        self.0
    }

    /// In devices, for arithmetic with times.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// `self - other`, or nothing when `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self - other`, or `None` when `other` is larger.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(micro) => Some(Self(micro)),
            None => None,
        }
    }

    /// `self + other`, at most 4294 devices.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl TryFrom<f64> for Share {
    type Error = ShareError;

    /// Rounds to the nearest micro-GPU.
    fn try_from(devices: f64) -> Result<Self, ShareError> {
        let micro = (devices * 1e6).round();
        if (0.0..=f64::from(u32::MAX)).contains(&micro) {
            // In range, checked above.
            Ok(Self(micro as u32))
        } else {
            Err(ShareError(devices))
        }
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.as_f64()
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}", self.as_f64())
    }
}

/// `parts` shares that differ by at most one micro-GPU and sum to `whole`.
pub(crate) fn equal_parts(whole: Share, parts: usize) -> impl Iterator<Item = Share> {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX);
    let micro = whole.micro();
    let each = micro.checked_div(parts).unwrap_or(0);
    let larger = micro.checked_rem(parts).unwrap_or(0);
    (0..parts).map(move |part| Share::from_micro(each + u32::from(part < larger)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tenths_are_one_device() -> Result<(), ShareError> {
        let tenth = Share::try_from(0.1)?;
        let sum = (0..10).fold(Share::ZERO, |sum, _| sum.saturating_add(tenth));
        assert_eq!(sum, Share::WHOLE);
        Ok(())
    }

    #[test]
    fn negative_and_nan_are_refused() {
        assert!(Share::try_from(-0.1).is_err());
        assert!(Share::try_from(f64::NAN).is_err());
    }

    #[test]
    fn parts_are_equal_and_complete() {
        let parts: Vec<u32> = equal_parts(Share::from_micro(11), 3)
            .map(Share::micro)
            .collect();
        assert_eq!(parts, [4, 4, 3]);
        assert_eq!(equal_parts(Share::WHOLE, 0).count(), 0);
    }
}
