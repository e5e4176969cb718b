//! What a node has to do with one other node, whether or not there is a connection now.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::dialogue::{Dialogue, Greeting, InFlight, SendFailure, Untold};
use crate::frame::Frame;
use crate::hello::{Hello, SessionId};
use crate::peer::{Address, Call, Event, Failure, Misbehaviour, Unstreamed, Wants};
use crate::reply_to::{ReplyTo, Wanted};
use crate::security::Who;
use crate::session::Violation;
use crate::supervision::Backoff;

/// How long acknowledgements wait for something else to write.
pub(crate) const ACK_DELAY: Duration = Duration::from_millis(20);

/// Time between two attempts to reach a node again: at first, and in the end.
const DIAL_AFTER: Backoff = Backoff {
    first: Duration::from_millis(50),
    most: Duration::from_secs(2),
};

/// A session with a node that is out of reach for so long ends.
const APART_MAX: Duration = Duration::from_secs(10);

type Answer = Result<Bytes, Failure>;

/// What waits for the answer to an ask.
pub(crate) enum Sink {
    /// One answer.
    Answer(oneshot::Sender<Answer>),
    /// A stream of items, and in the end an answer that says how it ended.
    Items(mpsc::Sender<Bytes>, oneshot::Sender<Answer>),
}

impl Sink {
    /// Whoever has stopped waiting meanwhile does not want it.
    fn answer(self, answer: Answer) {
        let end = match self {
            Self::Answer(end) | Self::Items(_, end) => end,
        };
        drop(end.send(answer));
    }
}

/// This node's side of everything that it and another one say to each other.
pub(crate) struct Link {
    who: Who,
    state: Mutex<State>,
    /// There may be something to write.
    wake: Notify,
    /// There is a connection, or another session, or none.
    changed: Notify,
    /// The other side does not take in what it must.
    misbehaved: Notify,
    /// Counts asks of the other side that it has cancelled, and sessions that have ended.
    cancellations: AtomicU64,
}

struct State {
    dialogue: Dialogue<Sink>,
    /// Streams that answer calls of the other side, by call: woken when there is room or the end.
    streams: HashMap<u64, Arc<Notify>>,
    /// One of them waits for room.
    is_blocked: bool,
    /// The connection in use.
    handle: Option<quinn::Connection>,
    /// Where the other node says that it is reached.
    address: String,
    /// Whether there is to be a connection although there is no session.
    is_wanted: bool,
    /// Whether something was sent that no connection took.
    is_missed: bool,
    /// When the last connection ended.
    apart_since: Instant,
    /// When to dial next.
    dial_at: Instant,
    /// Attempts since the last connection.
    dials: u32,
}

/// What a connection brings for actors here.
pub(crate) struct Delivery {
    pub(crate) to: Address,
    pub(crate) payload: Bytes,
    pub(crate) reply: Option<ReplyTo>,
}

impl Link {
    /// Of the node `us`, in its incarnation `ours`.
    pub(crate) fn new(us: &Who, ours: u64, who: Who) -> Self {
        let state = State {
            dialogue: Dialogue::new(ours, us.name < who.name),
            streams: HashMap::new(),
            is_blocked: false,
            handle: None,
            address: String::new(),
            is_wanted: false,
            is_missed: false,
            apart_since: Instant::now(),
            dial_at: Instant::now(),
            dials: 0,
        };
        Self {
            who,
            state: Mutex::new(state),
            wake: Notify::new(),
            changed: Notify::new(),
            misbehaved: Notify::new(),
            cancellations: AtomicU64::new(0),
        }
    }

    /// The other node.
    pub(crate) const fn who(&self) -> &Who {
        &self.who
    }

    /// The session that there is now.
    pub(crate) fn session(&self) -> Option<u64> {
        self.state.lock().dialogue.session()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state.lock().handle.is_some()
    }

    pub(crate) fn in_flight(&self) -> InFlight {
        self.state.lock().dialogue.in_flight()
    }

    /// # Errors
    /// [`SendFailure`].
    pub(crate) fn tell(
        &self,
        session: u64,
        to: Address,
        payload: &[u8],
    ) -> Result<(), SendFailure> {
        self.state.lock().dialogue.tell(session, to, payload)?;
        self.wake.notify_one();
        Ok(())
    }

