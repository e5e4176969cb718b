//! Connections: dialling, accepting, greeting, reading and writing. Everything here runs on one
//! thread of its own, so that no handler and no compute delays the network.
//!
//! A peer that has not authenticated costs a place at the [`Door`] for at most [`HANDSHAKE_WITHIN`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};
use quinn::{Endpoint, Incoming, RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connect_error::{ConnectError, ListenError};
use crate::dialogue::{Greeting, Untold, Use};
use crate::door::{Door, Entry};
use crate::exports::Exports;
use crate::frame::{self, Frame};
use crate::gossip::{Gossip, Input};
use crate::hello::{Hello, HelloError, MINOR, PREFIX, Prefix, SessionId};
use crate::link::{ACK_DELAY, Delivery, Link};
use crate::membership::Member;
use crate::payload::Shelf;
use crate::security::{Access, Identity, IdentityError, PEER, Role, Who};
use crate::transport;
use crate::wire::Letter;

/// Peers that are being dialled again at a time.
const DIALS_MAX: usize = 32;
/// Time for TLS and the greetings.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// A connection without a sign of life from the peer ends after this, by default.
pub(crate) const IDLE: Duration = Duration::from_secs(6);
/// How often broken connections are looked at.
const DIAL_TICK: Duration = Duration::from_millis(50);
/// Peers besides which no others are known.
const LINKS_MAX: usize = 4096;
/// Bytes gathered for a write.
const WRITE_FULL: usize = 64 << 10;
/// Bytes asked for in a read.
const READ_SIZE: usize = 64 << 10;

/// Why connections are closed, for the other side.
pub(crate) const REPLACED: VarInt = VarInt::from_u32(1);
pub(crate) const ENDED: VarInt = VarInt::from_u32(2);
const DUPLICATE: VarInt = VarInt::from_u32(3);
const REFUSED: VarInt = VarInt::from_u32(4);
const MISBEHAVED: VarInt = VarInt::from_u32(5);

/// What connections have cost and come to, since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) validated: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) failed_handshakes: AtomicU64,
    pub(crate) misbehaved: AtomicU64,
}

/// The network side of a node.
pub(crate) struct Net {
    who: Who,
    incarnation: u64,
    endpoint: Endpoint,
    address: String,
    listens_at: SocketAddr,
    access: Arc<Access>,
    links: RwLock<BTreeMap<Arc<str>, Arc<Link>>>,
    exports: Arc<Exports>,
    gossip: Gossip,
    pub(crate) shelf: Arc<Shelf>,
    door: Arc<Door>,
    dials: Arc<Semaphore>,
    pub(crate) counters: Counters,
    /// Replaced when the node gets another certificate.
    dialling: Mutex<quinn::ClientConfig>,
    idle: Duration,
}

/// What a [`Net`] is made from.
pub(crate) struct Settings {
    pub(crate) incarnation: u64,
    pub(crate) listen: SocketAddr,
    pub(crate) address: Option<String>,
    pub(crate) access: Arc<Access>,
    pub(crate) exports: Arc<Exports>,
    pub(crate) gossip: Gossip,
    pub(crate) idle: Duration,
}

impl Net {
    /// Must be called on the network's runtime.
    ///
    /// # Errors
    /// [`ListenError`].
    pub(crate) fn new(identity: &Identity, settings: Settings) -> Result<Arc<Self>, ListenError> {
        let listen = settings.listen;
        let server = transport::server(identity, settings.idle)?;
        let bind = |source| ListenError::Bind {
            address: listen,
            source,
        };
        let endpoint = Endpoint::server(server, listen).map_err(bind)?;
        let local = endpoint.local_addr().map_err(bind)?;
        Ok(Arc::new(Self {
            who: identity.who().clone(),
            incarnation: settings.incarnation,
            address: settings.address.unwrap_or_else(|| local.to_string()),
            listens_at: local,
            endpoint,
            access: settings.access,
            links: RwLock::default(),
            exports: settings.exports,
            gossip: settings.gossip,
            shelf: Arc::default(),
            dials: Arc::new(Semaphore::new(DIALS_MAX)),
            door: Arc::default(),
            counters: Counters::default(),
            dialling: Mutex::new(transport::client(identity, settings.idle)?),
            idle: settings.idle,
        }))
    }

    pub(crate) const fn who(&self) -> &Who {
        &self.who
    }

