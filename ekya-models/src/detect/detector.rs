//! The detection student: a network behind [`Student`].

use std::path::Path;

use ekya_sched::RetrainingConfig;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, TchError, Tensor};

use super::coco::ClassMap;
use super::decode::suppress;
use super::file;
use super::layers::{Build, Source};
use super::network::{Network, built};
use super::train::FineTuning;
use super::view::View;
use super::weights::Weights;
use crate::{
    BBox, Example, Image, ModelError, Object, Picture, Placement, Student, Training,
    TrainingOptions,
};

/// The input's side must be a multiple of this, the stride of the coarsest features.
pub(super) const SIDE_STEP: usize = 32;

/// Longest side of an input.
const SIDE_MAX: usize = 4096;

/// Pictures of a pass on a CPU: two cost up to a sixth less than one by one, four no less, and eight more,
/// as what the layers hand on does not stay in the cache.
const PASS_MAX_CPU: usize = 2;

/// Pictures of a pass on a GPU, which one picture does not fill.
const PASS_MAX_GPU: usize = 8;

/// A detection network that answers, learns, and grows with its classes.
///
/// Of a retraining configuration, `layers_frozen` counts the network's blocks from the input, and
/// `head_width` means nothing: the heads are convolutions. The first epoch costs more than the others
/// where blocks are frozen, since these see each picture once.
#[derive(Debug)]
pub struct Detector<N> {
    pub(super) weights: Weights,
    network: N,
    setup: Setup,
}

/// What a network is used for.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) classes: ClassMap,
    /// Side of the input in pixels at full resolution.
    pub(super) side: usize,
}

#[expect(
    private_bounds,
    reason = "the networks are this crate's; how they are built is nobody else's business"
)]
impl<N: Network> Detector<N> {
    /// A network with new weights, drawn from `seed`, that knows `classes`.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for no classes or one named twice, [`ModelError::Torch`] when the
    /// weights cannot be allocated.
    pub fn new(classes: &[String], placement: Placement, seed: u64) -> Result<Self, ModelError> {
        Self::drawn(Weights::none(placement.device()), classes, seed)
    }

    /// Loads weights under their published names from a safetensors file, or one that
    /// [`Student::save`] has written. An answer's class is an index into `classes`, and everything else
    /// that the network knows is never reported. A file that does not say what its network knows is
    /// taken to know COCO's classes (see [`crate::coco_names`]).
    ///
    /// # Errors
    /// [`ModelError::Io`] when the file cannot be read, [`ModelError::BadFile`] when it is not
    /// safetensors or a tensor is missing, of another shape or not finite, and
    /// [`ModelError::BadInput`] for an unknown class.
    pub fn load(path: &Path, classes: &[String], placement: Placement) -> Result<Self, ModelError> {
        let (weights, metadata) = Weights::read(path, placement.device())?;
        let bad = |reason| ModelError::BadFile {
            path: path.into(),
            reason,
        };
        let (names, side) = file::describe::<N>(&metadata).map_err(bad)?;
        check_side(side).map_err(|error| bad(error.to_string()))?;
        let classes = ClassMap::new(&names, classes)?;
        Self::on(weights, Setup { classes, side }).map_err(|error| match error {
            ModelError::BadInput(reason) => bad(reason),
            other => other,
        })
    }

    /// The same network for inputs of another side, a multiple of 32 pixels up to 4096; larger ones
    /// show smaller objects and cost more.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for another side.
    pub fn with_input_side(mut self, side: usize) -> Result<Self, ModelError> {
        check_side(side)?;
        self.setup.side = side;
        Ok(self)
    }

    /// A copy whose stream has `classes`. Those that the network does not know yet get outputs of
    /// their own, drawn from `seed` and silent until they are trained. The weights of the classes that
    /// it knows stay the same to the bit, and so what it says about them, up to the rounding of a sum
    /// over a wider layer, before the probabilities of all classes are normalised.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for no classes or one named twice.
    pub fn with_classes(&self, classes: &[String], seed: u64) -> Result<Self, ModelError> {
        let classes = self.setup.classes.grown(classes)?;
        let mut weights = self.weights.copied()?;
        let added = (classes.width() - self.setup.classes.width()) as i64;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        if added > 0 {
            for &rows in N::CLASS_ROWS {
                weights.grow(rows, added, &mut rng)?;
            }
        }
        let side = self.setup.side;
        Self::on(weights, Setup { classes, side })
    }

