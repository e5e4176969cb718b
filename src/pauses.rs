//! Pauses between attempts at something that others may have lost at the same moment.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// First pause; doubled by every failure.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Pauses that are doubled from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`], each up to a quarter shorter, so that
/// those who have lost the same thing together do not come back in step.
pub(crate) struct Pauses {
    random: ChaCha8Rng,
    next: Duration,
}

impl Pauses {
    /// `seed` draws the pauses.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            next: FIRST_PAUSE,
        }
    }

    /// Begins with the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST_PAUSE;
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(LONGEST_PAUSE);
        full.mul_f64(self.random.random_range(0.75..=1.0))
    }
}
