//! Results out. Settled frames fan out at one place (`outlets`), into bounded queues that lose their oldest
//! (`queue`); behind these are the files of a run (`lines`: `results.jsonl` has a line a frame,
//! `labelled.jsonl` a line a frame that the teacher has labelled), subscribers of the program that
//! runs the node (`subscriber`), and the `output`s that a configuration names: files that are begun anew
//! when they have grown (`file`, with `rotation`), standard output (`stdout`), Unix sockets (`socket`) and
//! MQTT brokers (`mqtt`). A `tally` says how each of these is doing.
//!
//! Nothing here ever slows inference.

mod file;
mod labelled;
mod lines;
mod mqtt;
mod outlets;
mod output;
mod queue;
mod result;
mod rotation;
mod socket;
mod stdout;
mod subscriber;
mod tally;

#[doc(hidden)]
pub use labelled::{LabelledLine, NamedObject};
pub(crate) use lines::QUEUE_LINES;
#[doc(hidden)]
pub use lines::{LineSink, LineWriter};
pub(crate) use outlets::Outlets;
#[doc(hidden)]
pub use outlets::StreamOutlets;
pub use outlets::Streams;
pub use output::OutputError;
pub(crate) use output::Outputs;
pub use result::{DetectedObject, FrameResult};
pub use subscriber::Results;
pub(crate) use tally::Tally;

pub use crate::stream::Fate;
