//! How messages travel between nodes: what a type of message is called, and its bytes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::{Actor, Message, Receive};
use crate::codec::{self, CodecError};
use crate::envelope::Body;
use crate::frame::MESSAGE_MAX;
use crate::peer::{Address, Failure};
use crate::reference::{AskError, Ref};
use crate::reply::To;
use crate::reply_to::ReplyTo;
use crate::security::Who;
use crate::stream::{Outlet, StreamBody, Streams};

/// How a type of message travels; see [`Message::WIRE`].
pub struct Wire<M: Message> {
    name: &'static str,
    version: u16,
    encode: fn(&M, &mut Vec<u8>) -> Result<(), CodecError>,
    decode: fn(&[u8]) -> Result<M, CodecError>,
    encode_reply: fn(&M::Reply, &mut Vec<u8>) -> Result<(), CodecError>,
    decode_reply: fn(&[u8]) -> Result<M::Reply, CodecError>,
}

impl<M> Wire<M>
where
    M: Message + Serialize + DeserializeOwned,
    M::Reply: Serialize + DeserializeOwned,
{
    /// A name that no other message to the same actor has on the wire, such as `"counter/add"`, and
    /// the version of the fields of message and answer. Whoever changes the fields increases the
    /// version: nodes that differ in it refuse the message and say so.
    #[must_use]
    pub const fn new(name: &'static str, version: u16) -> Self {
        Self {
            name,
            version,
            encode: |message, out| codec::encode(message, out, MESSAGE_MAX),
            decode: |bytes| codec::decode(bytes),
            encode_reply: |reply, out| codec::encode(reply, out, MESSAGE_MAX),
            decode_reply: |bytes| codec::decode(bytes),
        }
    }
}

impl<M: Message> Wire<M> {
    /// The number that stands for the name.
    pub(crate) const fn id(&self) -> u64 {
        id(self.name)
    }

    pub(crate) const fn version(&self) -> u16 {
        self.version
    }

