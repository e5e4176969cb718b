//! Threads for work that takes longer than a handler may.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use thiserror::Error;

use crate::envelope::guarded;

/// How long a dropped [`Compute`] waits for its work.
const DROP_WITHIN: Duration = Duration::from_secs(2);

/// One OS thread with a bounded queue of work, done in order.
///
/// Dropping it waits up to two seconds for what is queued, then abandons what has not begun.
/// Whatever the work itself waits for, such as a device, should be told to stop before.
pub struct Compute {
    name: String,
    /// Absent once it is stopping.
    queue: Option<Sender<Task>>,
    abandon: Arc<AtomicBool>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Work was not accepted, and has been dropped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full.
    #[error("compute thread {0} is overloaded: its queue is full")]
    Overloaded(String),
    /// The thread has ended.
    #[error("compute thread {0} has stopped")]
    Stopped(String),
}

/// Why work has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// It panicked, with this text.
    #[error("panic: {0}")]
    Panicked(String),
    /// It was still queued when the thread had to end.
    #[error("abandoned at shutdown")]
    Abandoned,
}

/// Told whether to run, or to say that it does not.
type Task = Box<dyn FnOnce(bool) + Send>;

impl Compute {
    /// Starts the thread. At most `capacity` pieces of work (at least one) wait while another runs.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(name: &str, capacity: usize) -> io::Result<Self> {
        let (queue, tasks) = bounded::<Task>(capacity.max(1));
        let (end, ended) = bounded(0);
        let abandon = Arc::new(AtomicBool::new(false));
        let abandoned = Arc::clone(&abandon);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for task in tasks {
                    task(!abandoned.load(Ordering::Acquire));
                }
                drop::<Sender<()>>(end);
            })?;
        Ok(Self {
            name: name.to_owned(),
            queue: Some(queue),
            abandon,
            ended,
            thread: Some(thread),
        })
    }

    /// Queues work. A panic in it is logged, and the thread goes on.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(&self, work: impl FnOnce() + Send + 'static) -> Result<(), SubmitError> {
        let name = self.name.clone();
        self.run(work, move |result| {
            if let Err(error) = result {
                tracing::error!(thread = name, %error, "work failed");
            }
        })
    }

    /// Queues work whose result, or the reason why there is none, goes to `done`. Accepted work
    /// always calls it, on the compute thread; to answer an actor, let it tell the actor.
    ///
    /// # Errors
    /// [`SubmitError`]; `done` is not called then.
    pub fn run<R>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
        done: impl FnOnce(Result<R, ComputeError>) + Send + 'static,
    ) -> Result<(), SubmitError> {
        let task = move |go: bool| {
            let result = if go {
                guarded(work).map_err(ComputeError::Panicked)
            } else {
                Err(ComputeError::Abandoned)
            };
            if let Err(panic) = guarded(|| done(result)) {
                tracing::error!(panic, "panic while handing over the result of work");
            }
        };
        let stopped = || SubmitError::Stopped(self.name.clone());
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.try_send(Box::new(task)).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Overloaded(self.name.clone()),
            TrySendError::Disconnected(_) => stopped(),
        })
    }

    /// Takes no more work, does what is queued and ends the thread. At the deadline what has not
    /// begun is abandoned; false when something was still running then, which is left behind.
    pub fn stop(&mut self, within: Duration) -> bool {
        drop(self.queue.take());
        let deadline = Instant::now() + within;
        if self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout) {
            self.abandon.store(true, Ordering::Release);
            tracing::warn!(thread = self.name, "work was still running at the deadline");
            return false;
        }
        if let Some(thread) = self.thread.take() {
            // No work can make it panic.
            drop(thread.join());
        }
        true
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        let own = self.thread.as_ref().map(|thread| thread.thread().id());
        if self.abandon.load(Ordering::Acquire) {
            return;
        }
        if own == Some(thread::current().id()) {
            // Dropped by its own work, which cannot wait for itself: what is queued is still done.
            return drop(self.queue.take());
        }
        self.stop(DROP_WITHIN);
    }
}

impl std::fmt::Debug for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compute")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
