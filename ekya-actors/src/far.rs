//! An actor of another node, as references see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::actor::Message;
use crate::dialogue::SendFailure;
use crate::link::Link;
use crate::peer::{Address, Failure};
use crate::reception;
use crate::reference::{AskError, SendError};
use crate::wire::{self, Wire};

/// Where an actor of another node is, during one session with that node.
pub(crate) struct Far {
    pub(crate) name: Arc<str>,
    pub(crate) link: Arc<Link>,
    /// The session in which it was found.
    pub(crate) session: u64,
    /// Its number there.
    pub(crate) actor: u64,
    pub(crate) generation: u64,
}

/// An ask that waits for its answer; dropping it cancels it.
pub(crate) struct Calling<'a> {
    far: &'a Far,
    call: u64,
    answer: oneshot::Receiver<Result<Bytes, Failure>>,
    is_answered: bool,
}

impl Far {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn node(&self) -> &str {
        &self.link.who().name
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// # Errors
    /// [`SendError`].
    pub(crate) fn tell<M: Message>(&self, message: &M) -> Result<(), SendError> {
        let (to, payload) = self.addressed(message)?;
        let told = self.link.tell(self.session, to, &payload);
        told.map_err(|failure| self.unsent(failure))
    }

    /// # Errors
    /// [`SendError`].
    pub(crate) fn ask<M: Message>(
        &self,
        message: &M,
        within: Duration,
    ) -> Result<Calling<'_>, SendError> {
        let (to, payload) = self.addressed(message)?;
        // A deadline beyond seven weeks is none.
        let millis = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        let asked = self.link.ask(self.session, to, &payload, millis);
        let (call, answer) = asked.map_err(|failure| self.unsent(failure))?;
        Ok(Calling {
            far: self,
            call,
            answer,
            is_answered: false,
        })
    }

    /// Asks for a stream, with room for so many items.
    ///
    /// # Errors
    /// [`SendError`].
    pub(crate) fn stream<M: Message>(
        self: &Arc<Self>,
        message: &M,
        room: u32,
    ) -> Result<Flowing, SendError> {
        let (to, payload) = self.addressed(message)?;
        let asked = self.link.stream(self.session, to, &payload, room);
        let (call, items, end) = asked.map_err(|failure| self.unsent(failure))?;
        Ok(Flowing {
            far: Arc::clone(self),
            call,
            items,
            end: Some(end),
            taken: 0,
            refill: (room / 2).max(1),
        })
    }

    /// Asks its node to stop the actor.
    pub(crate) fn stop(&self) {
        let actor = self.actor;
        // Who is out of reach ends with the session, or goes on.
        drop(reception::of(&self.link, self.session).tell(reception::Stop { actor }));
    }

    /// What an answer is for the asker; `None` is none in time.
    ///
    /// # Errors
    /// [`AskError`].
    pub(crate) fn answer<M: Message>(
        &self,
        answer: Option<Result<Bytes, Failure>>,
        within: Duration,
    ) -> Result<M::Reply, AskError> {
        let actor = self.shared_name();
        let bytes = match answer {
            None => return Err(AskError::Deadline { actor, within }),
            Some(Ok(bytes)) => bytes,
            Some(Err(failure)) => return Err(failed(actor, failure, within)),
        };
        self.decoded::<M>(&bytes)
    }

    fn decoded<M: Message>(&self, bytes: &[u8]) -> Result<M::Reply, AskError> {
        let wire = self.wire::<M>()?;
        wire.decode_reply(bytes).map_err(|error| {
            let actor = self.shared_name();
            let why = format!("its answer is malformed: {error}");
            AskError::Refused { actor, why }
        })
    }

    fn wire<M: Message>(&self) -> Result<Wire<M>, SendError> {
        wire::of().map_err(|why| self.untransportable(why))
    }

    fn addressed<M: Message>(&self, message: &M) -> Result<(Address, Vec<u8>), SendError> {
        let wire = self.wire::<M>()?;
        let payload = wire
            .encode(message)
            .map_err(|error| self.untransportable(error.to_string()))?;
        let to = Address {
            actor: self.actor,
            message: wire.id(),
            version: wire.version(),
            trace: tracing::Span::current().id().map_or(0, |id| id.into_u64()),
        };
        Ok((to, payload))
    }

    fn untransportable(&self, why: String) -> SendError {
        let actor = self.shared_name();
        SendError::Untransportable { actor, why }
    }

    fn unsent(&self, failure: SendFailure) -> SendError {
        let actor = self.shared_name();
        match failure {
            SendFailure::Overloaded => SendError::Overloaded { actor },
            SendFailure::Lost(why) => SendError::Lost { actor, why },
            SendFailure::Old => {
                let why = "its node speaks a version of the protocol that has no streams";
                self.untransportable(why.to_owned())
            }
        }
    }
}

fn failed(actor: Arc<str>, failure: Failure, within: Duration) -> AskError {
    match failure {
        Failure::Overloaded => AskError::Overloaded { actor },
        Failure::Stopped => AskError::Stopped { actor },
        Failure::Panicked(panic) => AskError::ActorPanicked { actor, panic },
        Failure::Restarted => AskError::ActorRestarted { actor },
        Failure::Deadline => AskError::Deadline { actor, within },
        Failure::Refused(why) => AskError::Refused { actor, why },
        Failure::Lost(why) => AskError::Lost { actor, why },
        Failure::Unanswered => AskError::Unanswered { actor },
    }
}

/// A stream of items that comes; dropping it cancels it.
pub(crate) struct Flowing {
    far: Arc<Far>,
    call: u64,
    items: mpsc::Receiver<Bytes>,
    /// Absent once it has been heard.
    end: Option<oneshot::Receiver<Result<Bytes, Failure>>>,
    /// Items taken since room was made for more.
    taken: u32,
    /// Room is made for so many at a time.
    refill: u32,
}

impl Flowing {
    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// Why the stream has ended.
    ///
    /// # Cancel safety
    /// May be called again.
    pub(crate) async fn next<M: Message>(&mut self) -> Result<Option<M::Reply>, AskError> {
        let Some(end) = &mut self.end else {
            return Ok(None);
        };
        if let Some(bytes) = self.items.recv().await {
            self.taken += 1;
            if self.taken == self.refill {
                let Far { link, session, .. } = &*self.far;
                link.make_room(*session, self.call, self.taken);
                self.taken = 0;
            }
            let item = self.far.decoded::<M>(&bytes);
            if item.is_err() {
                // Whatever follows it does not follow what was to come before.
                self.cancel();
            }
            return item.map(Some);
        }
        let answer = end.await;
        self.end = None;
        match answer.unwrap_or_else(|_| Err(gone())) {
            Ok(_) => Ok(None),
            Err(failure) => Err(failed(self.far.shared_name(), failure, Duration::MAX)),
        }
    }

    fn cancel(&mut self) {
        if self.end.take().is_some() {
            self.far.link.cancel(self.far.session, self.call);
        }
    }
}

impl Drop for Flowing {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn gone() -> Failure {
    Failure::Lost("the link has gone".to_owned())
}

impl Calling<'_> {
    /// # Cancel safety
    /// May be called again.
    pub(crate) async fn answer(&mut self) -> Result<Bytes, Failure> {
        let answer = (&mut self.answer).await;
        self.is_answered = true;
        // The link answers every call before it goes.
        answer.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.far.link.cancel(self.far.session, self.call);
        }
    }
}
