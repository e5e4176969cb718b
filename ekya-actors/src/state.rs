//! What a node is doing: its actors, devices, peers and members, as data that can be printed, sent
//! and counted. Only looks.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::gossip::MemberState;
use crate::hosting::Hosting;
use crate::ledger::JobUsage;
use crate::link::Link;
use crate::net::Net;
use crate::security::Who;
use crate::stats::{Counts, OfType};
use crate::system::System;

/// An actor that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActorState {
    /// Its name.
    pub name: String,
    /// Its type, as Rust calls it.
    pub actor_type: String,
    /// Messages in its mailbox.
    pub waiting: usize,
    /// How many may be.
    pub capacity: usize,
    /// What it has done.
    pub counts: ActorCounts,
}

/// All actors of a type since the start, those that have ended included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeState {
    /// As Rust calls it.
    pub actor_type: String,
    /// Actors that were spawned.
    pub spawned: u64,
    /// Actors that have ended.
    pub ended: u64,
    /// What they have done.
    pub counts: ActorCounts,
}

/// What an actor has done. Counters only grow: take the difference of two readings for a rate.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorCounts {
    /// Messages that its handlers were called with, the outputs of its futures and timers included, and
    /// those on which it panicked; not those that failed before they were handled.
    pub handled: u64,
    /// Messages that were refused because its mailbox was full.
    pub refused: u64,
    /// How often it was restarted.
    pub restarts: u64,
    /// Time that it has spent in handlers, in seconds.
    pub busy_seconds: f64,
}

/// A device of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// What is granted to nobody, in micro-devices.
    pub free_micro: u32,
    /// What it is granted to.
    pub jobs: Vec<JobState>,
}

/// A job on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    /// Its name.
    pub name: String,
    /// Its share in force now, in micro-devices.
    pub share_micro: u32,
    /// Time of its minibatches, in seconds.
    pub busy_seconds: f64,
    /// How many it has run.
    pub minibatches: u64,
    /// Time that it has waited for its turn, in seconds.
    pub waited_seconds: f64,
}

/// What a node is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NodeState {
    /// Who it is.
    pub who: Who,
    /// Where it is reached.
    pub address: String,
    /// Counts its starts.
    pub incarnation: u64,
    /// Connections since its start.
    pub connections: Connections,
    /// Its actors, by name.
    pub actors: Vec<ActorState>,
    /// Types of its actors.
    pub types: Vec<TypeState>,
    /// Its devices.
    pub devices: Vec<DeviceState>,
    /// Nodes that it has had a connection with, and the messages in flight.
    pub peers: Vec<PeerState>,
    /// Other nodes that it takes to be alive.
    pub members: Vec<MemberState>,
}

/// Another node, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Who it is.
    pub who: Who,
    /// Whether there is a connection now.
    pub is_connected: bool,
    /// Frames for it that it has not taken in yet.
    pub frames_waiting: usize,
    /// Asks from here that it has not answered.
    pub asks: usize,
    /// Its asks that are not answered here.
    pub its_asks: usize,
}

/// Connections since the start of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Connections {
    /// Accepted, TLS and greeting included.
    pub accepted: u64,
    /// Asked to come again with a token, because many were being accepted.
    pub validated: u64,
    /// Turned away unheard, because too many were being accepted.
    pub turned_away: u64,
    /// Not accepted: no certificate, not allowed, no greeting in time.
    pub failed_handshakes: u64,
    /// Closed because the peer broke the protocol.
    pub misbehaved: u64,
}

/// A piece of a [`NodeState`] on the wire: the whole may be longer than a message.
#[derive(Serialize, Deserialize)]
pub(crate) enum Piece {
    Node(Who, String, u64, Connections),
    Actor(ActorState),
    Type(TypeState),
    Device(DeviceState),
    Peer(PeerState),
    Member(MemberState),
}

