//! One side of the talk between two nodes: messages out, answers in, messages in, answers out.
//!
//! A state machine without I/O and without a clock, on top of a [`Session`]. `S` is what waits for
//! an answer. Every ask that was accepted ends exactly once: with its answer, with a [`Failure`], or
//! by being [cancelled](Peer::cancel) by whoever asked.

use std::collections::HashMap;

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

/// Items of a stream that may be on their way.
pub(crate) const ROOM_MAX: u32 = 1 << 12;

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
    /// For how long the answer is waited for; of a stream, for how many items there is room.
    within_millis_or_room: u32,
}

#[derive(Serialize, Deserialize)]
struct MoreRoom {
    call: u64,
    room: u32,
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
    /// The actor was restarted before it had answered.
    Restarted,
    /// The deadline passed before the message was handled.
    Deadline,
    /// The actor takes no such message, or not in this version.
    Refused(String),
    /// The session has ended: the message may or may not have been handled.
    Lost(String),
    /// The actor has handled the message and gone on without an answer.
    Unanswered,
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
    Cancelled(u64),
    /// There is room for more items of a stream that answers one of its calls.
    More(u64),
    /// An item of the stream that answers a call from here.
    Item(u64, Bytes),
    /// An answer to an ask from here.
    Answered(S, Result<Bytes, Failure>),
    /// A tell from here that the actor could not accept.
    Refused(u64),
}

/// An ask of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) wants: Wants,
}

/// What an asker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// One answer, for so many milliseconds.
    Answer(u32),
    /// A stream of items.
    Items,
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
    /// It uses a call's number again: answers to one could be taken for answers to the other.
    #[error("call {0} was made twice")]
    CallTwice(u64),
    /// It does not take in its answers.
    #[error("answers pile up that it does not take in")]
    Deaf,
    /// It sends items for which it was given no room.
    #[error("an item of call {0} came for which there is no room")]
    Uninvited(u64),
}

/// An item was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unstreamed {
    /// There is no room for it now.
    Full,
    /// Nobody waits for it.
    Gone,
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
    calls: HashMap<u64, Asked<S>>,
    next_call: u64,
    /// Asks of the peer that are being answered, and how many items each has room for.
    answering: HashMap<u64, u32>,
    /// The newest ask of the peer; it numbers them upwards.
    last_answering: u64,
}

/// An ask from here.
#[derive(Debug)]
struct Asked<S> {
    sink: S,
    /// How many items may still come.
    room: u32,
}

