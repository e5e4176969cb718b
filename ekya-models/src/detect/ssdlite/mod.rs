//! SSDLite on MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381).
//!
//! ```text
//! backbone  MobileNetV2's layers, by their published names
//! network   the layers on it: smaller maps, and two heads a map
//! anchors   the boxes that predictions start from
//! boxes     predictions → scored boxes, and boxes → what predictions should be
//! loss      which anchors answer for which objects, and how far off they were
//! ```

mod anchors;
mod backbone;
mod boxes;
mod loss;
mod network;

use std::path::Path;

use super::detector::Detector;
use super::weights::Weights;
use crate::backbone::mobilenetv2::renamed;
use crate::{ModelError, Placement};

use network::SsdLiteNetwork;

/// SSDLite-MobileNetV2: 4.3 million parameters for COCO's classes, an input of 320 × 320 (stretched),
/// boxes from 2034 anchors on six maps.
///
/// Of a retraining configuration, `layers_frozen` counts MobileNetV2's 19 blocks (stem, 17 inverted
/// residuals, last convolution) and, as the 20th, the smaller maps over them. Batch normalisation of
/// those that train follows the minibatches.
pub type SsdLite = Detector<SsdLiteNetwork>;

impl SsdLite {
    /// A network for `classes` on a trained MobileNetV2: safetensors with the names of torchvision's
    /// `features.*`, today's or those of its first release, trained on ImageNet's normalisation. What the file holds beyond those is left out;
    /// the layers over them are drawn from `seed`.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the file cannot be read, [`ModelError::BadFile`] when it is not such a
    /// network, and [`ModelError::BadInput`] for no classes or one named twice.
    pub fn on_backbone(
        path: &Path,
        classes: &[String],
        placement: Placement,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let (weights, _) = Weights::read(path, placement.device())?;
        let mut weights = weights.renamed(renamed);
        weights.retain(backbone::owns);
        backbone::check(&mut weights).map_err(|reason| ModelError::BadFile {
            path: path.into(),
            reason,
        })?;
        Self::drawn(weights, classes, seed)
    }
}
