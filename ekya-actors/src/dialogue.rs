//! Everything that one node and another say to each other, over one connection after another and one
//! session after another.
//!
//! A state machine without I/O and without a clock; [`Link`](crate::link::Link) gives it sockets, the
//! simulation gives it chance.

use std::collections::HashMap;

use bytes::BytesMut;

use crate::frame::Frame;
use crate::hello::{Hello, MINOR, SessionId, WITH_STREAMS};
use crate::peer::{Address, Event, Failure, Misbehaviour, Peer, Unsent, Unstreamed};
use crate::session::Violation;

/// Acknowledgements alone are written when so many frames are not acknowledged.
const ACK_FRAMES: u64 = 256;

/// Actors whose refusals are kept for those who tell them something next.
const REFUSED_MAX: usize = 4096;

pub(crate) struct Dialogue<S> {
    /// This node's incarnation.
    ours: u64,
    /// Whether its name comes before the other's.
    is_first: bool,
    talk: Option<Talk<S>>,
    /// Counts sessions.
    sessions: u64,
    /// The connection in use.
    connection: Option<Connection>,
    /// Counts connections.
    connections: u64,
    /// The minor version of the protocol that is spoken.
    minor: u16,
}

/// A session with an incarnation of the other node.
struct Talk<S> {
    id: SessionId,
    theirs: u64,
    /// The connection that it began on.
    since: u64,
    peer: Peer<S>,
    /// By actor: tells that it could not accept and of which nobody here knows yet.
    refused: HashMap<u64, u64>,
    /// Why the other side cannot be talked to any more.
    misbehaviour: Option<Misbehaviour>,
}

#[derive(Clone, Copy)]
struct Connection {
    number: u64,
    is_dialled: bool,
}

/// A message was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendFailure {
    Overloaded,
    Lost(String),
    /// The other side speaks a version of the protocol that has no such thing.
    Old,
}

/// What to do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Use it.
    Use(Use),
    /// Close it: there is a better one, or it goes on with a session that this side has given up.
    Close,
    /// Refuse it: a newer incarnation of the other side is connected.
    Outdated,
}

/// A connection in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use {
    /// Its number here.
    pub(crate) connection: u64,
    /// What to answer a dialler.
    pub(crate) session: SessionId,
    pub(crate) is_new: bool,
    pub(crate) taken_in: u64,
}

/// Whether the other side has not been told yet of all that was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Untold(pub(crate) bool);

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct InFlight {
    /// Frames that are not taken in yet.
    pub(crate) frames: usize,
    /// Asks from here.
    pub(crate) asks: usize,
    /// Asks of the other side.
    pub(crate) their_asks: usize,
}

impl<S> Dialogue<S> {
    pub(crate) const fn new(ours: u64, is_first: bool) -> Self {
        Self {
            ours,
            is_first,
            talk: None,
            sessions: 0,
            connection: None,
            connections: 0,
            minor: MINOR,
        }
    }

    /// Speaks a minor version of the protocol from now on.
    pub(crate) const fn speak(&mut self, minor: u16) {
        self.minor = minor;
    }

    /// The session that there is now.
    pub(crate) fn session(&self) -> Option<u64> {
        self.talk.as_ref().map(|_| self.sessions)
    }

    /// The other side's incarnation in it.
    pub(crate) fn theirs(&self) -> Option<u64> {
        self.talk.as_ref().map(|talk| talk.theirs)
    }

    /// The connection in use.
    pub(crate) fn connection(&self) -> Option<u64> {
        self.connection.map(|connection| connection.number)
    }

    pub(crate) fn in_flight(&self) -> InFlight {
        self.talk.as_ref().map_or_else(InFlight::default, |talk| {
            let (asks, their_asks) = talk.peer.in_flight();
            InFlight {
                frames: talk.peer.session().waiting(),
                asks,
                their_asks,
            }
        })
    }

    /// # Errors
    /// [`SendFailure`].
    pub(crate) fn tell(
        &mut self,
        session: u64,
        to: Address,
        payload: &[u8],
    ) -> Result<(), SendFailure> {
        let talk = self.talk(session)?;
        if let Some(refused) = talk.refused.get_mut(&to.actor) {
            *refused -= 1;
            if *refused == 0 {
                talk.refused.remove(&to.actor);
            }
            return Err(SendFailure::Overloaded);
        }
        Ok(talk.peer.tell(to, payload)?)
    }

