//! Fine-tuning on a teacher's labels, one minibatch or a part of one a call.
//!
//! Pictures are not augmented: a camera that stands still sees the same scene in the next window, and
//! within the few epochs of a retraining, mirrored and zoomed copies cost accuracy there. It
//! also means that what frozen blocks make of a picture never changes, so it is computed once.
//!
//! Where a minibatch is several calls, each part's loss counts as many pictures as it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekya_sched::RetrainingConfig;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::COptimizer;

use super::detector::{Detector, Setup, pixels};
use super::network::{Features, Network, PartlyFrozen, Target};
use super::weights::Weights;
use crate::minibatch::{Division, Part};
use crate::{BBox, Example, Image, ModelError, Step, Student, Training, TrainingOptions};

/// Decay of the weights towards zero, as the network's authors have it.
const WEIGHT_DECAY: f64 = 5e-4;

/// Decay rates of the optimizer's means of gradients and of their squares. The second forgets faster
/// than is usual, because a retraining may have twenty steps in all.
const BETAS: (f64, f64) = (0.9, 0.99);

/// Steps over which the learning rate rises to the configured one, while the optimizer knows
/// gradients too little to scale them; at most a quarter of all steps.
const WARM_UP: usize = 5;

/// An object of which less than this fraction lies in the picture is not a target.
const MIN_VISIBLE: f32 = 0.4;

/// Memory for fixed features that are kept: 256 pictures of 352 × 352, many more for a frozen backbone.
/// Those of samples beyond are computed anew in every epoch.
const FEATURES_BYTES: usize = 256 * 3 * 352 * 352 * size_of::<f32>();

/// A labelled picture, its classes checked.
#[derive(Debug)]
struct Sample {
    image: Arc<Image>,
    /// Network output and box in fractions of the input (centre x, centre y, width, height).
    objects: Vec<(usize, [f32; 4])>,
    /// What the blocks that stay as they are make of it, once it was needed.
    features: Option<Features>,
}

/// A fine-tuning in progress.
#[derive(Debug)]
pub(super) struct FineTuning<N> {
    weights: Weights,
    network: PartlyFrozen<N>,
    optimizer: COptimizer,
    setup: Setup,
    samples: Vec<Sample>,
    config: RetrainingConfig,
    rng: ChaCha8Rng,
    /// This epoch's order of the samples.
    order: Vec<usize>,
    division: Division,
    done: usize,
}

