//! Students, teachers, their training and their checkpoints.
//!
//! The only crate that names `tch`. It knows nothing of actors, streams or shares: whoever calls
//! [`Training::step`] decides when, and on which device time.

mod architecture;
mod detector_kind;
mod frame_id;
mod image;
mod object;
mod options;

pub use architecture::{Architecture, ArchitectureError, ShuffleWidth, Width};
pub use detector_kind::DetectorKind;
pub use frame_id::FrameId;
pub use image::{IMAGENET, Image, ImageError, Normalisation};
pub use object::{BBox, Object, f1_at, is_matched, matched_accuracy, right_answer};
pub use options::{Distillation, Sampling, TrainingOptions};

#[cfg(feature = "torch")]
mod backbone;
#[cfg(feature = "torch")]
mod checkpoint;
#[cfg(feature = "torch")]
mod classify;
#[cfg(feature = "torch")]
mod detect;
#[cfg(feature = "torch")]
pub mod gpu;
#[cfg(feature = "torch")]
mod minibatch;
#[cfg(feature = "torch")]
mod onnx;
#[cfg(feature = "torch")]
mod placement;
#[cfg(feature = "torch")]
mod student;
#[cfg(feature = "torch")]
pub use backbone::{BackboneReport, Misfit};
#[cfg(feature = "torch")]
pub use checkpoint::{
    Checkpoint, CheckpointStore, Listing, Manifest, Provenance, Seen, TrainedOn, Unusable, seal,
    unseal,
};
#[cfg(feature = "torch")]
pub use classify::{Classifier, OnnxOptions, OnnxTeacher};
#[cfg(feature = "torch")]
pub use detect::{
    Detector, DetectorWeights, FastestDet, SsdLite, TinyYoloV3, YoloxTeacher, coco_names,
};
#[cfg(feature = "torch")]
pub use placement::{Placement, give_memory_back, set_compute_threads};
#[cfg(feature = "torch")]
pub use student::{Example, ModelError, Picture, Step, Student, Teacher, Training};
