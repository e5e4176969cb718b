//! A job's turn on its device, kept from one minibatch to the next.
//!
//! Whoever accounts for the work and whoever waits for a process that does it share one: when a
//! minibatch takes too long there, the turn is given up in the middle of it and waited for again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ekya_actors::{JobHandle, Lease, LeaseError};
use parking_lot::Mutex;

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

    /// In the middle of a minibatch that has taken too long: lets others have their turn first.
    /// Work that holds no turn, such as loading a model when a node starts, just goes on.
    ///
    /// # Errors
    /// [`LeaseError`], [`LeaseError::Stopped`] where the task is cancelled; nothing is held then.
    pub fn yield_now(&self) -> Result<(), LeaseError> {
        if !self.is_held() {
            return Ok(());
        }
        if self.cancelled.lock().load(Ordering::Relaxed) {
            self.end();
            return Err(LeaseError::Stopped);
        }
        self.next()
    }

    /// The same where it has been held for `slice` and more.
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
