//! Schedulers to compare with.

mod cloud;
mod fixed;
mod none;
mod reuse;
mod uniform;

pub use cloud::Cloud;
pub use fixed::{FixedConfig, FixedRes};
pub use none::NoRetraining;
pub use reuse::Reuse;
pub use uniform::{Fixed, Uniform};
