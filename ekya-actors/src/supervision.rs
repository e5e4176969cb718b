//! Restarts after a panic, within a budget.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::envelope::guarded;
use crate::system::Running;

/// How often an actor may be restarted, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarts {
    /// At most so many restarts…
    pub at_most: u32,
    /// …within this time; one more panic ends the actor.
    pub within: Duration,
    /// What is waited before a restart.
    pub backoff: Backoff,
}

impl Restarts {
    /// So many within that time, each at once.
    #[must_use]
    pub const fn new(at_most: u32, within: Duration) -> Self {
        Self {
            at_most,
            within,
            backoff: Backoff::NONE,
        }
    }

    /// The same after a while.
    #[must_use]
    pub const fn after(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }
}

/// How long to wait before something is tried again: twice as long each time, and up to half as long
/// again by chance, so that many that fail together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first time.
    pub first: Duration,
    /// Before any, chance left out.
    pub most: Duration,
}

impl Backoff {
    /// At once.
    pub const NONE: Self = Self {
        first: Duration::ZERO,
        most: Duration::ZERO,
    };

    /// Before the `nth` time, counted from 0. `chance` is in 0..1.
    pub(crate) fn before(self, nth: u32, chance: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(nth).unwrap_or(u32::MAX));
        let pause = doubled.min(self.most);
        // Another node may have said for how long, and need not have been reasonable.
        pause.saturating_add(pause.mul_f64(chance / 2.0))
    }
}

/// Actors that depend on each other: when one of them panics, all are restarted, within one budget for
/// all; when that is used up, all end. Clones are the same group.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Mutex<Members>>,
}

struct Members {
    budget: Budget,
    all: Vec<Member>,
}

/// An actor of a group.
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) actor: Arc<dyn Running>,
}

impl Group {
    /// An empty group.
    #[must_use]
    pub fn new(restarts: Restarts) -> Self {
        let members = Members {
            budget: Budget::new(restarts),
            all: Vec::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(members)),
        }
    }

    pub(crate) fn add(&self, member: Member) {
        let mut members = self.inner.lock();
        // Members come and go: this is when those that have gone are forgotten.
        members.all.retain(|member| !member.actor.has_ended());
        members.all.push(member);
    }

    /// Has all others follow one that has panicked. How long it is to wait itself before it starts
    /// again; `None` when it must not.
    fn follow(&self, panicked: &Arc<str>) -> Option<Duration> {
        let mut members = self.inner.lock();
        let pause = members.budget.pause();
        for member in members.all.iter().filter(|member| member.name != *panicked) {
            member.actor.follow(panicked, pause);
        }
        if pause.is_none() {
            members.all.clear();
        }
        pause
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = self.inner.lock();
        let names = members.all.iter().map(|member| &*member.name);
        f.debug_set().entries(names).finish()
    }
}

/// What it takes to replace an actor.
pub(crate) struct Supervision<A> {
    factory: Box<dyn FnMut() -> A + Send>,
    restarts: Allowed,
}

/// Whose restarts are counted.
enum Allowed {
    Alone(Budget),
    Together(Group),
}

impl<A> Supervision<A> {
    pub(crate) fn alone(factory: Box<dyn FnMut() -> A + Send>, restarts: Restarts) -> Self {
        let restarts = Allowed::Alone(Budget::new(restarts));
        Self { factory, restarts }
    }

    pub(crate) fn together(factory: Box<dyn FnMut() -> A + Send>, group: Group) -> Self {
        let restarts = Allowed::Together(group);
        Self { factory, restarts }
    }

    /// A new instance of one that has panicked, and how long to wait before it starts, if there is a
    /// restart left and the factory does not panic.
    pub(crate) fn successor(&mut self, panicked: &Arc<str>) -> Option<(A, Duration)> {
        let pause = match &mut self.restarts {
            Allowed::Alone(budget) => budget.pause(),
            Allowed::Together(group) => group.follow(panicked),
        }?;
        Some((self.instance()?, pause))
    }

    /// A new instance; none when the factory panics.
    pub(crate) fn instance(&mut self) -> Option<A> {
        match guarded(&mut self.factory) {
            Ok(actor) => Some(actor),
            Err(panic) => {
                tracing::error!(panic, "an actor's factory panicked");
                None
            }
        }
    }
}

/// Restarts that follow each other within such a part of the budget's time are counted as one entry:
/// another node may allow any number of them, and must not have so many remembered.
const PARTS: u32 = 256;

/// The restarts that still count.
#[derive(Debug)]
struct Budget {
    restarts: Restarts,
    /// When, and how many from then on; oldest first.
    taken: VecDeque<(Instant, u32)>,
}

impl Budget {
    const fn new(restarts: Restarts) -> Self {
        let taken = VecDeque::new();
        Self { restarts, taken }
    }

    /// Takes a restart; what is waited before it, or `None` when there is none left.
    fn pause(&mut self) -> Option<Duration> {
        let nth = self.take(Instant::now())?;
        Some(self.restarts.backoff.before(nth, rand::random()))
    }

    /// Takes a restart at `now`; how many still count before it, or `None` when there is none left.
    fn take(&mut self, now: Instant) -> Option<u32> {
        let within = self.restarts.within;
        let since = |at| now.saturating_duration_since(at);
        self.taken.retain(|&(at, _)| since(at) < within);
        let before = self.taken.iter().map(|(_, count)| count).sum();
        if before >= self.restarts.at_most {
            return None;
        }
        match self.taken.back_mut() {
            Some((at, count)) if since(*at) < within / PARTS => *count += 1,
            _ => self.taken.push_back((now, 1)),
        }
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_runs_out_and_comes_back() {
        let restarts = Restarts::new(2, Duration::from_secs(60));
        let mut budget = Budget::new(restarts);
        let start = Instant::now();
        let mut take = |seconds| budget.take(start + Duration::from_secs(seconds));
        assert_eq!([0, 30, 59].map(&mut take), [Some(0), Some(1), None]);
        // The first no longer counts; the refused one never did.
        assert_eq!([60, 61].map(&mut take), [Some(1), None]);
    }

    #[test]
    fn a_budget_remembers_little_however_large_it_is() {
        let restarts = Restarts::new(u32::MAX, Duration::from_secs(60));
        let mut budget = Budget::new(restarts);
        let start = Instant::now();
        for millis in 0..60_000 {
            let taken = budget.take(start + Duration::from_millis(millis));
            assert_eq!(taken, u32::try_from(millis).ok());
        }
        assert!(
            budget.taken.len() <= PARTS as usize,
            "{}",
            budget.taken.len()
        );
        // Those of the first part are forgotten together.
        let taken = budget.take(start + Duration::from_secs(60));
        assert!(
            taken.is_some_and(|taken| (59_700..60_000).contains(&taken)),
            "{taken:?}"
        );
    }

    #[test]
    fn backoff_doubles_to_its_most_with_some_chance() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            most: Duration::from_secs(1),
        };
        let before = |nth, chance| backoff.before(nth, chance).as_millis();
        assert_eq!(
            [0, 1, 2, 3, 4, 40].map(|nth| before(nth, 0.0)),
            [100, 200, 400, 800, 1000, 1000]
        );
        assert_eq!(before(40, 1.0), 1500);
        assert_eq!(Backoff::NONE.before(5, 0.9), Duration::ZERO);
        let ever = Backoff {
            first: Duration::MAX,
            most: Duration::MAX,
        };
        assert_eq!(ever.before(5, 0.9), Duration::MAX);
    }
}
