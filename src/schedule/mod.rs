//! The scheduler actor: labels → profiles → plan → grants, round by round.
//!
//! It owns no thread and computes nothing: it is told what happened ([`Event`]), keeps what is
//! known about each stream, asks a [`ekya_sched::Scheduler`] for a plan when that changes, and
//! sends grants and orders. What happens on device time happens elsewhere and comes back as an
//! event.

mod actor;
mod device;
mod event;
mod grants;
mod guests;
mod journal;
mod labelling;
mod lean;
mod learning;
mod look;
mod policy;
mod roster;
mod stream;

pub use actor::{
    Ask, Load, SchedulerActor, Setup, StreamSetup, Travel, inference_job, training_job,
};
pub use device::{ApplyGrants, DeviceActor};
pub use event::{Event, Found};
pub use guests::Guests;
pub use journal::{Journal, Tally};
pub use look::{
    Look, Looked, MeasuredLook, Past, Planned, StreamLook, Timeline, TrainingLook, Windows,
};
pub use policy::{Policy, Retraining};
