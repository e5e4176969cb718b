//! One stream: its frames' fates, the thread that answers them, and how right the answers were.
//!
//! source thread → [`Intake`] → inference thread → [`StreamLog`] (scores, samples, results).

mod inference;
mod intake;
mod log;
mod sampler;
mod score;

pub use inference::{InferenceActor, Serve, SetInference};
pub use intake::{Answer, Fate, Intake};
pub use log::{Settled, StreamLog};
pub use sampler::{Sample, SampleSchedule};
pub use score::{Metric, Timeline};
