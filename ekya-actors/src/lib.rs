//! Actors that are called the same way in this process and on another node, and device shares. Knows
//! nothing of video or models.
//!
//! - [`System`] runs [`Actor`]s, each with a bounded mailbox behind its [`Ref`]s; an actor that
//!   panics takes no other with it.
//! - [`Node`] is a process among others: it connects to them over QUIC, publishes actors and finds
//!   theirs, and knows which nodes are alive.
//! - [`Compute`] is a thread for work that takes longer than a handler may.
//! - [`Device`] shares a device between jobs, minibatch by minibatch; [`sfq`] is its queue.
//!
//! # A first actor
//! ```
//! use std::time::Duration;
//! use ekya_actors::{Actor, Ctx, Handler, Message, System};
//!
//! struct Counter(u64);
//! impl Actor for Counter {}
//!
//! struct Add(u64);
//! impl Message for Add {
//!     type Reply = u64;
//! }
//! impl Handler<Add> for Counter {
//!     fn handle(&mut self, Add(n): Add, _: &mut Ctx<Self>) -> u64 {
//!         self.0 += n;
//!         self.0
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let system = System::start()?;
//! let counter = system.spawn("counter", Counter(0), 64)?;
//! counter.tell(Add(1))?;
//! assert_eq!(counter.ask_blocking(Add(1), Duration::from_secs(1))?, 2);
//! # system.shutdown(Duration::from_secs(1))?;
//! # Ok(())
//! # }
//! ```
//!
//! # On another node
//! A message that travels says what it is called on the wire ([`Message::WIRE`]), and an actor which of
//! them it takes from other nodes ([`Remote`]). Then `examples/two_nodes.rs` is all there is to it:
//! [`Node::publish`] on one node, [`Node::connect`] and [`Node::find`] on the other. What is larger
//! than 64 KiB is [kept](Node::keep) by the node that has it, named in a message, and
//! [fetched](Node::fetch).
//!
//! # What is promised
//! - Every ask has a deadline and ends exactly once: with its answer or with an [`AskError`].
//! - A message is handled at most once, and messages from one place to one actor in the order in which
//!   they were sent, also when the connection between two nodes breaks and comes back: what was not
//!   taken in is sent again, what was is dropped.
//! - Mailboxes and what waits for a connection are bounded. What does not fit is refused to its
//!   sender, as [`SendError::Overloaded`], also across nodes.
//!
//! | what happens | what the asker sees | was it handled? |
//! |---|---|---|
//! | mailbox or outbox full | `Overloaded` | no |
//! | actor ended | `Stopped` | no |
//! | actor panicked | `ActorPanicked` | in part, or not |
//! | actor restarted meanwhile | `ActorRestarted` | no |
//! | deadline passed | `Deadline` | maybe; not if it had not begun |
//! | other version of the message, unknown message | `Refused` | no |
//! | its node died, began anew, or was out of reach for too long | `Lost` | maybe |
//!
//! # Security
//! Nodes show each other certificates of their site's authority (TLS 1.3, on both sides); `ekya certs`
//! makes them. A certificate names its holder and its role: a node runs actors and is a member of the
//! cluster, a client calls them, an observer only looks. [`security::Access`] narrows that down, also
//! while connections exist. Certificates are renewed by [`Node::rotate`] without a break.
//!
//! # Versions
//! The protocol has a major and a minor version: majors must be the same, and of two minors the lower
//! one is spoken. Messages have a version each, which both sides must know.

mod actor;
mod arrange;
mod codec;
mod compute;
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
mod link;
mod membership;
mod net;
mod node;
mod payload;
mod peer;
mod plant;
mod reception;
mod reference;
mod reply;
mod runtime;
pub mod security;
mod session;
pub mod sfq;
mod shared_text;
#[cfg(test)]
mod simulation;
mod spawning;
mod state;
mod stats;
mod stream;
mod supervision;
mod system;
mod watch;
mod wire;

pub use actor::{Actor, Ctx, Handler, Message, Receive};
pub use arrange::{Arrangement, Needs, Room};
pub use compute::{Compute, ComputeError, SubmitError};
pub use device::{Device, Grant, GrantError, JobHandle, JobUsage, Lease, LeaseError};
pub use envelope::guarded;
pub use gossip::MemberState;
pub use holdings::Holding;
pub use hosting::{Order, Refusal, Spawn};
pub use incarnation::IncarnationError;
pub use membership::Detection;
pub use net::{ConnectError, ListenError};
pub use node::{Builder, Connections, FindError, Node, NodeError, NoticeError, PeerState};
pub use payload::{Payload, PayloadError};
pub use reference::{AskError, Ref, SendError};
pub use reply::Reply;
pub use sfq::JobId;
pub use spawning::PlaceError;
pub use state::{ActorCounts, ActorState, DeviceState, JobState, NodeState, TypeState};
pub use stream::{ItemError, Items, Replies, Streams};
pub use supervision::{Backoff, Group, Restarts};
pub use system::{ShutdownError, SpawnError, StartError, System};
pub use watch::{Exit, ExitReason};
pub use wire::{Messages, Remote, Wire};
