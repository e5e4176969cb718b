//! Restarts after a panic, within a budget.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::envelope::guarded;

/// How often an actor may be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarts {
    /// At most so many restarts…
    pub at_most: u32,
    /// …within this time; one more panic ends the actor.
    pub within: Duration,
}

/// What it takes to replace an actor.
pub(crate) struct Supervision<A> {
    factory: Box<dyn FnMut() -> A + Send>,
    budget: Budget,
}

impl<A> Supervision<A> {
    pub(crate) fn new(factory: Box<dyn FnMut() -> A + Send>, restarts: Restarts) -> Self {
        let budget = Budget::new(restarts);
        Self { factory, budget }
    }

    /// A new instance, if the budget has one left and the factory does not panic.
    pub(crate) fn successor(&mut self) -> Option<A> {
        if !self.budget.take(Instant::now()) {
            return None;
        }
        match guarded(&mut self.factory) {
            Ok(actor) => Some(actor),
            Err(panic) => {
                tracing::error!(panic, "an actor's factory panicked");
                None
            }
        }
    }
}

/// The restarts that still count.
#[derive(Debug)]
struct Budget {
    restarts: Restarts,
    /// Oldest first, at most `at_most`.
    taken: VecDeque<Instant>,
}

impl Budget {
    const fn new(restarts: Restarts) -> Self {
        let taken = VecDeque::new();
        Self { restarts, taken }
    }

    /// Takes a restart at `now`; false when there is none left.
    fn take(&mut self, now: Instant) -> bool {
        let within = self.restarts.within;
        self.taken
            .retain(|&at| now.saturating_duration_since(at) < within);
        let left = self.taken.len() < self.restarts.at_most as usize;
        if left {
            self.taken.push_back(now);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_runs_out_and_comes_back() {
        let (at_most, within) = (2, Duration::from_secs(60));
        let mut budget = Budget::new(Restarts { at_most, within });
        let start = Instant::now();
        assert!(budget.take(start));
        assert!(budget.take(start + Duration::from_secs(30)));
        assert!(!budget.take(start + Duration::from_secs(59)));
        // The first no longer counts; the refused one never did.
        assert!(budget.take(start + Duration::from_secs(60)));
        assert!(!budget.take(start + Duration::from_secs(61)));
    }
}
