//! The answer to a message, on its way back: when the handler returns, or later.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::actor::Message;
use crate::link::Link;
use crate::peer::Failure;
use crate::reference::AskError;
use crate::reply_to::ReplyTo;

/// Answers one message, from wherever it is taken to: an actor may keep it and go on with other
/// messages meanwhile. Dropped without an answer, the asker hears [`AskError::Unanswered`].
pub struct Reply<M: Message> {
    to: To<M>,
    actor: Arc<str>,
}

/// Where an answer goes.
pub(crate) enum To<M: Message> {
    /// The message was told by somebody in this process, or is answered already.
    Nobody,
    /// It was told by the peer of this name.
    Told(Arc<str>),
    /// To somebody in this process.
    Here(oneshot::Sender<Result<M::Reply, AskError>>),
    /// To somebody on another node.
    There(ReplyTo),
}

impl<M: Message> Reply<M> {
    pub(crate) const fn new(to: To<M>, actor: Arc<str>) -> Self {
        Self { to, actor }
    }

    /// Answers.
    pub fn send(mut self, answer: M::Reply) {
        match self.to.take() {
            To::Nobody | To::Told(_) => {}
            // An asker that has gone meanwhile does not want it any more.
            To::Here(sender) => drop(sender.send(Ok(answer))),
            To::There(reply) => reply.send::<M>(&answer),
        }
    }

    /// The session with the node of whoever waits; none for this process.
    pub(crate) fn session(&self) -> Option<(Arc<Link>, u64)> {
        match &self.to {
            To::There(reply) => Some(reply.session()),
            To::Nobody | To::Told(_) | To::Here(_) => None,
        }
    }

    /// The name in the certificate of the peer that has sent the message; none for this process.
    #[must_use]
    pub fn peer(&self) -> Option<Arc<str>> {
        match &self.to {
            To::There(reply) => Some(reply.peer()),
            To::Told(by) => Some(Arc::clone(by)),
            To::Nobody | To::Here(_) => None,
        }
    }

    /// Whether somebody waits for the answer; nobody does after a tell, nor after the deadline.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.to.is_somebody() && self.to.is_in_time()
    }
}

impl<M: Message> To<M> {
    const fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Nobody)
    }

    const fn is_somebody(&self) -> bool {
        matches!(self, Self::Here(_) | Self::There(_))
    }

    /// Whether the message is still to be handled: an overloaded actor must not work for nobody.
    pub(crate) fn is_in_time(&self) -> bool {
        match self {
            Self::Nobody | Self::Told(_) => true,
            Self::Here(sender) => !sender.is_closed(),
            Self::There(reply) => !reply.is_too_late(),
        }
    }

    pub(crate) fn fail(self, why: AskError) {
        match self {
            Self::Nobody | Self::Told(_) => {}
            Self::Here(sender) => drop(sender.send(Err(why))),
            Self::There(reply) => reply.fail(&Failure::from(why)),
        }
    }
}

impl<M: Message> Drop for Reply<M> {
    fn drop(&mut self) {
        let to = self.to.take();
        if !to.is_somebody() {
            return;
        }
        let actor = Arc::clone(&self.actor);
        let fail = move |why: Option<&AskError>| {
            to.fail(why.map_or(AskError::Unanswered { actor }, AskError::clone));
        };
        Fallen::add(Box::new(fail));
    }
}

impl<M: Message> std::fmt::Debug for Reply<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Reply");
        debug.field("actor", &self.actor);
        debug.field("is_wanted", &self.is_wanted()).finish()
    }
}

/// Fails one reply, for a reason or for want of an answer.
pub(crate) type Fail = Box<dyn FnOnce(Option<&AskError>)>;

thread_local! {
    /// Whether replies that are dropped are kept. Apart from them, and without a destructor: every
    /// message sets it, and few leave replies behind.
    static KEEPS: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static FALLEN: RefCell<Vec<Fail>> = const { RefCell::new(Vec::new()) };
}

/// Replies that go down with their actor. Why is known only after they were dropped: a panic has its
/// text once it has been caught.
#[derive(Default)]
pub(crate) struct Fallen(Vec<Fail>);

impl Fallen {
    /// Runs what may drop an actor's replies, and keeps them.
    pub(crate) fn during<R>(run: impl FnOnce() -> R) -> (R, Self) {
        /// Also when something of the user's panics where it is not expected to: later replies must
        /// not be kept by nobody.
        struct Restore(bool, usize);
        impl Drop for Restore {
            fn drop(&mut self) {
                KEEPS.set(self.0);
                drop(taken(self.1));
            }
        }
        let before = Restore(KEEPS.replace(true), COUNT.get());
        let result = run();
        (result, Self(taken(before.1)))
    }

    /// Those of both.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Keeps one, or fails it at once where nothing is known to go down.
    pub(crate) fn add(fail: Fail) {
        if KEEPS.get() {
            COUNT.set(COUNT.get() + 1);
            FALLEN.with_borrow_mut(|fallen| fallen.push(fail));
        } else {
            fail(None);
        }
    }

    /// Lets those who wait know, for a reason or for want of an answer.
    pub(crate) fn fail(self, why: Option<&AskError>) {
        for fail in self.0 {
            fail(why);
        }
    }
}

/// Those that have fallen since there were so many.
fn taken(before: usize) -> Vec<Fail> {
    if COUNT.get() == before {
        return Vec::new();
    }
    COUNT.set(before);
    FALLEN.with_borrow_mut(|fallen| fallen.split_off(before))
}