    /// The call's number and where its answer will be.
    ///
    /// # Errors
    /// [`SendFailure`].
    pub(crate) fn ask(
        &self,
        session: u64,
        to: Address,
        payload: &[u8],
        within_millis: u32,
    ) -> Result<(u64, oneshot::Receiver<Answer>), SendFailure> {
        let (sink, answer) = oneshot::channel();
        let sink = Sink::Answer(sink);
        let mut state = self.state.lock();
        let call = state
            .dialogue
            .ask(session, to, payload, within_millis, sink)?;
        drop(state);
        self.wake.notify_one();
        Ok((call, answer))
    }

    /// Asks for a stream with room for so many items: the call's number, its items and its end.
    ///
    /// # Errors
    /// [`SendFailure`].
    pub(crate) fn stream(
        &self,
        session: u64,
        to: Address,
        payload: &[u8],
        room: u32,
    ) -> Result<(u64, mpsc::Receiver<Bytes>, oneshot::Receiver<Answer>), SendFailure> {
        let (items, coming) = mpsc::channel(room as usize);
        let (end, ended) = oneshot::channel();
        let sink = Sink::Items(items, end);
        let mut state = self.state.lock();
        let call = state.dialogue.stream(session, to, payload, room, sink)?;
        drop(state);
        self.wake.notify_one();
        Ok((call, coming, ended))
    }

    /// Has room for so many items more of a stream.
    pub(crate) fn make_room(&self, session: u64, call: u64, room: u32) {
        let mut state = self.state.lock();
        state.dialogue.make_room(session, call, room);
        self.queued(state);
    }

