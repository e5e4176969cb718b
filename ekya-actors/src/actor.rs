//! What an actor is: state, and one handler for each type of message.

use std::sync::Arc;
use std::time::Duration;

use crate::envelope::{Deliver, Tell};
use crate::reference::{Mailbox, Ref, SendError};
use crate::wire::Wire;

/// Timers that an actor may have running.
const TIMERS_MAX: usize = 1024;

/// A message, and the type of its answer.
pub trait Message: Sized + Send + 'static {
    /// The answer; `()` when there is none.
    type Reply: Send + 'static;

    /// How it travels to actors of other nodes; `None` for a message that stays in its process:
    /// sending it to another one is an error.
    ///
    /// ```
    /// # use ekya_actors::{Message, Wire};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// struct Add(u64);
    ///
    /// impl Message for Add {
    ///     type Reply = u64;
    ///     const WIRE: Option<Wire<Self>> = Some(Wire::new("counter/add", 1));
    /// }
    /// ```
    const WIRE: Option<Wire<Self>> = None;
}

/// State that handles messages one at a time.
///
/// Handlers share a thread with those of every other actor: they return in well under a millisecond
/// and never block. Long work goes to a [`Compute`](crate::Compute) thread, which answers by a
/// message.
pub trait Actor: Send + Sized + 'static {
    /// Called before the first message, also after a restart.
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        let _ = ctx;
    }

    /// Called when the actor stops of its own will or is stopped; not after a panic.
    fn stopping(&mut self) {}
}

/// Handles one type of message.
pub trait Handler<M: Message>: Actor {
    /// Handles a message. A panic ends this actor, and no other.
    fn handle(&mut self, message: M, ctx: &mut Ctx<Self>) -> M::Reply;
}

/// What a handler may do besides changing its actor's state. Takes effect when the handler returns.
pub struct Ctx<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
    /// Set by [`stop`](Self::stop).
    pub(crate) stopping: bool,
    /// Timers to be started.
    pub(crate) timers: Vec<(Duration, Box<dyn Deliver<A>>)>,
    /// Timers that run already.
    pub(crate) timers_running: usize,
}

impl<A: Actor> Ctx<A> {
    pub(crate) const fn new(mailbox: Arc<Mailbox<A>>) -> Self {
        Self {
            mailbox,
            stopping: false,
            timers: Vec::new(),
            timers_running: 0,
        }
    }

    /// The actor itself.
    #[must_use]
    pub fn me(&self) -> Ref<A> {
        Ref::here(Arc::clone(&self.mailbox))
    }

    pub(crate) const fn mailbox(&self) -> &Arc<Mailbox<A>> {
        &self.mailbox
    }

    /// Stops the actor after this message; those that wait are failed.
    pub const fn stop(&mut self) {
        self.stopping = true;
    }

    /// Hands the actor a message after a delay, past its mailbox. Forgotten when the actor stops or
    /// restarts.
    ///
    /// # Errors
    /// [`SendError::Overloaded`] when 1024 timers run already.
    pub fn after<M: Message>(&mut self, delay: Duration, message: M) -> Result<(), SendError>
    where
        A: Handler<M>,
    {
        if self.timers.len() + self.timers_running >= TIMERS_MAX {
            return Err(SendError::Overloaded {
                actor: Arc::clone(self.mailbox.name()),
            });
        }
        self.timers.push((delay, Box::new(Tell(message))));
        Ok(())
    }
}
