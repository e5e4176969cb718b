//! Two nodes that talk over a network which delays, breaks, repeats and forgets, in virtual time and
//! from a seed: the dialogue's promises, checked on every step.
//!
//! A connection is a stream of bytes in each direction, as QUIC gives it: in order, until it breaks at
//! a moment that each side learns by itself, while what was on its way may still arrive. Either node
//! crashes now and then and comes back as a new incarnation. Either dials the other, also at once.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::dialogue::{Dialogue, Greeting, SendFailure};
use crate::frame;
use crate::hello::Hello;
use crate::peer::{Address, Event, Failure, Unstreamed, Wants};
use crate::plant::{self, Bug};

/// Steps of a run, and those after which the network is good.
const STEPS: usize = 1500;
const HEALED: usize = 1100;

/// An ask's own number, to know its answer by.
type Sink = u64;

/// A node and what it has seen.
struct Side {
    dialogue: Dialogue<Sink>,
    incarnation: u64,
    /// Its end of every connection that it has not given up.
    ends: BTreeMap<usize, End>,
    /// Next number to tell, by session.
    told: HashMap<u64, u64>,
    /// Of the other side's sessions, by its incarnation and the number of its session: the last that
    /// was heard.
    heard: HashMap<(u64, u64), u64>,
    /// Asks that have not ended, and how many have ended at all.
    asked: HashMap<u64, ()>,
    next_ask: u64,
    /// Asks of the other side that are to be answered: session, call, payload.
    to_answer: VecDeque<(u64, u64, u64)>,
    /// By call: streams from the other side, and the last item that came.
    streams: BTreeMap<u64, Incoming>,
    /// Streams for the other side.
    to_stream: Vec<Outgoing>,
}

/// A stream that was asked for.
struct Incoming {
    ask: Sink,
    session: u64,
    last: u64,
}

/// A stream that was begun.
struct Outgoing {
    session: u64,
    call: u64,
    ask: Sink,
    sent: u64,
}

/// A side of a connection.
struct End {
    /// As the dialogue calls it, once greeted.
    number: Option<u64>,
    read: BytesMut,
}

/// A connection: what is on its way to each side.
struct Wire {
    /// Which side dialled it.
    dialler: usize,
    /// Bytes, or the other side's greeting, or its end.
    to: [VecDeque<Parcel>; 2],
    is_broken: bool,
}

enum Parcel {
    Hello(Hello),
    Bytes(Vec<u8>),
    End,
}

struct World {
    rng: StdRng,
    sides: [Side; 2],
    wires: BTreeMap<usize, Wire>,
    dialled: usize,
    /// What was found wrong.
    fault: Option<String>,
}

fn side(who: usize, incarnation: u64) -> Side {
    Side {
        dialogue: Dialogue::new(incarnation, who == 0),
        incarnation,
        ends: BTreeMap::new(),
        told: HashMap::new(),
        heard: HashMap::new(),
        asked: HashMap::new(),
        next_ask: 1,
        to_answer: VecDeque::new(),
        streams: BTreeMap::new(),
        to_stream: Vec::new(),
    }
}

fn address(message: u64) -> Address {
    Address {
        actor: 1,
        message,
        version: 1,
        trace: 0,
    }
}

