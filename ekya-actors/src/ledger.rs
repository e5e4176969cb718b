//! What a device is granted to, who runs on it and what that has cost: a pure state machine around the
//! queue ([`Sfq`]).
//!
//! No thread and no clock is in here: every call that depends on the time is told it. A
//! [`Device`](crate::Device) puts threads and the clock around it; the simulations and property tests
//! drive it on virtual time.
//!
//! ```
//! # use std::time::{Duration, Instant};
//! # use ekya_actors::Grant;
//! # use ekya_actors::ledger::Ledger;
//! # use ekya_sched::Share;
//! # let mut now = Instant::now();
//! let mut ledger = Ledger::new(1);
//! let job = ledger.register("cam1/training");
//! let share = Share::from_micro(250_000);
//! let expires = Some(now + Duration::from_secs(60));
//! ledger.grant(&[Grant { job, share, term: 0, sequence: 1, expires }], now)?;
//! let ticket = ledger.request(job).expect("it is registered");
//! assert_eq!(ledger.start(now), Some((job, ticket)));
//! now += Duration::from_millis(40);
//! ledger.end(ticket, now);
//! assert_eq!(ledger.usage_of(job, now).busy, Duration::from_millis(40));
//! # Ok::<(), ekya_actors::GrantError>(())
//! ```
//!
//! # Invariants
//! - The shares in force add up to [`Share::WHOLE`] at most.
//! - Nothing of a job whose grant has lapsed or was never given is started. A lapse needs nobody to
//!   watch for it: it counts from the first call that is told a later time, and until then nothing is
//!   started and nothing read.
//! - What was started is let run, whatever happens to its job's grant, and is charged to its end.
//! - What runs together is charged together, each job its part: the parts add up to the time it took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ekya_sched::Share;
use thiserror::Error;

use crate::plant::{self, Bug};
use crate::ranking::Ranking;
use crate::sfq::{JobId, Sfq, Ticket};

/// A share of a device for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The job, from [`JobHandle::id`](crate::JobHandle::id).
    pub job: JobId,
    /// Its part of the device from its next minibatch on; zero pauses it.
    pub share: Share,
    /// Term of the leader that grants. Once a device has seen a newer one, it refuses what an older
    /// leader grants to any job.
    pub term: u64,
    /// Within a term, grants of a job with a lower number than its newest are refused; the same
    /// number may come again. A newer term may count from the beginning.
    pub sequence: u64,
    /// When the grant lapses and the job pauses; never when absent.
    pub expires: Option<Instant>,
}

impl Grant {
    /// By which grants of a job are ordered.
    const fn number(&self) -> (u64, u64) {
        (self.term, self.sequence)
    }
}

/// Why a grant was refused. No share has changed then; a newer term counts as seen all the same, for
/// nothing else that is wrong with a leader's plan puts the leader before it back in power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The job is not registered on this device (any more).
    #[error("{0} is not registered on this device")]
    UnknownJob(JobId),
    /// The grant is of a leader that has been replaced.
    #[error("the grant for {job} is of term {term}, and the device has seen term {newest}")]
    OldTerm {
        /// The job.
        job: JobId,
        /// Term of the refused grant.
        term: u64,
        /// Newest term that the device has seen.
        newest: u64,
    },
    /// A newer grant of the same term has been seen.
    #[error("grant {sequence} for {job} is older than grant {newest}, which is in force")]
    Stale {
        /// The job.
        job: JobId,
        /// Number of the refused grant.
        sequence: u64,
        /// Number of the newest grant.
        newest: u64,
    },
    /// The grant has lapsed already.
    #[error("the grant for {0} has expired")]
    Expired(JobId),
    /// All grants together would exceed the device.
    #[error("grants would add up to {total} micro-devices, the device has {capacity}")]
    OverCapacity {
        /// What they would add up to, in micro-devices.
        total: u64,
        /// What there is, in micro-devices.
        capacity: u64,
    },
}

