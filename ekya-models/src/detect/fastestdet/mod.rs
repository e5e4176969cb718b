//! FastestDet (dog-qiuqiu/FastestDet).
//!
//! ```text
//! network  its layers, by their published names
//! loss     what a cell should have answered, and how far off it was
//! decode   answers of cells → scored boxes
//! ```

mod decode;
mod loss;
mod network;

use super::detector::{Detector, SIDE_STEP};
use crate::ModelError;

pub(super) use network::FastestDetNetwork;

/// FastestDet (dog-qiuqiu/FastestDet): 0.24 million parameters, 80 COCO classes of which the stream
/// chooses, a few milliseconds a frame on one CPU core.
///
/// Of a retraining configuration, `layers_frozen` counts stem, stage 2, stage 3, stage 4 and the
/// pyramid over them (5 leaves the heads only). Learning rates around 5e-4 with batches of 8 work
/// well. Batch normalisation keeps the running statistics of the published weights while it is
/// trained, so a network with new weights learns slowly.
pub type FastestDet = Detector<FastestDetNetwork>;

impl FastestDet {
    /// The network's output for an input of its own format: `input` holds `3 * side * side` values,
    /// planes B, G, R in 0..=1. The answer has shape (5 + classes) × side/16 × side/16: object
    /// probability, box (x, y, width, height before their activations), class probabilities.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the length does not fit or `side` is not a multiple of 32.
    pub fn raw(&self, input: &[f32], side: usize) -> Result<Vec<f32>, ModelError> {
        if side == 0 || !side.is_multiple_of(SIDE_STEP) || input.len() != 3 * side * side {
            return Err(ModelError::BadInput(format!(
                "{} values are not 3 planes of side {side}, a multiple of {SIDE_STEP}",
                input.len()
            )));
        }
        let _guard = tch::no_grad_guard();
        let raw = self.answer(input, side)?.raw()?;
        Ok(Vec::try_from(raw.f_flatten(0, -1)?)?)
    }
}
