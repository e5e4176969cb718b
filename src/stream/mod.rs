//! One stream: its frames' fates, the threads that answer them, and how right the answers were.
//!
//! source thread → [`Intake`] → thread of the device's [`InferenceServer`] → [`StreamLog`] (scores,
//! samples, results).

mod inference;
mod intake;
mod log;
mod sampler;
mod score;
mod server;
mod shared;

pub use inference::{InferenceActor, Serve, SetInference};
pub use intake::{Answer, Fate, Intake, Shown, Timing};
pub use log::{Settled, StreamLog};
pub use sampler::{Sample, SampleSchedule};
pub use score::{Metric, Timeline};
pub use server::InferenceServer;
pub use shared::SharedStudent;
