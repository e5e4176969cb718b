//! Continuous learning of video analytics on edge servers.
//!
//! Cameras are analysed by small networks (*students*) that go stale as scenes drift. Retraining
//! them restores accuracy, but takes device time from inference. `ekya` decides, for all streams at
//! once, which student to retrain, how, and with how much of which device, and does it.
//!
//! [`node::run`] runs a [`config::ValidConfig`] and returns a [`record::RunRecord`]. Without the
//! default feature `torch` only sources, records and reports are there, and libtorch is not needed.

pub mod capacity;
pub mod export;
pub(crate) mod pauses;
pub mod planning;
pub mod record;
pub mod report;
pub mod simulate;
pub mod source;
pub mod write;

pub mod config;

#[cfg(feature = "torch")]
pub mod audit;
#[cfg(feature = "torch")]
pub mod clock;
#[cfg(feature = "torch")]
pub mod cluster;
#[cfg(feature = "torch")]
pub mod keep;
#[cfg(feature = "torch")]
pub mod learn;
#[cfg(feature = "torch")]
pub mod node;
#[cfg(feature = "torch")]
pub mod rehearse;
#[cfg(feature = "torch")]
pub mod schedule;
#[cfg(feature = "torch")]
pub(crate) mod secret;
#[cfg(feature = "torch")]
pub mod serve;
#[cfg(feature = "torch")]
pub mod sink;
#[cfg(feature = "torch")]
pub mod stream;
#[cfg(feature = "torch")]
pub mod throughput;
#[cfg(feature = "torch")]
pub mod train;
#[cfg(feature = "torch")]
pub mod trial;
#[cfg(feature = "torch")]
pub mod worker;