    /// The call's number.
    ///
    /// # Errors
    /// [`SendFailure`]; `sink` is dropped.
    pub(crate) fn ask(
        &mut self,
        session: u64,
        to: Address,
        payload: &[u8],
        within_millis: u32,
        sink: S,
    ) -> Result<u64, SendFailure> {
        let talk = self.talk(session)?;
        Ok(talk.peer.ask(to, payload, within_millis, sink)?)
    }

    /// Asks for a stream of items; the call's number.
    ///
    /// # Errors
    /// [`SendFailure`]; `sink` is dropped.
    pub(crate) fn stream(
        &mut self,
        session: u64,
        to: Address,
        payload: &[u8],
        room: u32,
        sink: S,
    ) -> Result<u64, SendFailure> {
        if self.minor < WITH_STREAMS {
            return Err(SendFailure::Old);
        }
        let talk = self.talk(session)?;
        Ok(talk.peer.stream(to, payload, room, sink)?)
    }

    /// What waits for the answer to a call from here.
    pub(crate) fn sink(&self, call: u64) -> Option<&S> {
        self.talk.as_ref()?.peer.sink(call)
    }

    /// Has room for so many items more of a stream.
    pub(crate) fn make_room(&mut self, session: u64, call: u64, room: u32) {
        if let Ok(talk) = self.talk(session)
            && let Err(misbehaviour) = talk.peer.make_room(call, room)
        {
            talk.misbehaviour = Some(misbehaviour);
        }
    }