impl NodeState {
    pub(crate) fn of(net: &Net, system: &System, hosting: &Hosting) -> Self {
        let (actors, types) = system.state();
        let links = net.links();
        Self {
            who: net.who().clone(),
            address: net.address().to_owned(),
            incarnation: net.incarnation(),
            connections: Connections::of(net),
            actors,
            types,
            devices: hosting.devices(),
            peers: links.iter().map(|link| PeerState::of(link)).collect(),
            members: net.gossip().members(),
        }
    }

    const fn new(who: Who, address: String, incarnation: u64, connections: Connections) -> Self {
        Self {
            who,
            address,
            incarnation,
            connections,
            actors: Vec::new(),
            types: Vec::new(),
            devices: Vec::new(),
            peers: Vec::new(),
            members: Vec::new(),
        }
    }

    pub(crate) fn into_pieces(self) -> Vec<Piece> {
        let node = Piece::Node(self.who, self.address, self.incarnation, self.connections);
        let mut pieces = vec![node];
        pieces.extend(self.actors.into_iter().map(Piece::Actor));
        pieces.extend(self.types.into_iter().map(Piece::Type));
        pieces.extend(self.devices.into_iter().map(Piece::Device));
        pieces.extend(self.peers.into_iter().map(Piece::Peer));
        pieces.extend(self.members.into_iter().map(Piece::Member));
        pieces
    }

    /// Adds a piece to those before; the first one says whose they are.
    pub(crate) fn add(whole: &mut Option<Self>, piece: Piece) {
        if let Piece::Node(who, address, incarnation, connections) = piece {
            *whole = Some(Self::new(who, address, incarnation, connections));
            return;
        }
        let Some(whole) = whole else {
            return;
        };
        match piece {
            Piece::Node(..) => {}
            Piece::Actor(actor) => whole.actors.push(actor),
            Piece::Type(of_type) => whole.types.push(of_type),
            Piece::Device(device) => whole.devices.push(device),
            Piece::Peer(peer) => whole.peers.push(peer),
            Piece::Member(member) => whole.members.push(member),
        }
    }

    /// Sets the metrics of the [recorder](metrics::set_global_recorder) that the application has
    /// installed; without one, nothing happens. To be called whenever they are collected.
    ///
    /// Labels are names of types, devices, jobs and peers. Types and devices are those of the program, peers
    /// those that have a certificate. A job that an actor holds has the actor's name, though, which whoever
    /// orders it chooses: where others may spawn actors on devices, names come without end, and a recorder
    /// that keeps what is not set any more needs a limit of its own, such as an idle timeout.
    pub fn record_metrics(&self) {
        record_actors(&self.actors, &self.types);
        for device in &self.devices {
            device.record_metrics();
        }
        for peer in &self.peers {
            record_peer(peer);
        }
        metrics::gauge!("ekya_members").set(self.members.len() as f64);
        let Connections {
            accepted,
            validated,
            turned_away,
            failed_handshakes,
            misbehaved,
        } = self.connections;
        let outcomes = [
            ("accepted", accepted),
            ("validated", validated),
            ("turned_away", turned_away),
            ("failed", failed_handshakes),
            ("misbehaved", misbehaved),
        ];
        for (outcome, count) in outcomes {
            metrics::counter!("ekya_connections_total", "outcome" => outcome).absolute(count);
        }
    }
}

/// Sets the metrics of actors and their types, as [`NodeState::record_metrics`] does, for a
/// [`System`] that is no node.
pub fn record_actors(actors: &[ActorState], types: &[TypeState]) {
    for of_type in types {
        record_type(of_type);
    }
    let waiting: usize = actors.iter().map(|actor| actor.waiting).sum();
    metrics::gauge!("ekya_actor_messages_waiting").set(waiting as f64);
}

