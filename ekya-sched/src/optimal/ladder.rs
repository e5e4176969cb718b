//! What the inference of a stream is worth at each share: the concave hull over its options.

use crate::Share;
use crate::pick::Level;

/// Inference of one student: the corners of the concave hull over (share, accuracy), from the
/// least that it must have.
///
/// At a price for a device-second, the best corner is found by its slope alone. A corner is an
/// inference option (or nothing at all), so what stands at corners can be carried out exactly.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    corners: Vec<Rung>,
    /// Accuracy per device between a corner and the next; falling.
    slopes: Vec<f64>,
    /// All options from the first corner on, by rising share and accuracy.
    rungs: Vec<Rung>,
}

/// A share of inference and the accuracy that comes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rung {
    /// Exact, for plans.
    pub(super) share: Share,
    /// The same in devices, for arithmetic.
    pub(super) devices: f64,
    /// Times the stream's weight.
    pub(super) accuracy: f64,
    /// Index into the problem's inference options; none for nothing at all.
    pub(super) option: Option<usize>,
}

impl Rung {
    const NOTHING: Self = Self {
        share: Share::ZERO,
        devices: 0.0,
        accuracy: 0.0,
        option: None,
    };
}

impl Ladder {
    /// For a student of this `accuracy`, which counts `weight` times. Below `floor` nothing is on
    /// offer, unless no option reaches it.
    pub(super) fn new(levels: &[Level], accuracy: f64, floor: f64, weight: f64) -> Self {
        let rung = |level: &Level| Rung {
            share: level.share,
            devices: level.share.as_f64(),
            accuracy: accuracy * level.factor * weight,
            option: Some(level.option),
        };
        let mut rungs: Vec<Rung> = std::iter::once(Rung::NOTHING)
            .chain(levels.iter().map(rung))
            .collect();
        let enough = |rung: &Rung| rung.accuracy + crate::pick::EPSILON >= floor * weight;
        if let Some(first) = rungs.iter().position(enough) {
            rungs.drain(..first);
        }
        let corners = hull(&rungs);
        let slopes = corners
            .windows(2)
            .map(|pair| slope(&pair[0], &pair[1]))
            .collect();
        Self {
            corners,
            slopes,
            rungs,
        }
    }

    /// The least that it must have.
    pub(super) fn least(&self) -> Rung {
        self.corners[0]
    }

    /// The corner that is worth most when a device costs `price`.
    pub(super) fn at_price(&self, price: f64) -> Rung {
        self.corners[self.slopes.partition_point(|&slope| slope > price)]
    }

    /// Accuracy per device of the steepest and of the flattest step; `None` without steps.
    pub(super) fn slopes(&self) -> Option<(f64, f64)> {
        Some((*self.slopes.first()?, *self.slopes.last()?))
    }

    /// Corner after the `index`-th, with the accuracy per device of the step to it.
    pub(super) fn step_after(&self, index: usize) -> Option<(f64, Rung)> {
        Some((*self.slopes.get(index)?, self.corners[index + 1]))
    }

    /// All that is on offer, by rising share and accuracy.
    pub(super) fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// The most accurate option that `share` allows.
    pub(super) fn within(&self, share: Share) -> Rung {
        let fitting = self.rungs.partition_point(|rung| rung.share <= share);
        self.rungs[fitting.max(1) - 1]
    }
}

fn slope(from: &Rung, to: &Rung) -> f64 {
    (to.accuracy - from.accuracy) / (to.devices - from.devices)
}

/// Upper concave hull of points that rise in both directions (Andrew's monotone chain).
fn hull(rungs: &[Rung]) -> Vec<Rung> {
    let mut corners: Vec<Rung> = Vec::with_capacity(rungs.len());
    for rung in rungs {
        if let Some(last) = corners.last_mut()
            && last.share == rung.share
        {
            *last = *rung;
        } else {
            corners.push(*rung);
        }
        while let [.., a, b, c] = corners[..]
            && slope(&a, &b) <= slope(&b, &c)
        {
            corners.remove(corners.len() - 2);
        }
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(floor: f64) -> Ladder {
        let level = |tenths: u32, factor| Level {
            share: Share::from_micro(tenths * 100_000),
            factor,
            option: 0,
        };
        // The second lies below the line from the first to the third.
        Ladder::new(
            &[level(1, 0.5), level(2, 0.55), level(5, 1.0)],
            0.8,
            floor,
            1.0,
        )
    }

    #[test]
    fn options_below_the_hull_are_no_corners() {
        let ladder = ladder(0.0);
        let shares: Vec<f64> = ladder.corners.iter().map(|corner| corner.devices).collect();
        assert_eq!(shares, [0.0, 0.1, 0.5]);
        assert_eq!(
            ladder.within(Share::from_micro(300_000)).accuracy,
            0.8 * 0.55
        );
    }

    #[test]
    fn a_dear_device_buys_less() {
        let ladder = ladder(0.0);
        assert_eq!(ladder.at_price(100.0).devices, 0.0);
        assert_eq!(ladder.at_price(2.0).devices, 0.1);
        assert_eq!(ladder.at_price(0.0).devices, 0.5);
    }

    #[test]
    fn the_floor_takes_options_away_unless_none_reaches_it() {
        assert_eq!(ladder(0.42).least().devices, 0.2);
        assert_eq!(ladder(0.9).least().devices, 0.0);
    }
}
