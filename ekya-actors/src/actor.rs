//! What an actor is: state, and one handler for each type of message.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::envelope::{Body, Deliver};
use crate::reference::{Mailbox, Ref, SendError};
use crate::reply::{Reply, To};
use crate::wire::Wire;

/// Futures and timers that an actor may have running.
const TASKS_MAX: usize = 1024;

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

/// Handles one type of message, and answers it when the handler returns.
pub trait Handler<M: Message>: Actor {
    /// Handles a message. A panic ends this actor, and no other.
    fn handle(&mut self, message: M, ctx: &mut Ctx<Self>) -> M::Reply;
}

/// Takes one type of message, and answers it whenever it can: what an actor implements in place of
/// [`Handler`] to work on several messages at a time.
///
/// ```
/// # use std::time::Duration;
/// use ekya_actors::{Actor, Ctx, Handler, Message, Receive, Reply, System};
///
/// /// Answers those who wait once somebody opens it.
/// #[derive(Default)]
/// struct Gate(Vec<Reply<Wait>>);
/// impl Actor for Gate {}
///
/// struct Wait;
/// impl Message for Wait {
///     type Reply = ();
/// }
/// impl Receive<Wait> for Gate {
///     fn receive(&mut self, _: Wait, reply: Reply<Wait>, _: &mut Ctx<Self>) {
///         self.0.push(reply);
///     }
/// }
///
/// struct Open;
/// impl Message for Open {
///     type Reply = ();
/// }
/// impl Handler<Open> for Gate {
///     fn handle(&mut self, _: Open, _: &mut Ctx<Self>) {
///         self.0.drain(..).for_each(|waiting| waiting.send(()));
///     }
/// }
/// # let system = System::start().unwrap();
/// # let gate = system.spawn("gate", Gate::default(), 4).unwrap();
/// # let waiting = std::thread::spawn({
/// #     let gate = gate.clone();
/// #     move || gate.ask_blocking(Wait, Duration::from_secs(9))
/// # });
/// # while !waiting.is_finished() {
/// #     // Not told: that would fill the mailbox before the other one asks.
/// #     gate.ask_blocking(Open, Duration::from_secs(9)).unwrap();
/// # }
/// # assert_eq!(waiting.join().unwrap(), Ok(()));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` handles no `{M}`",
    note = "implement `Handler<{M}>` for `{Self}`"
)]
pub trait Receive<M: Message>: Actor {
    /// Takes a message. A panic ends this actor, and no other.
    fn receive(&mut self, message: M, reply: Reply<M>, ctx: &mut Ctx<Self>);
}

impl<A: Handler<M>, M: Message> Receive<M> for A {
    fn receive(&mut self, message: M, reply: Reply<M>, ctx: &mut Ctx<Self>) {
        let answer = self.handle(message, ctx);
        reply.send(answer);
    }
}

/// A future whose output is for the actor.
pub(crate) type Task<A> = Pin<Box<dyn Future<Output = Box<dyn Deliver<A>>> + Send>>;

/// What a handler may do besides changing its actor's state. Takes effect when the handler returns.
pub struct Ctx<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
    /// Set by [`stop`](Self::stop).
    pub(crate) stopping: bool,
    /// To be run.
    pub(crate) tasks: Vec<Task<A>>,
    /// Those that run, by number. They are here, and not with actix, to go down with the actor.
    pub(crate) running: BTreeMap<u64, Task<A>>,
}

impl<A: Actor> Ctx<A> {
    pub(crate) const fn new(mailbox: Arc<Mailbox<A>>) -> Self {
        Self {
            mailbox,
            stopping: false,
            tasks: Vec::new(),
            running: BTreeMap::new(),
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
    /// [`SendError::Overloaded`] when 1024 timers and futures run already.
    pub fn after<M: Message>(&mut self, delay: Duration, message: M) -> Result<(), SendError>
    where
        A: Receive<M>,
    {
        self.run(async move {
            tokio::time::sleep(delay).await;
            message
        })
    }

    /// Runs a future beside the handlers and hands the actor its output as a message, past its
    /// mailbox: so an actor asks others without waiting for them. Forgotten when the actor stops or
    /// restarts; a panic in it ends this actor.
    ///
    /// # Errors
    /// [`SendError::Overloaded`] when 1024 timers and futures run already.
    pub fn run<M: Message>(
        &mut self,
        future: impl Future<Output = M> + Send + 'static,
    ) -> Result<(), SendError>
    where
        A: Receive<M>,
    {
        self.run_task(Box::pin(async move {
            let body: Box<dyn Deliver<A>> = Box::new(Body::here(future.await, To::Nobody));
            body
        }))
    }

    pub(crate) fn run_task(&mut self, task: Task<A>) -> Result<(), SendError> {
        if self.tasks.len() + self.running.len() >= TASKS_MAX {
            return Err(SendError::Overloaded {
                actor: Arc::clone(self.mailbox.name()),
            });
        }
        self.tasks.push(task);
        Ok(())
    }
}
