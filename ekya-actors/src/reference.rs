//! References to actors, and what comes back from them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{Notify, oneshot};

use crate::actor::{Actor, Message, Receive};
use crate::envelope::{Body, Deliver, Envelope};
use crate::far::Far;
use crate::peer::{Failure, ROOM_MAX};
use crate::reception;
use crate::reply::To;
use crate::runtime::{self, Post};
use crate::state::ActorState;
use crate::stats::Stats;
use crate::stream::{Replies, StreamBody, Streams};
use crate::system::Running;
use crate::watch::{Exit, ExitReason};

/// A reference to an actor, in this process or on another node. Clones refer to the same actor.
///
/// Messages from one thread or actor to another arrive in the order in which they were sent, also
/// when the connection between their nodes breaks and comes back. Each is delivered at most once. It
/// is lost when the actor stops or restarts before it is handled, or when the session between the
/// nodes ends: with either node, or when one has been out of reach for too long. What was asked then
/// fails with [`AskError::Lost`], and so does everything that is sent by this reference from then on:
/// [find](crate::Node::find) the actor again.
pub struct Ref<A: Actor> {
    target: Target<A>,
}

enum Target<A: Actor> {
    /// In this process.
    Here(Arc<Mailbox<A>>),
    /// On another node.
    There(Arc<Far>),
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
    /// The actor is on another node, and the message is no thing to travel.
    #[error("{actor} is not sent the message: {why}")]
    Untransportable {
        /// The actor's name.
        actor: Arc<str>,
        /// What is wrong with the message.
        why: String,
    },
    /// The session with the actor's node has ended; messages told before may or may not have been
    /// handled.
    #[error("{actor} is lost: {why}")]
    Lost {
        /// The actor's name.
        actor: Arc<str>,
        /// How it ended.
        why: String,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AskError {
    /// The mailbox is full, or what waits to be sent to the actor's node: the message was not accepted.
    /// Or so much waits to be sent back that the answer was not: then it was handled.
    #[error("{actor} is overloaded: its mailbox is full")]
    Overloaded {
        /// The actor's name.
        actor: Arc<str>,
    },
    /// The actor has ended; the message was not handled, or not to its end.
    #[error("{actor} has stopped")]
    Stopped {
        /// The actor's name.
        actor: Arc<str>,
    },
    /// The actor has handled the message and gone on without an answer.
    #[error("{actor} has left the message unanswered")]
    Unanswered {
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
    /// The actor was restarted while the message waited, or followed others before it had answered: the
    /// message was not handled, or not to its end.
    #[error("{actor} was restarted before it had answered this message")]
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
    /// The actor takes no such message from other nodes, or not in this version, or its answer does
    /// not fit; in the last case the message was handled.
    #[error("{actor} refuses the message: {why}")]
    Refused {
        /// The actor's name.
        actor: Arc<str>,
        /// Why.
        why: String,
    },
    /// The actor is on another node, and the message is no thing to travel; it was not sent.
    #[error("{actor} is not sent the message: {why}")]
    Untransportable {
        /// The actor's name.
        actor: Arc<str>,
        /// What is wrong with the message.
        why: String,
    },
    /// The session with the actor's node has ended; the message may or may not have been handled.
    #[error("{actor} is lost: {why}")]
    Lost {
        /// The actor's name.
        actor: Arc<str>,
        /// How it ended.
        why: String,
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
            SendError::Untransportable { actor, why } => Self::Untransportable { actor, why },
            SendError::Lost { actor, why } => Self::Lost { actor, why },
        }
    }
}

/// For an asker on another node.
impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Overloaded { .. } => Self::Overloaded,
            AskError::ActorPanicked { panic, .. } => Self::Panicked(panic),
            AskError::ActorRestarted { .. } => Self::Restarted,
            AskError::Deadline { .. } => Self::Deadline,
            AskError::Stopped { .. } | AskError::OnRuntimeThread { .. } => Self::Stopped,
            AskError::Refused { why, .. } | AskError::Untransportable { why, .. } => {
                Self::Refused(why)
            }
            AskError::Lost { why, .. } => Self::Lost(why),
            AskError::Unanswered { .. } => Self::Unanswered,
        }
    }
}

/// What all references to an actor share with it.
pub(crate) struct Mailbox<A: Actor> {
    name: Arc<str>,
    /// Messages that wait. The bound of the runtime below is not one: every clone of an address may
    /// exceed it.
    waiting: AtomicUsize,
    capacity: usize,
    generation: AtomicU64,
    stats: Stats,
    /// Why the actor has ended, once it has.
    end: OnceLock<ExitReason>,
    /// Wakes those who wait for the end.
    over: Notify,
    /// Somebody wants it to stop.
    stop: Notify,
    post: Post<A>,
}

