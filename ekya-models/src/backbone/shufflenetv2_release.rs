//! Weights of ShuffleNetV2's first release (megvii-model/ShuffleNet-Series), as FastestDet's backbone
//! has them, brought to the names, the order of channels and the scale of pixels of torchvision.
//!
//! There a block begins by dealing its input's channels to its two sides in turn; here it ends by
//! taking its output's channels from its two sides in turn, and its input's halves go to the sides.
//! So the channels that a convolution makes are ordered by how many blocks there keep them, and
//! whatever reads them follows: the features are the same, in another order. The release takes
//! B G R in 0..=1, which the first layer takes over; only what lies outside the crop is another grey.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::shufflenetv2::REPEATS;
use crate::{IMAGENET, Normalisation};

/// Whether a file has the names of the first release.
pub(super) fn is_release(tensors: &BTreeMap<String, Tensor>) -> bool {
    tensors.keys().any(|name| name.starts_with("first_conv."))
}

/// The tensors under today's names, in today's order, and the order of the last features.
///
/// # Errors
/// When they are not those of such a network.
pub(super) fn today(
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(BTreeMap<String, Tensor>, Vec<usize>), TchError> {
    let _no_grad = tch::no_grad_guard();
    let rename = |(name, tensor): (&String, &Tensor)| (renamed(name), tensor.shallow_clone());
    let mut today = Today(tensors.iter().map(rename).collect());
    today.scale_pixels()?;
    let mut map: Vec<usize> = (0..today.channels("conv1.0")?).collect();
    for (stage, blocks) in (2..).zip(REPEATS) {
        map = today.order_stage(stage, blocks, map)?;
    }
    Ok((today.0, map))
}

fn renamed(name: &str) -> String {
    name.replace("first_conv.", "conv1.")
        .replace(".branch_main.", ".branch2.")
        .replace(".branch_proj.", ".branch1.")
}

/// Tensors on their way.
struct Today(BTreeMap<String, Tensor>);

impl Today {
    fn get(&self, name: &str) -> Result<&Tensor, TchError> {
        let missing = || TchError::FileFormat(format!("tensor {name} is missing"));
        self.0.get(name).ok_or_else(missing)
    }

    /// Channels that a convolution makes.
    fn channels(&self, conv: &str) -> Result<usize, TchError> {
        let size = self.get(&format!("{conv}.weight"))?.size();
        Ok(size.first().map_or(0, |side| side.unsigned_abs() as usize))
    }

    /// Lets the first convolution take pixels in the scale of ImageNet.
    fn scale_pixels(&mut self) -> Result<(), TchError> {
        let Normalisation { mean, deviation } = IMAGENET;
        let weight = self.get("conv1.0.weight")?.f_flip([1])?;
        let values = |values: [f32; 3]| Tensor::f_from_slice(&values)?.f_reshape([1, 3, 1, 1]);
        let scaled = weight.f_mul(&values(deviation)?)?;
        // What the means add to every output, the normalisation after it has not to take off.
        let constant = weight.f_mul(&values(mean)?)?;
        let constant = constant.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, None)?;
        let running = self.get("conv1.1.running_mean")?.f_sub(&constant)?;
        self.0.insert("conv1.0.weight".to_owned(), scaled);
        self.0.insert("conv1.1.running_mean".to_owned(), running);
        Ok(())
    }

    /// Orders a stage whose input has the release's channels in the order of `map`; returns the order
    /// of its output.
    fn order_stage(
        &mut self,
        stage: usize,
        blocks: usize,
        map: Vec<usize>,
    ) -> Result<Vec<usize>, TchError> {
        let name = |block: usize, part: &str| format!("stage{stage}.{block}.{part}");
        let half = self.channels(&name(0, "branch1.2"))?;
        self.rows(&name(0, "branch1"), 0, &map)?;
        self.columns(&name(0, "branch1.2"), &map)?;
        let mut kept = by_duration(half, 0, blocks - 1);
        self.rows(&name(0, "branch1"), 2, &kept)?;
        let mut read = map;
        let mut map = Vec::new();
        for block in 0..blocks {
            if block > 0 {
                // There even positions are kept and odd ones read, here the first and second half.
                [kept, read] = [&map[..half], &map[half..]].map(halved);
            }
            self.columns(&name(block, "branch2.0"), &read)?;
            let made = by_duration(half, half, blocks - 1 - block);
            self.rows(&name(block, "branch2"), 5, &made)?;
            // What the block makes is the second half of the release's map.
            let both = kept.iter().zip(made);
            map = both.flat_map(|(&kept, made)| [kept, half + made]).collect();
        }
        Ok(map)
    }

    /// Orders the channels that the convolution at `index` of a branch makes.
    fn rows(&mut self, branch: &str, index: usize, order: &[usize]) -> Result<(), TchError> {
        let bn = index + 1;
        self.select(&format!("{branch}.{index}.weight"), 0, order)?;
        for value in ["weight", "bias", "running_mean", "running_var"] {
            self.select(&format!("{branch}.{bn}.{value}"), 0, order)?;
        }
        Ok(())
    }

    /// Orders the channels that a convolution reads.
    fn columns(&mut self, conv: &str, order: &[usize]) -> Result<(), TchError> {
        self.select(&format!("{conv}.weight"), 1, order)
    }

    fn select(&mut self, name: &str, axis: i64, order: &[usize]) -> Result<(), TchError> {
        let order: Vec<i64> = order.iter().map(|&at| at as i64).collect();
        let selected = self
            .get(name)?
            .f_index_select(axis, &Tensor::f_from_slice(&order)?)?;
        self.0.insert(name.to_owned(), selected);
        Ok(())
    }
}

