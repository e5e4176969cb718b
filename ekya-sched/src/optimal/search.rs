//! The best sequence of retrainings, by local search.

use super::pool::{Job, Pool, Sequence};

/// Gains below this many accuracy-seconds end the search.
const LEAST_GAIN: f64 = 1e-9;

/// A sequence and what it is worth ([`Pool::worth`]).
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) sequence: Sequence,
    pub(super) worth: f64,
}

impl Found {
    /// A sequence, where it can be carried out.
    pub(super) fn of(pool: &Pool<'_>, sequence: Sequence) -> Option<Self> {
        let worth = pool.worth(&sequence)?;
        Some(Self { sequence, worth })
    }

    /// No retraining, which can always be carried out.
    pub(super) fn nothing(pool: &Pool<'_>) -> Self {
        let sequence = Sequence::nothing();
        let worth = pool.worth(&sequence).unwrap_or(0.0);
        Self { sequence, worth }
    }

    /// The one that is worth more.
    pub(super) fn or_better(self, other: Self) -> Self {
        if other.worth > self.worth + LEAST_GAIN {
            other
        } else {
            self
        }
    }
}

/// How much may still be computed, in ladders looked at: a count, so that equal problems give
/// equal plans on any machine.
pub(super) struct Effort(pub(super) u64);

impl Effort {
    /// Takes off what evaluating so many jobs costs; false when it is all spent.
    pub(super) fn spend(&mut self, pool: &Pool<'_>, jobs: usize) -> bool {
        let prices = if pool.is_linear { 1 } else { 8 };
        let cost = (pool.streams.len() * (jobs + 1) * prices) as u64;
        self.0 = self.0.saturating_sub(cost);
        self.0 > 0
    }
}

/// Improves a sequence until nothing helps or the effort is spent.
///
/// A step takes one stream out of the sequence and puts it back with the retraining, and at the
/// place, that are worth most; or leaves it out. When no such step helps, neighbours that differ
/// by an exchange of two jobs are tried, then those in which one stream is retrained instead of
/// another.
pub(super) fn improve(pool: &Pool<'_>, mut found: Found, effort: &mut Effort) -> Found {
    loop {
        let before = found.worth;
        for stream in 0..pool.streams.len() {
            put_back(pool, stream, &mut found, effort);
        }
        if found.worth <= before + LEAST_GAIN {
            exchange(pool, &mut found, effort);
        }
        if found.worth <= before + LEAST_GAIN {
            for stream in 0..pool.streams.len() {
                take_place(pool, stream, &mut found, effort);
            }
        }
        if found.worth <= before + LEAST_GAIN || effort.0 == 0 {
            return found;
        }
    }
}

/// Gives one stream the retraining and the place that are worth most.
fn put_back(pool: &Pool<'_>, stream: usize, found: &mut Found, effort: &mut Effort) {
    let mut rest = found.sequence.jobs.clone();
    rest.retain(|job| job.stream != stream);
    if rest.len() < found.sequence.jobs.len() {
        if !effort.spend(pool, rest.len()) {
            return;
        }
        consider(pool, &rest, found);
    }
    for choice in 0..pool.streams[stream].choices.len() {
        let mut jobs = rest.clone();
        jobs.insert(0, Job { stream, choice });
        for place in 0..jobs.len() {
            if place > 0 {
                jobs.swap(place - 1, place);
            }
            if !effort.spend(pool, jobs.len()) {
                return;
            }
            consider(pool, &jobs, found);
        }
    }
}

/// Exchanges the places of any two jobs where that helps.
fn exchange(pool: &Pool<'_>, found: &mut Found, effort: &mut Effort) {
    for a in 0..found.sequence.jobs.len() {
        for b in a + 1..found.sequence.jobs.len() {
            if !effort.spend(pool, found.sequence.jobs.len()) {
                return;
            }
            let mut jobs = found.sequence.jobs.clone();
            jobs.swap(a, b);
            consider(pool, &jobs, found);
        }
    }
}

/// Retrains a stream instead of another where that helps.
fn take_place(pool: &Pool<'_>, stream: usize, found: &mut Found, effort: &mut Effort) {
    let now = found.sequence.jobs.clone();
    if now.iter().any(|job| job.stream == stream) {
        return;
    }
    for choice in 0..pool.streams[stream].choices.len() {
        for place in 0..now.len() {
            if !effort.spend(pool, now.len()) {
                return;
            }
            let mut jobs = now.clone();
            jobs[place] = Job { stream, choice };
            consider(pool, &jobs, found);
        }
    }
}

fn consider(pool: &Pool<'_>, jobs: &[Job], found: &mut Found) {
    let sequence = Sequence {
        jobs: jobs.to_vec(),
        side_by_side: found.sequence.side_by_side,
    };
    if let Some(better) = Found::of(pool, sequence)
        && better.worth > found.worth + LEAST_GAIN
    {
        *found = better;
    }
}