    pub(crate) const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) const fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) const fn listens_at(&self) -> SocketAddr {
        self.listens_at
    }

    /// Uses another certificate for connections from now on; those that exist stay.
    ///
    /// # Errors
    /// When TLS does not take it.
    pub(crate) fn rotate(&self, identity: &Identity) -> Result<(), IdentityError> {
        let server = transport::server(identity, self.idle)?;
        let client = transport::client(identity, self.idle)?;
        self.endpoint.set_server_config(Some(server));
        *self.dialling.lock() = client;
        Ok(())
    }

    /// The link to a peer, if it is known.
    pub(crate) fn link(&self, name: &str) -> Option<Arc<Link>> {
        self.links.read().get(name).cloned()
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().values().cloned().collect()
    }

    fn link_of(&self, who: &Who) -> Result<Arc<Link>, ConnectError> {
        if let Some(link) = self.link(&who.name).filter(|link| link.who() == who) {
            return Ok(link);
        }
        let mut links = self.links.write();
        let known = links.get(&who.name).cloned();
        if known.is_none() && links.len() >= LINKS_MAX {
            return Err(ConnectError::TooMany(LINKS_MAX));
        }
        if let Some(link) = known {
            if link.who() == who {
                return Ok(link);
            }
            // What it may do has changed with its certificate.
            link.end("its role has changed");
        }
        let link = Arc::new(Link::new(&self.who, self.incarnation, who.clone()));
        links.insert(Arc::clone(&who.name), Arc::clone(&link));
        Ok(link)
    }

    /// Accepts connections until the endpoint is closed.
    pub(crate) async fn accept(self: Arc<Self>) {
        while let Some(incoming) = self.endpoint.accept().await {
            let from = incoming.remote_address().ip();
            let place = match self.door.enter(from, incoming.remote_address_validated()) {
                Entry::In(place) => place,
                Entry::Prove => {
                    // Whoever sends from addresses that are not its own gets no further than this.
                    self.counters.validated.fetch_add(1, Ordering::Relaxed);
                    drop(incoming.retry());
                    continue;
                }
                Entry::Full => {
                    self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
                    incoming.refuse();
                    continue;
                }
            };
            let net = Arc::clone(&self);
            tokio::spawn(async move {
                let address = incoming.remote_address();
                let greeted = timeout(HANDSHAKE_WITHIN, net.welcome(incoming)).await;
                drop(place);
                match greeted.unwrap_or(Err(ConnectError::Late(address))) {
                    Ok(Some(connected)) => net.serve(connected).await,
                    Ok(None) => {}
                    Err(error) => {
                        net.counters
                            .failed_handshakes
                            .fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(%address, %error, "a connection was not accepted");
                    }
                }
            });
        }
    }

    async fn welcome(&self, incoming: Incoming) -> Result<Option<Connected>, ConnectError> {
        let address = incoming.remote_address();
        let connection = incoming
            .await
            .map_err(|error| ConnectError::unreachable(address, &error))?;
        let link = self.admitted(&connection)?;
        let (send, mut recv) = connection
            .accept_bi()
            .await
            .map_err(|e| ConnectError::ended(&link, &e))?;
        let (prefix, hello) = read_hello(&mut recv)
            .await
            .map_err(|why| hello_failed(&connection, &link, why))?;
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let minor = MINOR.min(prefix.minor);
        let Some(used) = self.greet(&link, &hello, minor, &connection, false)? else {
            return Ok(None);
        };
        let member = member_of(&link, &hello);
        let own = Hello {
            is_new: used.is_new,
            ..self.hello(Some(used.session), used.taken_in)
        };
        // What is greeted is in use: from here on nothing may fail, nor be waited for.
        let first = own.to_bytes(minor).unwrap_or_default();
        Ok(Some(Connected {
            link: Arc::clone(&link),
            serial: used.connection,
            connection,
            send,
            recv,
            first,
            member,
        }))
    }

    /// Connects to whoever is at an address, and serves the connection from then on. Who it is;
    /// `None` where another connection with the same peer is in use.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(crate) async fn dial(
        self: &Arc<Self>,
        address: SocketAddr,
    ) -> Result<Arc<Link>, ConnectError> {
        let greeted = timeout(HANDSHAKE_WITHIN, self.introduce(address)).await;
        let (link, connected) = greeted.unwrap_or(Err(ConnectError::Late(address)))?;
        if let Some(connected) = connected {
            let net = Arc::clone(self);
            tokio::spawn(async move { net.serve(connected).await });
        }
        Ok(link)
    }

    async fn introduce(
        &self,
        address: SocketAddr,
    ) -> Result<(Arc<Link>, Option<Connected>), ConnectError> {
        let config = self.dialling.lock().clone();
        let connecting = self.endpoint.connect_with(config, address, PEER);
        let connecting = connecting.map_err(|error| ConnectError::unreachable(address, &error))?;
        let connection = connecting
            .await
            .map_err(|error| ConnectError::unreachable(address, &error))?;
        let link = self.admitted(&connection)?;
        let (mut send, mut recv) = connection
            .open_bi()
            .await
            .map_err(|e| ConnectError::ended(&link, &e))?;
        let (session, taken_in) = link.last_known();
        let bytes = self.hello(session, taken_in).to_bytes(MINOR);
        let bytes = bytes.map_err(|error| hello_failed(&connection, &link, error.into()))?;
        send.write_all(&bytes)
            .await
            .map_err(|e| ConnectError::ended(&link, &e))?;
        let (prefix, hello) = match read_hello(&mut recv).await {
            Ok(read) => read,
            // The other side keeps the connection that it has.
            Err(_) if is_duplicate(&connection) => return Ok((link, None)),
            Err(why) => return Err(hello_failed(&connection, &link, why)),
        };
        let minor = MINOR.min(prefix.minor);
        let greeted = self.greet(&link, &hello, minor, &connection, true)?;
        let connected = greeted.map(|used| Connected {
            link: Arc::clone(&link),
            serial: used.connection,
            connection,
            send,
            recv,
            first: Vec::new(),
            member: member_of(&link, &hello),
        });
        Ok((link, connected))
    }

    fn hello(&self, session: Option<SessionId>, taken_in: u64) -> Hello {
        Hello {
            incarnation: self.incarnation,
            address: self.address.clone(),
            session,
            is_new: false,
            taken_in,
        }
    }

    /// The link to a peer whom TLS has let through.
    fn admitted(&self, connection: &quinn::Connection) -> Result<Arc<Link>, ConnectError> {
        let address = connection.remote_address();
        let who = peer(connection).ok_or(ConnectError::Nameless(address));
        let who = who.and_then(|who| {
            if who.name == self.who.name {
                return Err(ConnectError::OwnName(address));
            }
            if !self.access.allows(&who) {
                return Err(ConnectError::NotAllowed(who.to_string()));
            }
            Ok(who)
        });
        who.and_then(|who| self.link_of(&who)).inspect_err(|error| {
            connection.close(REFUSED, error.to_string().as_bytes());
        })
    }

    fn greet(
        &self,
        link: &Link,
        hello: &Hello,
        minor: u16,
        connection: &quinn::Connection,
        is_dialled: bool,
    ) -> Result<Option<Use>, ConnectError> {
        match link.greet(hello, minor, connection, is_dialled) {
            Ok(Greeting::Use(used)) => Ok(Some(used)),
            Ok(Greeting::Close) => {
                connection.close(DUPLICATE, b"another connection is in use");
                Ok(None)
            }
            Ok(Greeting::Outdated) => {
                let why = "another node of this name, which was started later, is connected: stop \
                           one of the two, or give it another certificate";
                connection.close(REFUSED, why.as_bytes());
                let who = link.who().to_string();
                let why = why.to_owned();
                Err(ConnectError::Ended { who, why })
            }
            Err(violation) => {
                self.counters.misbehaved.fetch_add(1, Ordering::Relaxed);
                connection.close(MISBEHAVED, violation.to_string().as_bytes());
                link.end(&violation.to_string());
                Err(ConnectError::ended(link, &violation))
            }
        }
    }

    /// Reads and writes until the connection ends.
    async fn serve(&self, connected: Connected) {
        let Connected {
            link,
            serial,
            connection,
            send,
            mut recv,
            first,
            member,
        } = connected;
        tracing::info!(peer = %link.who(), address = %connection.remote_address(), "connected");
        let writing = write(Arc::clone(&link), serial, connection.clone(), send, first);
        let writing = tokio::spawn(writing);
        let listening = self.listen_for_packets(&link, &connection, member);
        let lending = self.lend_payloads(&link, &connection);
        let read = tokio::select! {
            biased;
            why = link.misbehaviour(serial) => Err(why),
            read = self.read(&link, serial, &mut recv) => read,
        };
        if let Err(why) = &read {
            self.counters.misbehaved.fetch_add(1, Ordering::Relaxed);
            connection.close(MISBEHAVED, why.as_bytes());
            link.end(why);
        }
        let was_in_use = link.disconnected(serial);
        writing.abort();
        listening.abort();
        lending.abort();
        let why = connection.close_reason();
        if let Some(quinn::ConnectionError::ApplicationClosed(close)) = &why
            && was_in_use
            && [ENDED, MISBEHAVED].contains(&close.error_code)
        {
            link.end(&String::from_utf8_lossy(&close.reason));
        }
        let why = why.map_or_else(|| "the peer said goodbye".to_owned(), |why| why.to_string());
        tracing::info!(peer = %link.who(), why, "disconnected");
    }

    /// Takes datagrams of the other side to the membership, if both are nodes.
    fn listen_for_packets(
        &self,
        link: &Link,
        connection: &quinn::Connection,
        member: Member,
    ) -> tokio::task::JoinHandle<()> {
        let both_nodes = [self.who.role, link.who().role] == [Role::Node; 2];
        let (gossip, connection) = (self.gossip.clone(), connection.clone());
        tokio::spawn(async move {
            if !both_nodes {
                return;
            }
            let from = Arc::clone(&member.name);
            gossip.tell(Input::Met(member)).await;
            while let Ok(packet) = connection.read_datagram().await {
                gossip.hand(Input::Packet(Arc::clone(&from), packet));
            }
        })
    }

    /// Answers requests for payloads, each on a stream of its own; the transport bounds how many
    /// there are.
    fn lend_payloads(
        &self,
        link: &Link,
        connection: &quinn::Connection,
    ) -> tokio::task::JoinHandle<()> {
        let may_fetch = link.who().role.may_call();
        let (shelf, connection) = (Arc::clone(&self.shelf), connection.clone());
        tokio::spawn(async move {
            while let Ok((send, recv)) = connection.accept_bi().await {
                let shelf = Arc::clone(&shelf);
                if may_fetch {
                    tokio::spawn(async move { shelf.serve(send, recv).await });
                }
            }
        })
    }

    /// # Errors
    /// What the peer has done that it must not.
    async fn read(
        &self,
        link: &Arc<Link>,
        serial: u64,
        recv: &mut RecvStream,
    ) -> Result<(), String> {
        let (mut bytes, mut frames) = (BytesMut::new(), Vec::<Frame>::new());
        let mut deliveries = Vec::new();
        loop {
            let chunk = match recv.read_chunk(READ_SIZE, true).await {
                Ok(Some(chunk)) => chunk,
                // The connection says why.
                Ok(None) | Err(_) => return Ok(()),
            };
            bytes.extend_from_slice(&chunk.bytes);
            let taken = take_all(&mut bytes, &mut frames);
            let received = link.receive(serial, &mut frames, &mut deliveries);
            for delivery in deliveries.drain(..) {
                deliver(&self.exports, link, delivery);
            }
            let wrong = taken.err().map(|error| error.to_string());
            let wrong = wrong.or(received.err().map(|error| error.to_string()));
            if let Some(why) = wrong {
                return Err(why);
            }
        }
    }

    /// Dials peers whose connection has broken.
    pub(crate) async fn stay_connected(self: Arc<Self>) {
        let mut tick = tokio::time::interval(DIAL_TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = Instant::now();
            for link in self.links() {
                let Ok(place) = Arc::clone(&self.dials).try_acquire_owned() else {
                    break;
                };
                if let Some(address) = link.dial_now(now) {
                    let net = Arc::clone(&self);
                    tokio::spawn(async move {
                        net.dial_again(&link, &address).await;
                        drop(place);
                    });
                }
            }
        }
    }

    async fn dial_again(self: &Arc<Self>, link: &Link, address: &str) {
        // Peers are dialled where they said they are, and nobody else is.
        let Ok(mut addresses) = tokio::net::lookup_host(address).await else {
            return;
        };
        if let Some(address) = addresses.next()
            && let Err(error) = self.dial(address).await
        {
            tracing::debug!(peer = %link.who(), %error, "not reached again yet");
        }
    }

    /// This node, as the others know it.
    pub(crate) fn member(&self) -> Member {
        Member {
            name: Arc::clone(&self.who.name),
            address: self.address.as_str().into(),
            incarnation: self.incarnation,
            rejoined: 0,
        }
    }

    /// Keeps a connection with a member.
    pub(crate) fn want(&self, member: &Member) {
        let who = Who::new(&member.name, Role::Node);
        match who.map(|who| self.link_of(&who)) {
            Ok(Ok(link)) => link.want(&member.address),
            Ok(Err(error)) => tracing::warn!(node = %member.name, %error, "no connection is kept"),
            // What is no name is no node.
            Err(error) => tracing::warn!(%error, "no connection is kept"),
        }
    }

    /// Ends everything with a member that is dead.
    pub(crate) fn give_up(&self, member: &Member) {
        if let Some(link) = self.link(&member.name) {
            link.give_up(member.incarnation, "its node is dead, or has left");
        }
    }

    /// Sends a packet to a member, as well as can be.
    pub(crate) fn send_packet(&self, to: &Member, packet: Bytes) {
        if let Some(link) = self.link(&to.name) {
            link.send_packet(packet);
        }
    }

    /// Closes connections to peers that are not let in any more.
    pub(crate) fn enforce_access(&self) {
        for link in self.links() {
            if !self.access.allows(link.who()) {
                link.end("revoked");
                self.links.write().remove(&link.who().name);
            }
        }
    }

    /// Ends all sessions and waits until the other sides know.
    pub(crate) async fn close(&self) {
        if self.who.role == Role::Node {
            self.gossip.leave().await;
        }
        for link in self.links() {
            link.end("the node stops");
        }
        self.endpoint.close(ENDED, b"the node stops");
        // A peer that does not answer must not hold up the end.
        let _ = timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }
}

