//! Object detection: the students that are fine-tuned, and the teacher that labels for them.
//!
//! ```text
//! coco       class names, and how a network's classes map to those of a stream
//! view       which rectangle of a picture fills a network's input
//! decode     scored boxes → objects (threshold, suppression)
//! layers     convolutions of named tensors
//! weights    those tensors: drawn, copied, grown, from and to files
//! file       what a file says about its network beside the weights
//! network    what a network can do, whichever it is
//! fastestdet, tinyyolo, ssdlite: the networks with their losses
//! detector   the student on any of them: inference, fork, save, new classes
//! open       a detector by the name of its network
//! train      fine-tuning, minibatch by minibatch
//! yolox      the teacher: any YOLOX file through tract
//! ```

mod coco;
mod decode;
mod detector;
mod fastestdet;
mod file;
mod layers;
mod network;
mod open;
mod ssdlite;
mod tinyyolo;
mod train;
mod view;
mod weights;
mod yolox;

pub use coco::coco_names;
pub use detector::Detector;
pub use fastestdet::FastestDet;
pub use open::DetectorWeights;
pub use ssdlite::SsdLite;
pub use tinyyolo::TinyYoloV3;
pub use yolox::YoloxTeacher;
