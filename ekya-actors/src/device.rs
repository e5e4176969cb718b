//! Devices: who may run a minibatch now.
//!
//! A [`Device`] is the only authority over its shares. A job [registers](Device::job), gets
//! [grants](Device::grant) from the scheduler, and asks for a [`Lease`] around every minibatch. The
//! queue below ([`Sfq`]) decides whose turn it is; this module adds threads, clocks and counters.
//!
//! # Back to back
//! A job with more work must say so by [`Lease::renew`], which ends one minibatch and asks for the
//! next in one step. A job that drops its lease and then asks again has nothing waiting at the
//! instant at which the device becomes free, so that another one gets it: two such jobs run in
//! turns, whatever their shares ("deceptive idleness", Iyer and Druschel 2001).
//!
//! ```
//! # use ekya_actors::{Device, Grant, LeaseError};
//! # use ekya_sched::Share;
//! # let device = Device::new("cpu0", 1);
//! # let job = device.job("cam1/training");
//! # let share = Share::from_micro(250_000);
//! # device.grant(Grant { job: job.id(), share, term: 0, sequence: 1, expires: None }).unwrap();
//! # let mut minibatches = 0..3;
//! let mut lease = job.lease()?;
//! while let Some(minibatch) = minibatches.next() {
//!     # let _ = minibatch;
//!     // … train on it …
//!     lease = lease.renew()?;
//! }
//! drop(lease);
//! # Ok::<(), LeaseError>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekya_sched::Share;
use parking_lot::{Condvar, Mutex, MutexGuard};
use thiserror::Error;

use crate::plant::{self, Bug};
use crate::sfq::{JobId, Sfq, Ticket};

/// A device that minibatches take turns on. Clones are the same device.
#[derive(Clone)]
pub struct Device {
    shared: Arc<Shared>,
}

/// A share of a device for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The job, from [`JobHandle::id`].
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

/// Why there is no lease. The request is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The device was closed.
    #[error("the device is closed")]
    Closed,
    /// The job was stopped.
    #[error("the job was stopped")]
    Stopped,
    /// The deadline passed while others ran, or while the job was paused.
    #[error("no turn on the device before the deadline")]
    Deadline,
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
    /// Time of finished leases. With a depth above 1, the sum over jobs may exceed elapsed time.
    pub busy: Duration,
    /// Number of finished leases.
    pub minibatches: u64,
    /// Time spent waiting for leases that were given, paused time included.
    pub waited: Duration,
}

/// A job on a device; dropping it removes the job and frees its share.
pub struct JobHandle {
    seat: Arc<Seat>,
}

/// The right to use one slot of the device; dropping it ends the minibatch and charges its time.
#[must_use = "the minibatch ends when the lease is dropped"]
pub struct Lease {
    seat: Arc<Seat>,
    /// Absent once [`Lease::renew`] has ended the minibatch.
    ticket: Option<Ticket>,
    since: Instant,
}

/// A job's place on its device, where its threads wait.
struct Seat {
    shared: Arc<Shared>,
    job: JobId,
    turn: Arc<Condvar>,
}

struct Shared {
    name: String,
    ledger: Mutex<Ledger>,
}

struct Ledger {
    queue: Sfq,
    jobs: BTreeMap<JobId, Entry>,
    /// Grants that lapse, soonest first.
    expiries: BTreeSet<(Instant, JobId)>,
    /// Start of every lease, from the moment its slot was taken.
    running: BTreeMap<Ticket, Instant>,
    /// Newest term of any grant, refused ones included.
    term: u64,
    closed: bool,
}

struct Entry {
    name: String,
    turn: Arc<Condvar>,
    /// Term and sequence of its newest grant.
    newest: (u64, u64),
    expires: Option<Instant>,
    busy: Duration,
    minibatches: u64,
    waited: Duration,
    stopped: bool,
}