/// A connection on which both sides have greeted each other.
struct Connected {
    link: Arc<Link>,
    serial: u64,
    connection: quinn::Connection,
    send: SendStream,
    recv: RecvStream,
    /// What is to be written before anything else.
    first: Vec<u8>,
    /// The other side, as a node.
    member: Member,
}

fn member_of(link: &Link, hello: &Hello) -> Member {
    Member {
        name: Arc::clone(&link.who().name),
        address: hello.address.as_str().into(),
        incarnation: hello.incarnation,
        rejoined: 0,
    }
}

fn take_all(bytes: &mut BytesMut, frames: &mut Vec<Frame>) -> Result<(), frame::FrameError> {
    while let Some(frame) = frame::take(bytes)? {
        frames.push(frame);
    }
    Ok(())
}

fn deliver(exports: &Exports, link: &Arc<Link>, delivery: Delivery) {
    let Delivery { to, payload, reply } = delivery;
    let is_tell = reply.is_none();
    let letter = Letter {
        from: link.who(),
        to,
        payload: &payload,
    };
    let delivered = exports.deliver(letter, reply);
    // Only then: the session is behind the link's lock, which every message wants.
    if delivered.is_err()
        && is_tell
        && let Some(session) = link.session()
    {
        link.refuse(session, to.actor);
    }
}

