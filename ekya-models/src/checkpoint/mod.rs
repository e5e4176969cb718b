//! Checkpoints: what a student weighs, where its weights come from, and a folder of both.
//!
//! ```text
//! tensors      weights, from and to files that last or are handed over
//! description  what a classifier's weights say about its network
//! manifest     what is known about a file of weights: what it was trained on, how, how good it is
//! seen         the frames that a student has been trained on, bounded
//! store        a folder of checkpoints: save, list, load, remove what is too old
//! sealed       JSON that proves itself undamaged
//! whole        files that are there whole or not at all
//! ```
//!
//! It has no clock and knows nothing of streams but their names: who saves says when and what.

#[cfg(feature = "torch")]
mod description;
mod manifest;
mod sealed;
mod seen;
mod store;
#[cfg(feature = "torch")]
mod tensors;
mod whole;

pub use manifest::{Manifest, Provenance, TrainedOn};
pub use sealed::{seal, unseal};
pub use seen::Seen;
pub use store::{Checkpoint, CheckpointStore, Listing, Unusable};

#[cfg(feature = "torch")]
pub(crate) use description::Description;
#[cfg(feature = "torch")]
pub(crate) use tensors::{Flaw, Metadata, SHA256_KEY, Tensors, hand_over, open, read, save};
