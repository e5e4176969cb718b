//! Opens a detection network by its name.

use std::path::Path;

use super::coco::coco_names;
use super::detector::Detector;
use super::fastestdet::FastestDetNetwork;
use super::network::Network;
use super::ssdlite::SsdLite;
use super::tinyyolo::TinyYoloV3;
use crate::{DetectorKind, ModelError, Placement, Student};

/// Where a detector's weights come from.
#[derive(Debug, Clone, Copy)]
pub enum DetectorWeights<'a> {
    /// A file of all of them: safetensors, or darknet's for [`DetectorKind::TinyYoloV3`] if the name
    /// ends in `.weights`.
    File(&'a Path),
    /// A trained backbone for [`DetectorKind::SsdLite`]; the rest is drawn from the seed.
    Backbone(&'a Path, u64),
    /// Drawn from the seed.
    New(u64),
}

impl DetectorKind {
    /// A student of this kind that finds `classes`, on inputs of `input_side` pixels or, without one,
    /// of the side that its weights are for.
    ///
    /// # Errors
    /// [`ModelError::Io`] or [`ModelError::BadFile`] for a file that cannot be read or is not of this
    /// network; [`ModelError::BadInput`] for classes that it does not know, a side that is no multiple
    /// of 32, or a backbone for another network than SSDLite.
    pub fn open(
        self,
        weights: DetectorWeights<'_>,
        classes: &[String],
        input_side: Option<usize>,
        placement: Placement,
    ) -> Result<Box<dyn Student>, ModelError> {
        match self {
            Self::FastestDet => {
                sized::<FastestDetNetwork>(whole(weights, classes, placement)?, input_side)
            }
            Self::TinyYoloV3 => sized(tiny_yolo(weights, classes, placement)?, input_side),
            Self::SsdLite => sized(ssdlite(weights, classes, placement)?, input_side),
        }
    }
}

fn tiny_yolo(
    weights: DetectorWeights<'_>,
    classes: &[String],
    placement: Placement,
) -> Result<TinyYoloV3, ModelError> {
    match weights {
        DetectorWeights::File(path) if path.extension().is_some_and(|end| end == "weights") => {
            TinyYoloV3::load_darknet(path, &coco_names(), classes, placement)
        }
        _ => whole(weights, classes, placement),
    }
}

fn ssdlite(
    weights: DetectorWeights<'_>,
    classes: &[String],
    placement: Placement,
) -> Result<SsdLite, ModelError> {
    match weights {
        DetectorWeights::Backbone(path, seed) => {
            SsdLite::on_backbone(path, classes, placement, seed)
        }
        _ => whole(weights, classes, placement),
    }
}

/// A network of which all weights are loaded or all are drawn.
fn whole<N: Network>(
    weights: DetectorWeights<'_>,
    classes: &[String],
    placement: Placement,
) -> Result<Detector<N>, ModelError> {
    match weights {
        DetectorWeights::File(path) => Detector::load(path, classes, placement),
        DetectorWeights::New(seed) => Detector::new(classes, placement, seed),
        DetectorWeights::Backbone(path, _) => Err(ModelError::BadInput(format!(
            "{} has no backbone of its own to load from {}",
            N::NAME,
            path.display()
        ))),
    }
}

fn sized<N: Network>(
    detector: Detector<N>,
    side: Option<usize>,
) -> Result<Box<dyn Student>, ModelError> {
    Ok(Box::new(match side {
        Some(side) => detector.with_input_side(side)?,
        None => detector,
    }))
}
