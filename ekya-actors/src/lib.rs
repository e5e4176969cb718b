//! Actors and device shares. Knows nothing of video or models.

pub mod device;
pub mod sfq;

pub use device::{Device, Grant, GrantError, JobHandle, JobUsage, Lease, LeaseError};
pub use sfq::JobId;