    pub(crate) fn item(&self, session: u64, call: u64, payload: &[u8]) -> Result<(), Unstreamed> {
        let mut state = self.state.lock();
        let sent = state.dialogue.item(session, call, payload);
        state.is_blocked |= sent == Err(Unstreamed::Full);
        drop(state);
        if sent.is_ok() {
            self.wake.notify_one();
        }
        sent
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn cancel(&self, session: u64, call: u64) {
        let cancelled = self.state.lock().dialogue.cancel(session, call);
        if cancelled.is_some() {
            self.wake.notify_one();
        }
    }

    pub(crate) fn answer(&self, session: u64, call: u64, result: Result<&[u8], &Failure>) {
        let mut state = self.state.lock();
        state.dialogue.answer(session, call, result);
        if state.dialogue.session() == Some(session) {
            state.streams.remove(&call);
        }
        self.queued(state);
    }

    /// Wakes whoever has to do with an answer that was queued, or with one that could not be.
    fn queued(&self, state: MutexGuard<'_, State>) {
        let misbehaves = state.dialogue.misbehaviour().is_some();
        drop(state);
        self.wake.notify_one();
        if misbehaves {
            self.misbehaved.notify_waiters();
        }
    }

    /// Why the other side cannot be talked to any more over a connection, as soon as it cannot. The
    /// writer does not notice by itself: it may wait for just this side to read.
    pub(crate) async fn misbehaviour(&self, connection: u64) -> String {
        loop {
            // Before looking, so that what happens meanwhile is not missed.
            let told = self.misbehaved.notified();
            if let Some(why) = self.misbehaviour_now(connection) {
                return why;
            }
            told.await;
        }
    }

    fn misbehaviour_now(&self, connection: u64) -> Option<String> {
        let state = self.state.lock();
        let misbehaviour = state.dialogue.misbehaviour();
        let misbehaviour = misbehaviour.filter(|_| state.dialogue.connection() == Some(connection));
        misbehaviour.map(ToString::to_string)
    }

    pub(crate) fn is_answering(&self, session: u64, call: u64) -> bool {
        self.state.lock().dialogue.is_answering(session, call)
    }

    /// Tells the other side that a tell could not be accepted.
    pub(crate) fn refuse(&self, session: u64, actor: u64) {
        let mut state = self.state.lock();
        state.dialogue.refuse(session, actor);
        self.queued(state);
    }

    /// Counts asks of the other side that it has cancelled.
    pub(crate) fn cancellations(&self) -> u64 {
        self.cancellations.load(Ordering::Acquire)
    }

    /// Waits until the session has ended.
    pub(crate) async fn over(&self, session: u64) {
        loop {
            // Before looking, so that an end meanwhile is not missed.
            let changed = self.changed.notified();
            if self.session() != Some(session) {
                return;
            }
            changed.await;
        }
    }

    /// What a dialler says of the session in its greeting.
    pub(crate) fn last_known(&self) -> (Option<SessionId>, u64) {
        self.state.lock().dialogue.last_known()
    }

    /// Takes a connection into use after the other side's greeting, and speaks this minor version of the
    /// protocol from then on; see [`Dialogue::greet`].
    ///
    /// # Errors
    /// [`Violation`]; the connection is of no use.
    pub(crate) fn greet(
        &self,
        hello: &Hello,
        minor: u16,
        handle: &quinn::Connection,
        is_dialled: bool,
    ) -> Result<Greeting, Violation> {
        let mut lost = Vec::new();
        let mut state = self.state.lock();
        let is_closed = |handle: &quinn::Connection| handle.close_reason().is_some();
        if state.handle.as_ref().is_some_and(is_closed)
            && let Some(connection) = state.dialogue.connection()
        {
            state.dialogue.disconnected(connection);
        }
        let before = state.dialogue.session();
        let greeting = state.dialogue.greet(hello, is_dialled, &mut lost)?;
        if state.dialogue.session() != before {
            self.cancellations.fetch_add(1, Ordering::Release);
            state.end_streams();
        }
        // What the greeting says to be taken in has left room as well.
        state.wake_blocked();
        let mut replaced = None;
        if let Greeting::Use(_) = greeting {
            state.dialogue.speak(minor);
            state.address.clone_from(&hello.address);
            state.dials = 0;
            replaced = state.handle.replace(handle.clone());
        }
        drop(state);
        tell_lost(lost, "its node has begun anew");
        if let Some(old) = replaced {
            old.close(crate::net::REPLACED, b"a newer connection");
        }
        self.wake.notify_one();
        self.changed.notify_waiters();
        Ok(greeting)
    }

    /// A connection has ended; whether it was the one in use. The session waits for another.
    pub(crate) fn disconnected(&self, connection: u64) -> bool {
        let mut state = self.state.lock();
        let was_in_use = state.dialogue.disconnected(connection);
        if was_in_use {
            state.handle = None;
            state.apart_since = Instant::now();
            state.dial_at = state.apart_since;
        }
        drop(state);
        self.wake.notify_one();
        was_in_use
    }

    /// The address to dial now, for a session that has no connection. One that has had none for too
    /// long ends.
    pub(crate) fn dial_now(&self, now: Instant) -> Option<String> {
        let mut state = self.state.lock();
        let has_session = state.dialogue.session().is_some();
        let is_wanted = has_session || state.is_wanted || state.is_missed;
        if state.handle.is_some() || !is_wanted {
            return None;
        }
        let is_over = has_session && now.saturating_duration_since(state.apart_since) >= APART_MAX;
        let lost = is_over.then(|| self.end_session(&mut state));
        let address = state.dial_now(now);
        drop(state);
        if let Some(lost) = lost {
            tell_lost(lost, "its node was out of reach for too long");
            self.changed.notify_waiters();
        }
        address
    }

    /// Ends the session: what waits for answers is lost.
    pub(crate) fn end(&self, why: &str) {
        let mut state = self.state.lock();
        let lost = self.end_session(&mut state);
        let handle = state.handle.take();
        drop(state);
        tell_lost(lost, why);
        self.changed.notify_waiters();
        if let Some(handle) = handle {
            handle.close(crate::net::ENDED, why.as_bytes());
        }
        self.wake.notify_one();
    }

    /// What waited for answers.
    fn end_session(&self, state: &mut State) -> Vec<Sink> {
        // Whoever answers here looks then whether anybody still waits.
        self.cancellations.fetch_add(1, Ordering::Release);
        state.end_streams();
        state.dialogue.end()
    }

    /// See [`Dialogue::write`].
    ///
    /// # Errors
    /// When the connection is to be written on no more, and why.
    pub(crate) fn write(
        &self,
        connection: u64,
        out: &mut BytesMut,
        full: usize,
        acknowledge: bool,
    ) -> Result<Untold, String> {
        let written = self
            .state
            .lock()
            .dialogue
            .write(connection, out, full, acknowledge);
        if written.is_err() {
            // Whoever writes on the next connection may wait for what has woken this one.
            self.wake.notify_one();
        }
        written
    }

    /// The connection, as soon as there is one.
    pub(crate) async fn connected(&self) -> quinn::Connection {
        loop {
            // Before looking, so that one that comes meanwhile is not missed.
            let changed = self.changed.notified();
            let now = self.state.lock().handle.clone();
            if let Some(handle) = now.filter(|handle| handle.close_reason().is_none()) {
                return handle;
            }
            changed.await;
        }
    }

    /// Wants a connection with the other node, at this address where it has not said another.
    pub(crate) fn want(&self, address: &str) {
        let mut state = self.state.lock();
        state.is_wanted = true;
        if state.handle.is_none() {
            address.clone_into(&mut state.address);
            state.dials = 0;
        }
    }

    /// Wants no connection any more with an incarnation of the other node.
    pub(crate) fn give_up(&self, incarnation: u64, why: &str) {
        let mut state = self.state.lock();
        let theirs = state.dialogue.theirs();
        if theirs.is_some_and(|theirs| theirs > incarnation) {
            return;
        }
        state.is_wanted = false;
        // A node whose clock was set back has begun anew with a lower one, and is here.
        let is_another = theirs.is_some_and(|theirs| theirs != incarnation);
        if is_another && state.handle.is_some() {
            return;
        }
        drop(state);
        self.end(why);
    }

    /// Sends a datagram. Without a connection it is lost, and the other node is dialled once, for those
    /// that follow: so two sides of a partition find each other again, that have given each other up.
    pub(crate) fn send_packet(&self, packet: Bytes) {
        let mut state = self.state.lock();
        if let Some(handle) = &state.handle {
            // Datagrams may be lost in any case.
            let _ = handle.send_datagram(packet);
        } else {
            state.is_missed = true;
        }
    }

    /// Waits until there may be something to write.
    pub(crate) async fn awake(&self) {
        self.wake.notified().await;
    }

    /// Takes frames in; what they bring goes to `deliveries`.
    ///
    /// # Errors
    /// [`Misbehaviour`].
    pub(crate) fn receive(
        self: &Arc<Self>,
        connection: u64,
        frames: &mut Vec<Frame>,
        deliveries: &mut Vec<Delivery>,
    ) -> Result<(), Misbehaviour> {
        let now = Instant::now();
        let mut answered = Vec::new();
        let mut state = self.state.lock();
        let session = state.dialogue.session().unwrap_or(0);
        let mut cancelled = 0;
        for frame in frames.drain(..) {
            match state.dialogue.receive(connection, frame)? {
                None | Some(Event::Refused(_)) => {}
                Some(Event::Cancelled(call)) => {
                    cancelled += 1;
                    state.wake_stream(call);
                }
                Some(Event::More(call)) => state.wake_stream(call),
                Some(Event::Item(call, item)) => state.take_item(call, item),
                Some(Event::Answered(sink, result)) => answered.push((sink, result)),
                Some(Event::Message { to, payload, call }) => {
                    let reply = call.map(|call| {
                        let wanted = state.begin(call, now);
                        ReplyTo::new(Arc::clone(self), session, call.id, wanted)
                    });
                    deliveries.push(Delivery { to, payload, reply });
                }
            }
        }
        state.wake_blocked();
        let is_due = state.dialogue.has_to_write();
        if cancelled > 0 {
            self.cancellations.fetch_add(cancelled, Ordering::Release);
        }
        drop(state);
        if is_due {
            self.wake.notify_one();
        }
        for (sink, result) in answered {
            sink.answer(result);
        }
        Ok(())
    }
}

impl State {
    /// The address to dial, if it is time to.
    fn dial_now(&mut self, now: Instant) -> Option<String> {
        if now < self.dial_at || self.address.is_empty() {
            return None;
        }
        self.is_missed = false;
        self.dial_at = now + DIAL_AFTER.before(self.dials, rand::random());
        self.dials = self.dials.saturating_add(1);
        Some(self.address.clone())
    }

