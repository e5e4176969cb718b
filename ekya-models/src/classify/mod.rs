//! Classifiers of object crops: students, and the teacher of the procedural scene.
//!
//! `layers` holds the parts, `architecture` puts them together, `crops` cuts pictures, `classifier`
//! answers, `batch` makes minibatches and `training` trains on them.

mod architecture;
mod batch;
mod classifier;
mod crops;
mod layers;
mod training;

pub use architecture::Architecture;
pub use classifier::Classifier;
