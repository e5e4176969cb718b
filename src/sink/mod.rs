//! Results out. Settled frames fan out at one place (`outlets`), into bounded queues that lose their oldest
//! (`queue`); behind these are the files of a run (`lines`: `results.jsonl` has a line a frame,
//! `labelled.jsonl` a line a frame that the teacher has labelled) and subscribers of the program that
//! runs the node (`subscriber`).
//!
//! Nothing here ever slows inference.

mod labelled;
mod lines;
mod outlets;
mod queue;
mod result;
mod subscriber;

#[doc(hidden)]
pub use labelled::{LabelledLine, NamedObject};
pub(crate) use lines::QUEUE_LINES;
#[doc(hidden)]
pub use lines::{LineSink, LineWriter};
pub(crate) use outlets::Outlets;
#[doc(hidden)]
pub use outlets::StreamOutlets;
pub use outlets::Streams;
pub use result::{DetectedObject, FrameResult};
pub use subscriber::Results;

pub use crate::stream::Fate;
