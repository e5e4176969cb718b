//! Students, teachers, their training and their checkpoints.
//!
//! The only crate that names `tch`. It knows nothing of actors, streams or shares: whoever calls
//! [`Training::step`] decides when, and on which device time.

mod architecture;
mod detector_kind;
mod image;
mod object;

pub use architecture::{Architecture, ArchitectureError, ShuffleWidth, Width};
pub use detector_kind::DetectorKind;
pub use image::{Image, ImageError};
pub use object::{BBox, Object, f1_at, matched_accuracy};

#[cfg(feature = "torch")]
mod backbone;
#[cfg(feature = "torch")]
mod checkpoint;
#[cfg(feature = "torch")]
mod classify;
#[cfg(feature = "torch")]
mod detect;
#[cfg(feature = "torch")]
mod onnx;
#[cfg(feature = "torch")]
mod placement;
#[cfg(feature = "torch")]
mod student;
#[cfg(feature = "torch")]
pub use backbone::{BackboneReport, Misfit};
#[cfg(feature = "torch")]
pub use classify::{Classifier, OnnxOptions, OnnxTeacher};
#[cfg(feature = "torch")]
pub use detect::{
    Detector, DetectorWeights, FastestDet, SsdLite, TinyYoloV3, YoloxTeacher, coco_names,
};
#[cfg(feature = "torch")]
pub use placement::{Placement, set_compute_threads};
#[cfg(feature = "torch")]
pub use student::{Example, ModelError, Step, Student, Teacher, Training};
