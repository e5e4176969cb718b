//! Devices: who may run a minibatch now.
//!
//! A [`Device`] is the only authority over its shares. A job [registers](Device::job), gets
//! [grants](Device::grant) from the scheduler, and asks for a [`Lease`] around every minibatch. The
//! [`Ledger`] decides who may run, and its queue whose turn it is; this module adds threads and the
//! clock, and does not decide anything itself.
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
//!
//! # One thread for many jobs
//! A job that has no thread of its own [asks](JobHandle::ask) for its turn and does not wait; a thread that
//! works for many such jobs waits for [whichever turn comes next](Device::turn). A job that asks again
//! before its lease is dropped is in the queue when the device becomes free, and keeps its place as by a
//! renewal. What those that come next in the queue want can be done in the same pass
//! ([`Lease::take_along`]): each is charged its part.
//!
//! # Waking
//! Each job's threads wait on their own, so that a turn wakes the one thread whose turn it is, where a
//! job has one that waits; and of the threads that wait for any turn, one is woken for each. No thread
//! watches for grants to lapse: somebody who waits is let run only by a call into the device, and each
//! of these looks first at what has lapsed by then. Nor does a lapse let anybody else run, since whoever
//! may run waits only while all slots are taken.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ekya_sched::Share;
use parking_lot::{Condvar, Mutex, MutexGuard};
use thiserror::Error;

use crate::ledger::{Grant, GrantError, JobUsage, Ledger};
use crate::sfq::{JobId, Ticket};

/// A device that minibatches take turns on. Clones are the same device.
#[derive(Clone)]
pub struct Device {
    shared: Arc<Shared>,
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

/// A job on a device; dropping it removes the job and frees its share.
pub struct JobHandle {
    seat: Arc<Seat>,
}

/// The right to use one slot of the device; dropping it ends the minibatch and charges its time, to its
/// job and to those taken along.
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
    state: Mutex<State>,
    /// Where threads wait for the turn of any job that has asked.
    any: Arc<Condvar>,
}

struct State {
    ledger: Ledger,
    waiting: BTreeMap<JobId, WaitingRoom>,
    /// Turns of jobs that have asked, which nobody has taken yet: no more than the depth.
    turns: VecDeque<(JobId, Ticket)>,
    any: Arc<Condvar>,
    closed: bool,
}

/// Where the threads of a job wait, of which there is seldom more than one: a turn wakes those of its
/// job, and nobody else's.
struct WaitingRoom {
    turn: Arc<Condvar>,
    seat: Weak<Seat>,
    /// What the job has asked for and not got yet, and since when.
    asked: Option<(Ticket, Instant)>,
    stopped: bool,
}

impl Device {
    /// A device on which `depth` minibatches (at least one) run side by side; its capacity is
    /// [`Share::WHOLE`], whatever the depth.
    #[must_use]
    pub fn new(name: impl Into<String>, depth: usize) -> Self {
        let any = Arc::new(Condvar::new());
        let state = State {
            ledger: Ledger::new(depth),
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            any: Arc::clone(&any),
            closed: false,
        };
        let shared = Shared {
            name: name.into(),
            state: Mutex::new(state),
            any,
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
        let mut state = self.shared.state.lock();
        let job = state.ledger.register(name);
        let seat = Arc::new(Seat {
            shared: Arc::clone(&self.shared),
            job,
            turn: Arc::clone(&turn),
        });
        let room = WaitingRoom {
            turn,
            seat: Arc::downgrade(&seat),
            asked: None,
            stopped: false,
        };
        state.waiting.insert(job, room);
        drop(state);
        JobHandle { seat }
    }

    /// How many minibatches run side by side: so many threads may hold leases at a time.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.state.lock().ledger.depth()
    }

    /// Waits for the turn of any job that has [asked](JobHandle::ask) for it. Blocks the calling thread:
    /// never call it from an actor. A turn that has come occupies the device until somebody takes it, so
    /// have as many threads call this as the device is [deep](Self::depth).
    ///
    /// # Errors
    /// [`LeaseError::Closed`].
    pub fn turn(&self) -> Result<Lease, LeaseError> {
        let mut state = self.shared.state.lock();
        loop {
            if state.closed {
                return Err(LeaseError::Closed);
            }
            let Some((job, ticket)) = state.turns.pop_front() else {
                self.shared.any.wait(&mut state);
                continue;
            };
            let since = state.ledger.running_since(ticket);
            let seat = state.waiting.get(&job).and_then(|room| room.seat.upgrade());
            if let Some((seat, since)) = seat.zip(since) {
                let ticket = Some(ticket);
                return Ok(Lease {
                    seat,
                    ticket,
                    since,
                });
            }
            // The job is gone.
            let now = Instant::now();
            state.ledger.end(ticket, now);
            state.pump(now);
        }
    }