/// What a job has got so far. Counters only grow: take the difference of two readings for a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobUsage {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// The share in force now.
    pub share: Share,
    /// Time of finished leases, its part of those that it had with others. With a depth above 1, the sum
    /// over jobs may exceed elapsed time.
    pub busy: Duration,
    /// Number of finished leases, those with others included.
    pub minibatches: u64,
    /// Time spent waiting for leases that were given, paused time included.
    pub waited: Duration,
}

/// The books of one device.
///
/// Call [`start`](Self::start) until it returns nothing after every [`request`](Self::request),
/// [`end`](Self::end), [`withdraw`](Self::withdraw) and [`grant`](Self::grant).
#[derive(Debug)]
pub struct Ledger {
    queue: Sfq,
    accounts: BTreeMap<JobId, Account>,
    /// Sum of the shares in force, in micro-devices.
    granted: u64,
    /// Jobs whose grants lapse, soonest first.
    expiries: Ranking<Instant>,
    /// What runs, in the order in which it was started: few enough to look through.
    running: Vec<Running>,
    /// Newest term of any grant, refused ones included.
    term: u64,
}

#[derive(Debug)]
struct Running {
    job: JobId,
    ticket: Ticket,
    since: Instant,
    /// What it runs along with, which ends it; itself if that is nothing else.
    lead: Ticket,
    /// How much of what they take together is for it.
    parts: u32,
}

#[derive(Debug)]
struct Account {
    name: String,
    /// Term and sequence of its newest grant.
    newest: (u64, u64),
    busy: Duration,
    minibatches: u64,
    waited: Duration,
}

impl Ledger {
    /// Books of a device on which `depth` minibatches (at least one) run side by side; its capacity is
    /// [`Share::WHOLE`], whatever the depth.
    #[must_use]
    pub fn new(depth: usize) -> Self {
        Self {
            queue: Sfq::new(depth),
            accounts: BTreeMap::new(),
            granted: 0,
            expiries: Ranking::new(),
            running: Vec::new(),
            term: 0,
        }
    }