impl Device {
    /// A device on which `depth` minibatches (at least one) run side by side; its capacity is
    /// [`Share::WHOLE`], whatever the depth.
    #[must_use]
    pub fn new(name: impl Into<String>, depth: usize) -> Self {
        let ledger = Ledger {
            queue: Sfq::new(depth),
            jobs: BTreeMap::new(),
            expiries: BTreeSet::new(),
            running: BTreeMap::new(),
            term: 0,
            closed: false,
        };
        let shared = Shared {
            name: name.into(),
            ledger: Mutex::new(ledger),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Registers a job without a share: it waits until it is granted one.
    #[must_use]
    pub fn job(&self, name: impl Into<String>) -> JobHandle {
        let turn = Arc::new(Condvar::new());
        let mut ledger = self.shared.ledger.lock();
        let job = ledger.queue.add();
        ledger
            .jobs
            .insert(job, Entry::new(name.into(), Arc::clone(&turn)));
        let shared = Arc::clone(&self.shared);
        JobHandle {
            seat: Arc::new(Seat { shared, job, turn }),
        }
    }

    /// Sets the share of one job, from its next minibatch on.
    ///
    /// # Errors
    /// [`GrantError`]; no share has changed then.
    pub fn grant(&self, grant: Grant) -> Result<(), GrantError> {
        self.grant_all(&[grant])
    }

    /// Sets several shares at once: all or none, so that shares may move between jobs. Jobs that are
    /// not named keep theirs; of a job named twice, the last grant counts.
    ///
    /// # Errors
    /// [`GrantError`] of the first grant that cannot be; no share has changed then.
    pub fn grant_all(&self, grants: &[Grant]) -> Result<(), GrantError> {
        self.grant_at(grants, Instant::now())
    }

    pub(crate) fn grant_at(&self, grants: &[Grant], now: Instant) -> Result<(), GrantError> {
        let mut ledger = self.shared.ledger.lock();
        ledger.grant(grants, now)?;
        ledger.pump(now);
        Ok(())
    }

    /// Like [`grant_at`](Self::grant_at), for what the device's own node grants, whoever leads: it
    /// counts as of the newest term.
    pub(crate) fn grant_own_at(&self, grant: Grant, now: Instant) -> Result<(), GrantError> {
        let mut ledger = self.shared.ledger.lock();
        let term = ledger.term;
        ledger.grant(&[Grant { term, ..grant }], now)?;
        ledger.pump(now);
        Ok(())
    }

    /// What is granted to nobody.
    #[must_use]
    pub fn free(&self) -> Share {
        self.free_at(Instant::now())
    }

    pub(crate) fn free_at(&self, now: Instant) -> Share {
        let mut ledger = self.shared.ledger.lock();
        ledger.lapse(now);
        let jobs = ledger.jobs.keys();
        let granted = jobs.map(|&job| ledger.queue.weight(job));
        granted.fold(capacity(), Share::saturating_sub)
    }

    /// What every registered job has got so far, in the order of registration.
    #[must_use]
    pub fn usage(&self) -> Vec<JobUsage> {
        let mut ledger = self.shared.ledger.lock();
        ledger.lapse(Instant::now());
        ledger
            .jobs
            .iter()
            .map(|(&job, entry)| entry.usage(job, ledger.queue.weight(job)))
            .collect()
    }

    /// Ends all waiting, now and later, with [`LeaseError::Closed`]. Leases that are out stay valid.
    pub fn close(&self) {
        let mut ledger = self.shared.ledger.lock();
        ledger.closed = true;
        for entry in ledger.jobs.values() {
            entry.turn.notify_all();
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl JobHandle {
    /// Names the job in grants.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.seat.job
    }

    /// Waits for the job's turn. Blocks the calling thread: never call it from an actor.
    ///
    /// # Errors
    /// [`LeaseError::Closed`] or [`LeaseError::Stopped`].
    pub fn lease(&self) -> Result<Lease, LeaseError> {
        self.seat.take(None, None)
    }

    /// Like [`lease`](Self::lease), but gives up at a deadline.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn lease_by(&self, deadline: Instant) -> Result<Lease, LeaseError> {
        self.seat.take(None, Some(deadline))
    }

    /// Ends this job's waiting, now and later, with [`LeaseError::Stopped`]. To be called from
    /// another thread, through an `Arc<JobHandle>`. Leases that are out stay valid.
    pub fn stop(&self) {
        let mut ledger = self.seat.shared.ledger.lock();
        if let Some(entry) = ledger.jobs.get_mut(&self.seat.job) {
            entry.stopped = true;
        }
        self.seat.turn.notify_all();
    }

    pub(crate) fn rename(&self, name: &str) {
        let mut ledger = self.seat.shared.ledger.lock();
        if let Some(entry) = ledger.jobs.get_mut(&self.seat.job) {
            name.clone_into(&mut entry.name);
        }
    }

    /// What the job has got so far.
    #[must_use]
    pub fn usage(&self) -> JobUsage {
        let job = self.seat.job;
        let mut ledger = self.seat.shared.ledger.lock();
        ledger.lapse(Instant::now());
        let share = ledger.queue.weight(job);
        match ledger.jobs.get(&job) {
            Some(entry) => entry.usage(job, share),
            // The entry lives as long as the handle; this arm only spares a panic.
            None => Entry::new(String::new(), Arc::clone(&self.seat.turn)).usage(job, share),
        }
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        let mut ledger = self.seat.shared.ledger.lock();
        ledger.forget(self.seat.job);
        // Whoever waits in `Lease::renew` of this job must not wait for ever.
        self.seat.turn.notify_all();
    }
}

impl std::fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobHandle")
            .field("job", &self.seat.job)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// How long the lease has been out, which is what will be charged.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends this minibatch and waits for the turn of the next. Blocks the calling thread.
    ///
    /// # Errors
    /// [`LeaseError::Closed`] or [`LeaseError::Stopped`], also when the job's handle is gone. The
    /// minibatch has ended and been charged all the same.
    pub fn renew(mut self) -> Result<Self, LeaseError> {
        let old = self.ticket.take();
        self.seat.take(old, None)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let now = Instant::now();
            let mut ledger = self.seat.shared.ledger.lock();
            ledger.release(ticket, now);
            ledger.pump(now);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

impl Seat {
    /// Waits for a turn, giving back `old` at the instant at which the new request is queued.
    fn take(
        self: &Arc<Self>,
        old: Option<Ticket>,
        deadline: Option<Instant>,
    ) -> Result<Lease, LeaseError> {
        let asked = Instant::now();
        let mut ledger = self.shared.ledger.lock();
        let refused = ledger.refusal(self.job);
        // In this order: the queue never sees a busy job idle.
        let ticket = match refused {
            None => ledger.queue.enqueue(self.job),
            Some(_) => None,
        };
        if let Some(old) = old {
            ledger.release(old, asked);
        }
        ledger.pump(asked);
        let ticket = ticket.ok_or(refused.unwrap_or(LeaseError::Stopped))?;
        let since = self.wait(&mut ledger, ticket, deadline)?;
        ledger.note_wait(self.job, since.saturating_duration_since(asked));
        let seat = Arc::clone(self);
        Ok(Lease {
            seat,
            ticket: Some(ticket),
            since,
        })
    }

    /// Sleeps until the ticket runs; returns since when it does. Withdraws it on an error.
    fn wait(
        &self,
        ledger: &mut MutexGuard<'_, Ledger>,
        ticket: Ticket,
        deadline: Option<Instant>,
    ) -> Result<Instant, LeaseError> {
        loop {
            if let Some(&since) = ledger.running.get(&ticket) {
                return Ok(since);
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let refused = ledger.refusal(self.job);
            if let Some(error) = refused.or(late.then_some(LeaseError::Deadline)) {
                ledger.queue.cancel(ticket);
                return Err(error);
            }
            match deadline {
                Some(deadline) => drop(self.turn.wait_until(ledger, deadline)),
                None => self.turn.wait(ledger),
            }
        }
    }
}

impl Ledger {
    /// Why a job may not wait (any more).
    fn refusal(&self, job: JobId) -> Option<LeaseError> {
        match self.jobs.get(&job) {
            _ if self.closed => Some(LeaseError::Closed),
            Some(entry) if !entry.stopped => None,
            _ => Some(LeaseError::Stopped),
        }
    }

    /// Puts grants in force, all or none.
    fn grant(&mut self, grants: &[Grant], now: Instant) -> Result<(), GrantError> {
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
        let entry = self.jobs.get(&job).ok_or(GrantError::UnknownJob(job))?;
        let newest = before.map_or(entry.newest, Grant::number);
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
        let share = |job| match grants.get(job) {
            Some(grant) => grant.share,
            None => self.queue.weight(*job),
        };
        let micro = |job| u64::from(share(job).micro());
        let total = self.jobs.keys().map(micro).sum();
        let capacity = u64::from(capacity().micro());
        if total > capacity {
            return Err(GrantError::OverCapacity { total, capacity });
        }
        Ok(())
    }

    /// Puts a grant that was checked into force.
    fn apply(&mut self, grant: &Grant) {
        let Some(entry) = self.jobs.get_mut(&grant.job) else {
            return;
        };
        entry.newest = grant.number();
        if let Some(old) = std::mem::replace(&mut entry.expires, grant.expires) {
            self.expiries.remove(&(old, grant.job));
        }
        if let Some(new) = grant.expires {
            self.expiries.insert((new, grant.job));
        }
        self.queue.set_weight(grant.job, grant.share);
    }

    /// Pauses the jobs whose grants have lapsed.
    fn lapse(&mut self, now: Instant) {
        while let Some(&(at, job)) = self.expiries.first().filter(|(at, _)| *at <= now) {
            self.expiries.remove(&(at, job));
            self.queue.set_weight(job, Share::ZERO);
            if let Some(entry) = self.jobs.get_mut(&job) {
                entry.expires = None;
            }
        }
    }

    /// Lets run whoever may.
    fn pump(&mut self, now: Instant) {
        self.lapse(now);
        while let Some((job, ticket)) = self.queue.dispatch() {
            self.running.insert(ticket, now);
            self.wake(job);
        }
    }

    /// Ends a lease and charges it.
    fn release(&mut self, ticket: Ticket, now: Instant) {
        let since = self.running.remove(&ticket).unwrap_or(now);
        let cost = now.saturating_duration_since(since);
        let job = self.queue.complete(ticket, nanoseconds(cost));
        if let Some(entry) = job.and_then(|job| self.jobs.get_mut(&job)) {
            entry.busy += cost;
            entry.minibatches += 1;
        }
    }

    fn wake(&self, job: JobId) {
        if let Some(entry) = self.jobs.get(&job) {
            entry.turn.notify_all();
        }
    }

    fn note_wait(&mut self, job: JobId, waited: Duration) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.waited += waited;
        }
    }

    fn forget(&mut self, job: JobId) {
        self.queue.remove(job);
        if let Some(expires) = self.jobs.remove(&job).and_then(|entry| entry.expires) {
            self.expiries.remove(&(expires, job));
        }
    }
}

impl Entry {
    fn new(name: String, turn: Arc<Condvar>) -> Self {
        Self {
            name,
            turn,
            newest: (0, 0),
            expires: None,
            busy: Duration::ZERO,
            minibatches: 0,
            waited: Duration::ZERO,
            stopped: false,
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

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