impl<A: Actor> Mailbox<A> {
    pub(crate) fn new(name: &str, capacity: usize, stats: Stats, post: Post<A>) -> Self {
        Self {
            name: name.into(),
            waiting: AtomicUsize::new(0),
            capacity,
            generation: AtomicU64::new(0),
            stats,
            end: OnceLock::new(),
            over: Notify::new(),
            stop: Notify::new(),
            post,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) const fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn next_generation(&self) {
        self.stats.restarted();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Refuses messages from now on. The reason comes first: whoever is refused may ask for it.
    pub(crate) fn close(&self, reason: ExitReason) {
        // The first reason stays.
        let _ = self.end.set(reason);
        self.over.notify_waiters();
    }

    async fn ended_by(&self) -> ExitReason {
        loop {
            // Before looking, so that an end meanwhile is not missed.
            let over = self.over.notified();
            if let Some(reason) = self.end.get() {
                return reason.clone();
            }
            over.await;
        }
    }

    /// Takes a place, which is given back by [`leave`](Self::leave).
    fn enter(&self) -> Result<(), SendError> {
        if self.has_ended() {
            let actor = Arc::clone(&self.name);
            return Err(SendError::Stopped { actor });
        }
        let one_more = |waiting| (waiting < self.capacity).then_some(waiting + 1);
        let entered = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        entered.map(drop).map_err(|_| {
            self.stats.refused();
            let actor = Arc::clone(&self.name);
            SendError::Overloaded { actor }
        })
    }

    /// A message has left the mailbox. Those that an actor's end leaves in it need no place any more.
    pub(crate) fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<A: Actor> Ref<A> {
    pub(crate) const fn here(mailbox: Arc<Mailbox<A>>) -> Self {
        let target = Target::Here(mailbox);
        Self { target }
    }

    pub(crate) const fn there(far: Arc<Far>) -> Self {
        let target = Target::There(far);
        Self { target }
    }

    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.target {
            Target::Here(mailbox) => &mailbox.name,
            Target::There(far) => far.name(),
        }
    }

    /// The actor's node; `None` for this one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match &self.target {
            Target::Here(_) => None,
            Target::There(far) => Some(far.node()),
        }
    }

    /// Counts the actor's restarts; of an actor on another node, those before it was found.
    #[must_use]
    pub fn generation(&self) -> u64 {
        match &self.target {
            Target::Here(mailbox) => mailbox.generation(),
            Target::There(far) => far.generation(),
        }
    }