/// Writes until the connection is of no use any more.
async fn write(
    link: Arc<Link>,
    serial: u64,
    connection: quinn::Connection,
    mut send: SendStream,
    first: Vec<u8>,
) {
    let mut out = BytesMut::with_capacity(2 * WRITE_FULL);
    out.extend_from_slice(&first);
    let mut acknowledge = false;
    loop {
        let untold = match link.write(serial, &mut out, WRITE_FULL, acknowledge) {
            Ok(Untold(untold)) => untold,
            Err(why) => {
                connection.close(MISBEHAVED, why.as_bytes());
                return;
            }
        };
        acknowledge = false;
        if !out.is_empty() {
            if send.write_chunk(out.split().freeze()).await.is_err() {
                return;
            }
        } else if untold {
            acknowledge = timeout(ACK_DELAY, link.awake()).await.is_err();
        } else {
            link.awake().await;
        }
    }
}

async fn read_hello(recv: &mut RecvStream) -> Result<(Prefix, Hello), HelloError> {
    let mut prefix = [0; PREFIX];
    let foreign = |_| HelloError::Foreign;
    recv.read_exact(&mut prefix).await.map_err(foreign)?;
    let prefix = Prefix::from_bytes(prefix)?;
    let mut rest = vec![0; prefix.length];
    recv.read_exact(&mut rest).await.map_err(foreign)?;
    Ok((prefix, Hello::from_rest(&rest)?))
}

/// Whom the verified certificate of the other side names.
fn peer(connection: &quinn::Connection) -> Option<Who> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>();
    Who::of_certificate(chain.ok()?.first()?)
}

fn is_duplicate(connection: &quinn::Connection) -> bool {
    matches!(
        connection.close_reason(),
        Some(quinn::ConnectionError::ApplicationClosed(close)) if close.error_code == DUPLICATE
    )
}

/// Both sides hear of it.
fn hello_failed(connection: &quinn::Connection, link: &Link, why: HelloError) -> ConnectError {
    if let Some(reason) = connection.close_reason() {
        return ConnectError::ended(link, &reason);
    }
    connection.close(REFUSED, why.to_string().as_bytes());
    let who = link.who().to_string();
    ConnectError::Hello { who, why }
}
