//! Labelled crops to train on, and the minibatches made of them.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, TchError, Tensor};

use super::crops::cut;
use crate::{Example, ModelError};

/// Crops are shifted by up to this part of their side in each direction: detectors are as inexact.
const SHIFT: f32 = 1.0 / 16.0;
/// Contrast varies by up to this factor more or less.
const CONTRAST: f32 = 0.2;
/// Brightness varies by up to this much of values that lie in -1..1.
const BRIGHTNESS: f32 = 0.2;

/// Crops in main memory with the index of their class, in the order of the examples.
#[derive(Debug)]
pub(super) struct LabelledCrops {
    side: usize,
    /// Three planes of `side × side` a crop.
    values: Vec<f32>,
    labels: Vec<i64>,
}

impl LabelledCrops {
    /// Cuts the objects of an evenly spaced part of the examples.
    ///
    /// # Errors
    /// [`ModelError::NoExamples`] when there is no object, [`ModelError::BadInput`] when one has a
    /// class of `classes` or more, or when `fraction` is not in (0, 1].
    pub(super) fn cut(
        examples: &[Example],
        fraction: f64,
        side: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(ModelError::BadInput(format!(
                "a fraction of the data lies in (0, 1], got {fraction}"
            )));
        }
        let mut crops = Self {
            side,
            values: Vec::new(),
            labels: Vec::new(),
        };
        let count = (examples.len() as f64 * fraction).ceil() as usize;
        for index in 0..count {
            let example = &examples[index * examples.len() / count];
            for object in &example.objects {
                if object.class >= classes {
                    let class = object.class;
                    return Err(ModelError::BadInput(format!(
                        "an example has class {class}, the classifier knows 0 to {}",
                        classes - 1
                    )));
                }
                cut(&example.image, &object.bbox, side, &mut crops.values);
                crops.labels.push(object.class as i64);
            }
        }
        if crops.labels.is_empty() {
            Err(ModelError::NoExamples)
        } else {
            Ok(crops)
        }
    }

    /// How many there are, at least 1.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Their classes.
    pub(super) fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// Classes of a minibatch: `[n]`.
    pub(super) fn classes(&self, batch: &[usize], device: Device) -> Result<Tensor, TchError> {
        let labels: Vec<i64> = batch.iter().map(|&index| self.labels[index]).collect();
        Tensor::f_from_slice(&labels)?.f_to_device(device)
    }

    /// A minibatch as it is: `[n, 3, side, side]`.
    pub(super) fn plain(&self, batch: &[usize], device: Device) -> Result<Tensor, TchError> {
        let values: Vec<f32> = batch
            .iter()
            .flat_map(|&index| self.crop(index))
            .copied()
            .collect();
        self.tensor(&values, device)
    }

    /// A minibatch of which each crop is mirrored or not, shifted, and put in another light.
    pub(super) fn varied(
        &self,
        batch: &[usize],
        rng: &mut ChaCha8Rng,
        device: Device,
    ) -> Result<Tensor, TchError> {
        let mut values = vec![0.0; batch.len() * self.size()];
        for (&index, out) in batch.iter().zip(values.chunks_exact_mut(self.size())) {
            vary(
                self.crop(index),
                self.side,
                &Variation::draw(self.side, rng),
                out,
            );
        }
        self.tensor(&values, device)
    }

    fn tensor(&self, values: &[f32], device: Device) -> Result<Tensor, TchError> {
        let side = self.side as i64;
        Tensor::f_from_slice(values)?
            .f_reshape([-1, 3, side, side])?
            .f_to_device(device)
    }

    /// Values of a crop.
    fn size(&self) -> usize {
        3 * self.side * self.side
    }

    fn crop(&self, index: usize) -> &[f32] {
        &self.values[index * self.size()..][..self.size()]
    }
}

/// How a crop is changed.
struct Variation {
    mirror: bool,
    /// Pixels to the right and down.
    shift: [i32; 2],
    contrast: f32,
    brightness: f32,
}

impl Variation {
    fn draw(side: usize, rng: &mut ChaCha8Rng) -> Self {
        let most = (side as f32 * SHIFT) as i32;
        Self {
            mirror: rng.random(),
            shift: [
                rng.random_range(-most..=most),
                rng.random_range(-most..=most),
            ],
            contrast: 1.0 + rng.random_range(-CONTRAST..=CONTRAST),
            brightness: rng.random_range(-BRIGHTNESS..=BRIGHTNESS),
        }
    }
}

/// Writes the changed crop to `out`; what is shifted in from outside repeats the edge.
fn vary(crop: &[f32], side: usize, variation: &Variation, out: &mut [f32]) {
    let Variation {
        mirror,
        shift: [right, down],
        contrast,
        brightness,
    } = *variation;
    let source = |at: usize, shift: i32| at.saturating_add_signed(-shift as isize).min(side - 1);
    for (line, out) in out.chunks_exact_mut(side).enumerate() {
        let (plane, y) = (line / side, line % side);
        let from = &crop[(plane * side + source(y, down)) * side..][..side];
        for (x, value) in out.iter_mut().enumerate() {
            let x = source(x, right);
            let x = if mirror { side - 1 - x } else { x };
            *value = from[x] * contrast + brightness;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varied(mirror: bool, shift: [i32; 2]) -> Vec<f32> {
        let crop: Vec<f32> = (0..27).map(|i| i as f32).collect();
        let mut out = vec![0.0; 27];
        vary(
            &crop,
            3,
            &Variation {
                mirror,
                shift,
                contrast: 1.0,
                brightness: 0.0,
            },
            &mut out,
        );
        out
    }

    #[test]
    fn a_mirror_swaps_left_and_right() {
        assert_eq!(varied(true, [0, 0])[..6], [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
    }

    #[test]
    fn a_shift_repeats_the_edge_and_stays_in_its_plane() {
        assert_eq!(varied(false, [1, 0])[..3], [0.0, 0.0, 1.0]);
        assert_eq!(
            varied(false, [0, 1])[9..15],
            [9.0, 10.0, 11.0, 9.0, 10.0, 11.0]
        );
        assert_eq!(varied(false, [0, -1])[15..18], [15.0, 16.0, 17.0]);
    }
}
