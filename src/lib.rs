//! Continuous learning of video analytics on edge servers.
//!
//! Cameras are analysed by small networks (*students*) that go stale as scenes drift. Retraining
//! them restores accuracy, but takes device time from inference. `ekya` decides, for all streams at
//! once, which student to retrain, how, and with how much of which device, and does it.
//!
//! [`node::run`] runs a [`config::ValidConfig`] and returns a [`record::RunRecord`]. Without the
//! default feature `torch` only sources, records and reports are there, and libtorch is not needed.

pub mod audit;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod keep;
pub mod learn;
pub mod node;
pub mod planning;
pub mod record;
pub mod report;
pub mod schedule;
pub mod serve;
pub mod simulate;
pub mod sink;
pub mod source;
pub mod stream;
pub mod throughput;
pub mod worker;
pub mod write;

#[cfg(feature = "torch")]
pub mod rehearse;
#[cfg(feature = "torch")]
pub mod train;
#[cfg(feature = "torch")]
pub mod trial;

pub use config::ValidConfig;
pub use ekya_models::{BBox, Image, ModelError, Object, Placement, Student, Teacher};
pub use ekya_sched::Scheduler;
pub use node::{RunOptions, RunningNode};
pub use sink::{FrameResult, Results};
pub use source::push::FramePusher;
pub use source::{Frame, Source, StopFlag};
pub use {ekya_models as models, ekya_sched as sched};