    /// The job whose turn is next, when it has [asked](JobHandle::ask) for it: who may be
    /// [taken along](Lease::take_along).
    #[must_use]
    pub fn next_asking(&self) -> Option<JobId> {
        let mut state = self.shared.state.lock();
        state.next_asking(Instant::now())
    }

    /// Registers a job with a share that does not lapse, for who plans by hand; later grants of any
    /// leader count.
    ///
    /// # Errors
    /// [`GrantError::OverCapacity`] when others have too much; there is no such job then.
    pub fn job_with(&self, name: impl Into<String>, share: Share) -> Result<JobHandle, GrantError> {
        let job = self.job(name);
        let grant = Grant {
            job: job.id(),
            share,
            term: 0,
            sequence: 0,
            expires: None,
        };
        self.grant_own_at(grant, Instant::now())?;
        Ok(job)
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
        let mut state = self.shared.state.lock();
        state.ledger.grant(grants, now)?;
        state.pump(now);
        Ok(())
    }

    /// Like [`grant_at`](Self::grant_at), for what the device's own node grants, whoever leads: it
    /// counts as of the newest term.
    pub(crate) fn grant_own_at(&self, grant: Grant, now: Instant) -> Result<(), GrantError> {
        let mut state = self.shared.state.lock();
        let term = state.ledger.term();
        state.ledger.grant(&[Grant { term, ..grant }], now)?;
        state.pump(now);
        Ok(())
    }

    /// What is granted to nobody.
    #[must_use]
    pub fn free(&self) -> Share {
        self.free_at(Instant::now())
    }

    pub(crate) fn free_at(&self, now: Instant) -> Share {
        self.shared.state.lock().ledger.free(now)
    }

    /// What every registered job has got so far, in the order of registration.
    #[must_use]
    pub fn usage(&self) -> Vec<JobUsage> {
        self.shared.state.lock().ledger.usage(Instant::now())
    }

