//! A peer whose every frame a test writes by hand: it has a certificate and greets, and does then what
//! no node does.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;

use quinn::{Connection, RecvStream, SendStream};

use crate::intruder::{Intruder, header};

/// Bytes of a frame before its body.
pub(crate) const HEADER: usize = 24;
/// Bytes of a session's name in a greeting.
const SESSION: usize = 17;
/// The actor that a node itself is.
pub(crate) const NODE: u64 = 0;

/// Kinds of frames.
const TELL: u8 = 1;
const ASK: u8 = 2;
const REPLY: u8 = 4;
const STREAM: u8 = 6;
pub(crate) const ITEM: u8 = 7;

/// A connection on which both sides have greeted each other.
pub(crate) struct Puppet {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    recv: RecvStream,
    /// What the other side calls the session.
    pub(crate) session: [u8; SESSION],
    /// Whether it has begun the session just now.
    pub(crate) is_new: bool,
    /// The newest frame that it has taken in.
    pub(crate) taken_in: u64,
}

/// A frame of the other side.
pub(crate) struct Heard {
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

impl Puppet {
    /// Connects, and goes on with a session or wants a new one.
    pub(crate) async fn greet(
        intruder: &Intruder,
        address: SocketAddr,
        session: Option<[u8; SESSION]>,
    ) -> Self {
        Self::greet_after(intruder, address, session, 0).await
    }

    /// The same, and has taken in so many frames.
    pub(crate) async fn greet_after(
        intruder: &Intruder,
        address: SocketAddr,
        session: Option<[u8; SESSION]>,
        taken_in: u64,
    ) -> Self {
        let connection = intruder.connect(address).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&greeting(session, taken_in)).await.unwrap();
        let mut prefix = [0; 11];
        recv.read_exact(&mut prefix).await.unwrap();
        let mut rest = vec![0; usize::from(u16::from_le_bytes([prefix[9], prefix[10]]))];
        recv.read_exact(&mut rest).await.unwrap();
        let mut rest = Fields(&rest);
        let (_incarnation, _address) = (rest.number(), rest.text());
        assert_eq!(rest.take(1), [1], "it names the session");
        Self {
            connection,
            send,
            recv,
            session: rest.take(SESSION).try_into().unwrap(),
            is_new: rest.take(1) == [1],
            taken_in: rest.number(),
        }
    }

    pub(crate) async fn say(&mut self, frames: &[Vec<u8>]) {
        self.send.write_all(&frames.concat()).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        let mut header = [0; HEADER];
        self.recv.read_exact(&mut header).await.unwrap();
        let length = u32::from_le_bytes(header[..4].try_into().unwrap());
        let mut body = vec![0; length as usize];
        self.recv.read_exact(&mut body).await.unwrap();
        let kind = header[4];
        Heard { kind, body }
    }

    /// The answer to the ask in frame `number`.
    pub(crate) async fn answer(&mut self, number: u64) -> Vec<u8> {
        loop {
            let heard = self.hear().await;
            if heard.kind == REPLY && heard.body[..8] == number.to_le_bytes() {
                assert_eq!(heard.body[8], 0, "it is an answer and no failure");
                return heard.body[9..].to_vec();
            }
        }
    }

    /// Asks, in frame 1, for the number of a published actor.
    pub(crate) async fn find(&mut self, actor: &str) -> u64 {
        let mut payload = (actor.len() as u64).to_le_bytes().to_vec();
        payload.extend(actor.as_bytes());
        self.say(&[ask(1, NODE, "node/find", &payload)]).await;
        let answer = self.answer(1).await;
        assert_eq!(answer[0], 1, "it is published");
        Fields(&answer[1..]).number()
    }

    /// Answers whoever asks for an actor that it has one of this name and type.
    pub(crate) async fn pretend(&mut self, actor: &str, of: &str) {
        let asked = loop {
            let heard = self.hear().await;
            if heard.kind == ASK {
                break heard.body;
            }
        };
        let mut body = asked[26..34].to_vec();
        body.extend([0, 1]);
        body.extend(1_u64.to_le_bytes());
        for text in [actor, of] {
            body.extend((text.len() as u64).to_le_bytes());
            body.extend(text.as_bytes());
        }
        body.extend(0_u64.to_le_bytes());
        let reply = header(body.len() as u32, REPLY, 1);
        self.say(&[reply, body]).await;
    }
}

/// A greeting; see `intruder::greeting` for one that wants a new session.
fn greeting(session: Option<[u8; SESSION]>, taken_in: u64) -> Vec<u8> {
    let mut bytes = crate::intruder::greeting();
    let before = bytes.len() - 8;
    bytes[before..].copy_from_slice(&taken_in.to_le_bytes());
    if let Some(session) = session {
        let before = bytes.len() - 10;
        bytes[before] = 1;
        bytes.splice(before + 1..before + 1, session);
        bytes[9] += SESSION as u8;
    }
    bytes
}

/// A message that nobody waits for.
pub(crate) fn tell(number: u64, actor: u64, message: &str, payload: &[u8]) -> Vec<u8> {
    let body = [&to(actor, message), payload].concat();
    let header = header(body.len() as u32, TELL, number);
    [header, body].concat()
}

/// A message that is to be answered within a minute; its call has the number of the frame.
pub(crate) fn ask(number: u64, actor: u64, message: &str, payload: &[u8]) -> Vec<u8> {
    ask_as(number, number, actor, message, payload)
}

/// The same with a number for the call.
pub(crate) fn ask_as(number: u64, call: u64, actor: u64, message: &str, payload: &[u8]) -> Vec<u8> {
    let body = [&head(call, 60_000, actor, message), payload].concat();
    let header = header(body.len() as u32, ASK, number);
    [header, body].concat()
}

/// A message that is to be answered by a stream of at most so many items; its call has the number of
/// the frame.
pub(crate) fn stream(number: u64, actor: u64, message: &str, room: u32) -> Vec<u8> {
    let body = head(number, room, actor, message);
    let header = header(body.len() as u32, STREAM, number);
    [header, body].concat()
}

fn head(call: u64, within_millis_or_room: u32, actor: u64, message: &str) -> Vec<u8> {
    let mut bytes = to(actor, message);
    bytes.extend(call.to_le_bytes());
    bytes.extend(within_millis_or_room.to_le_bytes());
    bytes
}

/// Where a message goes, and version 1 of what it is.
fn to(actor: u64, message: &str) -> Vec<u8> {
    let mut bytes = actor.to_le_bytes().to_vec();
    bytes.extend(id(message).to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes
}

/// Fowler, Noll and Vo's hash, as messages are called on the wire.
fn id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What is left to read of a body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> &'a [u8] {
        let length = self.number();
        self.take(length as usize)
    }
}