    /// How many minibatches run side by side.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.queue.depth()
    }

    /// A new job, without a share.
    pub fn register(&mut self, name: impl Into<String>) -> JobId {
        let job = self.queue.add();
        self.accounts.insert(job, Account::new(name.into()));
        job
    }

    /// Removes a job, its requests and its share. What runs of it still occupies the device, until it
    /// is [ended](Self::end).
    pub fn remove(&mut self, job: JobId) {
        self.set_share(job, Share::ZERO);
        self.expiries.remove(job.0);
        self.queue.remove(job);
        self.accounts.remove(&job);
    }

    /// Calls a job something else from now on.
    pub fn rename(&mut self, job: JobId, name: &str) {
        if let Some(account) = self.accounts.get_mut(&job) {
            name.clone_into(&mut account.name);
        }
    }

    /// Sets several shares at once: all or none, so that shares may move between jobs. Jobs that are
    /// not named keep theirs; of a job named twice, the last grant counts.
    ///
    /// # Errors
    /// [`GrantError`] of the first grant that cannot be; no share has changed then.
    pub fn grant(&mut self, grants: &[Grant], now: Instant) -> Result<(), GrantError> {
        self.lapse(now);
        // Of each job the last one.
        let mut last: BTreeMap<JobId, &Grant> = BTreeMap::new();
        for grant in grants {
            self.see_term(grant)?;
            self.check(grant, last.get(&grant.job).copied(), now)?;
            last.insert(grant.job, grant);
        }
        self.check_capacity(&last)?;
        for grant in last.into_values() {
            self.apply(grant);
        }
        Ok(())
    }

    /// Newest term that any grant was of, refused ones included.
    #[must_use]
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// What is granted to nobody.
    pub fn free(&mut self, now: Instant) -> Share {
        self.lapse(now);
        // At most the capacity, which is that of a share.
        let granted = u32::try_from(self.granted).unwrap_or(u32::MAX);
        capacity().saturating_sub(Share::from_micro(granted))
    }

    /// What every registered job has got so far, in the order of registration.
    pub fn usage(&mut self, now: Instant) -> Vec<JobUsage> {
        self.lapse(now);
        let usage =
            |(&job, account): (&JobId, &Account)| account.usage(job, self.queue.weight(job));
        self.accounts.iter().map(usage).collect()
    }

    /// What one job has got so far: nothing, if it is not registered.
    pub fn usage_of(&mut self, job: JobId, now: Instant) -> JobUsage {
        self.lapse(now);
        let usage = |account: &Account| account.usage(job, self.queue.weight(job));
        let nothing = || usage(&Account::new(String::new()));
        self.accounts.get(&job).map_or_else(nothing, usage)
    }

    /// A job wants to run a minibatch, after those it has waiting; `None` if it is not registered.
    pub fn request(&mut self, job: JobId) -> Option<Ticket> {
        self.queue.enqueue(job)
    }

    /// Takes back a request that still waits.
    pub fn withdraw(&mut self, ticket: Ticket) {
        self.queue.cancel(ticket);
    }

    /// Starts the minibatch whose turn it is, if the device has room and somebody may run.
    pub fn start(&mut self, now: Instant) -> Option<(JobId, Ticket)> {
        self.lapse(now);
        let (job, ticket) = self.queue.dispatch()?;
        self.running.push(Running {
            job,
            ticket,
            since: now,
            lead: ticket,
            parts: 1,
        });
        Some((job, ticket))
    }

    /// Whether a request of the job would be the only one that waits and may run: then it would be
    /// started as soon as there is room.
    pub fn would_run_alone(&mut self, job: JobId, now: Instant) -> bool {
        self.first(now).is_none() && self.queue.weight(job) > Share::ZERO
    }

    /// The job whose minibatch is started next, when there is room.
    pub fn first(&mut self, now: Instant) -> Option<JobId> {
        self.lapse(now);
        self.queue.first()
    }

    /// Starts the minibatch whose turn is next along with one that runs, `lead`: in its room, and until
    /// its end. What both take is divided among them in proportion to their
    /// [parts](Self::set_parts), one each.
    pub fn start_along(&mut self, lead: Ticket, now: Instant) -> Option<(JobId, Ticket)> {
        let since = self.running_since(lead)?;
        self.lapse(now);
        let (job, ticket) = self.queue.dispatch_along()?;
        self.running.push(Running {
            job,
            ticket,
            since,
            lead,
            parts: 1,
        });
        Some((job, ticket))
    }

    /// Sets how much of what `lead` takes, with those that run along with it, is for one of their jobs: of
    /// its minibatches, for the one that was started last.
    pub fn set_parts(&mut self, lead: Ticket, job: JobId, parts: u32) {
        let mut running = self.running.iter_mut().rev();
        if let Some(one) = running.find(|one| one.lead == lead && one.job == job) {
            one.parts = parts;
        }
    }

    /// Since when a minibatch runs; `None` if it does not.
    #[must_use]
    pub fn running_since(&self, ticket: Ticket) -> Option<Instant> {
        let mut running = self.running.iter();
        let running = running.find(|running| running.ticket == ticket)?;
        Some(running.since)
    }

    /// Ends a minibatch that runs, with all that run along with it, and charges each job its part of the
    /// time. What runs along ends with its lead, and not by itself.
    pub fn end(&mut self, ticket: Ticket, now: Instant) {
        let Some(since) = self.running_since(ticket) else {
            return;
        };
        let mut cost = now.saturating_duration_since(since);
        let together = self.running.iter().filter(|one| one.lead == ticket);
        let mut parts: u64 = together.map(|one| u64::from(one.parts)).sum();
        let mut place = self.running.len();
        while place > 0 {
            place -= 1;
            if self.running[place].lead == ticket {
                let one = self.running.remove(place);
                // Of what is left, so that nothing is lost in rounding.
                let part = part_of(cost, u64::from(one.parts), parts);
                self.charge(one.ticket, part);
                cost -= part;
                parts -= u64::from(one.parts);
            }
        }
    }

    fn charge(&mut self, ticket: Ticket, cost: Duration) {
        let job = self.queue.complete(ticket, nanoseconds(cost));
        if let Some(account) = job.and_then(|job| self.accounts.get_mut(&job)) {
            account.busy += cost;
            account.minibatches += 1;
        }
    }

    /// Notes how long a job waited for what was started.
    pub fn note_wait(&mut self, job: JobId, waited: Duration) {
        if let Some(account) = self.accounts.get_mut(&job) {
            account.waited += waited;
        }
    }

    fn see_term(&mut self, grant: &Grant) -> Result<(), GrantError> {
        let (job, term, newest) = (grant.job, grant.term, self.term);
        if term < newest && !plant::is(Bug::StaleGrant) {
            return Err(GrantError::OldTerm { job, term, newest });
        }
        self.term = term.max(newest);
        Ok(())
    }

    /// `before` is the grant before it for the same job in the same plan.
    fn check(&self, grant: &Grant, before: Option<&Grant>, now: Instant) -> Result<(), GrantError> {
        let job = grant.job;
        let account = self.accounts.get(&job).ok_or(GrantError::UnknownJob(job))?;
        let newest = before.map_or(account.newest, Grant::number);
        if grant.number() < newest && !plant::is(Bug::StaleGrant) {
            let (sequence, (_, newest)) = (grant.sequence, newest);
            return Err(GrantError::Stale {
                job,
                sequence,
                newest,
            });
        }
        if grant.expires.is_some_and(|expires| expires <= now) {
            return Err(GrantError::Expired(job));
        }
        Ok(())
    }

    fn check_capacity(&self, grants: &BTreeMap<JobId, &Grant>) -> Result<(), GrantError> {
        let micro = |share: Share| u64::from(share.micro());
        let before: u64 = grants
            .keys()
            .map(|job| micro(self.queue.weight(*job)))
            .sum();
        let after: u64 = grants.values().map(|grant| micro(grant.share)).sum();
        let total = self.granted - before + after;
        let capacity = micro(capacity());
        if total > capacity {
            return Err(GrantError::OverCapacity { total, capacity });
        }
        Ok(())
    }

    /// Puts a grant that was checked into force.
    fn apply(&mut self, grant: &Grant) {
        if let Some(account) = self.accounts.get_mut(&grant.job) {
            account.newest = grant.number();
        }
        match grant.expires {
            Some(expires) => self.expiries.put(grant.job.0, expires),
            None => self.expiries.remove(grant.job.0),
        }
        self.set_share(grant.job, grant.share);
    }

    /// Pauses the jobs whose grants have lapsed.
    fn lapse(&mut self, now: Instant) {
        while let Some((_, key)) = self.expiries.first().filter(|(at, _)| *at <= now) {
            self.expiries.remove(key);
            self.set_share(JobId(key), Share::ZERO);
        }
    }

    fn set_share(&mut self, job: JobId, share: Share) {
        self.granted -= u64::from(self.queue.weight(job).micro());
        self.queue.set_weight(job, share);
        self.granted += u64::from(self.queue.weight(job).micro());
    }
}

impl Account {
    const fn new(name: String) -> Self {
        Self {
            name,
            newest: (0, 0),
            busy: Duration::ZERO,
            minibatches: 0,
            waited: Duration::ZERO,
        }
    }

    fn usage(&self, job: JobId, share: Share) -> JobUsage {
        JobUsage {
            job,
            name: self.name.clone(),
            share,
            busy: self.busy,
            minibatches: self.minibatches,
            waited: self.waited,
        }
    }
}

/// Of a device.
fn capacity() -> Share {
    let slip = u32::from(plant::is(Bug::OffByOne));
    Share::from_micro(Share::WHOLE.micro() + slip)
}

/// So many parts of a time that is all of them; all of it if there are none.
fn part_of(time: Duration, parts: u64, all: u64) -> Duration {
    if parts == all {
        return time;
    }
    let part = time.as_nanos() * u128::from(parts) / u128::from(all);
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX)).min(time)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