    /// Sends an item of the stream that answers a call of the other side.
    ///
    /// # Errors
    /// [`Unstreamed`].
    pub(crate) fn item(
        &mut self,
        session: u64,
        call: u64,
        payload: &[u8],
    ) -> Result<(), Unstreamed> {
        let talk = self.talk(session).map_err(|_| Unstreamed::Gone)?;
        talk.peer.item(call, payload)
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn cancel(&mut self, session: u64, call: u64) -> Option<S> {
        self.talk(session).ok()?.peer.cancel(call)
    }

    /// Answers a call of the other side.
    pub(crate) fn answer(&mut self, session: u64, call: u64, result: Result<&[u8], &Failure>) {
        let result = match result {
            Err(Failure::Unanswered) if self.minor < WITH_STREAMS => Err(&Failure::Stopped),
            result => result,
        };
        if let Ok(talk) = self.talk(session)
            && let Err(misbehaviour) = talk.peer.answer(call, result)
        {
            talk.misbehaviour = Some(misbehaviour);
        }
    }

    /// Whether the other side waits for the answer to its call.
    pub(crate) fn is_answering(&mut self, session: u64, call: u64) -> bool {
        let talk = self.talk(session);
        talk.is_ok_and(|talk| talk.peer.is_answering(call))
    }

    /// Tells the other side that a tell could not be accepted.
    pub(crate) fn refuse(&mut self, session: u64, actor: u64) {
        if let Ok(talk) = self.talk(session)
            && let Err(misbehaviour) = talk.peer.refuse(actor)
        {
            talk.misbehaviour = Some(misbehaviour);
        }
    }

    /// Why the other side cannot be talked to any more.
    pub(crate) fn misbehaviour(&self) -> Option<&Misbehaviour> {
        self.talk.as_ref()?.misbehaviour.as_ref()
    }

    /// What a dialler says of the session in its greeting.
    pub(crate) fn last_known(&self) -> (Option<SessionId>, u64) {
        let talk = self.talk.as_ref();
        let taken_in = talk.map_or(0, |talk| talk.peer.session().taken_in());
        (talk.map(|talk| talk.id), taken_in)
    }

    /// Takes a connection into use after the other side's greeting, and goes on with the session or
    /// begins another; what waited for answers in the one before goes to `lost`. The side that was
    /// dialled decides, so a dialler begins the session that the answer to its greeting names.
    ///
    /// # Errors
    /// [`Violation`]; the connection is of no use.
    pub(crate) fn greet(
        &mut self,
        hello: &Hello,
        is_dialled: bool,
        lost: &mut Vec<S>,
    ) -> Result<Greeting, Violation> {
        let newer = |talk: &Talk<S>| talk.theirs > hello.incarnation;
        if self.connection.is_some() && self.talk.as_ref().is_some_and(newer) {
            return Ok(Greeting::Outdated);
        }
        // Of two connections that they dial to each other, the one of the first side stays.
        let is_other = |other: Connection| other.is_dialled != is_dialled;
        if self.connection.is_some_and(is_other) && is_dialled != self.is_first {
            return Ok(Greeting::Close);
        }
        let now = self.talk.as_mut();
        let same =
            now.filter(|talk| hello.session == Some(talk.id) && hello.incarnation == talk.theirs);
        let is_new = same.is_none();
        let (session, taken_in) = match same {
            Some(talk) => {
                talk.peer.resume(hello.taken_in)?;
                (talk.id, talk.peer.session().taken_in())
            }
            None if is_dialled && !hello.is_new => return Ok(Greeting::Close),
            None => {
                let named = hello.session.filter(|_| is_dialled);
                lost.extend(self.end());
                (self.begin(hello.incarnation, named), 0)
            }
        };
        self.connections += 1;
        let connection = self.connections;
        self.connection = Some(Connection {
            number: connection,
            is_dialled,
        });
        Ok(Greeting::Use(Use {
            connection,
            session,
            is_new,
            taken_in,
        }))
    }

    /// A connection has ended; whether it was the one in use. The session waits for another.
    pub(crate) fn disconnected(&mut self, connection: u64) -> bool {
        let was_in_use = self.connection() == Some(connection);
        if was_in_use {
            self.connection = None;
        }
        was_in_use
    }

    /// Begins a session, this side's own or the one that the other side has named.
    fn begin(&mut self, theirs: u64, named: Option<SessionId>) -> SessionId {
        self.sessions += 1;
        let id = named.unwrap_or(SessionId {
            by_first: self.is_first,
            incarnation: self.ours,
            number: self.sessions,
        });
        self.talk = Some(Talk {
            id,
            theirs,
            since: self.connections + 1,
            peer: Peer::new(),
            refused: HashMap::new(),
            misbehaviour: None,
        });
        id
    }

    /// Ends the session: what waited for answers.
    pub(crate) fn end(&mut self) -> Vec<S> {
        self.connection = None;
        let talk = self.talk.take();
        talk.map_or_else(Vec::new, |talk| talk.peer.end().collect())
    }

    /// Appends what is to be written on this connection now, about `full` bytes of it. An
    /// acknowledgement alone is written when many frames, or the caller, want it.
    ///
    /// # Errors
    /// When the connection is to be written on no more, and why.
    pub(crate) fn write(
        &mut self,
        connection: u64,
        out: &mut BytesMut,
        full: usize,
        acknowledge: bool,
    ) -> Result<Untold, String> {
        if self.connection() != Some(connection) {
            return Err("it is not in use any more".to_owned());
        }
        let Some(talk) = &mut self.talk else {
            return Err("the session has ended".to_owned());
        };
        if let Some(misbehaviour) = &talk.misbehaviour {
            return Err(misbehaviour.to_string());
        }
        if acknowledge || talk.peer.session().has_to_write(ACK_FRAMES) {
            talk.peer.write(out, full);
        }
        Ok(Untold(talk.peer.session().is_untold()))
    }

    /// Whether an acknowledgement is due.
    pub(crate) fn has_to_write(&self) -> bool {
        let talk = self.talk.as_ref();
        talk.is_some_and(|talk| talk.peer.session().has_to_write(ACK_FRAMES))
    }

    /// What a frame means; `None` for nothing new.
    ///
    /// # Errors
    /// [`Misbehaviour`].
    pub(crate) fn receive(
        &mut self,
        connection: u64,
        frame: Frame,
    ) -> Result<Option<Event<S>>, Misbehaviour> {
        // What an older connection of the session still brings counts as well: it is numbered.
        let talk = self.talk.as_mut();
        let Some(talk) = talk.filter(|talk| connection >= talk.since) else {
            return Ok(None);
        };
        let event = talk.peer.receive(frame)?;
        if let Some(Event::Refused(actor)) = event
            && (talk.refused.len() < REFUSED_MAX || talk.refused.contains_key(&actor))
        {
            *talk.refused.entry(actor).or_default() += 1;
        }
        Ok(event)
    }

    fn talk(&mut self, session: u64) -> Result<&mut Talk<S>, SendFailure> {
        let is_now = session == self.sessions;
        let talk = self.talk.as_mut().filter(|_| is_now);
        let lost = || SendFailure::Lost("the session with its node has ended".to_owned());
        talk.ok_or_else(lost)
    }
}

impl From<Unsent> for SendFailure {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            // Messages that are too long do not get this far: encoding has the same limit.
            Unsent::Full | Unsent::TooLong => Self::Overloaded,
        }
    }
}