fn record_type(of_type: &TypeState) {
    let label = || of_type.actor_type.clone();
    let counts = &of_type.counts;
    metrics::counter!("ekya_actors_spawned_total", "type" => label()).absolute(of_type.spawned);
    metrics::counter!("ekya_actors_ended_total", "type" => label()).absolute(of_type.ended);
    metrics::counter!("ekya_actor_restarts_total", "type" => label()).absolute(counts.restarts);
    metrics::counter!("ekya_actor_messages_total", "type" => label()).absolute(counts.handled);
    metrics::counter!("ekya_actor_refused_total", "type" => label()).absolute(counts.refused);
    metrics::gauge!("ekya_actor_busy_seconds_total", "type" => label()).set(counts.busy_seconds);
}

fn record_peer(peer: &PeerState) {
    let label = || peer.who.name.to_string();
    let connected = f64::from(u8::from(peer.is_connected));
    metrics::gauge!("ekya_peer_connected", "peer" => label()).set(connected);
    metrics::gauge!("ekya_peer_frames_waiting", "peer" => label()).set(peer.frames_waiting as f64);
    metrics::gauge!("ekya_peer_asks", "peer" => label()).set(peer.asks as f64);
    metrics::gauge!("ekya_peer_its_asks", "peer" => label()).set(peer.its_asks as f64);
}

impl From<&Counts> for ActorCounts {
    fn from(counts: &Counts) -> Self {
        let (handled, refused, restarts, busy_seconds) = counts.read();
        Self {
            handled,
            refused,
            restarts,
            busy_seconds,
        }
    }
}

impl From<&OfType> for TypeState {
    fn from(of_type: &OfType) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            actor_type: of_type.name.to_owned(),
            spawned: read(&of_type.spawned),
            ended: read(&of_type.ended),
            counts: (&of_type.counts).into(),
        }
    }
}

impl PeerState {
    pub(crate) fn of(link: &Link) -> Self {
        let in_flight = link.in_flight();
        Self {
            who: link.who().clone(),
            is_connected: link.is_connected(),
            frames_waiting: in_flight.frames,
            asks: in_flight.asks,
            its_asks: in_flight.their_asks,
        }
    }
}

impl Connections {
    pub(crate) fn of(net: &Net) -> Self {
        let counters = &net.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            accepted: read(&counters.accepted),
            validated: read(&counters.validated),
            turned_away: read(&counters.turned_away),
            failed_handshakes: read(&counters.failed_handshakes),
            misbehaved: read(&counters.misbehaved),
        }
    }
}

impl DeviceState {
    /// What a device of this kind is doing.
    #[must_use]
    pub fn of(kind: &str, device: &Device) -> Self {
        Self {
            name: device.name().to_owned(),
            kind: kind.to_owned(),
            free_micro: device.free().micro(),
            jobs: device.usage().into_iter().map(JobState::from).collect(),
        }
    }

    /// Sets its metrics, as [`NodeState::record_metrics`] does.
    pub fn record_metrics(&self) {
        let label = || self.name.clone();
        let free = f64::from(self.free_micro) / 1e6;
        metrics::gauge!("ekya_device_share_free", "device" => label()).set(free);
        for job in &self.jobs {
            let labels = [("device", label()), ("job", job.name.clone())];
            let share = f64::from(job.share_micro) / 1e6;
            metrics::gauge!("ekya_device_share_granted", &labels).set(share);
            metrics::gauge!("ekya_device_busy_seconds_total", &labels).set(job.busy_seconds);
            metrics::gauge!("ekya_device_waited_seconds_total", &labels).set(job.waited_seconds);
            metrics::counter!("ekya_device_minibatches_total", &labels).absolute(job.minibatches);
        }
    }
}

impl From<JobUsage> for JobState {
    fn from(usage: JobUsage) -> Self {
        Self {
            name: usage.name,
            share_micro: usage.share.micro(),
            busy_seconds: usage.busy.as_secs_f64(),
            minibatches: usage.minibatches,
            waited_seconds: usage.waited.as_secs_f64(),
        }
    }
}
