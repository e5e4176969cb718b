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
//! # Waking
//! Each job's threads wait on their own, so that a turn wakes the one thread whose turn it is, where a
//! job has one that waits. No thread watches for grants to lapse: somebody who waits is let run only by
//! a call into the device, and each of these looks first at what has lapsed by then. Nor does a lapse let
//! anybody else run, since whoever may run waits only while all slots are taken.

use std::collections::BTreeMap;
use std::sync::Arc;
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
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    waiting: BTreeMap<JobId, WaitingRoom>,
    closed: bool,
}

/// Where the threads of a job wait, of which there is seldom more than one: a turn wakes those of its
/// job, and nobody else's.
struct WaitingRoom {
    turn: Arc<Condvar>,
    stopped: bool,
}

impl Device {
    /// A device on which `depth` minibatches (at least one) run side by side; its capacity is
    /// [`Share::WHOLE`], whatever the depth.
    #[must_use]
    pub fn new(name: impl Into<String>, depth: usize) -> Self {
        let state = State {
            ledger: Ledger::new(depth),
            waiting: BTreeMap::new(),
            closed: false,
        };
        let shared = Shared {
            name: name.into(),
            state: Mutex::new(state),
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
        let room = WaitingRoom {
            turn: Arc::clone(&turn),
            stopped: false,
        };
        let mut state = self.shared.state.lock();
        let job = state.ledger.register(name);
        state.waiting.insert(job, room);
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
        let mut state = self.seat.shared.state.lock();
        if let Some(room) = state.waiting.get_mut(&self.seat.job) {
            room.stopped = true;
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
        while let Some((job, _)) = self.ledger.start(now) {
            if let Some(room) = self.waiting.get(&job) {
                room.turn.notify_all();
            }
        }
    }
}
