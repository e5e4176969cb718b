//! A classifier that answers.

use std::path::Path;

use ekya_sched::RetrainingConfig;
use tch::{Device, Kind, TchError, Tensor};

use super::architecture::{Architecture, Network, draw, generator};
use super::crops::cut;
use super::training::ClassifierTraining;
use crate::checkpoint::{self, Description};
use crate::{
    BBox, Example, Image, ModelError, Object, Placement, Student, Teacher, Training,
    TrainingOptions,
};

/// Most classes that a classifier can tell apart.
const CLASSES_MAX: usize = 10_000;
/// Widest hidden layer.
const HEAD_WIDTH_MAX: usize = 65_536;

/// Names the class of each region of a picture. Student and teacher alike.
#[derive(Debug)]
pub struct Classifier {
    pub(super) network: Network,
    pub(super) description: Description,
    pub(super) placement: Placement,
}

impl Classifier {
    /// A network with new weights, drawn from `seed`.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for no or too many classes or neurons; [`ModelError::Torch`] when
    /// the weights cannot be allocated.
    pub fn new(
        architecture: Architecture,
        classes: usize,
        head_width: usize,
        placement: Placement,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let description = Description {
            architecture,
            classes,
            head_width,
        };
        check(&description)?;
        let mut rng = generator(seed);
        let network = Network::build(architecture, classes, head_width, &mut |_, shape, init| {
            draw(shape, init, &mut rng, placement.device()).map_err(ModelError::from)
        })?;
        Ok(Self {
            network,
            description,
            placement,
        })
    }

    /// Loads a checkpoint that [`Student::save`] has written.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::BadFile`] when it is damaged or not such a checkpoint.
    pub fn load(path: &Path, placement: Placement) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes, path, placement)
    }

    /// Loads the bytes of a checkpoint; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`ModelError::BadFile`] when it is damaged or not such a checkpoint.
    pub fn from_bytes(
        bytes: &[u8],
        name: impl AsRef<Path>,
        placement: Placement,
    ) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::BadFile {
            path: name.as_ref().to_owned(),
            reason,
        };
        let (description, mut tensors) = checkpoint::read(bytes).map_err(bad)?;
        check(&description).map_err(|error| bad(error.to_string()))?;
        let Description {
            architecture,
            classes,
            head_width,
        } = description;
        let network = Network::build(
            architecture,
            classes,
            head_width,
            &mut |tensor, shape, _| {
                let found = tensors
                    .remove(tensor)
                    .ok_or_else(|| bad(format!("tensor {tensor} is missing")))?;
                if found.size() != shape {
                    return Err(bad(format!(
                        "tensor {tensor} has shape {:?}, expected {shape:?}",
                        found.size()
                    )));
                }
                Ok(found.f_to_device(placement.device())?)
            },
        )?;
        match tensors.keys().next() {
            Some(extra) => Err(bad(format!(
                "tensor {extra} does not belong to {architecture:?}"
            ))),
            None => Ok(Self {
                network,
                description,
                placement,
            }),
        }
    }

    /// The network.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        self.description.architecture
    }

    /// How many classes it tells apart.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.description.classes
    }

    /// All its tensors by name.
    #[cfg(test)]
    pub(crate) fn tensors(&self) -> &std::collections::BTreeMap<String, Tensor> {
        self.network.tensors()
    }

    /// Where its tensors live.
    pub(super) fn device(&self) -> Device {
        self.placement.device()
    }

    /// A deep copy, with a new head drawn from `seed` when `head_width` is another than its own
    /// and not 0.
    pub(super) fn copy(&self, head_width: usize, seed: u64) -> Result<Self, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let mut description = self.description;
        if head_width != 0 {
            description.head_width = head_width;
        }
        check(&description)?;
        let new_head = description.head_width != self.description.head_width;
        let mut rng = generator(seed);
        let Description {
            architecture,
            classes,
            head_width,
        } = description;
        let network = Network::build(
            architecture,
            classes,
            head_width,
            &mut |name, shape, init| match self.network.tensors().get(name) {
                Some(own) if !(new_head && name.starts_with(super::layers::HEAD)) => {
                    let mut copy = own.f_empty_like()?;
                    copy.f_copy_(own)?;
                    Ok(copy)
                }
                _ => draw(shape, init, &mut rng, self.placement.device()).map_err(ModelError::from),
            },
        )?;
        Ok(Self {
            network,
            description,
            placement: self.placement,
        })
    }

    fn answer(
        &self,
        image: &Image,
        regions: &[BBox],
        resolution: f64,
    ) -> Result<Vec<Object>, ModelError> {
        if regions.is_empty() {
            return Ok(Vec::new());
        }
        let crops = self.crops(image, regions, self.side(resolution)?)?;
        let chances = self.network.logits(&crops)?.f_softmax(-1, Kind::Float)?;
        let (scores, classes) = chances.f_max_dim(-1, false)?;
        let scores = Vec::<f32>::try_from(scores)?;
        let classes = Vec::<i64>::try_from(classes)?;
        let object = |((score, class), bbox): ((f32, i64), &BBox)| Object {
            class: class.unsigned_abs() as usize,
            score,
            bbox: *bbox,
        };
        Ok(scores
            .into_iter()
            .zip(classes)
            .zip(regions)
            .map(object)
            .collect())
    }

    /// The regions of a picture as the network sees them: `[n, 3, side, side]`.
    fn crops(&self, image: &Image, regions: &[BBox], side: usize) -> Result<Tensor, TchError> {
        let mut values = Vec::with_capacity(regions.len() * 3 * side * side);
        for region in regions {
            cut(image, region, side, &mut values);
        }
        let shape = [regions.len() as i64, 3, side as i64, side as i64];
        Tensor::f_from_slice(&values)?
            .f_reshape(shape)?
            .f_to_device(self.device())
    }

    /// Side of the crops at a resolution: at least 8 pixels, or four halvings leave nothing.
    fn side(&self, resolution: f64) -> Result<usize, ModelError> {
        if !(resolution > 0.0 && resolution <= 1.0) {
            return Err(ModelError::BadInput(format!(
                "a resolution lies in (0, 1], got {resolution}"
            )));
        }
        Ok(((self.architecture().input_side() as f64 * resolution).round() as usize).max(8))
    }
}

