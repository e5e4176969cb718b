//! What every student, teacher and training run can do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekya_sched::RetrainingConfig;
use thiserror::Error;

use crate::backbone::BackboneReport;
use crate::{Architecture, BBox, Image, Object};

/// A compressed model that serves one stream.
pub trait Student: Send {
    /// Answers one picture. A classifier names the class of each of `regions` (one object a region,
    /// in order); a detector ignores `regions` and finds the objects itself. `resolution` in
    /// (0, 1] scales the side of the network's input.
    ///
    /// # Errors
    /// [`ModelError`]; the student is unchanged and may be asked again.
    fn infer(
        &self,
        image: &Image,
        regions: &[BBox],
        resolution: f64,
    ) -> Result<Vec<Object>, ModelError>;

    /// A deep copy that shares no tensor with this one.
    ///
    /// # Errors
    /// [`ModelError`] when memory for the copy cannot be had.
    fn fork(&self) -> Result<Box<dyn Student>, ModelError>;

    /// Starts a retraining of a copy of this student on `examples`; this student keeps serving.
    /// Order, augmentation and new weights are drawn from `seed`; nothing is computed before the
    /// first [`Training::step`].
    ///
    /// # Errors
    /// [`ModelError::NoExamples`] for an empty slice; others when the copy cannot be made.
    fn train(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        seed: u64,
    ) -> Result<Box<dyn Training>, ModelError>;

    /// Writes the weights to `path` (safetensors), whole or not at all.
    ///
    /// # Errors
    /// [`ModelError::Io`] or [`ModelError::Torch`]; no file is left at `path` then.
    fn save(&self, path: &Path) -> Result<(), ModelError>;
}

/// A retraining in progress, advanced minibatch by minibatch.
pub trait Training: Send {
    /// Minibatches from start to end.
    fn steps(&self) -> usize;

    /// Minibatches in one epoch.
    fn steps_per_epoch(&self) -> usize;

    /// Trains on one minibatch. Call at most [`Training::steps`] times.
    ///
    /// # Errors
    /// [`ModelError`]; the training cannot be continued, the serving student is untouched.
    fn step(&mut self) -> Result<Step, ModelError>;

    /// A copy of the student as trained so far, ready to serve.
    ///
    /// # Errors
    /// [`ModelError`] when the copy cannot be made.
    fn student(&self) -> Result<Box<dyn Student>, ModelError>;
}

/// What one minibatch did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Mean loss over the minibatch.
    pub loss: f64,
    /// Minibatches done so far, this one included.
    pub done: usize,
}

/// An expensive model whose answers are taken as labels.
pub trait Teacher: Send {
    /// Labels one picture, as [`Student::infer`] at full resolution.
    ///
    /// # Errors
    /// [`ModelError`]; the teacher may be asked again.
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError>;
}

/// Any student can teach others: its answers at full resolution are the labels.
impl Teacher for Box<dyn Student> {
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        self.infer(image, regions, 1.0)
    }
}

/// A labelled picture to train or score on.
#[derive(Debug, Clone)]
pub struct Example {
    /// The picture.
    pub image: Arc<Image>,
    /// What is in it. For a classifier one object a region.
    pub objects: Vec<Object>,
}

/// Why a model could not be loaded, run or trained.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not a model, or not of this architecture.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of weights is not for the backbone of this network; nothing of it was loaded.
    #[error("{}: no weights of {architecture}: {report}", path.display())]
    Backbone {
        /// The file.
        path: PathBuf,
        /// The network.
        architecture: Architecture,
        /// What fits and what does not.
        report: Box<BackboneReport>,
    },
    /// There is nothing to train on.
    #[error("no labelled examples to train on")]
    NoExamples,
    /// A value that the model cannot work with (a class index too high, an empty picture).
    #[error("{0}")]
    BadInput(String),
    /// libtorch or the ONNX runtime failed.
    #[error("model runtime: {0}")]
    Torch(String),
}

impl From<tch::TchError> for ModelError {
    /// Keeps the first line: a trace of addresses inside libtorch follows.
    fn from(error: tch::TchError) -> Self {
        Self::Torch(
            error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        )
    }
}
