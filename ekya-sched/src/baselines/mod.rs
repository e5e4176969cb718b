//! Schedulers to compare with.

mod cloud;
mod fixed;
mod none;
mod uniform;

pub use cloud::Cloud;
pub use fixed::{FixedConfig, FixedRes};
pub use none::NoRetraining;
pub use uniform::{Fixed, Uniform};
