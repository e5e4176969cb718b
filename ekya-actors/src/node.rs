//! A node: the actors of this process, and the way to those of others.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::actor::Message;
use crate::connect_error::{ConnectError, ListenError};
use crate::device::Device;
use crate::exports::{Exports, Published};
use crate::far::Far;
use crate::gossip::{Gossip, Input, MemberState};
use crate::holdings::Holdings;
use crate::hosting::Hosting;
use crate::incarnation::{self, IncarnationError};
use crate::link::Link;
use crate::membership::{Detection, NOTICE_MAX};
use crate::net::{IDLE, Net, Settings};
use crate::payload::{self, Payload, PayloadError};
use crate::reception::{self, Find, List, RECEPTION, RECEPTION_CAPACITY, Reception, StateOf};
use crate::reference::{AskError, Ref};
use crate::runtime;
use crate::security::{Access, Identity, IdentityError, Role, Who};
use crate::state::{Connections, NodeState, PeerState};
use crate::stream::Streams;
use crate::system::{ShutdownError, SpawnError, StartError, System};
use crate::wire::Remote;

/// Items of a long answer that may be on their way.
const ANSWERS_ROOM: u32 = 64;

/// Time that a node takes to look something up.
const LOOKUP_WITHIN: Duration = Duration::from_secs(2);

/// This process among others. Clones are the same node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    system: System,
    net: Arc<Net>,
    hosting: Arc<Hosting>,
    reception: Ref<Reception>,
    network: Handle,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a node is started with.
#[derive(Debug)]
pub struct Builder {
    identity: Identity,
    listen: SocketAddr,
    advertised: Option<String>,
    incarnation: Option<u64>,
    folder: Option<PathBuf>,
    access: Arc<Access>,
    detection: Detection,
    idle: Duration,
    devices: Vec<(String, Device)>,
}

/// Why a node did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No thread for actors.
    #[error(transparent)]
    Actors(#[from] StartError),
    /// No thread for the network.
    #[error("the network's thread could not be started: {0}")]
    Network(#[from] io::Error),
    /// No port, or no identity.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Its starts cannot be counted.
    #[error(transparent)]
    Incarnation(#[from] IncarnationError),
    /// The actor that the node is could not be spawned.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// Why there is no reference to an actor of another node.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FindError {
    /// No session with the node: it was never reached, or is lost.
    #[error("no connection with {0}")]
    NotConnected(String),
    /// The node has published no such actor.
    #[error("{node} has published no actor {actor}")]
    Unknown {
        /// The node.
        node: String,
        /// The name.
        actor: String,
    },
    /// The actor is of another type.
    #[error("{actor} of {node} is a {theirs}, not a {ours}")]
    OtherType {
        /// The node.
        node: String,
        /// The actor's name.
        actor: String,
        /// Its type.
        theirs: String,
        /// The type asked for.
        ours: &'static str,
    },
    /// The node did not say.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Why a node's notice was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// It does not fit into the members' gossip.
    #[error("a notice of {0} bytes: at most {NOTICE_MAX} go with the gossip")]
    TooLong(usize),
    /// Too much waits for the membership.
    #[error("the membership is overloaded")]
    Overloaded,
}

/// Where a node is asked for something.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) node: Arc<str>,
    pub(crate) reception: Ref<Reception>,
    /// None for this node itself.
    pub(crate) session: Option<(Arc<Link>, u64)>,
}

impl Builder {
    /// Listens at this address and port; port 0 is any. Without it, any port of the loopback.
    #[must_use]
    pub const fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Tells others to dial this `host:port`, where it is not the one listened at.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertised = Some(address.into());
        self
    }

    /// Keeps in this folder what has to outlast the node: the number of its last start. Without one,
    /// the time stands for that number.
    #[must_use]
    pub fn keep_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// A number that is higher at every start of the node, where somebody else counts them. When it
    /// is lower all the same, others let the node in only when they notice that the connection of its
    /// earlier start is dead, and it is among the [members](Node::members) again some seconds later.
    #[must_use]
    pub const fn incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// How fast the death of other nodes is noticed.
    #[must_use]
    pub const fn detection(mut self, detection: Detection) -> Self {
        self.detection = detection;
        self
    }

    /// A connection on which nothing comes for so long is made anew; 6 s without it. The shorter of
    /// both sides' counts.
    #[must_use]
    pub const fn idle_timeout(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Lets in nobody but these, by name.
    #[must_use]
    pub fn allow_only<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.access.allow_only(names);
        self
    }

    /// Lets actors be spawned that need a share of this device, of a kind such as `"gpu"`.
    #[must_use]
    pub fn device(mut self, kind: impl Into<String>, device: Device) -> Self {
        self.devices.push((kind.into(), device));
        self
    }

    /// Starts the node's threads, one for actors and one for the network, and listens.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start(self) -> Result<Node, NodeError> {
        let incarnation = match (self.incarnation, &self.folder) {
            (Some(incarnation), _) => incarnation,
            (None, Some(folder)) => incarnation::next(folder)?,
            (None, None) => incarnation::now_micros(),
        };
        let system = System::start()?;
        let exports = Arc::<Exports>::default();
        let (gossip, inputs) = Gossip::new();
        let settings = Settings {
            incarnation,
            listen: self.listen,
            address: self.advertised,
            access: self.access,
            exports: Arc::clone(&exports),
            gossip: gossip.clone(),
            idle: self.idle,
        };
        let (stop, stopped) = watch::channel(false);
        let heard = (inputs, self.detection);
        let (net, network, thread) = start_network(&self.identity, settings, heard, stopped)?;
        let holdings = Holdings::new(self.devices);
        let weak = system.downgrade();
        let hosting = Hosting::new(weak, exports, holdings, network.clone());
        let hosting = Arc::new(hosting);
        let reception = open_reception(&system, &net, &hosting)?;
        let inner = Inner {
            system,
            net,
            hosting,
            reception,
            network,
            stop,
            thread: Mutex::new(Some(thread)),
        };
        Ok(Node {
            inner: Arc::new(inner),
        })
    }
}

