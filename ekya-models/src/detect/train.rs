//! Fine-tuning on a teacher's labels, one minibatch a call.

use std::sync::Arc;

use ekya_sched::RetrainingConfig;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{COptimizer, Device, Tensor};

use super::coco::ClassMap;
use super::fastestdet::{FastestDet, LEVELS, SIDE};
use super::loss::{Target, loss};
use super::network::{PartlyFrozen, Weights};
use super::view::View;
use crate::{BBox, Example, Image, ModelError, Step, Student, Training};

/// Decay of the weights towards zero, as the network's authors have it.
const WEIGHT_DECAY: f64 = 5e-4;

/// Most by which augmentation zooms in or out, as a fraction of the picture.
const ZOOM: f32 = 0.15;

/// Most by which augmentation makes a picture darker or brighter.
const BRIGHTNESS: f32 = 0.2;

/// An object of which augmentation leaves less than this fraction in the picture is not a target.
const MIN_VISIBLE: f32 = 0.4;

/// A labelled picture, its classes checked.
#[derive(Debug)]
struct Sample {
    image: Arc<Image>,
    /// Network output and box, in pixels.
    objects: Vec<(usize, BBox)>,
}

/// A fine-tuning in progress.
#[derive(Debug)]
pub(super) struct FineTuning {
    weights: Weights,
    network: PartlyFrozen,
    optimizer: COptimizer,
    classes: ClassMap,
    device: Device,
    samples: Vec<Sample>,
    config: RetrainingConfig,
    rng: ChaCha8Rng,
    /// This epoch's order of the samples.
    order: Vec<usize>,
    done: usize,
}

impl FineTuning {
    /// Prepares the training of `weights`, which it owns from here on.
    ///
    /// # Errors
    /// [`ModelError::NoExamples`], [`ModelError::BadInput`] for a value of `config` out of range, an
    /// unknown class or an empty picture, [`ModelError::Torch`] when libtorch fails.
    pub(super) fn new(
        weights: Weights,
        classes: ClassMap,
        device: Device,
        examples: &[Example],
        config: &RetrainingConfig,
        seed: u64,
    ) -> Result<Self, ModelError> {
        check(config)?;
        let samples = samples(examples, config.data_fraction, &classes)?;
        let network =
            PartlyFrozen::new(&weights, config.layers_frozen).map_err(ModelError::Torch)?;
        let mut optimizer =
            COptimizer::adamw(config.learning_rate, 0.9, 0.999, WEIGHT_DECAY, 1e-8, false)?;
        for tensor in weights.trainable(config.layers_frozen) {
            optimizer.add_parameters(tensor, 0)?;
        }
        Ok(Self {
            weights,
            network,
            optimizer,
            classes,
            device,
            order: (0..samples.len()).collect(),
            samples,
            config: config.clone(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            done: 0,
        })
    }

    /// Augmented pictures `[n, 3, side, side]` and their targets for this step.
    fn batch(&mut self) -> Result<(Tensor, Vec<Target>), ModelError> {
        let in_epoch = self.done % self.steps_per_epoch();
        if in_epoch == 0 {
            self.order.shuffle(&mut self.rng);
        }
        let first = in_epoch * self.config.batch_size;
        let last = (first + self.config.batch_size).min(self.order.len());
        let plane = 3 * SIDE * SIDE;
        let mut pixels = vec![0.0; (last - first) * plane];
        let mut targets = Vec::new();
        for (picture, pixels) in pixels.chunks_exact_mut(plane).enumerate() {
            let sample = &self.samples[self.order[first + picture]];
            let view = random_view(&sample.image, &mut self.rng)?;
            view.sample(&sample.image, SIDE, LEVELS, pixels);
            let gain = self.rng.random_range(1.0 - BRIGHTNESS..=1.0 + BRIGHTNESS);
            pixels
                .iter_mut()
                .for_each(|value| *value = (*value * gain).min(1.0));
            targets.extend(sample.objects.iter().filter_map(|&(output, bbox)| {
                visible(view.to_unit(bbox)).map(|bbox| Target {
                    picture,
                    output,
                    bbox,
                })
            }));
        }
        let size = [(last - first) as i64, 3, SIDE as i64, SIDE as i64];
        Ok((
            Tensor::f_from_slice(&pixels)?
                .f_reshape(size)?
                .f_to_device(self.device)?,
            targets,
        ))
    }

    /// Learning rate of this step: a half cosine from the configured one to zero.
    fn learning_rate(&self) -> f64 {
        let progress = self.done as f64 / self.steps() as f64;
        self.config.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }

    /// Forward, backward and update; the loss.
    fn descend(&self, input: &Tensor, targets: &[Target]) -> Result<f64, ModelError> {
        let loss = loss(&self.network.forward(input)?, targets)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(ModelError::Torch(format!(
                "training diverged: loss {value} after {} steps at learning rate {}",
                self.done, self.config.learning_rate
            )));
        }
        self.optimizer.zero_grad()?;
        loss.f_backward()?;
        self.optimizer.step()?;
        Ok(value)
    }
}

impl Training for FineTuning {
    fn steps(&self) -> usize {
        self.config.epochs * self.steps_per_epoch()
    }

