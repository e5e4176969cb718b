//! Training of a classifier, minibatch by minibatch.
//!
//! Crops are cut once. When every block before the head is frozen, the features of each crop are
//! computed once, in the first epoch, and the head trains on those: much cheaper, and without
//! augmentation, which the kept features could not follow.

use ekya_sched::RetrainingConfig;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{COptimizer, Kind, Reduction, TchError, Tensor};

use super::classifier::Classifier;
use super::crops::cut;
use crate::{Example, ModelError, Step, Student, Training};

/// Decay of the weights towards zero (AdamW).
const WEIGHT_DECAY: f64 = 1e-4;
/// How much of a label is spread over all classes: teachers err.
const LABEL_SMOOTHING: f64 = 0.05;
/// Crops are shifted by up to this many pixels in training.
const SHIFT_MAX: i64 = 2;
/// Their contrast varies by up to this part, their brightness by up to this much of the range.
const JITTER: f32 = 0.2;

/// A retraining in progress.
pub(super) struct ClassifierTraining {
    student: Classifier,
    optimizer: COptimizer,
    /// `[n, 3, side, side]`.
    crops: Tensor,
    /// `[n, features]` of the crops seen so far, when only the head trains.
    features: Option<Tensor>,
    labels: Tensor,
    config: RetrainingConfig,
    rng: ChaCha8Rng,
    /// This epoch's order of the crops.
    order: Vec<i64>,
    steps_per_epoch: usize,
    done: usize,
}

impl ClassifierTraining {
    pub(super) fn new(
        serving: &Classifier,
        examples: &[Example],
        config: &RetrainingConfig,
        seed: u64,
    ) -> Result<Self, ModelError> {
        if config.epochs == 0 || config.batch_size == 0 {
            return Err(ModelError::BadInput("epochs and batch_size are at least 1".to_owned()));
        }
        let student = serving.copy(config.head_width, seed)?;
        let (crops, labels) = cut_all(&student, examples, config.data_fraction)?;
        let mut optimizer = COptimizer::adamw(config.learning_rate, 0.9, 0.999, WEIGHT_DECAY, 1e-8, false)?;
        for tensor in student.network.trainable(config.layers_frozen) {
            let tensor = tensor.f_set_requires_grad(true)?;
            optimizer.add_parameters(&tensor, 0)?;
        }
        let count = crops.size()[0];
        Ok(Self {
            features: (config.layers_frozen >= student.network.blocks()).then(Tensor::new),
            student,
            optimizer,
            crops,
            labels,
            config: config.clone(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            order: (0..count).collect(),
            steps_per_epoch: (count as usize).div_ceil(config.batch_size),
            done: 0,
        })
    }

    /// The crops of the next minibatch. An epoch's crops are divided evenly, so that its last
    /// minibatch is not too small for batch normalisation.
    fn next_batch(&mut self) -> Vec<i64> {
        let within = self.done % self.steps_per_epoch;
        if within == 0 {
            self.order.shuffle(&mut self.rng);
        }
        let count = self.order.len();
        let (from, to) = (within * count / self.steps_per_epoch, (within + 1) * count / self.steps_per_epoch);
        self.order[from..to].to_vec()
    }

    /// Logits of a minibatch, from which the loss is taken.
    fn forward(&mut self, batch: &Tensor) -> Result<Tensor, TchError> {
        let frozen = self.config.layers_frozen;
        if self.features.is_some() {
            let features = self.kept_features(batch)?;
            return self.student.network.classify(&features);
        }
        let crops = self.crops.f_index_select(0, batch)?;
        let crops = augment(&crops, &mut self.rng)?;
        let features = self.student.network.features(&crops, frozen, true)?;
        self.student.network.classify(&features)
    }

    /// Features of a minibatch: computed in the first epoch, looked up later.
    fn kept_features(&mut self, batch: &Tensor) -> Result<Tensor, TchError> {
        let _no_grad = tch::no_grad_guard();
        if self.done >= self.steps_per_epoch
            && let Some(kept) = &self.features
        {
            return kept.f_index_select(0, batch);
        }
        let crops = self.crops.f_index_select(0, batch)?;
        let features = self.student.network.features(&crops, usize::MAX, false)?;
        let kept = match self.features.take() {
            Some(kept) if kept.dim() == 2 => kept,
            _ => Tensor::f_zeros([self.crops.size()[0], features.size()[1]], (Kind::Float, features.device()))?,
        };
        let kept = kept.f_index_copy(0, batch, &features)?;
        self.features = Some(kept);
        Ok(features)
    }

    fn learn(&mut self) -> Result<f64, TchError> {
        let progress = self.done as f64 / self.steps() as f64;
        let rate = self.config.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.optimizer.set_learning_rate(rate)?;
        let batch = self.next_batch();
        let batch = Tensor::f_from_slice(&batch)?.f_to_device(self.crops.device())?;
        let logits = self.forward(&batch)?;
        let labels = self.labels.f_index_select(0, &batch)?;
        let loss =
            logits.f_cross_entropy_loss::<&Tensor>(&labels, None, Reduction::Mean, -100, LABEL_SMOOTHING)?;
        self.optimizer.zero_grad()?;
        loss.f_backward()?;
        self.optimizer.step()?;
        f64::try_from(loss)
    }
}

impl Training for ClassifierTraining {
    fn steps(&self) -> usize {
        self.config.epochs * self.steps_per_epoch
    }

    fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }

    fn step(&mut self) -> Result<Step, ModelError> {
        // The mode belongs to the thread, and whoever computed here before may have left it off.
        let loss = tch::with_grad(|| self.learn())?;
        self.done += 1;
        if loss.is_finite() {
            Ok(Step { loss, done: self.done })
        } else {
            Err(ModelError::Torch(format!("the loss became {loss} at minibatch {}", self.done)))
        }
    }

    fn student(&self) -> Result<Box<dyn Student>, ModelError> {
        self.student.fork()
    }
}

/// Cuts the objects of an evenly spaced part of the examples: crops and labels.
fn cut_all(student: &Classifier, examples: &[Example], fraction: f64) -> Result<(Tensor, Tensor), ModelError> {
    let side = student.architecture().input_side();
    let count = (examples.len() as f64 * fraction.clamp(0.0, 1.0)).ceil() as usize;
    let mut values = Vec::new();
    let mut labels: Vec<i64> = Vec::new();
    for index in 0..count {
        let example = &examples[index * examples.len() / count];
        for object in &example.objects {
            if object.class >= student.classes() {
                let (class, classes) = (object.class, student.classes());
                return Err(ModelError::BadInput(format!("class {class} of an example, there are {classes}")));
            }
            cut(&example.image, &object.bbox, side, &mut values);
            labels.push(object.class as i64);
        }
    }
    if labels.is_empty() {
        return Err(ModelError::NoExamples);
    }
    let device = student.placement.device();
    let shape = [labels.len() as i64, 3, side as i64, side as i64];
    let crops = Tensor::f_from_slice(&values)?.f_reshape(shape)?.f_to_device(device)?;
    Ok((crops, Tensor::f_from_slice(&labels)?.f_to_device(device)?))
}

/// The same crops mirrored (half of the minibatches), shifted, in other light. One draw a
/// minibatch for mirror and shift, which is cheap, and one a crop for light.
fn augment(crops: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor, TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut crops = crops.shallow_clone();
    if rng.random_bool(0.5) {
        crops = crops.f_flip([3])?;
    }
    let shift: [i64; 2] = std::array::from_fn(|_| rng.random_range(-SHIFT_MAX..=SHIFT_MAX));
    crops = crops.f_roll(shift, [2, 3])?;
    let count = crops.size()[0] as usize;
    let mut per_crop = |middle: f32| -> Result<Tensor, TchError> {
        let values: Vec<f32> = (0..count).map(|_| middle + rng.random_range(-JITTER..=JITTER)).collect();
        Tensor::f_from_slice(&values)?.f_reshape([count as i64, 1, 1, 1])?.f_to_device(crops.device())
    };
    let (contrast, brightness) = (per_crop(1.0)?, per_crop(0.0)?);
    crops.f_mul(&contrast)?.f_add(&brightness)
}