/// Spawns the actor that the node is, and has it hear of the others' ends.
fn open_reception(
    system: &System,
    net: &Arc<Net>,
    hosting: &Arc<Hosting>,
) -> Result<Ref<Reception>, SpawnError> {
    let reception = Reception::new(Arc::clone(hosting), Arc::clone(net));
    let reception = system.spawn(RECEPTION, reception, RECEPTION_CAPACITY)?;
    net.exports().publish_node(&reception);
    // Weak: what hosts actors must not be kept by them.
    let (net, hosting) = (Arc::downgrade(net), Arc::downgrade(hosting));
    system.on_exit(move |exit| {
        if exit.restarted {
            return;
        }
        if let (Some(net), Some(hosting)) = (net.upgrade(), hosting.upgrade()) {
            net.exports().withdraw(&exit.actor);
            hosting.ended(&exit.actor);
        }
    });
    Ok(reception)
}

type Network = (Arc<Net>, Handle, JoinHandle<()>);

/// A thread with a runtime that runs the network until it is told to stop.
fn start_network(
    identity: &Identity,
    settings: Settings,
    (inputs, detection): (mpsc::Receiver<Input>, Detection),
    mut stopped: watch::Receiver<bool>,
) -> Result<Network, NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let gossip = settings.gossip.clone();
    let net = Net::new(identity, settings);
    drop(entered);
    let net = match net {
        Ok(net) => net,
        Err(error) => {
            // The caller may be on a runtime of its own, where another must not be waited for.
            runtime.shutdown_background();
            return Err(error.into());
        }
    };
    let handle = runtime.handle().clone();
    let serving = Arc::clone(&net);
    let run = move || {
        runtime.block_on(async {
            tokio::spawn(Arc::clone(&serving).accept());
            tokio::spawn(Arc::clone(&serving).stay_connected());
            let me = serving.member();
            tokio::spawn(gossip.run(Arc::clone(&serving), me, detection, inputs));
            // A node that is dropped stops, too.
            let _ = stopped.wait_for(|&stop| stop).await;
            serving.close().await;
        });
    };
    let thread = std::thread::Builder::new().name("network".to_owned());
    Ok((net, handle, thread.spawn(run)?))
}

impl Node {
    /// A node of this identity. It listens on the loopback until [told otherwise](Builder::listen).
    #[must_use]
    pub fn builder(identity: Identity) -> Builder {
        Builder {
            identity,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertised: None,
            incarnation: None,
            folder: None,
            access: Arc::default(),
            detection: Detection::default(),
            idle: IDLE,
            devices: Vec::new(),
        }
    }

    /// Who this node is.
    #[must_use]
    pub fn who(&self) -> &Who {
        self.inner.net.who()
    }