impl<N: Network> FineTuning<N> {
    /// Prepares the training of `weights`, which it owns from here on.
    ///
    /// # Errors
    /// [`ModelError::NoExamples`], [`ModelError::BadInput`] for a value of `config` out of range, an
    /// unknown class or an empty picture, [`ModelError::Torch`] when libtorch fails.
    pub(super) fn new(
        mut weights: Weights,
        setup: Setup,
        examples: &[Example],
        config: &RetrainingConfig,
        options: &TrainingOptions,
        seed: u64,
    ) -> Result<Self, ModelError> {
        check(config)?;
        options.check()?;
        if options.distillation.is_some() {
            let reason = "a detector learns from labels only, not from its old answers".to_owned();
            return Err(ModelError::BadInput(reason));
        }
        let samples = samples::<N>(examples, config.data_fraction, &setup)?;
        let outputs = setup.classes.width();
        let network = PartlyFrozen::new(&mut weights, outputs, config.layers_frozen)
            .map_err(ModelError::Torch)?;
        let (first, second) = BETAS;
        let rate = config.learning_rate;
        let mut optimizer = COptimizer::adamw(rate, first, second, WEIGHT_DECAY, 1e-8, false)?;
        for tensor in weights.trainable::<N>(config.layers_frozen) {
            optimizer.add_parameters(tensor, 0)?;
        }
        Ok(Self {
            weights,
            network,
            optimizer,
            setup,
            order: (0..samples.len()).collect(),
            division: Division::new(samples.len(), config.batch_size, options.micro_batch),
            samples,
            config: config.clone(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            done: 0,
        })
    }

    /// The samples of a step.
    fn draw(&mut self, part: &Part) -> Vec<usize> {
        if part.examples.start == 0 {
            self.order.shuffle(&mut self.rng);
        }
        self.order[part.examples.clone()].to_vec()
    }

    /// What the fixed blocks make of these samples, and what is to be found in them.
    fn batch(&mut self, drawn: &[usize]) -> Result<(Features, Vec<Target>), ModelError> {
        let mut fresh = BTreeMap::new();
        let mut targets = Vec::new();
        for (picture, &index) in drawn.iter().enumerate() {
            let sample = &mut self.samples[index];
            let objects = sample.objects.iter();
            targets.extend(objects.map(|&(output, bbox)| Target {
                picture,
                output,
                bbox,
            }));
            if sample.features.is_none() {
                let pixels = pixels::<N>(&sample.image, self.setup.side, self.weights.device())?;
                let features = self.network.fixed(&pixels)?;
                if index < FEATURES_BYTES / features.bytes().max(1) {
                    sample.features = Some(features);
                } else {
                    fresh.insert(index, features);
                }
            }
        }
        let known = |index: &usize| {
            self.samples[*index]
                .features
                .as_ref()
                .or_else(|| fresh.get(index))
        };
        let parts: Vec<&Features> = drawn.iter().filter_map(known).collect();
        let stacked = Features::stack(&parts)?.ok_or(ModelError::NoExamples)?;
        Ok((stacked, targets))
    }

    /// Learning rate after so many minibatches: a half cosine from the configured one to zero, after
    /// a short rise.
    fn learning_rate(&self, minibatches: usize) -> f64 {
        let all = self.config.epochs * self.division.minibatches();
        let progress = minibatches as f64 / all as f64;
        let warm_up = (all / 4).clamp(1, WARM_UP);
        let rise = ((minibatches + 1) as f64 / warm_up as f64).min(1.0);
        let fall = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.config.learning_rate * rise * fall
    }

    /// Forward and backward, and the update after a minibatch's last part; the loss.
    fn descend(
        &self,
        features: Features,
        targets: &[Target],
        part: &Part,
    ) -> Result<f64, ModelError> {
        let loss = N::loss(&self.network.trained(features)?, targets)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(ModelError::Diverged {
                what: format!("the loss became {value}"),
                steps: self.done,
                learning_rate: self.config.learning_rate,
            });
        }
        if part.first {
            self.optimizer.zero_grad()?;
        }
        loss.f_mul_scalar(part.weight())?.f_backward()?;
        if part.last {
            self.optimizer.step()?;
        }
        Ok(value)
    }
}

impl<N: Network> Training for FineTuning<N> {
    fn steps(&self) -> usize {
        self.config.epochs * self.division.steps()
    }

    fn steps_per_epoch(&self) -> usize {
        self.division.steps()
    }

    fn step(&mut self) -> Result<Step, ModelError> {
        if self.done >= self.steps() {
            return Err(ModelError::BadInput(format!(
                "all {} training steps are done",
                self.done
            )));
        }
        let (part, minibatches) = self.division.after(self.done);
        let drawn = self.draw(&part);
        let (features, targets) = self.batch(&drawn)?;
        let rate = self.learning_rate(minibatches);
        self.optimizer.set_learning_rate(rate)?;
        // Set, not assumed: gradient mode belongs to the thread, and stays off after a panic in
        // someone's `no_grad`.
        let loss = tch::with_grad(|| self.descend(features, &targets, &part))?;
        self.done += 1;
        Ok(Step {
            loss,
            done: self.done,
            examples: drawn.len(),
        })
    }

    fn student(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(Detector::<N>::on(
            self.weights.copied()?,
            self.setup.clone(),
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
fn samples<N: Network>(
    examples: &[Example],
    fraction: f64,
    setup: &Setup,
) -> Result<Vec<Sample>, ModelError> {
    if examples.is_empty() {
        return Err(ModelError::NoExamples);
    }
    let count = ((examples.len() as f64 * fraction).round() as usize).clamp(1, examples.len());
    (0..count)
        .map(|i| {
            let example = &examples[i * examples.len() / count];
            let view = N::view(&example.image)?;
            let mut objects = Vec::with_capacity(example.objects.len());
            for object in &example.objects {
                let Some(output) = setup.classes.output(object.class) else {
                    let reason = format!("the student has no class {}", object.class);
                    return Err(ModelError::BadInput(reason));
                };
                objects.extend(visible(view.to_unit(object.bbox)).map(|bbox| (output, bbox)));
            }
            Ok(Sample {
                image: example.image.clone(),
                objects,
                features: None,
            })
        })
        .collect()
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
}
