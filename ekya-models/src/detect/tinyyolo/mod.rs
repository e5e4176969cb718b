//! TinyYOLOv3, darknet's yolov3-tiny (Redmon and Farhadi 2018, arXiv 1804.02767).
//!
//! ```text
//! network  its layers
//! boxes    predictions of cells and anchors → scored boxes
//! loss     what predictions should have been, and how far off they were
//! darknet  darknet's own files of weights
//! ```

mod boxes;
mod darknet;
mod loss;
mod network;

use std::path::Path;

use super::coco::ClassMap;
use super::detector::{Detector, Setup};
use super::network::Network;
use super::weights::bytes;
use crate::{ModelError, Placement};

use network::TinyYoloNetwork;

/// TinyYOLOv3: 8.8 million parameters for COCO's classes, an input of 416 × 416 (letterboxed), boxes
/// at strides 32 and 16.
///
/// Of a retraining configuration, `layers_frozen` counts the eight convolutions before the heads.
/// Batch normalisation of those that train follows the minibatches.
pub type TinyYoloV3 = Detector<TinyYoloNetwork>;

impl TinyYoloV3 {
    /// Loads a file of darknet (`yolov3-tiny.weights`) whose network knows the classes `names`, in the
    /// order of its outputs; those of COCO (see [`crate::coco_names`]) in the published file. An
    /// answer's class is an index into `classes`.
    ///
    /// # Errors
    /// [`ModelError::Io`] when it cannot be read, [`ModelError::BadFile`] when it is not such a file
    /// or has another number of weights, and [`ModelError::BadInput`] for a class that is not among
    /// `names`.
    pub fn load_darknet(
        path: &Path,
        names: &[String],
        classes: &[String],
        placement: Placement,
    ) -> Result<Self, ModelError> {
        let classes = ClassMap::new(names, classes)?;
        let bad = |reason| ModelError::BadFile {
            path: path.into(),
            reason,
        };
        let values = darknet::values(&bytes(path)?).map_err(bad)?;
        let weights =
            darknet::weights(&values, classes.width(), placement.device()).map_err(bad)?;
        let side = TinyYoloNetwork::SIDE;
        Self::on(weights, Setup { classes, side }).map_err(|error| bad(error.to_string()))
    }
}
