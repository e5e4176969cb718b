//! One side of the talk between two nodes: messages out, answers in, messages in, answers out.
//!
//! A state machine without I/O and without a clock, on top of a [`Session`]. `S` is what waits for
//! an answer. Every ask that was accepted ends exactly once: with its answer, with a [`Failure`], or
//! by being [cancelled](Peer::cancel) by whoever asked.

use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec::{CodecError, decode, decode_first, encode};
use crate::frame::{BODY_MAX, Frame, Kind, MESSAGE_MAX};
use crate::session::{Bounds, Session, Violation};

/// Frames and bytes for a peer that wait to be taken in. Twice as much may wait in answers, which
/// must not be refused: a peer that takes in none of them is cut off.
const OUTBOX: Bounds = Bounds {
    frames: 1 << 16,
    bytes: 16 << 20,
};

/// Asks that wait for an answer, in either direction.
const CALLS_MAX: usize = 1 << 16;

/// Bytes of a text in a [`Failure`].
const TEXT_MAX: usize = 512;

/// Where a message goes and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// The actor, by the number that its node has given it.
    pub(crate) actor: u64,
    /// The type of the message.
    pub(crate) message: u64,
    /// The version of its fields.
    pub(crate) version: u16,
    /// What links the spans of both nodes; 0 for nothing.
    pub(crate) trace: u64,
}

#[derive(Serialize, Deserialize)]
struct AskHead {
    call: u64,
    within_millis: u32,
}

/// Why an ask of another node has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The mailbox, or the way there or back, is full.
    Overloaded,
    /// No such actor, or none any more.
    Stopped,
    /// The actor has panicked.
    Panicked(String),
    /// The actor was restarted while the message waited.
    Restarted,
    /// The deadline passed before the message was handled.
    Deadline,
    /// The actor takes no such message, or not in this version.
    Refused(String),
    /// The session has ended: the message may or may not have been handled.
    Lost(String),
}

/// What a frame of the peer means.
#[derive(Debug)]
pub(crate) enum Event<S> {
    /// A message for an actor here.
    Message {
        to: Address,
        payload: Bytes,
        /// When it is to be answered.
        call: Option<Call>,
    },
    /// Nobody waits for the answer to one of its calls any more.
    Cancelled,
    /// An answer to an ask from here.
    Answered(S, Result<Bytes, Failure>),
    /// A tell from here that the actor could not accept.
    Refused(u64),
}

/// An ask of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) within_millis: u32,
}

/// The peer does not keep to the protocol. The session is over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Misbehaviour {
    /// See [`Violation`].
    #[error(transparent)]
    Session(#[from] Violation),
    /// A body is not what its kind says.
    #[error("a malformed {0} frame: {1}")]
    Body(&'static str, CodecError),
    /// It uses a call's number while that call is being answered.
    #[error("call {0} was made twice")]
    CallTwice(u64),
    /// It does not take in its answers.
    #[error("answers pile up that it does not take in")]
    Deaf,
}

/// A message was not accepted, and will not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// Too much waits to be sent, or to be answered.
    Full,
    /// It has more than [`MESSAGE_MAX`] bytes.
    TooLong,
}

#[derive(Debug)]
pub(crate) struct Peer<S> {
    session: Session,
    /// Asks from here that wait for an answer.
    calls: HashMap<u64, S>,
    next_call: u64,
    /// Asks of the peer that are being answered.
    answering: HashSet<u64>,
}

