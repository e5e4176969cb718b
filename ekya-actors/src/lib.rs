//! Actors that are called the same way in this process and on another node, and device shares. Knows
//! nothing of video or models.
//!
//! - [`System`] runs [`Actor`]s, each with a bounded mailbox behind its [`Ref`]s; an actor that
//!   panics takes no other with it.
//! - [`Node`] is a process among others: it connects to them over QUIC, publishes actors, finds and
//!   spawns them there, and knows which nodes are alive.
//! - [`Compute`] is a thread for work that takes longer than a handler may.
//! - [`Device`] shares a device between jobs, minibatch by minibatch; [`ledger`] keeps its books and
//!   [`sfq`] is its queue.
//! - [`worker`] has heavy work done in child processes, whose death touches nothing here.
//!
//! The [guide] goes from a first actor to a cluster: supervision, placement, errors, security, wire
//! compatibility.

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

mod actor;
mod arrange;
pub mod codec;
mod compute;
mod connect_error;
pub mod device;
mod dialogue;
mod door;
mod envelope;
mod exports;
mod far;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gossip;
mod hello;
mod holdings;
mod hosting;
mod incarnation;
pub mod ledger;
mod link;
mod membership;
mod net;
mod node;
mod payload;
mod peer;
mod plant;
mod ranking;
mod reception;
mod reference;
mod reply;
mod reply_to;
mod runtime;
pub mod security;
mod session;
pub mod sfq;
mod shared_text;
#[cfg(test)]
mod simulation;
mod slots;
mod spawning;
mod state;
mod stats;
mod stream;
mod supervision;
mod system;
mod transport;
mod watch;
mod wire;
pub mod worker;

pub use actor::{Actor, Ctx, Handler, Message, Receive};
pub use arrange::{Arrangement, Needs, Room};
pub use compute::{Compute, ComputeError, SubmitError};
pub use connect_error::{ConnectError, ListenError};
pub use device::{Device, JobHandle, Lease, LeaseError};
pub use envelope::guarded;
pub use gossip::MemberState;
pub use holdings::Holding;
pub use hosting::{Order, Refusal, Spawn};
pub use incarnation::IncarnationError;
pub use ledger::{Grant, GrantError, JobUsage};
pub use membership::Detection;
pub use node::{Builder, FindError, Node, NodeError, NoticeError};
pub use payload::{Payload, PayloadError};
pub use reference::{AskError, Ref, SendError};
pub use reply::Reply;
pub use sfq::JobId;
pub use spawning::PlaceError;
pub use state::{
    ActorCounts, ActorState, Connections, DeviceState, JobState, NodeState, PeerState, TypeState,
    record_actors,
};
pub use stream::{ItemError, Items, Replies, Streams};
pub use supervision::{Backoff, Group, Restarts};
pub use system::{ShutdownError, SpawnError, StartError, System};
pub use watch::{Exit, ExitReason};
pub use wire::{Messages, Remote, Wire};