    /// Begins to answer a call.
    fn begin(&mut self, call: Call, now: Instant) -> Wanted {
        match call.wants {
            Wants::Answer(within) => Wanted::By(now + Duration::from_millis(within.into())),
            Wants::Items => {
                let changed = Arc::<Notify>::default();
                self.streams.insert(call.id, Arc::clone(&changed));
                Wanted::Items(changed)
            }
        }
    }

    fn wake_stream(&self, call: u64) {
        if let Some(stream) = self.streams.get(&call) {
            stream.notify_waiters();
        }
    }

    /// What was taken in by the other side has left room for items.
    fn wake_blocked(&mut self) {
        if std::mem::take(&mut self.is_blocked) {
            self.streams.values().for_each(|one| one.notify_waiters());
        }
    }

    fn take_item(&self, call: u64, item: Bytes) {
        if let Some(Sink::Items(items, _)) = self.dialogue.sink(call) {
            // There is room: the dialogue counts it. Whoever has gone has cancelled.
            let _ = items.try_send(item);
        }
    }

    fn end_streams(&mut self) {
        for (_, stream) in self.streams.drain() {
            stream.notify_waiters();
        }
    }
}

fn tell_lost(lost: Vec<Sink>, why: &str) {
    for sink in lost {
        sink.answer(Err(Failure::Lost(why.to_owned())));
    }
}