    pub(crate) fn encode(&self, message: &M) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::new();
        (self.encode)(message, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<M, CodecError> {
        (self.decode)(bytes)
    }

    pub(crate) fn encode_reply(&self, reply: &M::Reply) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::new();
        (self.encode_reply)(reply, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn decode_reply(&self, bytes: &[u8]) -> Result<M::Reply, CodecError> {
        (self.decode_reply)(bytes)
    }
}

/// How a message travels.
///
/// # Errors
/// The text for one that does not.
pub(crate) fn of<M: Message>() -> Result<Wire<M>, String> {
    M::WIRE.ok_or_else(|| format!("{} has no Message::WIRE", std::any::type_name::<M>()))
}

/// Fowler, Noll and Vo's hash (1a, 64 bits), the same in every build.
const fn id(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// An actor that other nodes may send messages to.
pub trait Remote: Actor {
    /// What the type is called on the wire: a reference to another type's actor is refused.
    const TYPE: &'static str;

    /// Adds every message that may come from other nodes.
    fn messages(messages: &mut Messages<Self>);
}

/// The messages that an actor takes from other nodes.
pub struct Messages<A: Actor> {
    takes: HashMap<u64, Takes<A>>,
}

/// A message that has come.
#[derive(Clone, Copy)]
pub(crate) struct Letter<'a> {
    /// Who has sent it.
    pub(crate) from: &'a Who,
    pub(crate) to: Address,
    pub(crate) payload: &'a [u8],
}

struct Takes<A: Actor> {
    name: &'static str,
    version: u16,
    /// Whether observers may send it, too.
    is_look: bool,
    /// Whether it is answered by a stream.
    is_stream: bool,
    deliver: Delivering<A>,
}

/// Decodes a message and hands it over.
type Delivering<A> = fn(&Ref<A>, Letter<'_>, Option<ReplyTo>) -> Result<(), Failure>;

impl<A: Actor> Messages<A> {
    /// # Panics
    /// When a message is added that cannot travel, or two of the same name: a mistake in the program,
    /// found at its start.
    #[track_caller]
    pub fn add<M: Message>(&mut self) -> &mut Self
    where
        A: Receive<M>,
    {
        let wire = of::<M>().unwrap_or_else(|why| panic!("{why}"));
        self.insert(&wire, false, deliver::<A, M>)
    }

    /// Adds a message that is answered by a stream.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    #[track_caller]
    pub fn add_stream<M: Message>(&mut self) -> &mut Self
    where
        A: Streams<M>,
    {
        let wire = of::<M>().unwrap_or_else(|why| panic!("{why}"));
        self.insert(&wire, true, deliver_stream::<A, M>)
    }

    #[track_caller]
    fn insert<M: Message>(
        &mut self,
        wire: &Wire<M>,
        is_stream: bool,
        deliver: Delivering<A>,
    ) -> &mut Self {
        let takes = Takes {
            name: wire.name,
            version: wire.version,
            is_look: false,
            is_stream,
            deliver,
        };
        if let Some(other) = self.takes.insert(wire.id(), takes) {
            panic!("two messages called {} or {}", wire.name, other.name);
        }
        self
    }

    /// Lets observers send a message, too: one that only looks.
    ///
    /// # Panics
    /// When it was not added.
    #[track_caller]
    pub fn for_observers<M: Message>(&mut self) -> &mut Self {
        let id = M::WIRE.map(|wire| wire.id());
        let Some(takes) = id.and_then(|id| self.takes.get_mut(&id)) else {
            panic!("{} was not added", std::any::type_name::<M>());
        };
        takes.is_look = true;
        self
    }

    pub(crate) fn of() -> Self
    where
        A: Remote,
    {
        let mut messages = Self {
            takes: HashMap::new(),
        };
        A::messages(&mut messages);
        messages
    }

    /// Hands a message to the actor.
    ///
    /// # Errors
    /// Why it cannot be; a `reply` has been told.
    pub(crate) fn deliver(
        &self,
        actor: &Ref<A>,
        letter: Letter<'_>,
        reply: Option<ReplyTo>,
    ) -> Result<(), Failure> {
        let Letter { from, to, .. } = letter;
        let wants_items = reply.as_ref().is_some_and(ReplyTo::wants_items);
        let taken = match self.takes.get(&to.message) {
            None => Err(Failure::Refused(format!(
                "{} takes no such message",
                actor.name()
            ))),
            Some(takes) if takes.version != to.version => Err(Failure::Refused(format!(
                "{} is known in version {} here, not {}",
                takes.name, takes.version, to.version
            ))),
            Some(takes) if !takes.is_look && !from.role.may_call() => {
                Err(Failure::Refused(format!("{from} may call no actor")))
            }
            Some(takes) if takes.is_stream != wants_items => Err(Failure::Refused(format!(
                "{} is answered by {}",
                takes.name,
                if wants_items {
                    "one answer"
                } else {
                    "a stream"
                }
            ))),
            Some(takes) => return (takes.deliver)(actor, letter, reply),
        };
        taken.map_err(|failure| told(reply, failure))
    }
}

impl<A: Actor> fmt::Debug for Messages<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.takes.values().map(|takes| takes.name);
        f.debug_set().entries(names).finish()
    }
}

fn deliver<A: Receive<M>, M: Message>(
    actor: &Ref<A>,
    letter: Letter<'_>,
    reply: Option<ReplyTo>,
) -> Result<(), Failure> {
    let (name, message) = match decoded::<M>(letter.payload) {
        Ok(decoded) => decoded,
        Err(failure) => return Err(told(reply, failure)),
    };
    let body = match reply {
        None => Body::here(message, To::Told(Arc::clone(&letter.from.name))),
        Some(reply) => {
            let (actor, message_name, trace) = (actor.name(), name, letter.to.trace);
            let span = tracing::debug_span!("ask", actor, message = message_name, trace);
            let to = To::There(reply);
            Body { message, to, span }
        }
    };
    // What is not accepted has told its asker.
    actor
        .accept(Box::new(body))
        .map_err(|error| AskError::from(error).into())
}

fn deliver_stream<A: Streams<M>, M: Message>(
    actor: &Ref<A>,
    letter: Letter<'_>,
    reply: Option<ReplyTo>,
) -> Result<(), Failure> {
    let (message, reply) = match (decoded::<M>(letter.payload), reply) {
        (Ok((_, message)), Some(reply)) => (message, reply),
        (Err(failure), reply) => return Err(told(reply, failure)),
        // A stream is never told.
        (Ok(_), None) => return Err(Failure::Stopped),
    };
    let to = Outlet::There(reply);
    let accepted = actor.accept(Box::new(StreamBody { message, to }));
    accepted.map_err(|error| AskError::from(error).into())
}

/// A message and its name.
fn decoded<M: Message>(payload: &[u8]) -> Result<(&'static str, M), Failure> {
    let wire = M::WIRE.ok_or(Failure::Stopped)?;
    let decoded = wire.decode(payload);
    let malformed = |error| Failure::Refused(format!("{} is malformed: {error}", wire.name));
    Ok((wire.name, decoded.map_err(malformed)?))
}

/// Lets an asker know of a failure.
pub(crate) fn told(reply: Option<ReplyTo>, failure: Failure) -> Failure {
    if let Some(reply) = reply {
        reply.fail(&failure);
    }
    failure
}
