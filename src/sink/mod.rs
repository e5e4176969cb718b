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

pub use labelled::{LabelledLine, NamedObject};
pub(crate) use lines::QUEUE_LINES;
pub use lines::{LineSink, LineWriter};
pub(crate) use outlets::Outlets;
pub use outlets::{StreamOutlets, Streams};
pub use result::{DetectedObject, FrameResult};
pub use subscriber::Results;
