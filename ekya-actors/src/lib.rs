//! Actors and device shares. Knows nothing of video or models.
//!
//! - [`System`] runs [`Actor`]s, each with a bounded mailbox behind its [`Ref`]s; an actor that
//!   panics takes no other with it.
//! - [`Compute`] is a thread for work that takes longer than a handler may.
//! - [`Device`] shares a device between jobs, minibatch by minibatch; [`sfq`] is its queue.

mod actor;
mod compute;
pub mod device;
mod envelope;
mod reference;
mod runtime;
pub mod sfq;
mod supervision;
mod system;

pub use actor::{Actor, Ctx, Handler, Message};
pub use compute::{Compute, ComputeError, SubmitError};
pub use device::{Device, Grant, GrantError, JobHandle, JobUsage, Lease, LeaseError};
pub use envelope::guarded;
pub use reference::{AskError, Ref, SendError};
pub use sfq::JobId;
pub use supervision::Restarts;
pub use system::{Exit, ExitReason, ShutdownError, SpawnError, StartError, System};
