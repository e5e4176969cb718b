//! Classifiers of object crops: students, and the teacher of the procedural scene.
//!
//! `layers` holds the parts, `architecture` puts them together, `crops` cuts pictures, `classifier`
//! answers. `training` trains on minibatches that `batch` makes in the `order` of an epoch, with `known`
//! features where only the head trains, and by `distil` on what the network answered before.

mod architecture;
mod batch;
mod classifier;
mod crops;
mod distil;
mod known;
mod layers;
mod order;
mod training;

pub use architecture::Architecture;
pub use classifier::Classifier;
