//! The classifiers' networks.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

use super::layers::{Block, ConvBn, HEAD, Head, Init, Maker, pool};

/// A network for object crops. All end in a mean over the picture, a hidden layer and an output,
/// so they take crops of any size; [`Architecture::input_side`] is what they are meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Four convolutions: trains in seconds on a CPU core.
    Small,
    /// ResNet18 (He et al. 2016).
    ResNet18,
    /// A residual network more than ten times as expensive as [`Architecture::Small`]: the teacher
    /// of the procedural scene.
    Teacher,
}

impl Architecture {
    /// Its name in configurations and checkpoints; [`std::str::FromStr`] reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::ResNet18 => "resnet18",
            Self::Teacher => "teacher",
        }
    }

    /// Side of the square crops that the network is meant for, in pixels.
    #[must_use]
    pub const fn input_side(self) -> usize {
        match self {
            Self::Small | Self::Teacher => 32,
            Self::ResNet18 => 64,
        }
    }

    /// Features before the head.
    const fn features(self) -> i64 {
        match self {
            Self::Small => 96,
            Self::ResNet18 => 512,
            Self::Teacher => 128,
        }
    }

    /// Multiply-adds of one crop of [`Architecture::input_side`], convolutions and head, counted
    /// while building a network.
    #[must_use]
    pub fn multiply_adds(self, classes: usize, head_width: usize) -> u64 {
        // Sides of the maps that each convolution puts out, in the order of building.
        let side = self.input_side() as u64;
        let mut total = 0u64;
        let mut count = |name: &str, shape: &[i64], _: Init, _: bool| -> Result<Tensor, TchError> {
            let weights = shape.iter().product::<i64>().unsigned_abs();
            let map = self.map_side(name, side);
            if name.ends_with(".weight") && shape.len() == 4 {
                total += weights * map * map;
            } else if name.starts_with(HEAD) && shape.len() == 2 {
                total += weights;
            }
            Ok(Tensor::new())
        };
        // Building with a maker that only counts cannot fail.
        let _ = self.build(&mut count, classes as i64, head_width as i64);
        total
    }

    /// Side of the map that the convolution of that name puts out.
    fn map_side(self, name: &str, side: u64) -> u64 {
        let stage = block_number(name).unwrap_or(0);
        match self {
            // The second convolution keeps the side.
            Self::Small => side >> stage.max(1),
            // The second and third residual block halve the side.
            Self::Teacher => side >> stage.saturating_sub(1).min(2),
            // Stem with stride 2 and pooling, then two blocks a stage.
            Self::ResNet18 if stage == 0 => side / 2,
            Self::ResNet18 => (side / 4) >> ((stage - 1) / 2),
        }
    }

    fn build<E>(
        self,
        make: &mut Maker<'_, E>,
        classes: i64,
        head_width: i64,
    ) -> Result<(Vec<Block>, Head), E> {
        let mut blocks = Vec::new();
        match self {
            Self::Small => {
                for (i, channels) in [(3, 16), (16, 32), (32, 64), (64, 96)]
                    .into_iter()
                    .enumerate()
                {
                    let stride = if i == 1 { 1 } else { 2 };
                    blocks.push(Block::Plain(ConvBn::new(
                        make,
                        &format!("block{i}"),
                        channels,
                        3,
                        stride,
                    )?));
                }
            }
            Self::ResNet18 => {
                blocks.push(Block::Pooled(ConvBn::new(make, "block0", (3, 64), 7, 2)?));
                for (stage, (from, to)) in [(64, 64), (64, 128), (128, 256), (256, 512)]
                    .into_iter()
                    .enumerate()
                {
                    let stride = if stage == 0 { 1 } else { 2 };
                    let name = |i: usize| format!("block{}", 1 + 2 * stage + i);
                    blocks.push(Block::residual(make, &name(0), (from, to), stride)?);
                    blocks.push(Block::residual(make, &name(1), (to, to), 1)?);
                }
            }
            Self::Teacher => {
                blocks.push(Block::Plain(ConvBn::new(make, "block0", (3, 32), 3, 1)?));
                for (i, (from, to)) in [(32, 32), (32, 64), (64, 128), (128, 128)]
                    .into_iter()
                    .enumerate()
                {
                    let stride = if from == to { 1 } else { 2 };
                    blocks.push(Block::residual(
                        make,
                        &format!("block{}", i + 1),
                        (from, to),
                        stride,
                    )?);
                }
            }
        }
        let head = Head::new(make, self.features(), head_width, classes)?;
        Ok((blocks, head))
    }
}

impl std::str::FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "small" => Ok(Self::Small),
            "resnet18" => Ok(Self::ResNet18),
            "teacher" => Ok(Self::Teacher),
            _ => Err(format!(
                "no network '{text}'; there are small, resnet18 and teacher"
            )),
        }
    }
}

/// Draws, loads or copies the tensor of a name and shape.
pub(super) type Provider<'a, E> = dyn FnMut(&str, &[i64], Init) -> Result<Tensor, E> + 'a;

/// A network and its tensors.
#[derive(Debug)]
pub(super) struct Network {
    blocks: Vec<Block>,
    head: Head,
    /// All tensors by name; the layers share them.
    tensors: BTreeMap<String, Tensor>,
    /// Names of those that training changes, with the index of their block; the head comes last.
    trainable: Vec<(String, usize)>,
}

