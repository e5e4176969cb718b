//! The end of actors: hearing of it, and ending with another.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Ctx, Message, Receive};
use crate::envelope::Deliver;
use crate::reference::{AskError, Ref, SendError};

/// Why an actor has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// It stopped itself, or was stopped.
    Stopped,
    /// It panicked, with this text.
    Panicked(String),
    /// Another of its [`Group`](crate::Group) panicked: this one.
    WithGroup(#[serde(with = "crate::shared_text")] Arc<str>),
    /// One that it was [linked](Ctx::link) to has ended: this one.
    WithLinked(#[serde(with = "crate::shared_text")] Arc<str>),
    /// Its node has died, or was out of reach for too long; whether the actor goes on is not known.
    Lost(String),
}

/// The end of an actor. What [`Ctx::watch`] brings, as a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The actor's name.
    pub actor: Arc<str>,
    /// Its node; none for this one.
    pub node: Option<Arc<str>>,
    /// Why it ended.
    pub reason: ExitReason,
    /// Whether a new instance has taken its place, behind the same references.
    pub restarted: bool,
}

impl Message for Exit {
    type Reply = ();
}

impl<A: Actor> Ctx<A> {
    /// Hears of another actor's end, here or on another node, by an [`Exit`]: once, when it has ended
    /// for good, or had ended before.
    ///
    /// # Errors
    /// [`SendError::Overloaded`] when 1024 timers and futures run already.
    pub fn watch<B: Actor>(&mut self, other: &Ref<B>) -> Result<(), SendError>
    where
        A: Receive<Exit>,
    {
        let other = other.clone();
        self.run(async move { other.ended().await })
    }

    /// Ends this actor when another one, here or on another node, has ended for good, whatever the
    /// reason. One that is supervised is restarted, as after a panic. A link goes one way: two that
    /// depend on each other link both, or are a [`Group`](crate::Group).
    ///
    /// # Errors
    /// [`SendError::Overloaded`] when 1024 timers and futures run already.
    pub fn link<B: Actor>(&mut self, other: &Ref<B>) -> Result<(), SendError> {
        let other = other.clone();
        self.run_task(Box::pin(async move {
            let exit = other.ended().await;
            let linked: Box<dyn Deliver<A>> = Box::new(LinkedEnd(exit.actor));
            linked
        }))
    }
}

/// An actor that another one is linked to has ended.
struct LinkedEnd(Arc<str>);

impl<A: Actor> Deliver<A> for LinkedEnd {
    fn deliver(self: Box<Self>, _: &mut A, _: &mut Ctx<A>) -> Result<(), ExitReason> {
        Err(ExitReason::WithLinked(self.0))
    }

    fn fail(self: Box<Self>, _: AskError) {}
}
