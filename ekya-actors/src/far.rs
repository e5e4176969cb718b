//! An actor of another node, as references see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::actor::Message;
use crate::dialogue::SendFailure;
use crate::link::Link;
use crate::peer::{Address, Failure};
use crate::reference::{AskError, SendError};
use crate::wire::Wire;

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
        let wire = self.wire::<M>()?;
        wire.decode_reply(&bytes).map_err(|error| {
            let why = format!("its answer is malformed: {error}");
            AskError::Refused { actor, why }
        })
    }

    fn wire<M: Message>(&self) -> Result<Wire<M>, SendError> {
        M::WIRE.ok_or_else(|| {
            let name = std::any::type_name::<M>();
            self.untransportable(format!("{name} has no Message::WIRE"))
        })
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
    }
}

impl Calling<'_> {
    /// # Cancel safety
    /// May be called again.
    pub(crate) async fn answer(&mut self) -> Result<Bytes, Failure> {
        let answer = (&mut self.answer).await;
        self.is_answered = true;
        // The link answers every call before it goes.
        answer.unwrap_or_else(|_| Err(Failure::Lost("the link has gone".to_owned())))
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.far.link.cancel(self.far.session, self.call);
        }
    }
}