    /// Ends all waiting, now and later, with [`LeaseError::Closed`]. Leases that are out stay valid.
    pub fn close(&self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        for room in state.waiting.values() {
            room.turn.notify_all();
        }
        state.any.notify_all();
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

    /// Asks for the job's turn without waiting for it: [`Device::turn`] gives it to whoever works for the
    /// job. Does nothing when the job waits for its turn already, is stopped, or the device is closed.
    /// A job either asks or takes [leases](Self::lease) itself.
    pub fn ask(&self) {
        let now = Instant::now();
        let job = self.seat.job;
        let mut state = self.seat.shared.state.lock();
        let waits = state
            .waiting
            .get(&job)
            .is_none_or(|room| room.asked.is_some());
        if waits || state.refusal(job).is_some() {
            return;
        }
        let ticket = state.ledger.request(job);
        if let Some(room) = state.waiting.get_mut(&job) {
            room.asked = ticket.map(|ticket| (ticket, now));
        }
        state.pump(now);
    }

    /// Ends this job's waiting, now and later, with [`LeaseError::Stopped`], and takes back what it has
    /// asked for. To be called from another thread, through an `Arc<JobHandle>`. Leases that are out
    /// stay valid.
    pub fn stop(&self) {
        let mut state = self.seat.shared.state.lock();
        if let Some(room) = state.waiting.get_mut(&self.seat.job) {
            room.stopped = true;
            if let Some((ticket, _)) = room.asked.take() {
                state.ledger.withdraw(ticket);
            }
        }
        self.seat.turn.notify_all();
    }

    pub(crate) fn rename(&self, name: &str) {
        let mut state = self.seat.shared.state.lock();
        state.ledger.rename(self.seat.job, name);
    }

    /// What the job has got so far.
    #[must_use]
    pub fn usage(&self) -> JobUsage {
        let mut state = self.seat.shared.state.lock();
        state.ledger.usage_of(self.seat.job, Instant::now())
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        let mut state = self.seat.shared.state.lock();
        state.ledger.remove(self.seat.job);
        state.waiting.remove(&self.seat.job);
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

    /// Ends this minibatch and begins the next where that needs no waiting, since nobody else waits.
    /// Otherwise nothing has changed.
    ///
    /// # Errors
    /// The lease as it was.
    pub fn renew_alone(mut self) -> Result<Self, Self> {
        let now = Instant::now();
        let mut state = self.seat.shared.state.lock();
        let job = self.seat.job;
        let alone = state.refusal(job).is_none() && state.ledger.would_run_alone(job, now);
        let next = self.ticket.filter(|_| alone).and_then(|old| {
            let next = state.ledger.request(job);
            state.ledger.end(old, now);
            state.pump(now);
            next
        });
        drop(state);
        match next {
            Some(_) => {
                (self.ticket, self.since) = (next, now);
                Ok(self)
            }
            None => Err(self),
        }
    }

    /// The job whose turn it is.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.seat.job
    }

    /// Serves a job whose turn is [next](Device::next_asking) in this lease, too: its request runs from
    /// here on and ends with the lease, and the device's time is divided between them. False, and
    /// nothing has changed, when it is not next any more.
    pub fn take_along(&mut self, job: JobId) -> bool {
        let now = Instant::now();
        let mut state = self.seat.shared.state.lock();
        match self.ticket {
            Some(lead) if state.next_asking(now) == Some(job) => state.take_along(lead, now),
            _ => false,
        }
    }

    /// Sets how much of the lease is for one of its jobs, in whatever unit, say pictures: the time is
    /// divided in proportion. One part each, unless something else is said. Of a job that was taken
    /// along more than once, the last time is meant.
    pub fn set_parts(&mut self, job: JobId, parts: u32) {
        let mut state = self.seat.shared.state.lock();
        if let Some(lead) = self.ticket {
            state.ledger.set_parts(lead, job, parts);
        }
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
            let mut state = self.seat.shared.state.lock();
            state.ledger.end(ticket, now);
            state.pump(now);
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
        let mut state = self.shared.state.lock();
        let refused = state.refusal(self.job);
        // In this order: the queue never sees a busy job idle.
        let ticket = match refused {
            None => state.ledger.request(self.job),
            Some(_) => None,
        };
        if let Some(old) = old {
            state.ledger.end(old, asked);
        }
        state.pump(asked);
        let ticket = ticket.ok_or(refused.unwrap_or(LeaseError::Stopped))?;
        let since = self.wait(&mut state, ticket, deadline)?;
        let waited = since.saturating_duration_since(asked);
        state.ledger.note_wait(self.job, waited);
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
        state: &mut MutexGuard<'_, State>,
        ticket: Ticket,
        deadline: Option<Instant>,
    ) -> Result<Instant, LeaseError> {
        loop {
            if let Some(since) = state.ledger.running_since(ticket) {
                return Ok(since);
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let refused = state.refusal(self.job);
            if let Some(error) = refused.or(late.then_some(LeaseError::Deadline)) {
                state.ledger.withdraw(ticket);
                return Err(error);
            }
            match deadline {
                Some(deadline) => drop(self.turn.wait_until(state, deadline)),
                None => self.turn.wait(state),
            }
        }
    }
}

impl State {
    /// Why a job may not wait (any more).
    fn refusal(&self, job: JobId) -> Option<LeaseError> {
        match self.waiting.get(&job) {
            _ if self.closed => Some(LeaseError::Closed),
            Some(room) if !room.stopped => None,
            _ => Some(LeaseError::Stopped),
        }
    }

    /// Lets run whoever may.
    fn pump(&mut self, now: Instant) {
        while let Some((job, ticket)) = self.ledger.start(now) {
            if self.answer(job, ticket, now) {
                self.turns.push_back((job, ticket));
                self.any.notify_one();
            } else if let Some(room) = self.waiting.get(&job) {
                room.turn.notify_all();
            }
        }
    }

    /// Whether a request that runs now is what its job has asked for, which it has got then.
    fn answer(&mut self, job: JobId, ticket: Ticket, now: Instant) -> bool {
        let room = self.waiting.get_mut(&job);
        let asked = room.and_then(|room| room.asked.take_if(|(asked, _)| *asked == ticket));
        if let Some((_, since)) = asked {
            let waited = now.saturating_duration_since(since);
            self.ledger.note_wait(job, waited);
        }
        asked.is_some()
    }

    fn next_asking(&mut self, now: Instant) -> Option<JobId> {
        let job = self.ledger.first(now)?;
        self.waiting.get(&job)?.asked?;
        Some(job)
    }

    fn take_along(&mut self, lead: Ticket, now: Instant) -> bool {
        let Some((job, ticket)) = self.ledger.start_along(lead, now) else {
            return false;
        };
        self.answer(job, ticket, now)
    }
}