impl Network {
    /// A network whose tensors `provide` gives by name and shape.
    pub(super) fn build<E: From<TchError>>(
        architecture: Architecture,
        classes: usize,
        head_width: usize,
        provide: &mut Provider<'_, E>,
    ) -> Result<Self, E> {
        let mut tensors = BTreeMap::new();
        let mut trained = Vec::new();
        let mut make = |name: &str, shape: &[i64], init: Init, train: bool| -> Result<Tensor, E> {
            let tensor = provide(name, shape, init)?;
            let kept = tensor.shallow_clone();
            tensors.insert(name.to_owned(), kept);
            if train {
                trained.push(name.to_owned());
            }
            Ok(tensor)
        };
        let (blocks, head) = architecture.build(&mut make, classes as i64, head_width as i64)?;
        let count = blocks.len();
        let block_of = |name: String| {
            let block = block_number(&name).unwrap_or(count);
            (name, block)
        };
        let trainable = trained.into_iter().map(block_of).collect();
        Ok(Self {
            blocks,
            head,
            tensors,
            trainable,
        })
    }

    /// Blocks before the head.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// All tensors by name.
    pub(super) fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Tensors to train when the first `frozen` blocks stay as they are; the head always trains.
    pub(super) fn trainable(&self, frozen: usize) -> impl Iterator<Item = &Tensor> {
        let frozen = frozen.min(self.blocks.len());
        let free = self
            .trainable
            .iter()
            .filter(move |(_, block)| *block >= frozen);
        free.filter_map(|(name, _)| self.tensors.get(name))
    }

    /// Features of crops `[n, 3, h, w]`. The first `frozen` blocks leave no trace for gradients and
    /// keep their statistics; the others move theirs when `train` is set.
    pub(super) fn features(
        &self,
        crops: &Tensor,
        frozen: usize,
        train: bool,
    ) -> Result<Tensor, TchError> {
        let frozen = frozen.min(self.blocks.len());
        let mut map = crops.shallow_clone();
        {
            let _no_grad = tch::no_grad_guard();
            for block in &self.blocks[..frozen] {
                map = block.forward(&map, false)?;
            }
        }
        for block in &self.blocks[frozen..] {
            map = block.forward(&map, train)?;
        }
        pool(&map)
    }

    /// Room for the features of `count` crops: `[count, features]`.
    pub(super) fn no_features(&self, count: usize, device: Device) -> Result<Tensor, TchError> {
        Tensor::f_zeros([count as i64, self.head.features()], (Kind::Float, device))
    }

    /// Logits from features.
    pub(super) fn classify(&self, features: &Tensor) -> Result<Tensor, TchError> {
        self.head.forward(features)
    }

    /// Logits of crops, without a trace for gradients or statistics.
    pub(super) fn logits(&self, crops: &Tensor) -> Result<Tensor, TchError> {
        let _no_grad = tch::no_grad_guard();
        self.classify(&self.features(crops, usize::MAX, false)?)
    }
}

/// Number of the block that a tensor belongs to; `None` for the head's.
fn block_number(name: &str) -> Option<usize> {
    name.strip_prefix("block")?.split('.').next()?.parse().ok()
}

/// Draws a new tensor.
pub(super) fn draw(
    shape: &[i64],
    init: Init,
    rng: &mut ChaCha8Rng,
    device: Device,
) -> Result<Tensor, TchError> {
    match init {
        Init::Zeros => Tensor::f_zeros(shape, (Kind::Float, device)),
        Init::Ones => Tensor::f_ones(shape, (Kind::Float, device)),
        Init::He => {
            let fan_in: i64 = shape[1..].iter().product();
            let deviation = (2.0 / fan_in.max(1) as f32).sqrt();
            let count = shape.iter().product::<i64>().unsigned_abs() as usize;
            let values: Vec<f32> = (0..count).map(|_| normal(rng) * deviation).collect();
            Tensor::f_from_slice(&values)?
                .f_reshape(shape)?
                .f_to_device(device)
        }
    }
}

/// One draw from the standard normal distribution (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

/// The generator of new weights.
pub(super) fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_teacher_costs_more_than_ten_students() {
        let [student, teacher] = [Architecture::Small, Architecture::Teacher]
            .map(|network| network.multiply_adds(8, 64));
        assert!((2_000_000..5_000_000).contains(&student), "{student}");
        assert!(teacher >= 12 * student, "{teacher} and {student}");
    }

    #[test]
    fn multiply_adds_of_the_student_are_those_on_paper() {
        let convolutions =
            16 * 16 * 9 * (3 * 16 + 16 * 32) + 8 * 8 * 9 * 32 * 64 + 4 * 4 * 9 * 64 * 96;
        assert_eq!(
            Architecture::Small.multiply_adds(8, 64),
            convolutions + 96 * 64 + 64 * 8
        );
    }

    #[test]
    fn the_teacher_fits_in_four_megabytes() {
        let mut weights = 0;
        let mut count = |_: &str, shape: &[i64], _: Init, _: bool| -> Result<Tensor, TchError> {
            weights += shape.iter().product::<i64>();
            Ok(Tensor::new())
        };
        let _ = Architecture::Teacher.build(&mut count, 8, 64);
        assert!(weights * 4 <= 4_000_000, "{weights}");
    }

    #[test]
    fn names_are_read_back() {
        for network in [
            Architecture::Small,
            Architecture::ResNet18,
            Architecture::Teacher,
        ] {
            assert_eq!(network.name().parse(), Ok(network));
            assert_eq!(serde_json::to_value(network).unwrap(), network.name());
        }
    }

    #[test]
    fn resnet18_has_the_published_cost_at_a_smaller_side() {
        // 1.82 G multiply-adds at 224 × 224; at 64 × 64 a (64/224)² part of it.
        let expected = 1.82e9 * (64.0f64 / 224.0).powi(2);
        let counted = Architecture::ResNet18.multiply_adds(1000, 1) as f64;
        assert!(
            (counted / expected - 1.0).abs() < 0.05,
            "{counted} and {expected}"
        );
    }
}