fn halved(positions: &[usize]) -> Vec<usize> {
    positions.iter().map(|position| position / 2).collect()
}

/// The `half` channels that stand at `offset` and after in the release's map, those first that most
/// of the `blocks` to come keep. A block keeps what stands at even positions, and halves these.
fn by_duration(half: usize, offset: usize, blocks: usize) -> Vec<usize> {
    let kept = |row: usize| (offset + row).trailing_zeros().min(blocks as u32);
    let mut rows: Vec<usize> = (0..half).collect();
    rows.sort_by_key(|&row| Reverse(kept(row)));
    rows
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::super::block::Block;
    use super::super::conv::{ConvBn, Init};
    use super::super::{blocks, matched, normalised};
    use super::*;
    use crate::Architecture;

    const NETWORK: Architecture = Architecture::ShuffleNetV2(crate::ShuffleWidth::Half);

    /// Values without a pattern, different in every tensor; variances are above 0.
    fn values(name: &str, shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        let phase = name
            .bytes()
            .fold(0.0, |sum, byte| sum * 1.3 % 7.0 + f64::from(byte));
        let steps = Tensor::arange(count, (Kind::Double, Device::Cpu));
        let values = ((steps * 1.7 + phase).sin() * 43_758.5)
            .frac()
            .to_kind(Kind::Float);
        let values = if name.ends_with("running_var") {
            values.abs() + 0.5
        } else {
            values * 0.5
        };
        values.reshape(shape)
    }

    /// A release's tensors, without those that it does not have.
    fn release() -> BTreeMap<String, Tensor> {
        let mut tensors = BTreeMap::new();
        let mut note = |name: &str, shape: &[i64], _: Init| {
            let old = name
                .replace("conv1.", "first_conv.")
                .replace("branch1.", "branch_proj.")
                .replace("branch2.", "branch_main.");
            if !name.starts_with("conv5") {
                tensors.insert(old, values(name, shape));
            }
            Ok::<_, std::convert::Infallible>(Tensor::new())
        };
        let Ok(_) = blocks(NETWORK, &mut note);
        tensors
    }

    /// The network without its last convolution.
    fn network(tensors: &BTreeMap<String, Tensor>) -> Vec<Block> {
        let mut find = |name: &str, shape: &[i64], _: Init| {
            let found = tensors.get(name).map(Tensor::shallow_clone);
            Ok::<_, TchError>(found.unwrap_or_else(|| values(name, shape)))
        };
        let mut blocks = blocks(NETWORK, &mut find).unwrap();
        blocks.pop();
        blocks
    }

    fn run(convolutions: &[ConvBn], input: &Tensor) -> Tensor {
        convolutions
            .iter()
            .fold(input.shallow_clone(), |map, conv| {
                conv.forward(&map, false).unwrap()
            })
    }

    /// What the release makes of pixels (B G R in 0..=1), after its first convolution.
    fn as_released(blocks: &[Block], mut map: Tensor) -> Tensor {
        for block in blocks {
            let Block::Shuffle(block) = block else {
                continue;
            };
            let (kept, read) = match &block.halving {
                Some(halving) => (run(halving, &map), map),
                None => (map.slice(1, 0, None, 2), map.slice(1, 1, None, 2)),
            };
            map = Tensor::cat(&[kept, run(&block.convolutions, &read)], 1);
        }
        map
    }

    #[test]
    fn features_are_those_of_the_release_in_another_order() {
        let release = release();
        let (today, order) = today(&release).unwrap();
        let renamed: BTreeMap<_, _> = release
            .iter()
            .map(|(name, tensor)| (renamed(name), tensor.shallow_clone()))
            .collect();
        let (old, new) = (network(&renamed), network(&today));

        // The first convolution differs where it sees the outside, in the first row and column.
        let crops = values("crops", &[2, 3, 64, 64]) * 2.0;
        let bgr = ((&crops + 1.0) / 2.0).flip([1]);
        let first = |blocks: &[Block], input: &Tensor| {
            blocks[0].convolutions()[0].forward(input, false).unwrap()
        };
        let scaled = normalised(NETWORK, &crops).unwrap();
        let [before, after] = [first(&old, &bgr), first(&new, &scaled)];
        let inside = |map: &Tensor| map.slice(2, 1, None, 1).slice(3, 1, None, 1);
        assert!(inside(&before).allclose(&inside(&after), 1e-3, 1e-4, false));

        let map = before.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        let expected = as_released(&old, map.shallow_clone());
        let found = new[1..]
            .iter()
            .fold(map, |map, block| block.forward(&map, false).unwrap());
        let order: Vec<i64> = order.into_iter().map(|at| at as i64).collect();
        let expected = expected.index_select(1, &Tensor::from_slice(&order));
        assert!(found.abs().max().double_value(&[]) > 0.1);
        assert!(found.allclose(&expected, 1e-3, 1e-4, false));
        assert_ne!(order, (0..192).collect::<Vec<i64>>());
    }

    #[test]
    fn a_release_with_a_tensor_missing_or_too_small_is_not_loaded() {
        for name in [
            "first_conv.0.weight",
            "stage3.0.branch_proj.2.weight",
            "stage4.3.branch_main.6.bias",
        ] {
            let mut tensors = release();
            let small = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
            let old = tensors.insert(name.to_owned(), small);
            assert!(matched(NETWORK, tensors).is_err(), "{name} is too small");
            let mut tensors = release();
            tensors.remove(name);
            assert!(matched(NETWORK, tensors).is_err(), "{name} is missing");
            assert!(old.is_some());
        }
        assert!(matched(NETWORK, release()).is_ok());
    }
}