    /// Sends a message and returns at once.
    ///
    /// From another node, that an actor is overloaded is known only after a while: it is then the
    /// result of a later tell, which is not sent.
    ///
    /// # Errors
    /// [`SendError`]; the message is dropped.
    pub fn tell<M: Message>(&self, message: M) -> Result<(), SendError>
    where
        A: Receive<M>,
    {
        match &self.target {
            Target::Here(mailbox) => mailbox.send(Box::new(Body::here(message, To::Nobody))),
            Target::There(far) => far.tell(&message),
        }
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
        A: Receive<M>,
    {
        match &self.target {
            Target::Here(mailbox) => {
                let answer = mailbox.ask(message)?;
                mailbox.answer(in_time(within, answer).await, within)
            }
            Target::There(far) => {
                let mut call = far.ask(&message, within)?;
                let answer = tokio::time::timeout(within, call.answer()).await;
                far.answer::<M>(answer.ok(), within)
            }
        }
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
        A: Receive<M>,
    {
        if runtime::is_current_thread() {
            return Err(AskError::OnRuntimeThread {
                actor: self.shared_name(),
            });
        }
        match &self.target {
            Target::Here(mailbox) => {
                let answer = mailbox.ask(message)?;
                mailbox.answer(block_on(answer, within), within)
            }
            Target::There(far) => {
                let mut call = far.ask(&message, within)?;
                far.answer::<M>(block_on(call.answer(), within), within)
            }
        }
    }

    /// Sends a message that is answered by a stream of items, of which at most `room` (1 to 4096) are
    /// on their way at a time.
    ///
    /// # Errors
    /// [`SendError`]; the message is dropped.
    pub fn stream<M: Message>(&self, message: M, room: u32) -> Result<Replies<M>, SendError>
    where
        A: Streams<M>,
    {
        let room = room.clamp(1, ROOM_MAX);
        match &self.target {
            Target::Here(mailbox) => {
                let (to, replies) = Replies::here(mailbox, room as usize);
                mailbox.send(Box::new(StreamBody { message, to }))?;
                Ok(replies)
            }
            Target::There(far) => {
                let flowing = far.stream(&message, room)?;
                Ok(Replies::there(flowing, far.shared_name()))
            }
        }
    }

    /// Stops an actor once it has handled what it has accepted before; the mailbox's bound does not
    /// apply. Of another node's actors, only those end that this node has [spawned](crate::Node::spawn_on)
    /// there; whether that gets there is seen by [`ended`](Self::ended).
    pub fn stop(&self) {
        match &self.target {
            Target::Here(mailbox) => mailbox.stop(),
            Target::There(far) => far.stop(),
        }
    }

    /// Waits until the actor has ended for good; restarts are no end. For an actor of this process it
    /// runs anywhere, for one of another node on any tokio runtime that has a timer. A node remembers
    /// 1024 ends other than [`Stopped`](ExitReason::Stopped), which is the reason of all before.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn ended(&self) -> Exit {
        let reason = match &self.target {
            Target::Here(mailbox) => mailbox.ended_by().await,
            Target::There(far) => reception::ended(far).await,
        };
        Exit {
            actor: self.shared_name(),
            node: self.node().map(Arc::from),
            reason,
            restarted: false,
        }
    }

    /// Whether both are to the same actor of this process.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.target, &other.target) {
            (Target::Here(one), Target::Here(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// An actor of this process, its type forgotten.
    pub(crate) fn running(&self) -> Option<Arc<dyn Running>> {
        match &self.target {
            Target::Here(mailbox) => Some(Arc::clone(mailbox) as Arc<dyn Running>),
            Target::There(_) => None,
        }
    }

    /// Why an actor of this process has ended for good, once it has.
    pub(crate) fn end(&self) -> Option<ExitReason> {
        match &self.target {
            Target::Here(mailbox) => mailbox.end.get().cloned(),
            Target::There(_) => None,
        }
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        match &self.target {
            Target::Here(mailbox) => Arc::clone(&mailbox.name),
            Target::There(far) => far.shared_name(),
        }
    }

    /// Hands over a message that came from another node. When it is not accepted, it has been failed.
    ///
    /// # Errors
    /// [`SendError`].
    pub(crate) fn accept(&self, body: Box<dyn Deliver<A>>) -> Result<(), SendError> {
        match &self.target {
            Target::Here(mailbox) => mailbox.send(body),
            Target::There(_) => Err(SendError::Stopped {
                actor: self.shared_name(),
            }),
        }
    }
}

impl<A: Actor> Mailbox<A> {
    /// # Errors
    /// [`SendError`]; the message has been failed.
    fn send(&self, body: Box<dyn Deliver<A>>) -> Result<(), SendError> {
        if let Err(error) = self.enter() {
            body.fail(error.clone().into());
            return Err(error);
        }
        let generation = self.generation();
        self.post.deliver(Envelope { body, generation });
        Ok(())
    }

    fn ask<M: Message>(
        &self,
        message: M,
    ) -> Result<oneshot::Receiver<Result<M::Reply, AskError>>, SendError>
    where
        A: Receive<M>,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(Body::here(message, To::Here(reply))))?;
        Ok(answer)
    }

    fn answer<R>(
        &self,
        answer: Option<Result<Result<R, AskError>, oneshot::error::RecvError>>,
        within: Duration,
    ) -> Result<R, AskError> {
        match answer {
            None => Err(AskError::Deadline {
                actor: Arc::clone(&self.name),
                within,
            }),
            Some(Ok(answer)) => answer,
            // The actor has ended with the message in its mailbox.
            Some(Err(_)) => Err(self.unheard()),
        }
    }

    /// What an end is for those who wait for an answer.
    pub(crate) fn failed_by(&self, reason: &ExitReason) -> AskError {
        let actor = Arc::clone(&self.name);
        match reason {
            ExitReason::Panicked(panic) => AskError::ActorPanicked {
                actor,
                panic: panic.clone(),
            },
            _ => AskError::Stopped { actor },
        }
    }

    /// For those who wait for an answer to a message that the actor's end has left in its mailbox.
    pub(crate) fn unheard(&self) -> AskError {
        self.failed_by(self.end.get().unwrap_or(&ExitReason::Stopped))
    }

    pub(crate) fn restarted(&self) -> AskError {
        AskError::ActorRestarted {
            actor: Arc::clone(&self.name),
        }
    }

    /// Waits until somebody wants the actor to stop.
    pub(crate) async fn stop_asked(&self) {
        self.stop.notified().await;
    }

    /// The actor's name.
    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl<A: Actor> Running for Mailbox<A> {
    fn stop(&self) {
        self.post.stop();
        self.stop.notify_one();
    }

    fn follow(&self, whom: &Arc<str>, pause: Option<Duration>) {
        self.post.follow(whom, pause);
    }

    fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    fn state(&self) -> ActorState {
        ActorState {
            name: self.name.to_string(),
            actor_type: self.stats.of_type.name.to_owned(),
            waiting: self.waiting.load(Ordering::Relaxed),
            capacity: self.capacity,
            counts: (&self.stats.own).into(),
        }
    }
}

// Derived, it would ask for `A: Clone`.
impl<A: Actor> Clone for Ref<A> {
    fn clone(&self) -> Self {
        match &self.target {
            Target::Here(mailbox) => Self::here(Arc::clone(mailbox)),
            Target::There(far) => Self::there(Arc::clone(far)),
        }
    }
}

impl<A: Actor> std::fmt::Debug for Ref<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_tuple("Ref");
        debug.field(&self.name());
        if let Some(node) = self.node() {
            debug.field(&node);
        }
        debug.finish()
    }
}

/// Waits for an answer so long; `None` when that is too long. A timer costs more than an answer from
/// the same thread: it is begun only when all others there have had their turn.
async fn in_time<F: Future>(within: Duration, answer: F) -> Option<F::Output> {
    let mut answer = pin!(answer);
    let mut has_yielded = false;
    let soon = poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if has_yielded => Poll::Ready(None),
        Poll::Pending => {
            has_yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match soon.await {
        Some(answer) => Some(answer),
        None => tokio::time::timeout(within, answer).await.ok(),
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
