//! What outlives a process: the checkpoints and the training memory of each stream, in a folder.
//!
//! ```text
//! DIR/lock                       taken by the one process that may write
//! DIR/streams/NAME/checkpoints/  promoted students, see `ekya_models::CheckpointStore`
//! DIR/streams/NAME/frames/       the labelled frames that the stream would train on
//! ```
//!
//! `folder` is that layout and its lock, `frames` the pictures on disk, `keeper` what writes
//! for one stream, `erase` what removes on request. Nothing here runs by itself: the
//! trainer of a stream calls its keeper, on its own thread and outside of any lease, and a disk
//! that fails costs nothing but what could not be kept.

mod erase;
mod folder;
mod frames;
mod ids;
mod keeper;

pub use erase::{Erasure, Saw, Verdict, erase};
pub use folder::{StateError, StateFolder, StreamFolder, streams};
pub use frames::{FrameError, FrameStore, Unreadable};
pub(crate) use frames::{decode_picture, encode_picture};
pub use keeper::{Keeper, Kind, Retrained};
