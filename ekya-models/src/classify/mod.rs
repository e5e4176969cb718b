//! Classifiers of object crops: students, and the teacher of the procedural scene.
//!
//! `network` puts a `head` behind a backbone, `crops` cuts pictures, `classifier` answers, `batch`
//! makes minibatches and `training` trains on them; `onnx` is a teacher from an ONNX file.

mod batch;
mod classifier;
mod crops;
mod head;
mod network;
mod onnx;
mod training;

pub use classifier::Classifier;
pub use onnx::{OnnxOptions, OnnxTeacher};
