//! Where frames come from: one source a file.
//!
//! A source hands over frames in order; it does not pace them, queue them or drop them.

mod camera;
mod decoding;
#[doc(hidden)]
pub mod fault;
#[doc(hidden)]
pub mod ffmpeg;
pub mod folder;
#[doc(hidden)]
pub mod health;
#[doc(hidden)]
pub mod input;
mod invocation;
#[doc(hidden)]
pub mod options;
pub mod own;
pub(crate) mod push;
mod recovery;
pub mod scene;
pub mod video;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ekya_models::{BBox, Image, Object};
use thiserror::Error;

pub use push::{FramePusher, PushError};

use health::SourceHealth;

/// One frame as a source hands it over.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Frame {
    /// Counts from 0, without holes.
    pub index: u64,
    /// When it was taken, from the start of the stream.
    pub at: Duration,
    /// The picture.
    pub image: Arc<Image>,
    /// Where something is, as a motion detector would say; empty when the source does not know.
    pub regions: Vec<BBox>,
    /// What really is there, where the source knows. Only ever used to score and, where a stream's teacher
    /// is `labels`, to play the teacher: nothing that learns or answers sees it otherwise.
    pub truth: Option<Vec<Object>>,
}

impl Frame {
    /// A frame of which the source does not know what is there.
    #[must_use]
    pub fn new(index: u64, at: Duration, image: impl Into<Arc<Image>>, regions: Vec<BBox>) -> Self {
        Self {
            index,
            at,
            image: image.into(),
            regions,
            truth: None,
        }
    }

    /// The same, and what really is there.
    #[must_use]
    pub fn with_truth(mut self, objects: Vec<Object>) -> Self {
        self.truth = Some(objects);
        self
    }
}

/// A stream of frames.
pub trait Source: Send {
    /// The next frame, or `None` at the end. May block until a live camera sends one, but returns
    /// within a second once the stop flag it was opened with is set.
    ///
    /// # Errors
    /// [`SourceError`]; the stream has ended.
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError>;

    /// Leaves out all frames from before `at`, in the source's own time; a camera has none to leave out.
    /// Ends early when `stop` is set.
    ///
    /// # Errors
    /// [`SourceError`]; the stream has ended.
    fn skip_to(&mut self, at: Duration, stop: &StopFlag) -> Result<(), SourceError> {
        if at.is_zero() || self.is_live() {
            return Ok(());
        }
        while !stop.is_set() {
            // The one that is looked at is left out, too: one more or less does not matter here.
            match self.next_frame()? {
                Some(frame) if frame.at < at => {}
                _ => break,
            }
        }
        Ok(())
    }

    /// Whether frames come when they come (a camera), rather than as fast as they are asked for.
    fn is_live(&self) -> bool;

    /// How a camera is doing, for others to show while frames are taken; `None` for sources that are
    /// never lost.
    #[doc(hidden)]
    fn health(&self) -> Option<Arc<SourceHealth>> {
        None
    }
}

/// Asks whoever holds a clone to end soon; once set it stays set.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks for the end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why a source cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A setting of the source is out of range.
    #[error("{setting} = {value}: must be {expected}")]
    Setting {
        /// Name of the setting in the configuration.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A file could not be read.
    #[error("{path}: {reason}")]
    File {
        /// The file or URL, credentials removed.
        path: String,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// A scene cannot be as configured.
    #[error(transparent)]
    Scene(#[from] scene::SceneError),
    /// The program that runs the node has no such source.
    #[error("this program has no source '{name}' of its own")]
    NotHere {
        /// The name in the configuration.
        name: String,
    },
    /// There is no decoder to run.
    #[error("{0}")]
    NoDecoder(String),
    /// The decoder failed or stopped.
    #[error("{input}: {reason}")]
    Decoder {
        /// The file or URL, credentials removed.
        input: String,
        /// What it said last.
        reason: String,
    },
}
