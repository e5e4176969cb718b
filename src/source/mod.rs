//! Where frames come from: one source a file.
//!
//! A source hands over frames in order; it does not pace them, queue them or drop them.

use std::sync::Arc;
use std::time::Duration;

use ekya_models::{BBox, Image, Object};
use thiserror::Error;

/// One frame as a source hands it over.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Counts from 0, without holes.
    pub index: u64,
    /// When it was taken, from the start of the stream.
    pub at: Duration,
    /// The picture.
    pub image: Arc<Image>,
    /// Where something is, as a motion detector would say; empty when the source does not know.
    pub regions: Vec<BBox>,
    /// What really is there, where the source knows. Only ever used to score and, for a labelled
    /// folder, to play the teacher: nothing that learns or answers sees it otherwise.
    pub truth: Option<Vec<Object>>,
}

/// A stream of frames.
pub trait Source: Send {
    /// The next frame, or `None` at the end. May block until a live camera sends one, but returns
    /// within a second once the stop flag it was opened with is set.
    ///
    /// # Errors
    /// [`SourceError`]; the stream has ended.
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError>;

    /// Whether frames come when they come (a camera), rather than as fast as they are asked for.
    fn is_live(&self) -> bool;
}

/// Why a source cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file could not be read.
    #[error("{path}: {reason}")]
    File {
        /// The file or URL, credentials removed.
        path: String,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// The decoder failed or stopped.
    #[error("{input}: {reason}")]
    Decoder {
        /// The file or URL, credentials removed.
        input: String,
        /// What it said last.
        reason: String,
    },
}