    fn steps_per_epoch(&self) -> usize {
        self.samples.len().div_ceil(self.config.batch_size)
    }

    fn step(&mut self) -> Result<Step, ModelError> {
        if self.done >= self.steps() {
            return Err(ModelError::BadInput(format!(
                "all {} training steps are done",
                self.done
            )));
        }
        let (input, targets) = self.batch()?;
        self.optimizer.set_learning_rate(self.learning_rate())?;
        // Set, not assumed: gradient mode belongs to the thread, and stays off after a panic in
        // someone's `no_grad`.
        let loss = tch::with_grad(|| self.descend(&input, &targets))?;
        self.done += 1;
        Ok(Step {
            loss,
            done: self.done,
        })
    }

    fn student(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(FastestDet::on(
            self.weights.copied()?,
            self.classes.clone(),
            self.device,
        )?))
    }
}

fn check(config: &RetrainingConfig) -> Result<(), ModelError> {
    let rate = config.learning_rate;
    let wrong = if config.epochs == 0 {
        "epochs is 0".into()
    } else if config.batch_size == 0 {
        "batch_size is 0".into()
    } else if !(config.data_fraction > 0.0 && config.data_fraction <= 1.0) {
        format!("data_fraction {} is not in (0, 1]", config.data_fraction)
    } else if !(rate > 0.0 && rate.is_finite()) {
        format!("learning_rate {rate} is not a positive number")
    } else {
        return Ok(());
    };
    Err(ModelError::BadInput(format!(
        "retraining configuration: {wrong}"
    )))
}

/// An evenly spaced `fraction` of the examples, at least one, with network outputs for classes.
fn samples(
    examples: &[Example],
    fraction: f64,
    classes: &ClassMap,
) -> Result<Vec<Sample>, ModelError> {
    if examples.is_empty() {
        return Err(ModelError::NoExamples);
    }
    let count = ((examples.len() as f64 * fraction).round() as usize).clamp(1, examples.len());
    (0..count)
        .map(|i| {
            let example = &examples[i * examples.len() / count];
            View::whole(&example.image)?;
            let objects = example
                .objects
                .iter()
                .map(|object| match classes.output(object.class) {
                    Some(output) => Ok((output, object.bbox)),
                    None => Err(ModelError::BadInput(format!(
                        "the student has no class {}",
                        object.class
                    ))),
                });
            Ok(Sample {
                image: example.image.clone(),
                objects: objects.collect::<Result<_, _>>()?,
            })
        })
        .collect()
}

/// The picture, a little zoomed and shifted, mirrored half of the time.
fn random_view(image: &Image, rng: &mut ChaCha8Rng) -> Result<View, ModelError> {
    let whole = View::whole(image)?;
    let (width, height) = (
        whole.width * rng.random_range(1.0 - ZOOM..=1.0 + ZOOM),
        whole.height * rng.random_range(1.0 - ZOOM..=1.0 + ZOOM),
    );
    let view = View {
        x: (whole.width - width) * rng.random_range(0.0..=1.0),
        y: (whole.height - height) * rng.random_range(0.0..=1.0),
        width,
        height,
    };
    let mirrored = View {
        x: view.x + view.width,
        width: -view.width,
        ..view
    };
    Ok(if rng.random_bool(0.5) { mirrored } else { view })
}

/// What of a box lies in the input, as centre x, centre y, width, height; `None` if too little.
fn visible(unit: BBox) -> Option<[f32; 4]> {
    let clipped = BBox {
        x1: unit.x1.clamp(0.0, 1.0),
        y1: unit.y1.clamp(0.0, 1.0),
        x2: unit.x2.clamp(0.0, 1.0),
        y2: unit.y2.clamp(0.0, 1.0),
    };
    let (width, height) = (clipped.x2 - clipped.x1, clipped.y2 - clipped.y1);
    let enough = clipped.area() > 0.0 && clipped.area() >= MIN_VISIBLE * unit.area();
    enough.then_some([
        clipped.x1 + width / 2.0,
        clipped.y1 + height / 2.0,
        width,
        height,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_cut_off_by_the_view_are_clipped_or_dropped() {
        let unit = |x1: f32, x2: f32| BBox {
            x1,
            y1: 0.2,
            x2,
            y2: 0.4,
        };
        let [x, _, width, _] = visible(unit(-0.1, 0.3)).unwrap();
        assert!((x - 0.15).abs() < 1e-6 && (width - 0.3).abs() < 1e-6);
        assert_eq!(visible(unit(-0.3, 0.1)), None);
        assert_eq!(visible(unit(1.1, 1.2)), None);
    }

    #[test]
    fn views_stay_near_the_picture() {
        let image = Image::new(40, 20, vec![0; 2400]).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut mirrored = 0;
        for _ in 0..200 {
            let view = random_view(&image, &mut rng).unwrap();
            mirrored += usize::from(view.width < 0.0);
            assert!((34.0..=46.0).contains(&view.width.abs()), "{view:?}");
            assert!((17.0..=23.0).contains(&view.height), "{view:?}");
        }
        assert!((60..140).contains(&mirrored), "{mirrored}");
    }
}
