//! Joint scheduling of inference and retraining over shared devices.

mod config;
mod share;

pub use config::RetrainingConfig;
pub use share::{Share, ShareError};
