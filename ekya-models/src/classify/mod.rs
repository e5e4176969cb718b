//! Classifiers of object crops: students, and the teacher of the procedural scene.
//!
//! `network` puts a `head` behind a backbone, `crops` cuts pictures, `classifier` answers. `training`
//! trains on minibatches that `batch` makes in the `order` of an epoch, with `known` features where
//! only the head trains, and by `distil` on what the network answered before. `onnx` is a teacher from
//! an ONNX file.

mod batch;
mod classifier;
mod crops;
mod distil;
mod head;
mod known;
mod network;
mod onnx;
mod order;
mod training;

pub use classifier::Classifier;
pub use onnx::{OnnxOptions, OnnxTeacher};