const TOLD: u64 = 1;
const ASKED: u64 = 2;
const STREAMED: u64 = 3;

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            sides: [side(0, 10), side(1, 20)],
            wires: BTreeMap::new(),
            dialled: 0,
            fault: None,
        }
    }

    /// What went wrong, if anything did.
    fn run(mut self) -> Result<(), String> {
        for step in 0..STEPS {
            self.step(step < HEALED);
            if let Some(fault) = self.fault.take() {
                return Err(format!("step {step}: {fault}"));
            }
        }
        self.at_rest()
    }

    fn step(&mut self, is_bad: bool) {
        let who = self.rng.random_range(0..2);
        match self.rng.random_range(0..100) {
            0..20 => self.tell(who),
            20..27 => self.ask(who),
            27..30 => self.ask_stream(who),
            30..35 => self.cancel(who),
            35..42 => self.answer(who),
            42..46 => self.send_item(who),
            46..47 => self.end_stream(who),
            47..50 => self.make_room(who),
            50..70 => self.write(who),
            70..93 => self.deliver(who),
            93..96 => self.dial(who),
            96..99 if is_bad => self.break_one(),
            99 if is_bad && self.rng.random_bool(0.1) => self.crash(who),
            _ => self.deliver(1 - who),
        }
    }

    fn tell(&mut self, who: usize) {
        let side = &mut self.sides[who];
        let Some(session) = side.dialogue.session() else {
            return;
        };
        let number = side.told.entry(session).or_default();
        let payload = payload(session, *number + 1);
        match side.dialogue.tell(session, address(TOLD), &payload) {
            Ok(()) => *number += 1,
            Err(SendFailure::Overloaded) => {}
            Err(SendFailure::Old) => self.fault = Some("both are of today".to_owned()),
            Err(SendFailure::Lost(why)) => self.fault = Some(format!("the session of now: {why}")),
        }
    }

    fn ask(&mut self, who: usize) {
        let side = &mut self.sides[who];
        let Some(session) = side.dialogue.session() else {
            return;
        };
        let ask = side.next_ask;
        let asked = side
            .dialogue
            .ask(session, address(ASKED), &payload(session, ask), 1000, ask);
        if asked.is_ok() {
            side.next_ask += 1;
            side.asked.insert(ask, ());
        }
    }

    fn ask_stream(&mut self, who: usize) {
        let room = self.rng.random_range(1..5);
        let side = &mut self.sides[who];
        let Some(session) = side.dialogue.session() else {
            return;
        };
        let ask = side.next_ask;
        let to = address(STREAMED);
        let asked = side
            .dialogue
            .stream(session, to, &payload(session, ask), room, ask);
        if let Ok(call) = asked {
            side.next_ask += 1;
            side.asked.insert(ask, ());
            let last = 0;
            side.streams.insert(call, Incoming { ask, session, last });
        }
    }

    fn make_room(&mut self, who: usize) {
        let room = self.rng.random_range(1..4);
        let nth = self.rng.random_range(0..8);
        let side = &mut self.sides[who];
        if let Some((call, stream)) = side.streams.iter().nth(nth) {
            side.dialogue.make_room(stream.session, *call, room);
        }
    }

    fn send_item(&mut self, who: usize) {
        let side = &mut self.sides[who];
        if side.to_stream.is_empty() {
            return;
        }
        let nth = self.rng.random_range(0..side.to_stream.len());
        let stream = &mut side.to_stream[nth];
        let item = payload(stream.ask, stream.sent + 1);
        match side.dialogue.item(stream.session, stream.call, &item) {
            Ok(()) => stream.sent += 1,
            Err(Unstreamed::Full) => {}
            Err(Unstreamed::Gone) => drop(side.to_stream.swap_remove(nth)),
        }
    }

    fn end_stream(&mut self, who: usize) {
        let side = &mut self.sides[who];
        if let Some(stream) = side.to_stream.pop() {
            let end = payload(stream.ask, stream.sent);
            side.dialogue
                .answer(stream.session, stream.call, Ok(&end[..]));
        }
    }

    fn heard_item(&mut self, who: usize, call: u64, item: &[u8]) {
        let (ask, number) = parsed(item);
        let Some(stream) = self.sides[who].streams.get_mut(&call) else {
            self.fault = Some(format!("an item of call {call}, which is no stream"));
            return;
        };
        if stream.ask != ask || number != stream.last + 1 {
            let (wanted, last) = (stream.ask, stream.last);
            self.fault = Some(format!(
                "item {number} of {ask} came after {last} of {wanted}"
            ));
            return;
        }
        stream.last = number;
    }

    /// Calls are numbered from 1 within a session.
    fn cancel(&mut self, who: usize) {
        let call = self.rng.random_range(1..60);
        let side = &mut self.sides[who];
        if let Some(session) = side.dialogue.session()
            && let Some(ask) = side.dialogue.cancel(session, call)
        {
            self.ended(who, ask);
        }
    }

    /// An ask ends exactly once.
    fn ended(&mut self, who: usize, ask: Sink) {
        let side = &mut self.sides[who];
        side.streams.retain(|_, stream| stream.ask != ask);
        if side.asked.remove(&ask).is_none() {
            self.fault = Some(format!("ask {ask} of node {who} has ended twice"));
        }
    }

    fn answer(&mut self, who: usize) {
        let side = &mut self.sides[who];
        if let Some((session, call, ask)) = side.to_answer.pop_front() {
            side.dialogue.answer(session, call, Ok(&ask.to_le_bytes()));
        }
    }

    fn dial(&mut self, who: usize) {
        let side = &mut self.sides[who];
        let (session, taken_in) = side.dialogue.last_known();
        let hello = Hello {
            incarnation: side.incarnation,
            address: String::new(),
            session,
            is_new: false,
            taken_in,
        };
        let wire = self.dialled;
        self.dialled += 1;
        side.ends.insert(
            wire,
            End {
                number: None,
                read: BytesMut::new(),
            },
        );
        let mut to = [VecDeque::new(), VecDeque::new()];
        to[1 - who].push_back(Parcel::Hello(hello));
        // What nobody holds or awaits any more is gone.
        self.wires
            .retain(|_, wire| !wire.is_broken || wire.to.iter().any(|to| !to.is_empty()));
        self.wires.insert(
            wire,
            Wire {
                dialler: who,
                to,
                is_broken: false,
            },
        );
    }

    fn write(&mut self, who: usize) {
        let acknowledge = self.rng.random_bool(0.5);
        let full = self.rng.random_range(1..400);
        let side = &mut self.sides[who];
        let numbered = side.ends.iter().rev();
        let newest = numbered
            .filter_map(|(wire, end)| Some((*wire, end.number?)))
            .next();
        let Some((wire, number)) = newest else {
            return;
        };
        let mut out = BytesMut::new();
        let written = side.dialogue.write(number, &mut out, full, acknowledge);
        if written.is_ok() && !out.is_empty() {
            self.send(wire, who, Parcel::Bytes(out.to_vec()));
        }
    }

    fn send(&mut self, wire: usize, from: usize, parcel: Parcel) {
        if let Some(wire) = self.wires.get_mut(&wire).filter(|wire| !wire.is_broken) {
            wire.to[1 - from].push_back(parcel);
        }
    }

    /// Something that is on its way to a node arrives; connections overtake each other.
    fn deliver(&mut self, who: usize) {
        let ends = &self.sides[who].ends;
        let comes = |(number, wire): &(&usize, &Wire)| {
            !wire.to[who].is_empty() && (wire.dialler != who || ends.contains_key(number))
        };
        let coming = self.wires.iter().filter(comes).map(|(number, _)| *number);
        let coming: Vec<usize> = coming.collect();
        if coming.is_empty() {
            return;
        }
        let wire = coming[self.rng.random_range(0..coming.len())];
        let parcel = self
            .wires
            .get_mut(&wire)
            .and_then(|wire| wire.to[who].pop_front());
        match parcel {
            Some(Parcel::Hello(hello)) => self.greet(who, wire, &hello),
            Some(Parcel::Bytes(bytes)) => self.read(who, wire, &bytes),
            Some(Parcel::End) | None => self.hang_up(who, wire),
        }
    }

    fn greet(&mut self, who: usize, wire: usize, hello: &Hello) {
        let by_us = self.wires[&wire].dialler == who;
        let mut lost = Vec::new();
        let greeting = self.sides[who].dialogue.greet(hello, by_us, &mut lost);
        for ask in lost {
            self.ended(who, ask);
        }
        let used = match greeting {
            Ok(Greeting::Use(used)) => used,
            Ok(Greeting::Close | Greeting::Outdated) => return self.close(wire),
            Err(violation) => {
                self.fault = Some(format!("an honest greeting was refused: {violation}"));
                return;
            }
        };
        // The connection that was in use before is closed.
        let ends = &self.sides[who].ends;
        let replaced = ends.iter().filter(|(_, end)| end.number.is_some());
        for wire in replaced.map(|(wire, _)| *wire).collect::<Vec<_>>() {
            self.close(wire);
        }
        let side = &mut self.sides[who];
        let number = Some(used.connection);
        side.ends.insert(
            wire,
            End {
                number,
                read: BytesMut::new(),
            },
        );
        if !by_us {
            let hello = Hello {
                incarnation: side.incarnation,
                address: String::new(),
                session: Some(used.session),
                is_new: used.is_new,
                taken_in: used.taken_in,
            };
            self.send(wire, who, Parcel::Hello(hello));
        }
    }

    fn read(&mut self, who: usize, wire: usize, bytes: &[u8]) {
        let side = &mut self.sides[who];
        let Some(end) = side.ends.get_mut(&wire) else {
            return;
        };
        let Some(number) = end.number else {
            return;
        };
        end.read.extend_from_slice(bytes);
        let mut frames = Vec::new();
        loop {
            match frame::take(&mut end.read) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    self.fault = Some(error.to_string());
                    return;
                }
            }
        }
        if plant::is(Bug::ReorderedDelivery) && frames.len() > 1 {
            let last = frames.len() - 1;
            // Numbers and all: as if they had been sent so.
            let (a, b) = (frames[0].number, frames[last].number);
            frames.swap(0, last);
            (frames[0].number, frames[last].number) = (a, b);
        }
        for frame in frames {
            let event = self.sides[who].dialogue.receive(number, frame);
            match event {
                Ok(Some(event)) => self.heard(who, event),
                Ok(None) => {}
                Err(error) => {
                    self.fault = Some(format!("an honest frame was refused: {error}"));
                    return;
                }
            }
        }
    }

    fn heard(&mut self, who: usize, event: Event<Sink>) {
        match event {
            Event::Message { to, payload, call } => {
                let (session, number) = parsed(&payload);
                let side = &mut self.sides[who];
                match call {
                    Some(call) => {
                        let session = side.dialogue.session().unwrap_or(0);
                        if call.wants == Wants::Items {
                            side.to_stream.push(Outgoing {
                                session,
                                call: call.id,
                                ask: number,
                                sent: 0,
                            });
                        } else {
                            side.to_answer.push_back((session, call.id, number));
                        }
                    }
                    None => {
                        assert_eq!(to.message, TOLD);
                        let theirs = side.dialogue.theirs().unwrap_or(0);
                        let last = side.heard.entry((theirs, session)).or_default();
                        if number != *last + 1 {
                            let last = *last;
                            self.fault = Some(format!(
                                "node {who} heard {number} after {last} of session {session}"
                            ));
                            return;
                        }
                        *last = number;
                    }
                }
            }
            Event::Item(call, item) => self.heard_item(who, call, &item),
            Event::Answered(ask, Ok(end)) if end.len() == 16 => {
                let streams = &self.sides[who].streams;
                let stream = streams.values().find(|stream| stream.ask == ask);
                let heard = stream.map(|stream| stream.last);
                if heard != Some(parsed(&end).1) {
                    self.fault = Some(format!("of stream {ask} only {heard:?} came: {end:?}"));
                    return;
                }
                self.ended(who, ask);
            }
            Event::Answered(ask, Ok(answer)) => {
                if answer[..] != ask.to_le_bytes() {
                    self.fault = Some(format!("ask {ask} got another's answer"));
                    return;
                }
                self.ended(who, ask);
            }
            Event::Answered(ask, Err(Failure::Overloaded)) => self.ended(who, ask),
            Event::Answered(ask, Err(failure)) => {
                self.fault = Some(format!("ask {ask} failed: {failure:?}"));
            }
            Event::Cancelled(_) | Event::More(_) | Event::Refused(_) => {}
        }
    }

    /// The network gives a connection up; what is on its way may arrive, and may not.
    fn break_one(&mut self) {
        if self.wires.is_empty() {
            return;
        }
        let wires: Vec<usize> = self.wires.keys().copied().collect();
        let wire = self.rng.random_range(0..wires.len());
        self.close(wires[wire]);
    }

    fn close(&mut self, wire: usize) {
        let forgets = self.rng.random_bool(0.5);
        let Some(wire) = self.wires.get_mut(&wire).filter(|wire| !wire.is_broken) else {
            return;
        };
        wire.is_broken = true;
        for to in &mut wire.to {
            if forgets {
                to.truncate(to.len() / 2);
            }
            to.push_back(Parcel::End);
        }
    }

    fn hang_up(&mut self, who: usize, wire: usize) {
        let side = &mut self.sides[who];
        if let Some(End {
            number: Some(number),
            ..
        }) = side.ends.remove(&wire)
        {
            side.dialogue.disconnected(number);
        }
    }

    /// A node dies and is started again; the other one learns it when it sees the new incarnation.
    fn crash(&mut self, who: usize) {
        let ends: Vec<usize> = self.sides[who].ends.keys().copied().collect();
        for number in ends {
            self.close(number);
            if let Some(wire) = self.wires.get_mut(&number) {
                wire.to[who].clear();
            }
        }
        let incarnation = self.sides[who].incarnation + 1;
        self.sides[who] = side(who, incarnation);
    }

    /// After healing: connected, all said is heard, all asked is answered, and nothing is kept.
    fn at_rest(mut self) -> Result<(), String> {
        for round in 0..400 {
            let is_connected = self
                .sides
                .iter()
                .all(|side| side.dialogue.connection().is_some());
            if !is_connected && round % 20 == 0 {
                for wire in self.wires.keys().copied().collect::<Vec<_>>() {
                    self.close(wire);
                }
                self.drain();
                self.dial(0);
            }
            self.drain();
            for who in 0..2 {
                while !self.sides[who].to_answer.is_empty() {
                    self.answer(who);
                }
                while !self.sides[who].to_stream.is_empty() {
                    self.end_stream(who);
                }
                self.write_all(who);
            }
            if let Some(fault) = self.fault.take() {
                return Err(format!("at rest: {fault}"));
            }
            if self.check_rest().is_ok() {
                return Ok(());
            }
        }
        self.check_rest()
    }

    fn drain(&mut self) {
        for _ in 0..200 {
            self.deliver(0);
            self.deliver(1);
        }
    }

    fn write_all(&mut self, who: usize) {
        let side = &mut self.sides[who];
        let ends: Vec<(usize, u64)> = side
            .ends
            .iter()
            .filter_map(|(wire, end)| Some((*wire, end.number?)))
            .collect();
        for (wire, number) in ends {
            let mut out = BytesMut::new();
            let written = self.sides[who]
                .dialogue
                .write(number, &mut out, 1 << 20, true);
            if written.is_ok() && !out.is_empty() {
                self.send(wire, who, Parcel::Bytes(out.to_vec()));
            }
        }
    }

    fn check_rest(&self) -> Result<(), String> {
        for (who, side) in self.sides.iter().enumerate() {
            let in_flight = side.dialogue.in_flight();
            if side.dialogue.connection().is_none() {
                return Err(format!("node {who} is not connected"));
            }
            if in_flight.frames > 0 || in_flight.asks > 0 || !side.asked.is_empty() {
                let open = side.asked.len();
                return Err(format!(
                    "node {who} still waits: {in_flight:?}, {open} asks open"
                ));
            }
            let session = side.dialogue.session().unwrap_or(0);
            let told = side.told.get(&session).copied().unwrap_or(0);
            let other = &self.sides[1 - who];
            let heard = other
                .heard
                .get(&(side.incarnation, session))
                .copied()
                .unwrap_or(0);
            if told != heard {
                return Err(format!(
                    "node {who} told {told}, of which {heard} were heard"
                ));
            }
        }
        Ok(())
    }
}

fn payload(session: u64, number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&session.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn parsed(payload: &[u8]) -> (u64, u64) {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    (number(&payload[..8]), number(&payload[8..]))
}

/// Seeds to try: `EKYA_SEEDS=FROM..TO`, by default those that continuous integration tries.
pub(crate) fn seeds() -> std::ops::Range<u64> {
    let wanted = std::env::var("EKYA_SEEDS").ok();
    let range = wanted.as_deref().and_then(|text| text.split_once(".."));
    let parsed = range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.unwrap_or(0..2000)
}

#[test]
fn promises_hold_on_every_network() {
    for seed in seeds() {
        if let Err(fault) = World::new(seed).run() {
            panic!("EKYA_SEEDS={seed}..{} repeats this: {fault}", seed + 1);
        }
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in [Bug::LostDedupe, Bug::ReorderedDelivery, Bug::IgnoredRoom] {
        plant::set(Some(bug));
        let found = (0..2000).any(|seed| World::new(seed).run().is_err());
        plant::set(None);
        assert!(found, "{bug:?} was not found");
    }
}