impl<S> Peer<S> {
    pub(crate) fn new() -> Self {
        Self {
            session: Session::new(OUTBOX),
            calls: HashMap::new(),
            next_call: 1,
            answering: HashSet::new(),
        }
    }

    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// Asks that wait for an answer: from here, and of the peer.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        (self.calls.len(), self.answering.len())
    }

    /// # Errors
    /// [`Unsent`].
    pub(crate) fn tell(&mut self, to: Address, payload: &[u8]) -> Result<(), Unsent> {
        let body = body(&to, None, payload)?;
        let queued = self.session.queue(Kind::Tell, body);
        queued.map_err(|_| Unsent::Full)
    }

    /// Its number, to cancel it.
    ///
    /// # Errors
    /// [`Unsent`]; `sink` is dropped.
    pub(crate) fn ask(
        &mut self,
        to: Address,
        payload: &[u8],
        within_millis: u32,
        sink: S,
    ) -> Result<u64, Unsent> {
        if self.calls.len() >= CALLS_MAX {
            return Err(Unsent::Full);
        }
        let call = self.next_call;
        let head = AskHead {
            call,
            within_millis,
        };
        let body = body(&to, Some(&head), payload)?;
        let queued = self.session.queue(Kind::Ask, body);
        queued.map_err(|_| Unsent::Full)?;
        self.next_call += 1;
        self.calls.insert(call, sink);
        Ok(call)
    }

    /// Waits for an answer no longer. What waited for it, if it still did.
    pub(crate) fn cancel(&mut self, call: u64) -> Option<S> {
        let sink = self.calls.remove(&call)?;
        // When even this does not fit, the peer works for nobody.
        let _ = self.session.queue(Kind::Cancel, number(call));
        Some(sink)
    }

    /// Answers a call of the peer; one that it has cancelled needs no answer.
    ///
    /// # Errors
    /// [`Misbehaviour::Deaf`].
    pub(crate) fn answer(
        &mut self,
        call: u64,
        result: Result<&[u8], &Failure>,
    ) -> Result<(), Misbehaviour> {
        if !self.answering.remove(&call) {
            return Ok(());
        }
        let fits = |payload: &[u8]| payload.len() <= MESSAGE_MAX;
        let result = match result {
            Ok(payload) if !fits(payload) => {
                let text = format!("the answer has {} bytes", payload.len());
                return self.fail(call, &Failure::Refused(text));
            }
            Ok(payload) => payload,
            Err(failure) => return self.fail(call, failure),
        };
        let mut body = Vec::with_capacity(9 + result.len());
        body.extend(call.to_le_bytes());
        body.push(0);
        body.extend(result);
        if self.session.queue(Kind::Reply, body.into()).is_err() {
            return self.fail(call, &Failure::Overloaded);
        }
        Ok(())
    }

    /// Whether the peer waits for the answer to its call.
    pub(crate) fn is_answering(&self, call: u64) -> bool {
        self.answering.contains(&call)
    }

    /// Says that a tell of the peer could not be accepted.
    ///
    /// # Errors
    /// [`Misbehaviour::Deaf`].
    pub(crate) fn refuse(&mut self, actor: u64) -> Result<(), Misbehaviour> {
        self.must_queue(Kind::Refusal, number(actor))
    }

    fn fail(&mut self, call: u64, failure: &Failure) -> Result<(), Misbehaviour> {
        let mut body = Vec::new();
        body.extend(call.to_le_bytes());
        body.push(1);
        let short = shortened(failure);
        // A failure with a short text always fits.
        let _ = encode(&short, &mut body, BODY_MAX);
        self.must_queue(Kind::Reply, body.into())
    }

    fn must_queue(&mut self, kind: Kind, body: Bytes) -> Result<(), Misbehaviour> {
        if self.session.waiting() >= 2 * OUTBOX.frames {
            return Err(Misbehaviour::Deaf);
        }
        self.session.queue_beyond(kind, body);
        Ok(())
    }

    /// Appends frames to `out` until it is about `full` bytes long.
    pub(crate) fn write(&mut self, out: &mut BytesMut, full: usize) {
        self.session.write(out, full);
    }

    /// Goes on over a new connection.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn resume(&mut self, taken_in: u64) -> Result<(), Violation> {
        self.session.resume(taken_in)
    }

    /// What a frame means; `None` for nothing new.
    ///
    /// # Errors
    /// [`Misbehaviour`].
    pub(crate) fn receive(&mut self, frame: Frame) -> Result<Option<Event<S>>, Misbehaviour> {
        if !self.session.take_in(&frame)? {
            return Ok(None);
        }
        let body = frame.body;
        match frame.kind {
            Kind::Ack => Ok(None),
            Kind::Tell => message(&body, false).map(|(to, _, payload)| {
                let call = None;
                Some(Event::Message { to, payload, call })
            }),
            Kind::Ask => self.receive_ask(&body),
            Kind::Cancel => {
                let call = decode(&body).map_err(malformed("cancel"))?;
                let is_answering = self.answering.remove(&call);
                Ok(is_answering.then_some(Event::Cancelled))
            }
            Kind::Reply => self.receive_reply(&body),
            Kind::Refusal => {
                let actor = decode(&body).map_err(malformed("refusal"))?;
                Ok(Some(Event::Refused(actor)))
            }
        }
    }

    fn receive_ask(&mut self, body: &Bytes) -> Result<Option<Event<S>>, Misbehaviour> {
        let (to, head, payload) = message(body, true)?;
        let Some(AskHead {
            call,
            within_millis,
        }) = head
        else {
            return Ok(None);
        };
        if self.answering.len() >= CALLS_MAX {
            self.fail(call, &Failure::Overloaded)?;
            return Ok(None);
        }
        if !self.answering.insert(call) {
            return Err(Misbehaviour::CallTwice(call));
        }
        let call = Some(Call {
            id: call,
            within_millis,
        });
        Ok(Some(Event::Message { to, payload, call }))
    }

    fn receive_reply(&mut self, body: &Bytes) -> Result<Option<Event<S>>, Misbehaviour> {
        let ((call, failed), rest) =
            decode_first::<(u64, bool)>(body).map_err(malformed("reply"))?;
        let result = if failed {
            Err(decode(rest).map_err(malformed("reply"))?)
        } else {
            Ok(body.slice_ref(rest))
        };
        // One that was cancelled meanwhile is answered all the same, and nobody listens.
        let sink = self.calls.remove(&call);
        Ok(sink.map(|sink| Event::Answered(sink, result)))
    }

    /// Ends the session: what waits for answers.
    pub(crate) fn end(self) -> impl Iterator<Item = S> {
        self.calls.into_values()
    }
}

fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// What goes into the body of a message.
fn body(to: &Address, ask: Option<&AskHead>, payload: &[u8]) -> Result<Bytes, Unsent> {
    if payload.len() > MESSAGE_MAX {
        return Err(Unsent::TooLong);
    }
    let mut body = Vec::with_capacity(48 + payload.len());
    let too_long = |_| Unsent::TooLong;
    encode(to, &mut body, BODY_MAX).map_err(too_long)?;
    if let Some(ask) = ask {
        encode(ask, &mut body, BODY_MAX).map_err(too_long)?;
    }
    body.extend(payload);
    Ok(body.into())
}

fn message(body: &Bytes, is_ask: bool) -> Result<(Address, Option<AskHead>, Bytes), Misbehaviour> {
    let kind = if is_ask { "ask" } else { "tell" };
    let (to, rest) = decode_first(body).map_err(malformed(kind))?;
    let (head, rest) = if is_ask {
        let (head, rest) = decode_first(rest).map_err(malformed(kind))?;
        (Some(head), rest)
    } else {
        (None, rest)
    };
    Ok((to, head, body.slice_ref(rest)))
}

fn malformed(kind: &'static str) -> impl Fn(CodecError) -> Misbehaviour {
    move |error| Misbehaviour::Body(kind, error)
}

/// The same with a text that is not too long.
fn shortened(failure: &Failure) -> Failure {
    let short = |text: &String| {
        let end = text
            .char_indices()
            .map(|(at, _)| at)
            .take_while(|&at| at <= TEXT_MAX);
        let end = end.last().filter(|_| text.len() > TEXT_MAX);
        text[..end.unwrap_or(text.len())].to_owned()
    };
    match failure {
        Failure::Panicked(text) => Failure::Panicked(short(text)),
        Failure::Refused(text) => Failure::Refused(short(text)),
        Failure::Lost(text) => Failure::Lost(short(text)),
        other => other.clone(),
    }
}
