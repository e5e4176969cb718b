//! A classifier's network: a backbone, a mean over the picture, a head.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, TchError, Tensor};

use super::head::Head;
use crate::Architecture;
use crate::backbone::{self, Block, Init, Maker};
use crate::checkpoint::Description;

/// A network and its tensors.
#[derive(Debug)]
pub(super) struct Network {
    architecture: Architecture,
    blocks: Vec<Block>,
    head: Head,
    /// All tensors by name; the layers share them.
    tensors: BTreeMap<String, Tensor>,
}

impl Network {
    /// A network whose tensors `provide` gives by name and shape.
    pub(super) fn build<E>(
        description: &Description,
        provide: &mut Maker<'_, E>,
    ) -> Result<Self, E> {
        let mut tensors = BTreeMap::new();
        let mut make = |name: &str, shape: &[i64], init: Init| -> Result<Tensor, E> {
            let tensor = provide(name, shape, init)?;
            tensors.insert(name.to_owned(), tensor.shallow_clone());
            Ok(tensor)
        };
        let architecture = description.architecture;
        let blocks = backbone::blocks(architecture, &mut make)?;
        let features = blocks.last().map_or(0, Block::channels);
        let sizes = [description.head_width, description.classes].map(|size| size as i64);
        let head = Head::new(&mut make, [features, sizes[0], sizes[1]])?;
        Ok(Self {
            architecture,
            blocks,
            head,
            tensors,
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
        let free = self.blocks.iter().skip(frozen).flat_map(Block::trainable);
        free.chain(self.head.trainable())
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
        let mut map = backbone::normalised(self.architecture, crops)?;
        {
            let _no_grad = tch::no_grad_guard();
            for block in &self.blocks[..frozen] {
                map = block.forward(&map, false)?;
            }
        }
        for block in &self.blocks[frozen..] {
            map = block.forward(&map, train)?;
        }
        map.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)
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

    /// Multiply-adds of one crop of `side` pixels, in convolutions and head.
    pub(super) fn multiply_adds(&self, side: usize) -> u64 {
        let add = |(sum, side), block: &Block| {
            let (cost, side) = block.cost(side);
            (sum + cost, side)
        };
        let (backbone, _) = self.blocks.iter().fold((0, side as u64), add);
        backbone + self.head.multiply_adds()
    }
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

    /// A network without values: for what follows from shapes.
    fn shapes(architecture: Architecture, classes: usize, head_width: usize) -> (Network, i64) {
        let mut weights = 0;
        let description = Description {
            architecture,
            classes,
            head_width,
            input_side: architecture.input_side(),
        };
        let mut count = |_: &str, shape: &[i64], _: Init| -> Result<Tensor, TchError> {
            weights += shape.iter().product::<i64>();
            Ok(Tensor::new())
        };
        let network = Network::build(&description, &mut count).unwrap();
        (network, weights)
    }

    fn multiply_adds(architecture: Architecture) -> u64 {
        shapes(architecture, 8, 64)
            .0
            .multiply_adds(architecture.input_side())
    }

    #[test]
    fn the_teacher_costs_more_than_ten_students() {
        let [student, teacher] = [Architecture::Small, Architecture::Teacher].map(multiply_adds);
        assert!((2_000_000..5_000_000).contains(&student), "{student}");
        assert!(teacher >= 12 * student, "{teacher} and {student}");
    }

    #[test]
    fn multiply_adds_of_the_student_are_those_on_paper() {
        let convolutions =
            16 * 16 * 9 * (3 * 16 + 16 * 32) + 8 * 8 * 9 * 32 * 64 + 4 * 4 * 9 * 64 * 96;
        assert_eq!(
            multiply_adds(Architecture::Small),
            convolutions + 96 * 64 + 64 * 8
        );
    }

    #[test]
    fn the_teacher_fits_in_four_megabytes() {
        let (_, weights) = shapes(Architecture::Teacher, 8, 64);
        assert!(weights * 4 <= 4_000_000, "{weights}");
    }

    /// A network of constant weights: quickly made, and minibatches move all its statistics.
    fn constant(architecture: Architecture) -> Network {
        let description = Description {
            architecture,
            classes: 2,
            head_width: 4,
            input_side: architecture.input_side(),
        };
        let mut make = |_: &str, shape: &[i64], init: Init| -> Result<Tensor, TchError> {
            let value = match init {
                Init::He => 0.01,
                Init::Ones => 1.0,
                Init::Zeros => 0.0,
            };
            Tensor::f_full(shape, value, (Kind::Float, Device::Cpu))
        };
        Network::build(&description, &mut make).unwrap()
    }

    /// For each convolution of each block, whether it still has the statistics it began with.
    fn statistics_kept(network: &Network) -> Vec<Vec<bool>> {
        let kept = |block: &Block| {
            block
                .convolutions()
                .iter()
                .map(|c| c.is_unmoved())
                .collect()
        };
        network.blocks.iter().map(kept).collect()
    }

    #[test]
    fn statistics_of_frozen_blocks_stay_and_all_others_move_in_every_network() {
        let crops = Tensor::f_arange(2 * 3 * 64 * 64, (Kind::Float, Device::Cpu)).unwrap();
        let crops = (crops / 24_576.0).reshape([2, 3, 64, 64]);
        for name in [
            "small",
            "teacher",
            "mobilenetv2:0.35",
            "shufflenetv2:0.5",
            "resnet18",
            "resnet101",
            "resnext101",
        ] {
            let network = constant(name.parse().unwrap());
            let frozen = network.blocks() - 2;
            let _ = network.features(&crops, usize::MAX, true).unwrap();
            assert!(
                statistics_kept(&network)
                    .concat()
                    .into_iter()
                    .all(|kept| kept),
                "{name}"
            );
            let _ = network.features(&crops, frozen, true).unwrap();
            for (block, kept) in statistics_kept(&network).into_iter().enumerate() {
                assert!(
                    kept.iter().all(|&kept| kept == (block < frozen)),
                    "block {block} of {name}: {kept:?}"
                );
            }
        }
    }
}
