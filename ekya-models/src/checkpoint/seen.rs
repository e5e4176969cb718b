//! The frames that a student has been trained on, so that whoever erases a frame knows which
//! checkpoints have learnt from it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::FrameId;

/// Frames a checkpoint names, about 300 kB of its manifest; beyond, the earliest are left out.
const FRAMES_MAX: usize = 10_000;

/// The frames that a student has been trained on, itself or through those that it was retrained
/// from. Bounded: of the earliest only that there were some is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// When each was taken (Unix seconds) and what it is known by.
    frames: BTreeSet<(u64, FrameId)>,
    /// Frames taken until then (Unix seconds) may have been left out.
    left_out_until: Option<u64>,
}

impl Seen {
    /// Adds frames, each with when it was taken (Unix seconds).
    pub fn add(&mut self, frames: impl IntoIterator<Item = (u64, FrameId)>) {
        self.frames.extend(frames);
        while self.frames.len() > FRAMES_MAX {
            let left_out = self.frames.pop_first().map(|(taken_at, _)| taken_at);
            self.left_out_until = self.left_out_until.max(left_out);
        }
    }

    /// The frames: when each was taken (Unix seconds) and what it is known by, earliest first.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = (u64, FrameId)> + '_ {
        self.frames.iter().copied()
    }

    /// Until when (Unix seconds) frames were taken that may be missing from [`Self::frames`]; none
    /// is missing without.
    #[must_use]
    pub fn left_out_until(&self) -> Option<u64> {
        self.left_out_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    fn id(number: usize) -> FrameId {
        let [a, b, ..] = number.to_le_bytes();
        FrameId::of(&Image::new(1, 1, vec![a, b, 0]).unwrap())
    }

    #[test]
    fn the_earliest_are_left_out_and_that_is_said() {
        let mut seen = Seen::default();
        seen.add((0..FRAMES_MAX).map(|number| (number as u64, id(number))));
        assert_eq!(
            (seen.frames().len(), seen.left_out_until()),
            (FRAMES_MAX, None)
        );
        seen.add([(FRAMES_MAX as u64, id(FRAMES_MAX)), (3, id(3))]);
        assert_eq!(
            (seen.frames().len(), seen.left_out_until()),
            (FRAMES_MAX, Some(0))
        );
        assert_eq!(seen.frames().next(), Some((1, id(1))));
        // Older than all: it does not stay, and what is left out does not become less.
        seen.add([(0, id(7))]);
        assert_eq!(seen.left_out_until(), Some(0));
    }
}
