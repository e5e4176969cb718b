//! Continuous learning of video analytics on edge servers.
//!
//! Cameras are analysed by small networks (*students*) that go stale as scenes drift. Retraining
//! them restores accuracy, but takes device time from inference. `ekya` decides, for all streams at
//! once, which student to retrain, how, and with how much of which device, and does it.
//!
//! [`node::start`] starts a node as a [`ValidConfig`] says and [`RunOptions`] add: frames that the program
//! has, results for it, models and a scheduler of its own. [`node::run`] does the same on the calling
//! thread. Either ends with a [`record::RunRecord`]. What a program can bring along are [`Source`],
//! [`Student`], [`Teacher`] and [`Scheduler`]; `docs/embedding.md` tells how.
//!
//! Without the default feature `torch` libtorch is not needed, and a node runs students and teachers that
//! the program brings along.

pub mod config;
pub mod node;
pub mod record;
pub mod sink;
pub mod source;
pub mod worker;

pub use config::ValidConfig;
pub use ekya_models::{BBox, Image, ModelError, Object, Placement, Student, Teacher};
pub use ekya_sched::Scheduler;
pub use node::{RunOptions, RunningNode};
pub use sink::{FrameResult, Results};
pub use source::{Frame, FramePusher, Source, StopFlag};
pub use {ekya_models as models, ekya_sched as sched};

// For the command, the benches and the tests of this package, which are crates of their own: no interface to
// count on.
#[doc(hidden)]
pub mod audit;
#[doc(hidden)]
pub mod capacity;
#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod export;
#[doc(hidden)]
pub mod keep;
#[doc(hidden)]
pub mod learn;
mod pauses;
#[doc(hidden)]
pub mod planning;
#[doc(hidden)]
#[cfg(feature = "torch")]
pub mod rehearse;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod schedule;
mod secret;
#[doc(hidden)]
pub mod serve;
#[doc(hidden)]
pub mod simulate;
#[doc(hidden)]
pub mod stream;
#[doc(hidden)]
pub mod throughput;
#[doc(hidden)]
#[cfg(feature = "torch")]
pub mod train;
#[doc(hidden)]
#[cfg(feature = "torch")]
pub mod trial;
#[doc(hidden)]
pub mod write;

/// What the embedding guide shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingGuide;