fn check(description: &Description) -> Result<(), ModelError> {
    let Description {
        classes,
        head_width,
        ..
    } = description;
    if !(1..=CLASSES_MAX).contains(classes) {
        return Err(ModelError::BadInput(format!(
            "a classifier has 1 to {CLASSES_MAX} classes, got {classes}"
        )));
    }
    if !(1..=HEAD_WIDTH_MAX).contains(head_width) {
        return Err(ModelError::BadInput(format!(
            "a head has 1 to {HEAD_WIDTH_MAX} neurons, got {head_width}"
        )));
    }
    Ok(())
}

impl Student for Classifier {
    fn infer(
        &self,
        image: &Image,
        regions: &[BBox],
        resolution: f64,
    ) -> Result<Vec<Object>, ModelError> {
        self.answer(image, regions, resolution)
    }

    fn network(&self) -> &str {
        self.architecture().name()
    }

    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(self.copy(0, 0)?))
    }

    fn features(
        &self,
        image: &Image,
        regions: &[BBox],
    ) -> Result<Option<Vec<Vec<f32>>>, ModelError> {
        if regions.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let _no_grad = tch::no_grad_guard();
        let crops = self.crops(image, regions, self.architecture().input_side())?;
        let features = self.network.features(&crops, usize::MAX, false)?;
        Ok(Some(Vec::<Vec<f32>>::try_from(features)?))
    }

    fn train_with(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        options: &TrainingOptions,
        seed: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        let training = ClassifierTraining::new(self, examples, config, options, seed)?;
        Ok(Box::new(training))
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        checkpoint::write(path, &self.description, self.network.tensors())
    }
}

impl Teacher for Classifier {
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        self.answer(image, regions, 1.0)
    }
}
