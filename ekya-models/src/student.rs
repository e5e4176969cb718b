//! What every student, teacher and training run can do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekya_sched::RetrainingConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Architecture, BBox, BackboneReport, Image, Object, TrainingOptions};

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

    /// Answers several pictures in one pass of the network, as [`Student::infer`] answers each up to
    /// rounding: an answer a picture, in order.
    ///
    /// # Errors
    /// The first [`ModelError`], and no answer; the student is unchanged and may be asked again.
    fn infer_all(
        &self,
        pictures: &[Picture<'_>],
        resolution: f64,
    ) -> Result<Vec<Vec<Object>>, ModelError> {
        let infer = |picture: &Picture<'_>| self.infer(picture.image, picture.regions, resolution);
        pictures.iter().map(infer).collect()
    }

    /// How many pictures of a stream one pass is good for, at least 1: more in it would cost no less
    /// each, and the first of them would wait for the last.
    fn pass_max(&self) -> usize {
        1
    }

    /// Name of the network, as in "small" or "fastestdet": weights of one do not fit another.
    fn network(&self) -> String;

    /// A deep copy that shares no tensor with this one.
    ///
    /// # Errors
    /// [`ModelError`] when memory for the copy cannot be had.
    fn fork(&self) -> Result<Box<dyn Student>, ModelError>;

    /// What the network sees in each of `regions`, in order: the features that its last layers answer
    /// from, as many for every region. `None` from a detector, which has none for an object.
    ///
    /// # Errors
    /// [`ModelError`]; the student is unchanged.
    fn features(
        &self,
        _image: &Image,
        _regions: &[BBox],
    ) -> Result<Option<Vec<Vec<f32>>>, ModelError> {
        Ok(None)
    }

    /// [`Student::train_with`] the default options.
    ///
    /// # Errors
    /// See there.
    fn train(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        seed: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        self.train_with(examples, config, &TrainingOptions::default(), seed)
    }

    /// Starts a retraining of a copy of this student on `examples`; this student keeps serving.
    /// Order, augmentation and new weights are drawn from `seed`; nothing is computed before the
    /// first [`Training::step`]. On a CPU, equal arguments give equal weights.
    ///
    /// # Errors
    /// [`ModelError::NoExamples`] when there is nothing to learn from, [`ModelError::BadInput`] for
    /// a value out of range; others when the copy cannot be made.
    fn train_with(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        options: &TrainingOptions,
        seed: u64,
    ) -> Result<Box<dyn Training>, ModelError>;

    /// Writes the weights to `path` (safetensors), whole or not at all.
    ///
    /// # Errors
    /// [`ModelError::Io`] or [`ModelError::Torch`]; no file is left at `path` then.
    fn save(&self, path: &Path) -> Result<(), ModelError>;

    /// Writes the weights to a new file at `path` for a process that reads it at once and is told
    /// when it is whole: much faster than [`Student::save`], without its digest, and no checkpoint; the
    /// same as that where nothing else is said.
    /// Read by [`Classifier::take_over`](crate::Classifier::take_over) and
    /// [`DetectorKind::open`](crate::DetectorKind::open).
    ///
    /// # Errors
    /// [`ModelError::Io`] or [`ModelError::Torch`]; what has been written by then is removed.
    fn hand_over(&self, path: &Path) -> Result<(), ModelError> {
        self.save(path)
    }

    /// Lets go of pictures, where the student keeps those that it was asked about so that it need
    /// not take them in again. To be called when a task is over: pictures may have to be erased.
    fn forget_pictures(&self) {}
}

/// What a student is asked about, see [`Student::infer`].
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// The picture.
    pub image: &'a Image,
    /// Where a classifier looks.
    pub regions: &'a [BBox],
}

/// A retraining in progress, advanced step by step: a step is a minibatch, or a part of one where
/// [`TrainingOptions::micro_batch`] divides it.
pub trait Training: Send {
    /// Steps from start to end: those of an epoch, times the configuration's epochs.
    fn steps(&self) -> usize;

    /// Steps in one epoch.
    fn steps_per_epoch(&self) -> usize;

