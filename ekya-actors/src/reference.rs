//! References to actors, and what comes back from them.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::actor::{Actor, Handler, Message};
use crate::envelope::{Ask, Deliver, Envelope, Tell};
use crate::runtime::{self, Post};
use crate::system::ExitReason;

/// A reference to an actor. Clones refer to the same actor and share its mailbox.
///
/// Messages from one thread or actor to another arrive in the order in which they were sent. Each is
/// delivered at most once; it is lost when the actor stops or restarts before it is handled.
pub struct Ref<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
}

/// Why a message was not accepted. It will not be handled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The mailbox is full.
    #[error("{actor} is overloaded: its mailbox is full")]
    Overloaded {
        /// The actor's name.
        actor: Arc<str>,
    },
    /// The actor has ended.
    #[error("{actor} has stopped")]
    Stopped {
        /// The actor's name.
        actor: Arc<str>,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AskError {
    /// The mailbox is full; the message was not accepted.
    #[error("{actor} is overloaded: its mailbox is full")]
    Overloaded {
        /// The actor's name.
        actor: Arc<str>,
    },
    /// The actor has ended; the message was not handled.
    #[error("{actor} has stopped")]
    Stopped {
        /// The actor's name.
        actor: Arc<str>,
    },
    /// The actor has panicked, on this message or on one before it.
    #[error("{actor} has panicked: {panic}")]
    ActorPanicked {
        /// The actor's name.
        actor: Arc<str>,
        /// The panic's text.
        panic: String,
    },
    /// The actor was restarted while the message waited; the message was not handled.
    #[error("{actor} was restarted before it came to this message")]
    ActorRestarted {
        /// The actor's name.
        actor: Arc<str>,
    },
    /// No answer in time. The message is not handled if that has not begun; else its effects stay
    /// and the answer is dropped.
    #[error("{actor} has not answered within {within:?}")]
    Deadline {
        /// The actor's name.
        actor: Arc<str>,
        /// The time it had.
        within: Duration,
    },
    /// A thread that runs actors would have waited for itself; the message was not sent.
    #[error("an actor must not block on {actor}: tell it, and let it answer by a message")]
    OnRuntimeThread {
        /// The actor's name.
        actor: Arc<str>,
    },
}

impl From<SendError> for AskError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Overloaded { actor } => Self::Overloaded { actor },
            SendError::Stopped { actor } => Self::Stopped { actor },
        }
    }
}

/// What all references to an actor share with it.
pub(crate) struct Mailbox<A: Actor> {
    name: Arc<str>,
    /// Free places. The bound of the runtime below is not one: every clone of an address may exceed
    /// it.
    places: Arc<Semaphore>,
    generation: AtomicU64,
    /// Why the actor has ended, once it has.
    end: OnceLock<ExitReason>,
    post: Post<A>,
}

impl<A: Actor> Mailbox<A> {
    pub(crate) fn new(name: &str, capacity: usize, post: Post<A>) -> Self {
        Self {
            name: name.into(),
            places: Arc::new(Semaphore::new(capacity)),
            generation: AtomicU64::new(0),
            end: OnceLock::new(),
            post,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Refuses messages from now on. The reason comes first: whoever is refused may ask for it.
    pub(crate) fn close(&self, reason: ExitReason) {
        // The first reason stays.
        let _ = self.end.set(reason);
        self.places.close();
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, SendError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|refused| {
            let actor = Arc::clone(&self.name);
            match refused {
                TryAcquireError::NoPermits => SendError::Overloaded { actor },
                TryAcquireError::Closed => SendError::Stopped { actor },
            }
        })
    }
}

impl<A: Actor> Ref<A> {
    pub(crate) const fn new(mailbox: Arc<Mailbox<A>>) -> Self {
        Self { mailbox }
    }

    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.mailbox.name
    }

    /// Counts the actor's restarts.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.mailbox.generation()
    }

    /// Sends a message and returns at once.
    ///
    /// # Errors
    /// [`SendError`]; the message is dropped.
    pub fn tell<M: Message>(&self, message: M) -> Result<(), SendError>
    where
        A: Handler<M>,
    {
        self.send(Box::new(Tell(message)))
    }

    /// Sends a message and waits for its answer, within a deadline. Runs on any tokio runtime that
    /// has a timer.
    ///
    /// # Errors
    /// [`AskError`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the message is not handled if that has not begun.
    pub async fn ask<M: Message>(&self, message: M, within: Duration) -> Result<M::Reply, AskError>
    where
        A: Handler<M>,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(Ask { message, reply }))?;
        let answer = tokio::time::timeout(within, answer).await;
        self.answer(answer.ok(), within)
    }

    /// Like [`ask`](Self::ask), for threads outside any runtime: blocks the calling one.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask_blocking<M: Message>(
        &self,
        message: M,
        within: Duration,
    ) -> Result<M::Reply, AskError>
    where
        A: Handler<M>,
    {
        if runtime::is_current_thread() {
            return Err(AskError::OnRuntimeThread {
                actor: self.shared_name(),
            });
        }
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(Ask { message, reply }))?;
        self.answer(block_on(answer, within), within)
    }

    /// Stops the actor once it has handled what it has accepted before; the mailbox's bound does not
    /// apply.
    pub fn stop(&self) {
        self.mailbox.post.stop();
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.mailbox.name)
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox<A>> {
        &self.mailbox
    }

    pub(crate) fn panicked(&self, panic: &str) -> AskError {
        AskError::ActorPanicked {
            actor: self.shared_name(),
            panic: panic.to_owned(),
        }
    }

    pub(crate) fn restarted(&self) -> AskError {
        AskError::ActorRestarted {
            actor: self.shared_name(),
        }
    }

    fn send(&self, body: Box<dyn Deliver<A>>) -> Result<(), SendError> {
        let place = self.mailbox.admit()?;
        let generation = self.mailbox.generation();
        self.mailbox.post.deliver(Envelope {
            body,
            generation,
            place,
        });
        Ok(())
    }

    fn answer<R>(
        &self,
        answer: Option<Result<Result<R, AskError>, oneshot::error::RecvError>>,
        within: Duration,
    ) -> Result<R, AskError> {
        match answer {
            None => Err(AskError::Deadline {
                actor: self.shared_name(),
                within,
            }),
            Some(Ok(answer)) => answer,
            // The actor has ended with the message in its mailbox.
            Some(Err(_)) => Err(self.ended()),
        }
    }

    fn ended(&self) -> AskError {
        match self.mailbox.end.get() {
            Some(ExitReason::Panicked(panic)) => self.panicked(panic),
            _ => AskError::Stopped {
                actor: self.shared_name(),
            },
        }
    }
}

// Derived, it would ask for `A: Clone`.
impl<A: Actor> Clone for Ref<A> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.mailbox))
    }
}

impl<A: Actor> std::fmt::Debug for Ref<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ref").field(&self.name()).finish()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Parks the thread until the future is ready; `None` when that takes longer than `within`.
fn block_on<F: Future>(future: F, within: Duration) -> Option<F::Output> {
    let start = Instant::now();
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = within.checked_sub(start.elapsed())?;
        thread::park_timeout(left);
    }
}
