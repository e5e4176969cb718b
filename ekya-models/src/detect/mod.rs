//! Object detection: the student that is fine-tuned, and the teacher that labels for it.
//!
//! ```text
//! coco       class names, and how a network's classes map to those of a stream
//! view       which rectangle of a picture fills a network's input
//! decode     scored boxes → objects (threshold, suppression)
//! weights    FastestDet's tensors by name, from and to files
//! network    FastestDet's layers on them
//! fastestdet the student: inference, fork, save
//! loss       what a prediction should have been, and how far off it was
//! train      fine-tuning, minibatch by minibatch
//! yolox      the teacher: any YOLOX file through tract
//! ```

mod coco;
mod decode;
mod fastestdet;
mod loss;
mod network;
mod train;
mod view;
mod weights;
mod yolox;

pub use coco::coco_names;
pub use fastestdet::FastestDet;
pub use yolox::YoloxTeacher;