    /// Computes one step; the weights move with the last of a minibatch. Call at most
    /// [`Training::steps`] times.
    ///
    /// # Errors
    /// [`ModelError`]; the training cannot be continued, the serving student is untouched.
    fn step(&mut self) -> Result<Step, ModelError>;

    /// Computes as many steps as take about so long, at least one and at most `at_most`: what a caller
    /// pays for once that has to ask another process.
    ///
    /// # Errors
    /// See [`Training::step`].
    fn steps_within(&mut self, time: Duration, at_most: usize) -> Result<Vec<Step>, ModelError> {
        let since = Instant::now();
        let mut steps = vec![self.step()?];
        // One more, if it takes as long as those before in the mean.
        while steps.len() < at_most
            && since.elapsed().mul_f64(1.0 + 1.0 / steps.len() as f64) <= time
        {
            steps.push(self.step()?);
        }
        Ok(steps)
    }

    /// A copy of the student as trained so far, ready to serve.
    ///
    /// # Errors
    /// [`ModelError::Diverged`] when it could not answer; others when the copy cannot be made.
    fn student(&self) -> Result<Box<dyn Student>, ModelError>;
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Mean loss over its examples.
    pub loss: f64,
    /// Steps done so far, this one included.
    pub done: usize,
    /// Examples that it computed on: crops for a classifier, pictures for a detector.
    pub examples: usize,
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

impl Example {
    /// Where the objects are, in order.
    #[must_use]
    pub fn regions(&self) -> Vec<BBox> {
        self.objects.iter().map(|object| object.bbox).collect()
    }
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
    /// Training went astray; a lower learning rate may help.
    #[error("training diverged: {what} after {steps} steps at learning rate {learning_rate}")]
    Diverged {
        /// What is wrong.
        what: String,
        /// Steps done before.
        steps: usize,
        /// The learning rate at the start.
        learning_rate: f64,
    },
    /// The process in which the model lives failed, and the model may be gone with it.
    #[error("the model's process: {0}")]
    Process(String),
    /// There is not as much memory as libtorch asked for, on the GPU or the machine. Fewer examples a
    /// step may fit.
    #[error("model runtime: {0}")]
    OutOfMemory(String),
    /// libtorch or the ONNX runtime failed.
    #[error("model runtime: {0}")]
    Torch(String),
}

/// What libtorch says where memory cannot be had: CUDA's allocator, and the CPU's in two wordings.
const OUT_OF_MEMORY: [&str; 3] = [
    "out of memory",
    "can't allocate memory",
    "not enough memory: you tried to allocate",
];

impl ModelError {
    /// A failure of libtorch, from what it said; nothing but the text tells a lack of memory. Keeps the
    /// first line: a trace of addresses inside libtorch follows.
    #[must_use]
    pub fn of_runtime(said: &str) -> Self {
        let first = said.lines().next().unwrap_or_default().to_owned();
        if OUT_OF_MEMORY.iter().any(|words| first.contains(words)) {
            Self::OutOfMemory(first)
        } else {
            Self::Torch(first)
        }
    }
}

#[cfg(feature = "torch")]
impl From<tch::TchError> for ModelError {
    fn from(error: tch::TchError) -> Self {
        Self::of_runtime(&error.to_string())
    }
}

#[cfg(test)]
#[cfg(feature = "torch")]
mod tests {
    use super::*;

    #[test]
    fn a_real_lack_of_memory_is_told_from_other_failures() {
        let too_much = tch::Tensor::f_zeros([1 << 46], (tch::Kind::Float, tch::Device::Cpu));
        let error = ModelError::from(too_much.expect_err("256 TiB"));
        assert!(matches!(error, ModelError::OutOfMemory(_)), "{error}");
        let shapes = tch::Tensor::from_slice(&[1.0, 2.0]).f_reshape([3]);
        let error = ModelError::from(shapes.expect_err("two are not three"));
        assert!(matches!(error, ModelError::Torch(_)), "{error}");
        // As CUDA's allocator says it.
        let said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of …\ntrace";
        let error = ModelError::of_runtime(said);
        assert!(matches!(error, ModelError::OutOfMemory(_)), "{error}");
    }
}
