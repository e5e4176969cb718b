//! A job's turn on its device, kept from one minibatch to the next.
//!
//! Whoever accounts for the work and whoever waits for a process that does it share one: when a
//! minibatch takes too long there, the turn is given up in the middle of it and waited for again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ekya_actors::worker::Overrun;
use ekya_actors::{JobHandle, Lease, LeaseError};
use parking_lot::Mutex;

/// A turn is this part of what a training step may take, where others wait: shares are kept the better
/// the shorter turns are, and inference waits for one at most. A worker in the middle of a step is
/// stopped for the others' turns, which takes about .1 ms.
pub const TURNS_A_STEP: u32 = 4;

/// How long a minibatch may go on that nobody wants any more. Most end by themselves, and the worker
/// lives; a new one would take about as long to be ready.
const GRACE: Duration = Duration::from_millis(500);

/// The turn of one job. At most one thread computes for it at a time.
#[derive(Debug)]
pub struct Turn {
    job: Arc<JobHandle>,
    held: Mutex<Held>,
    /// Set when nobody wants any more what is computed now.
    cancelled: Mutex<Arc<AtomicBool>>,
}

#[derive(Debug, Default)]
struct Held {
    lease: Option<Lease>,
    /// Device time of the leases before.
    spent: Duration,
    /// When it was noticed in the middle of a minibatch that the task is cancelled.
    noticed: Option<Instant>,
}

impl Turn {
    /// Of a job; nothing is held yet.
    #[must_use]
    pub fn new(job: Arc<JobHandle>) -> Self {
        Self {
            job,
            held: Mutex::default(),
            cancelled: Mutex::default(),
        }
    }

    /// Another task begins, which somebody ends by setting `cancelled`.
    pub(super) fn begin(&self, cancelled: Arc<AtomicBool>) {
        *self.cancelled.lock() = cancelled;
        self.held.lock().noticed = None;
    }

    /// Waits for the turn of the next minibatch, and ends the one before in the same step: a job
    /// that let go and asked anew would find the others before it, whatever its share.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing is held then.
    pub fn next(&self) -> Result<(), LeaseError> {
        let mut held = self.held.lock();
        let lease = match held.lease.take() {
            Some(lease) => {
                held.spent += lease.held();
                lease.renew()
            }
            None => self.job.lease(),
        };
        held.lease = Some(lease?);
        Ok(())
    }

    /// Between two parts of a minibatch: where the turn has been held for `slice` and more, lets others
    /// have theirs first.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing is held then.
    pub fn yield_after(&self, slice: Duration) -> Result<(), LeaseError> {
        let held = self.held.lock().lease.as_ref().map(Lease::held);
        if held.is_some_and(|held| held >= slice) {
            self.next()
        } else {
            Ok(())
        }
    }

    /// Waits for something that is not the device: without the turn, which is waited for again
    /// afterwards where it was held.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing is held then.
    pub fn aside<R>(&self, wait: impl FnOnce() -> R) -> Result<R, LeaseError> {
        let held = self.is_held();
        self.end();
        let waited = wait();
        if held {
            self.next()?;
        }
        Ok(waited)
    }

    /// Whether nobody wants any more what is computed now, and it has had its time to end by itself.
    fn is_overdue(&self) -> bool {
        let cancelled = self.cancelled.lock().load(Ordering::Relaxed);
        let mut held = self.held.lock();
        if !cancelled || held.lease.is_none() {
            return false;
        }
        held.noticed.get_or_insert_with(Instant::now).elapsed() >= GRACE
    }

    /// Whether it is held now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.lock().lease.is_some()
    }

    /// Gives it back.
    pub fn end(&self) {
        let mut held = self.held.lock();
        if let Some(lease) = held.lease.take() {
            held.spent += lease.held();
        }
    }

    /// Device time so far; it only grows.
    #[must_use]
    pub fn spent(&self) -> Duration {
        let held = self.held.lock();
        held.spent + held.lease.as_ref().map_or(Duration::ZERO, Lease::held)
    }
}

/// In the middle of a minibatch that has taken too long, others have their turn first; a task that
/// nobody wants any more gets no other. Work that holds no turn, such as loading a model when a node
/// starts, just goes on.
impl Overrun for &Turn {
    fn go_on(&mut self) -> bool {
        if self.is_overdue() {
            return false;
        }
        let mut held = self.held.lock();
        let Some(lease) = held.lease.take() else {
            return true;
        };
        let spent = lease.held();
        let renewed = lease.renew_alone();
        let alone = renewed.is_ok();
        if alone {
            held.spent += spent;
        }
        held.lease = Some(renewed.unwrap_or_else(|same| same));
        alone
    }

    fn next_turn(&mut self) -> Result<(), LeaseError> {
        if self.is_overdue() {
            self.end();
            return Err(LeaseError::Stopped);
        }
        self.next()
    }
}
