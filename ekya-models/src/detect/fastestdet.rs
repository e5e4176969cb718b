//! The detection student: FastestDet behind [`Student`].

use std::path::Path;

use ekya_sched::RetrainingConfig;
use tch::{Device, Tensor};

use super::coco::{ClassMap, coco_names};
use super::decode::suppress;
use super::network::{Build, CLASSES, Network, STRIDE};
use super::train::FineTuning;
use super::view::{Levels, View};
use super::weights::Weights;
use crate::{
    BBox, Example, Image, ModelError, Object, Placement, Student, Training, TrainingOptions,
};

/// Side in pixels of the input that the published weights were trained for.
pub(super) const SIDE: usize = 352;

/// The side must be a multiple of this, the stride of the coarsest features.
const SIDE_STEP: usize = 32;

/// Answers below this score are dropped: where F1 against the teacher is highest for the published
/// weights on street and campus cameras, and training keeps it there.
const MIN_SCORE: f32 = 0.5;

/// Weight of objectness in a score, which is `objectness^w * class probability^(1-w)`; the value of
/// the network's authors.
const OBJECT_WEIGHT: f32 = 0.6;

/// Pixels as the network wants them: 0..=1, grey outside the picture.
pub(super) const LEVELS: Levels = Levels {
    scale: 1.0 / 255.0,
    outside: 128.0,
};

/// FastestDet (dog-qiuqiu/FastestDet): 0.24 million parameters, 80 COCO classes of which the stream
/// chooses, a few milliseconds a frame on one CPU core.
///
/// Of a retraining configuration, `layers_frozen` counts stem, stage 2, stage 3, stage 4 and the
/// pyramid over them (5 leaves the heads only), and `head_width` means nothing: the heads are
/// convolutions as wide as the pyramid. Learning rates around 5e-4 with batches of 8 work well. The
/// first epoch costs more than the others where blocks are frozen, since these see each picture once.
#[derive(Debug)]
pub struct FastestDet {
    weights: Weights,
    network: Network,
    classes: ClassMap,
    device: Device,
}

impl FastestDet {
    /// Loads weights under their published names from a safetensors file. `classes` are COCO names
    /// (see [`coco_names`]); an answer's class is an index into them, and everything else that the
    /// network knows is never reported.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the file cannot be read, [`ModelError::BadFile`] when it is not
    /// safetensors or a tensor is missing, of another shape or not finite, and
    /// [`ModelError::BadInput`] for an unknown class.
    pub fn load(path: &Path, classes: &[String], placement: Placement) -> Result<Self, ModelError> {
        let classes = ClassMap::new(&coco_names(), classes)?;
        let device = placement.device();
        let weights = Weights::read(path, device)?;
        let bad = |reason| ModelError::BadFile {
            path: path.into(),
            reason,
        };
        let network = Network::new(&weights, Build::Folded).map_err(bad)?;
        Ok(Self {
            weights,
            network,
            classes,
            device,
        })
    }

    /// A student on `weights`, which it owns from here on.
    pub(super) fn on(
        weights: Weights,
        classes: ClassMap,
        device: Device,
    ) -> Result<Self, ModelError> {
        let network = Network::new(&weights, Build::Folded).map_err(ModelError::Torch)?;
        Ok(Self {
            weights,
            network,
            classes,
            device,
        })
    }

    /// The network's output for an input of its own format: `input` holds `3 * side * side` values,
    /// planes B, G, R in 0..=1. The answer has shape 85 × side/16 × side/16: object probability,
    /// box (x, y, width, height before their activations), 80 class probabilities.
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
        let side = side as i64;
        let input = Tensor::f_from_slice(input)?
            .f_to_device(self.device)?
            .f_reshape([1, 3, side, side])?;
        let raw = self.network.forward(&input)?.raw()?;
        Ok(Vec::try_from(raw.f_flatten(0, -1)?)?)
    }

    /// The objects in raw output for an input of `side` pixels that shows `view`.
    fn decode(&self, raw: &[f32], side: usize, view: View) -> Vec<Object> {
        let cells = side / STRIDE;
        let area = cells * cells;
        let mut found = Vec::new();
        for cell in 0..area {
            let channel = |c: usize| raw[c * area + cell];
            // The class part of a score is at most 1.
            if channel(0).powf(OBJECT_WEIGHT) < MIN_SCORE {
                continue;
            }
            let (class, probability) = self.classes.best(|output| channel(5 + output));
            let score = channel(0).powf(OBJECT_WEIGHT) * probability.powf(1.0 - OBJECT_WEIGHT);
            if score < MIN_SCORE {
                continue;
            }
            let size = cells as f32;
            let x = ((cell % cells) as f32 + channel(1).tanh()) / size;
            let y = ((cell / cells) as f32 + channel(2).tanh()) / size;
            let (w, h) = (logistic(channel(3)) / 2.0, logistic(channel(4)) / 2.0);
            let unit = BBox {
                x1: x - w,
                y1: y - h,
                x2: x + w,
                y2: y + h,
            };
            found.push(Object {
                class,
                score,
                bbox: view.to_picture(unit),
            });
        }
        found
    }
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Input side for a resolution in (0, 1].
fn side(resolution: f64) -> Result<usize, ModelError> {
    if !(resolution > 0.0 && resolution <= 1.0) {
        return Err(ModelError::BadInput(format!(
            "resolution {resolution} is not in (0, 1]"
        )));
    }
    let steps = (SIDE as f64 * resolution / SIDE_STEP as f64).round() as usize;
    Ok(steps.max(1) * SIDE_STEP)
}

impl Student for FastestDet {
    fn infer(
        &self,
        image: &Image,
        _regions: &[BBox],
        resolution: f64,
    ) -> Result<Vec<Object>, ModelError> {
        let side = side(resolution)?;
        let view = View::whole(image)?;
        let mut input = vec![0.0; 3 * side * side];
        view.sample(image, side, LEVELS, &mut input);
        let raw = self.raw(&input, side)?;
        debug_assert_eq!(raw.len(), (5 + CLASSES) * (side / STRIDE).pow(2));
        Ok(suppress(self.decode(&raw, side, view), image))
    }

    fn network(&self) -> String {
        "fastestdet".to_owned()
    }

    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(Self::on(
            self.weights.copied()?,
            self.classes.clone(),
            self.device,
        )?))
    }

    fn train_with(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        options: &TrainingOptions,
        seed: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        let weights = self.weights.copied()?;
        Ok(Box::new(FineTuning::new(
            weights,
            self.classes.clone(),
            self.device,
            examples,
            config,
            options,
            seed,
        )?))
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        self.weights.write(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_multiples_of_32() {
        assert_eq!(side(1.0).unwrap(), 352);
        assert_eq!(side(0.5).unwrap(), 192);
        assert_eq!(side(0.001).unwrap(), 32);
        for bad in [0.0, -1.0, 1.01, f64::NAN] {
            assert!(matches!(side(bad), Err(ModelError::BadInput(_))));
        }
    }
}