    /// Where others reach it.
    #[must_use]
    pub fn address(&self) -> &str {
        self.inner.net.address()
    }

    /// The address and port that it listens at.
    #[must_use]
    pub fn listens_at(&self) -> SocketAddr {
        self.inner.net.listens_at()
    }

    /// Its actors.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.inner.system
    }

    /// Lets other nodes find an actor by its name and call it, until it ends.
    pub fn publish<A: Remote>(&self, actor: &Ref<A>) {
        drop(self.inner.net.exports().publish(actor));
    }

    /// Connects to the node at an address; its name. From then on, the connection is made again
    /// whenever it breaks.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, address: SocketAddr) -> Result<Who, ConnectError> {
        let net = Arc::clone(&self.inner.net);
        let dialled = self
            .inner
            .network
            .spawn(async move { net.dial(address).await });
        let gone = |_| ConnectError::Ended {
            who: address.to_string(),
            why: "this node stops".to_owned(),
        };
        let link = dialled.await.map_err(gone)??;
        Ok(link.who().clone())
    }

    /// Names and types of the actors that a connected node, or this one, has published.
    ///
    /// # Errors
    /// [`FindError`].
    pub async fn published_by(&self, node: &str) -> Result<Vec<(String, String)>, FindError> {
        let desk = self.desk(node)?;
        let all = answers(&desk, List).await?;
        Ok(all
            .into_iter()
            .map(|one| (one.name, one.actor_type))
            .collect())
    }

    /// A reference to an actor of a connected node, or of this one, by its name.
    ///
    /// # Errors
    /// [`FindError`].
    pub async fn find<A: Remote>(&self, actor: &str, node: &str) -> Result<Ref<A>, FindError> {
        let desk = self.desk(node)?;
        let name = actor.to_owned();
        let found = desk.reception.ask(Find { name }, LOOKUP_WITHIN).await?;
        let found = found.ok_or_else(|| FindError::Unknown {
            node: node.to_owned(),
            actor: actor.to_owned(),
        })?;
        self.reference(&desk, found)
    }

    /// Where a connected node, or this one, is asked for something.
    pub(crate) fn desk(&self, node: &str) -> Result<Desk, FindError> {
        if *self.who().name == *node {
            return Ok(Desk {
                node: Arc::clone(&self.who().name),
                reception: self.inner.reception.clone(),
                session: None,
            });
        }
        let not_connected = || FindError::NotConnected(node.to_owned());
        let link = self.inner.net.link(node).ok_or_else(not_connected)?;
        let session = link.session().ok_or_else(not_connected)?;
        Ok(Desk {
            node: Arc::clone(&link.who().name),
            reception: reception::of(&link, session),
            session: Some((link, session)),
        })
    }

    /// To what was found or spawned there.
    pub(crate) fn reference<A: Remote>(
        &self,
        desk: &Desk,
        found: Published,
    ) -> Result<Ref<A>, FindError> {
        if found.actor_type != A::TYPE {
            return Err(FindError::OtherType {
                node: desk.node.to_string(),
                actor: found.name,
                theirs: found.actor_type,
                ours: A::TYPE,
            });
        }
        let Some((link, session)) = desk.session.clone() else {
            // It may have ended since it was found.
            let here = self.inner.net.exports().actor(found.actor);
            return here.ok_or_else(|| FindError::Unknown {
                node: desk.node.to_string(),
                actor: found.name,
            });
        };
        Ok(Ref::there(Arc::new(Far {
            name: found.name.into(),
            link,
            session,
            actor: found.actor,
            generation: found.generation,
        })))
    }

    /// Where all nodes that there is a connection with, and this one, are asked for something.
    pub(crate) fn desks(&self) -> Vec<Desk> {
        let links = self.inner.net.links();
        let nodes = links.iter().map(|link| link.who());
        let nodes = nodes
            .filter(|who| who.role == Role::Node)
            .chain([self.who()]);
        nodes.filter_map(|who| self.desk(&who.name).ok()).collect()
    }

    pub(crate) fn network(&self) -> &Handle {
        &self.inner.network
    }

    pub(crate) fn hosting(&self) -> &Hosting {
        &self.inner.hosting
    }

    /// Keeps bytes for other nodes to fetch, for so long.
    ///
    /// # Errors
    /// [`PayloadError::Full`].
    pub fn keep(&self, bytes: Bytes, for_: Duration) -> Result<Payload, PayloadError> {
        let until = Instant::now() + for_;
        let net = &self.inner.net;
        net.shelf.keep(&net.who().name, bytes, until)
    }

    /// Keeps a payload no longer; transfers that have begun go on.
    pub fn drop_payload(&self, payload: &Payload) {
        self.inner.net.shelf.drop_payload(payload);
    }

    /// Fetches a payload of a connected node, or of this one, of `at_most` so many bytes. When the connection breaks,
    /// it goes on with the next one.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub async fn fetch(
        &self,
        payload: &Payload,
        at_most: usize,
        within: Duration,
    ) -> Result<Bytes, PayloadError> {
        if *payload.node() == *self.who().name {
            return self.inner.net.shelf.take(payload, at_most);
        }
        let not_connected = || PayloadError::NotConnected(payload.node().to_owned());
        let link = self
            .inner
            .net
            .link(payload.node())
            .ok_or_else(not_connected)?;
        let fetching = payload::fetch(link, payload.clone(), at_most, within);
        let fetched = self.inner.network.spawn(fetching).await;
        fetched.map_err(|_| not_connected())?
    }

    /// Who may connect; [`Node::enforce_access`] puts a change in force for those who are.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.inner.net.access()
    }

    /// Ends connections with peers that are not let in any more.
    pub fn enforce_access(&self) {
        self.inner.net.enforce_access();
    }

    /// Uses another certificate from the next connection on; connections that exist stay.
    ///
    /// # Errors
    /// When TLS does not take it.
    pub fn rotate(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.inner.net.rotate(identity)
    }

    /// Every other node that there has been a connection with.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerState> {
        let links = self.inner.net.links();
        links.iter().map(|link| PeerState::of(link)).collect()
    }

    /// The other nodes of the cluster that are taken to be alive.
    #[must_use]
    pub fn members(&self) -> Vec<MemberState> {
        self.inner.net.gossip().members()
    }

    /// Lets all members know what this node says of itself ([`MemberState::notice`]): at most 512 bytes,
    /// which take the place of what it said before.
    ///
    /// # Errors
    /// [`NoticeError`]; nothing has changed then.
    pub fn set_notice(&self, notice: Vec<u8>) -> Result<(), NoticeError> {
        if notice.len() > NOTICE_MAX {
            return Err(NoticeError::TooLong(notice.len()));
        }
        let handed = self.inner.net.gossip().hand(Input::Notice(notice));
        handed.then_some(()).ok_or(NoticeError::Overloaded)
    }

    /// Counts connections.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections::of(&self.inner.net)
    }

    /// What this node is doing.
    #[must_use]
    pub fn state(&self) -> NodeState {
        NodeState::of(&self.inner.net, self.system(), &self.inner.hosting)
    }

    /// What a connected node, or this one, is doing. Observers may ask for it, too.
    ///
    /// # Errors
    /// [`FindError`].
    pub async fn state_of(&self, node: &str) -> Result<NodeState, FindError> {
        let desk = self.desk(node)?;
        let mut whole = None;
        for piece in answers(&desk, StateOf).await? {
            NodeState::add(&mut whole, piece);
        }
        Ok(whole.ok_or_else(|| overloaded(&desk))?)
    }

    /// Says goodbye to all peers, stops all actors, and ends the threads.
    ///
    /// # Errors
    /// See [`System::shutdown`].
    pub fn shutdown(&self, within: Duration) -> Result<(), ShutdownError> {
        if runtime::is_current_thread() {
            return Err(ShutdownError::OnRuntimeThread);
        }
        self.inner.stop.send_replace(true);
        let ended = self.inner.system.shutdown(within);
        if let Some(thread) = self.inner.thread.lock().take() {
            // It ends within a second.
            drop(thread.join());
        }
        ended
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("who", self.who())
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// A long answer. One without anything was cut off: there is always something to be told.
async fn answers<M: Message>(desk: &Desk, message: M) -> Result<Vec<M::Reply>, FindError>
where
    Reception: Streams<M>,
{
    let asked = desk.reception.stream(message, ANSWERS_ROOM);
    let mut answers = asked.map_err(AskError::from)?;
    let mut all = Vec::new();
    while let Some(answer) = answers.next(LOOKUP_WITHIN).await? {
        all.push(answer);
    }
    if all.is_empty() {
        return Err(overloaded(desk).into());
    }
    Ok(all)
}

fn overloaded(desk: &Desk) -> AskError {
    let actor = desk.reception.name().into();
    AskError::Overloaded { actor }
}