    /// A network on `weights`, those that are missing drawn from `seed`.
    pub(super) fn drawn(
        mut weights: Weights,
        classes: &[String],
        seed: u64,
    ) -> Result<Self, ModelError> {
        let setup = Setup {
            classes: ClassMap::new(classes, classes)?,
            side: N::SIDE,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut source = Source {
            weights: &mut weights,
            build: Build::Folded,
            rng: Some(&mut rng),
        };
        let guard = tch::no_grad_guard();
        let network = N::new(&mut source, setup.classes.width()).map_err(ModelError::BadInput)?;
        drop(guard);
        Ok(Self {
            weights,
            network,
            setup,
        })
    }

    /// A student on `weights`, which it owns from here on.
    pub(super) fn on(mut weights: Weights, setup: Setup) -> Result<Self, ModelError> {
        let network = built(&mut weights, Build::Folded, setup.classes.width())
            .map_err(ModelError::BadInput)?;
        Ok(Self {
            weights,
            network,
            setup,
        })
    }

    /// What the network answers about one input of that many values in its own format.
    pub(super) fn answer(&self, input: &[f32], side: usize) -> Result<N::Answer, TchError> {
        self.network
            .forward(&placed(input, side, self.weights.device())?)
    }

    /// Side of the input for a resolution in (0, 1].
    fn side(&self, resolution: f64) -> Result<usize, ModelError> {
        if !(resolution > 0.0 && resolution <= 1.0) {
            return Err(ModelError::BadInput(format!(
                "resolution {resolution} is not in (0, 1]"
            )));
        }
        let steps = (self.setup.side as f64 * resolution / SIDE_STEP as f64).round() as usize;
        Ok(steps.max(1) * SIDE_STEP)
    }
}

/// A picture as the network sees it, `[1, 3, side, side]`.
pub(super) fn pixels<N: Network>(
    image: &Image,
    side: usize,
    device: Device,
) -> Result<Tensor, ModelError> {
    all_pixels::<N>(&[(image, N::view(image)?)], side, device)
}

/// Pictures as the network sees them, `[n, 3, side, side]`.
fn all_pixels<N: Network>(
    pictures: &[(&Image, View)],
    side: usize,
    device: Device,
) -> Result<Tensor, ModelError> {
    let size = 3 * side * side;
    let mut pixels = vec![0.0; size * pictures.len()];
    for ((image, view), pixels) in pictures.iter().zip(pixels.chunks_exact_mut(size)) {
        view.sample(image, side, N::LEVELS, pixels);
    }
    Ok(placed(&pixels, side, device)?)
}

/// Inputs `[n, 3, side, side]` on a device.
fn placed(input: &[f32], side: usize, device: Device) -> Result<Tensor, TchError> {
    let side = side as i64;
    Tensor::f_from_slice(input)?
        .f_to_device(device)?
        .f_reshape([-1, 3, side, side])
}

fn check_side(side: usize) -> Result<(), ModelError> {
    if side.is_multiple_of(SIDE_STEP) && (SIDE_STEP..=SIDE_MAX).contains(&side) {
        return Ok(());
    }
    Err(ModelError::BadInput(format!(
        "an input's side is a multiple of {SIDE_STEP} from {SIDE_STEP} to {SIDE_MAX}, got {side}"
    )))
}

impl<N: Network> Student for Detector<N> {
    fn infer(
        &self,
        image: &Image,
        regions: &[BBox],
        resolution: f64,
    ) -> Result<Vec<Object>, ModelError> {
        let mut answers = self.infer_all(&[Picture { image, regions }], resolution)?;
        Ok(answers.pop().unwrap_or_default())
    }

    fn infer_all(
        &self,
        pictures: &[Picture<'_>],
        resolution: f64,
    ) -> Result<Vec<Vec<Object>>, ModelError> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let side = self.side(resolution)?;
        let images = pictures.iter().map(|picture| picture.image);
        let views = images
            .map(|image| Ok((image, N::view(image)?)))
            .collect::<Result<Vec<_>, ModelError>>()?;
        let _guard = tch::no_grad_guard();
        let input = all_pixels::<N>(&views, side, self.weights.device())?;
        let answer = self.network.forward(&input)?;
        let answers = views.iter().enumerate().map(|(number, (image, view))| {
            let mut found = N::boxes(&N::about(&answer, number)?, &self.setup.classes)?;
            for object in &mut found {
                object.bbox = view.to_picture(object.bbox);
            }
            Ok(suppress(found, image))
        });
        answers.collect()
    }

    fn pass_max(&self) -> usize {
        match self.weights.device() {
            Device::Cpu => PASS_MAX_CPU,
            _ => PASS_MAX_GPU,
        }
    }

    fn network(&self) -> String {
        N::NAME.to_owned()
    }

    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(Self::on(
            self.weights.copied()?,
            self.setup.clone(),
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
        let setup = self.setup.clone();
        Ok(Box::new(FineTuning::<N>::new(
            weights, setup, examples, config, options, seed,
        )?))
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        self.weights.save(path, file::metadata::<N>(&self.setup))
    }

    fn hand_over(&self, path: &Path) -> Result<(), ModelError> {
        let metadata = file::metadata::<N>(&self.setup);
        self.weights.hand_over(path, metadata)
    }
}
