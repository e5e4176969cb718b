//! Students, teachers, their training and their checkpoints.
//!
//! The only crate that names `tch`, behind its default feature `torch`. Without it the traits are there,
//! for models of one's own, with what all models need: pictures, scores, checkpoints. It knows nothing of actors, streams or shares: whoever calls
//! [`Training::step`] decides when, and on which device time.

mod architecture;
mod backbone_report;
mod checkpoint;
mod detector_kind;
mod frame_id;
pub mod gpu;
mod image;
mod object;
mod options;
mod placement;
mod student;

pub use architecture::{Architecture, ArchitectureError, ShuffleWidth, Width};
pub use backbone_report::{BackboneReport, Misfit};
pub use checkpoint::{
    Checkpoint, CheckpointStore, Listing, Manifest, Provenance, Seen, TrainedOn, Unusable, seal,
    unseal,
};
pub use detector_kind::DetectorKind;
pub use frame_id::FrameId;
pub use image::{IMAGENET, Image, ImageError, Normalisation};
pub use object::{BBox, Object, f1_at, is_matched, matched_accuracy, right_answer};
pub use options::{Distillation, Sampling, TrainingOptions};
pub use placement::{Placement, give_memory_back, set_compute_threads};
pub use student::{Example, ModelError, Picture, Step, Student, Teacher, Training};

#[cfg(feature = "torch")]
mod backbone;
#[cfg(feature = "torch")]
mod classify;
#[cfg(feature = "torch")]
mod detect;
#[cfg(feature = "torch")]
mod minibatch;
#[cfg(feature = "torch")]
mod onnx;
#[cfg(feature = "torch")]
pub use classify::{Classifier, OnnxOptions, OnnxTeacher};
#[cfg(feature = "torch")]
pub use detect::{
    Detector, DetectorWeights, FastestDet, SsdLite, TinyYoloV3, YoloxTeacher, coco_names,
};