impl<S> Peer<S> {
    pub(crate) fn new() -> Self {
        Self {
            session: Session::new(OUTBOX),
            calls: HashMap::new(),
            next_call: 1,
            answering: HashMap::new(),
            last_answering: 0,
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
        let asked = Asked { sink, room: 0 };
        self.call(Kind::Ask, to, payload, within_millis, asked)
    }

    /// Asks for a stream, with room for so many items, at most [`ROOM_MAX`]. Its number.
    ///
    /// # Errors
    /// [`Unsent`]; `sink` is dropped.
    pub(crate) fn stream(
        &mut self,
        to: Address,
        payload: &[u8],
        room: u32,
        sink: S,
    ) -> Result<u64, Unsent> {
        let asked = Asked { sink, room };
        self.call(Kind::Stream, to, payload, room, asked)
    }

    fn call(
        &mut self,
        kind: Kind,
        to: Address,
        payload: &[u8],
        within_millis_or_room: u32,
        asked: Asked<S>,
    ) -> Result<u64, Unsent> {
        if self.calls.len() >= CALLS_MAX {
            return Err(Unsent::Full);
        }
        let call = self.next_call;
        let head = AskHead {
            call,
            within_millis_or_room,
        };
        let body = body(&to, Some(&head), payload)?;
        let queued = self.session.queue(kind, body);
        queued.map_err(|_| Unsent::Full)?;
        self.next_call += 1;
        self.calls.insert(call, asked);
        Ok(call)
    }

    /// What waits for the answer to a call from here.
    pub(crate) fn sink(&self, call: u64) -> Option<&S> {
        self.calls.get(&call).map(|asked| &asked.sink)
    }

    /// Has room for so many items more of the stream that answers a call.
    ///
    /// # Errors
    /// [`Misbehaviour::Deaf`].
    pub(crate) fn make_room(&mut self, call: u64, room: u32) -> Result<(), Misbehaviour> {
        let Some(asked) = self.calls.get_mut(&call) else {
            return Ok(());
        };
        asked.room += room;
        let mut body = Vec::new();
        // Twelve bytes always fit.
        let _ = encode(&MoreRoom { call, room }, &mut body, BODY_MAX);
        self.must_queue(Kind::More, body.into())
    }

    /// Waits for an answer no longer. What waited for it, if it still did.
    pub(crate) fn cancel(&mut self, call: u64) -> Option<S> {
        let asked = self.calls.remove(&call)?;
        // Also where nothing else fits: a stream has no other end. A peer that takes in nothing at all
        // is cut off by whatever has to be said next.
        let _ = self.must_queue(Kind::Cancel, number(call));
        Some(asked.sink)
    }

    /// Sends an item of the stream that answers a call of the peer.
    ///
    /// # Errors
    /// [`Unstreamed`].
    pub(crate) fn item(&mut self, call: u64, payload: &[u8]) -> Result<(), Unstreamed> {
        let room = self.answering.get_mut(&call).ok_or(Unstreamed::Gone)?;
        if *room == 0 && !crate::plant::is(crate::plant::Bug::IgnoredRoom) {
            return Err(Unstreamed::Full);
        }
        let mut body = Vec::with_capacity(8 + payload.len());
        body.extend(call.to_le_bytes());
        body.extend(payload);
        let queued = self.session.queue(Kind::Item, body.into());
        queued.map_err(|_| Unstreamed::Full)?;
        *room = room.saturating_sub(1);
        Ok(())
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
        if self.answering.remove(&call).is_none() {
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
        if result.is_empty() {
            // Such as the end of a stream: a refusal would be longer.
            return self.must_queue(Kind::Reply, body.into());
        }
        if self.session.queue(Kind::Reply, body.into()).is_err() {
            return self.fail(call, &Failure::Overloaded);
        }
        Ok(())
    }

    /// Whether the peer waits for the answer to its call.
    pub(crate) fn is_answering(&self, call: u64) -> bool {
        self.answering.contains_key(&call)
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
            Kind::Ask | Kind::Stream => self.receive_ask(frame.kind, &body),
            Kind::Cancel => {
                let call = decode(&body).map_err(malformed("cancel"))?;
                let answering = self.answering.remove(&call);
                Ok(answering.map(|_| Event::Cancelled(call)))
            }
            Kind::Item => self.receive_item(&body),
            Kind::More => {
                let MoreRoom { call, room } = decode(&body).map_err(malformed("more"))?;
                let has = self.answering.get_mut(&call);
                Ok(has.map(|has| {
                    *has = has.saturating_add(room).min(ROOM_MAX);
                    Event::More(call)
                }))
            }
            Kind::Reply => self.receive_reply(&body),
            Kind::Refusal => {
                let actor = decode(&body).map_err(malformed("refusal"))?;
                Ok(Some(Event::Refused(actor)))
            }
        }
    }

    fn receive_ask(&mut self, kind: Kind, body: &Bytes) -> Result<Option<Event<S>>, Misbehaviour> {
        let (to, head, payload) = message(body, true)?;
        let Some(AskHead {
            call: id,
            within_millis_or_room,
        }) = head
        else {
            return Ok(None);
        };
        // Also of a call that is over: whoever answered it may not know that yet.
        if id <= self.last_answering {
            return Err(Misbehaviour::CallTwice(id));
        }
        self.last_answering = id;
        if self.answering.len() >= CALLS_MAX {
            self.fail(id, &Failure::Overloaded)?;
            return Ok(None);
        }
        let (wants, room) = match kind {
            Kind::Stream => (Wants::Items, within_millis_or_room.min(ROOM_MAX)),
            _ => (Wants::Answer(within_millis_or_room), 0),
        };
        self.answering.insert(id, room);
        let call = Some(Call { id, wants });
        Ok(Some(Event::Message { to, payload, call }))
    }

    fn receive_item(&mut self, body: &Bytes) -> Result<Option<Event<S>>, Misbehaviour> {
        let (call, rest) = decode_first::<u64>(body).map_err(malformed("item"))?;
        // Of a stream that was cancelled meanwhile, items still come.
        let Some(asked) = self.calls.get_mut(&call) else {
            return Ok(None);
        };
        if asked.room == 0 {
            return Err(Misbehaviour::Uninvited(call));
        }
        asked.room -= 1;
        Ok(Some(Event::Item(call, body.slice_ref(rest))))
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
        let asked = self.calls.remove(&call);
        Ok(asked.map(|asked| Event::Answered(asked.sink, result)))
    }

    /// Ends the session: what waits for answers.
    pub(crate) fn end(self) -> impl Iterator<Item = S> {
        self.calls.into_values().map(|asked| asked.sink)
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
    let short = |text: &str| crate::envelope::shortened(text).to_owned();
    match failure {
        Failure::Panicked(text) => Failure::Panicked(short(text)),
        Failure::Refused(text) => Failure::Refused(short(text)),
        Failure::Lost(text) => Failure::Lost(short(text)),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Address = Address {
        actor: 1,
        message: 2,
        version: 1,
        trace: 0,
    };

    /// Has no place left for messages.
    fn fill(peer: &mut Peer<u32>) {
        while peer.tell(TO, &[0; MESSAGE_MAX]).is_ok() {}
        while peer.tell(TO, &[]).is_ok() {}
    }

    /// What one side has to say, as the other one hears it.
    fn heard(from: &mut Peer<u32>, by: &mut Peer<u32>) -> Vec<Event<u32>> {
        let mut bytes = BytesMut::new();
        from.write(&mut bytes, usize::MAX);
        let frames = std::iter::from_fn(|| crate::frame::take(&mut bytes).unwrap());
        frames
            .filter_map(|frame| by.receive(frame).unwrap())
            .collect()
    }

    fn pair_with_a_stream() -> (Peer<u32>, Peer<u32>, u64) {
        let (mut a, mut b) = (Peer::new(), Peer::new());
        let call = a.stream(TO, &[], 8, 7).unwrap();
        assert_eq!(heard(&mut a, &mut b).len(), 1);
        (a, b, call)
    }

    #[test]
    fn a_stream_is_cancelled_also_when_nothing_else_can_be_said() {
        let (mut a, mut b, call) = pair_with_a_stream();
        fill(&mut a);
        assert_eq!(a.cancel(call), Some(7));
        let last = heard(&mut a, &mut b).pop();
        assert!(matches!(last, Some(Event::Cancelled(one)) if one == call));
        assert_eq!(b.item(call, &[]), Err(Unstreamed::Gone));
    }

    #[test]
    fn a_stream_ends_in_good_order_also_when_nothing_else_can_be_said() {
        let (mut a, mut b, call) = pair_with_a_stream();
        fill(&mut b);
        b.answer(call, Ok(&[])).unwrap();
        let last = heard(&mut b, &mut a).pop();
        assert!(matches!(last, Some(Event::Answered(7, Ok(_)))), "{last:?}");
    }
}
