//! A classifier that answers.

use std::path::Path;

use ekya_sched::RetrainingConfig;
use tch::{Device, Kind, TchError, Tensor};

use super::crops::cut;
use super::head::HEAD;
use super::network::{Network, draw, generator};
use super::training::ClassifierTraining;
use crate::backbone::{self, Init};
use crate::checkpoint::{self, Description, Flaw, Metadata, Tensors};
use crate::{
    Architecture, BBox, BackboneReport, Example, Image, ModelError, Object, Picture, Placement,
    Student, Teacher, Training, TrainingOptions,
};

/// Most classes that a classifier can tell apart.
const CLASSES_MAX: usize = 10_000;
/// Widest hidden layer.
const HEAD_WIDTH_MAX: usize = 65_536;

/// Pictures of a pass: of those with three crops each, eight cost a third to a half less than one by one
/// on a CPU, and four nearly as little.
const PASS_MAX: usize = 8;

/// Names the class of each region of a picture. Student and teacher alike.
#[derive(Debug)]
pub struct Classifier {
    pub(super) network: Network,
    pub(super) description: Description,
    pub(super) placement: Placement,
}

impl Classifier {
    /// A network with new weights, drawn from `seed`, for crops of its usual side.
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
            input_side: architecture.input_side(),
        };
        check(&description)?;
        let mut rng = generator(seed);
        let network = Network::build(&description, &mut |_, shape, init| {
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
        Self::proven(checkpoint::open(path)?, path, placement)
    }

    /// Loads what [`Student::hand_over`] has written.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::BadFile`] when it is cut short or no classifier.
    pub fn take_over(path: &Path, placement: Placement) -> Result<Self, ModelError> {
        Self::on(checkpoint::open(path)?, path, placement)
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
        let name = name.as_ref();
        let read = checkpoint::read(&mut &*bytes, bytes.len() as u64);
        Self::proven(read.map_err(|flaw| flaw.at(name))?, name, placement)
    }

    /// A classifier on the tensors of a file that must carry a digest.
    fn proven(
        (metadata, tensors): (Metadata, Tensors),
        path: &Path,
        placement: Placement,
    ) -> Result<Self, ModelError> {
        let has_digest = metadata.contains_key(checkpoint::SHA256_KEY);
        let loaded = Self::on((metadata, tensors), path, placement)?;
        if has_digest {
            return Ok(loaded);
        }
        let reason = "no digest in its metadata proves that it is undamaged".to_owned();
        Err(Flaw::Bad(reason).at(path))
    }

    /// A classifier on the tensors of a file.
    fn on(
        (metadata, mut tensors): (Metadata, Tensors),
        path: &Path,
        placement: Placement,
    ) -> Result<Self, ModelError> {
        let bad = |reason: String| Flaw::Bad(reason).at(path);
        let description = Description::of(&metadata).map_err(bad)?;
        check(&description).map_err(|error| bad(error.to_string()))?;
        let network = Network::build(&description, &mut |tensor, shape, _| {
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
        })?;
        match tensors.keys().next() {
            Some(extra) => Err(bad(format!(
                "tensor {extra} does not belong to {}",
                description.architecture
            ))),
            None => Ok(Self {
                network,
                description,
                placement,
            }),
        }
    }

    /// The same for crops of `side` × `side` pixels.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for a side that is none of [`Architecture::input_sides`].
    pub fn with_input_side(mut self, side: usize) -> Result<Self, ModelError> {
        self.description.input_side = side;
        check(&self.description)?;
        Ok(self)
    }

    /// A deep copy that tells `classes` classes apart, at least as many as this: it answers about
    /// the old ones as this does, and the weights of the new ones are drawn from `seed`.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for fewer or too many classes; [`ModelError::Torch`] when the
    /// weights cannot be allocated.
    pub fn with_classes(&self, classes: usize, seed: u64) -> Result<Self, ModelError> {
        let known = self.classes();
        if classes < known {
            return Err(ModelError::BadInput(format!(
                "a classifier of {known} classes cannot be one of {classes}: it would forget some"
            )));
        }
        let description = Description {
            classes,
            ..self.description
        };
        let mut rng = generator(seed);
        self.rebuilt(description, |_, shape, init, own| {
            if own.size() == shape {
                return copied(own);
            }
            let grown = draw(shape, init, &mut rng, self.device())?;
            grown.f_narrow(0, 0, known as i64)?.f_copy_(own)?;
            Ok(grown)
        })
    }

    /// A deep copy with a pretrained backbone: the weights of a safetensors file by the names of its
    /// tensors, which are torchvision's. Layers that the file ends before stay as they are, and so
    /// does the head.
    ///
    /// # Errors
    /// [`ModelError::Io`], [`ModelError::BadFile`] when it is damaged, and [`ModelError::Backbone`]
    /// when it is another network's.
    pub fn with_backbone(&self, path: &Path) -> Result<(Self, BackboneReport), ModelError> {
        let (_, found) = checkpoint::open(path)?;
        let architecture = self.architecture();
        let (found, report) =
            backbone::matched(architecture, found).map_err(|report| ModelError::Backbone {
                path: path.to_owned(),
                architecture,
                report: Box::new(report),
            })?;
        let loaded = self.rebuilt(self.description, |name, _, _, own| match found.get(name) {
            Some(found) => found.f_to_device(self.device()),
            None => copied(own),
        })?;
        Ok((loaded, report))
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

    /// Side of the crops at full resolution, in pixels.
    #[must_use]
    pub fn input_side(&self) -> usize {
        self.description.input_side
    }

    /// Multiply-adds of one crop at full resolution, in convolutions and head.
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        self.network.multiply_adds(self.input_side())
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
        let mut description = self.description;
        if head_width != 0 {
            description.head_width = head_width;
        }
        let new_head = description.head_width != self.description.head_width;
        let mut rng = generator(seed);
        self.rebuilt(description, |name, shape, init, own| {
            if new_head && name.starts_with(HEAD) {
                draw(shape, init, &mut rng, self.device())
            } else {
                copied(own)
            }
        })
    }

    /// A network of another description; `provide` gives each tensor, seeing its own of that name.
    fn rebuilt(
        &self,
        description: Description,
        mut provide: impl FnMut(&str, &[i64], Init, &Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Self, ModelError> {
        check(&description)?;
        let _no_grad = tch::no_grad_guard();
        let own = self.network.tensors();
        let network = Network::build(&description, &mut |name, shape, init| {
            // Networks of one architecture have tensors of the same names.
            let own = own.get(name).ok_or_else(|| {
                ModelError::BadInput(format!("no tensor {name} in {}", self.architecture()))
            })?;
            provide(name, shape, init, own).map_err(ModelError::from)
        })?;
        Ok(Self {
            network,
            description,
            placement: self.placement,
        })
    }

    fn answer(&self, picture: Picture<'_>, resolution: f64) -> Result<Vec<Object>, ModelError> {
        let mut answers = self.answer_all(&[picture], resolution)?;
        Ok(answers.pop().unwrap_or_default())
    }

    fn answer_all(
        &self,
        pictures: &[Picture<'_>],
        resolution: f64,
    ) -> Result<Vec<Vec<Object>>, ModelError> {
        if pictures.iter().all(|picture| picture.regions.is_empty()) {
            return Ok(vec![Vec::new(); pictures.len()]);
        }
        let crops = self.crops(pictures, self.side(resolution)?)?;
        let chances = self.network.logits(&crops)?.f_softmax(-1, Kind::Float)?;
        let (scores, classes) = chances.f_max_dim(-1, false)?;
        let scores = Vec::<f32>::try_from(scores)?;
        let classes = Vec::<i64>::try_from(classes)?;
        let mut answers = scores.into_iter().zip(classes);
        let object = |(bbox, (score, class)): (&BBox, (f32, i64))| Object {
            class: class.unsigned_abs() as usize,
            score,
            bbox: *bbox,
        };
        let answer = |picture: &Picture<'_>| {
            let regions = picture.regions.iter();
            regions.zip(answers.by_ref()).map(object).collect()
        };
        Ok(pictures.iter().map(answer).collect())
    }

    /// The regions of pictures as the network sees them, one picture after another:
    /// `[n, 3, side, side]`.
    fn crops(&self, pictures: &[Picture<'_>], side: usize) -> Result<Tensor, TchError> {
        let count: usize = pictures.iter().map(|picture| picture.regions.len()).sum();
        let mut values = Vec::with_capacity(count * 3 * side * side);
        for picture in pictures {
            for region in picture.regions {
                cut(picture.image, region, side, &mut values);
            }
        }
        let shape = [count as i64, 3, side as i64, side as i64];
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
        Ok(((self.input_side() as f64 * resolution).round() as usize).max(8))
    }
}

/// A copy that shares no memory.
fn copied(tensor: &Tensor) -> Result<Tensor, TchError> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

fn check(description: &Description) -> Result<(), ModelError> {
    let Description {
        architecture,
        classes,
        head_width,
        input_side,
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
    let sides = architecture.input_sides();
    if !sides.contains(input_side) {
        return Err(ModelError::BadInput(format!(
            "{architecture} takes crops of {} to {} pixels a side, got {input_side}",
            sides.start(),
            sides.end()
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
        self.answer(Picture { image, regions }, resolution)
    }

    fn infer_all(
        &self,
        pictures: &[Picture<'_>],
        resolution: f64,
    ) -> Result<Vec<Vec<Object>>, ModelError> {
        self.answer_all(pictures, resolution)
    }

    fn pass_max(&self) -> usize {
        PASS_MAX
    }

    fn network(&self) -> String {
        self.architecture().to_string()
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
        let side = self.architecture().input_side();
        let crops = self.crops(&[Picture { image, regions }], side)?;
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
        checkpoint::save(path, self.description.metadata(), self.network.tensors())
    }

    fn hand_over(&self, path: &Path) -> Result<(), ModelError> {
        checkpoint::hand_over(path, self.description.metadata(), self.network.tensors())
    }
}

impl Teacher for Classifier {
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        self.answer(Picture { image, regions }, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// However many crops and classes there are: libtorch picks its kernels by such numbers.
        #[test]
        fn old_logits_of_a_grown_classifier_stay_to_the_last_bit(
            crops in 1..40usize,
            classes in 1..40usize,
            more in 0..40usize,
            seed: u64,
        ) {
            let old = Classifier::new(Architecture::Small, classes, 64, Placement::Cpu, seed).unwrap();
            let grown = old.with_classes(classes + more, seed).unwrap();
            let mut rng = generator(seed);
            let features = draw(&[crops as i64, 96], Init::He, &mut rng, Device::Cpu).unwrap();
            let expected = old.network.classify(&features).unwrap();
            let logits = grown.network.classify(&features).unwrap();
            prop_assert!(logits.narrow(1, 0, classes as i64).equal(&expected));
        }

        /// In one pass as one by one, up to the rounding of kernels that libtorch picks by the number of
        /// crops; a picture without regions among them has an answer without objects.
        #[test]
        fn several_pictures_are_answered_as_each_is(
            counts in prop::collection::vec(0..5usize, 0..5),
            resolution in prop_oneof![Just(1.0), 0.3..1.0],
            seed: u64,
        ) {
            let student = Classifier::new(Architecture::Small, 5, 16, Placement::Cpu, seed).unwrap();
            let pixels = |picture: usize| (0..64 * 64 * 3).map(|i| (i * (31 + picture) % 251) as u8).collect();
            let images: Vec<Image> =
                (0..counts.len()).map(|picture| Image::new(64, 64, pixels(picture)).unwrap()).collect();
            let region = |i: usize| BBox { x1: i as f32, y1: 3.0, x2: 20.0 + 9.0 * i as f32, y2: 60.0 };
            let regions: Vec<Vec<BBox>> =
                counts.iter().map(|&count| (0..count).map(region).collect()).collect();
            let pictures: Vec<Picture> = images
                .iter()
                .zip(&regions)
                .map(|(image, regions)| Picture { image, regions })
                .collect();
            let together = student.infer_all(&pictures, resolution).unwrap();
            prop_assert_eq!(together.len(), pictures.len());
            for (picture, together) in pictures.iter().zip(together) {
                let alone = student.infer(picture.image, picture.regions, resolution).unwrap();
                prop_assert_eq!(together.len(), alone.len());
                for (together, alone) in together.iter().zip(&alone) {
                    prop_assert_eq!(together.bbox, alone.bbox);
                    prop_assert!((together.score - alone.score).abs() < 1e-5);
                    // Scores of two classes may be level, then either is right.
                    prop_assert!(together.class == alone.class || alone.score < 0.5);
                }
            }
        }
    }
}
