//! ShuffleNetV2 (Ma et al. 2018, table 5), with the names of torchvision's tensors.

use tch::{TchError, Tensor};

use super::block::Block;
use super::conv::{Activation, ConvBn, Maker, Names, Shape};
use crate::ShuffleWidth;

/// Channels after the stem.
const STEM: i64 = 24;
/// Blocks of the stages 2, 3 and 4.
pub(super) const REPEATS: [usize; 3] = [4, 8, 4];

/// Channels of the stages and of the last convolution.
const fn channels(width: ShuffleWidth) -> ([i64; 3], i64) {
    match width {
        ShuffleWidth::Half => ([48, 96, 192], 1024),
        ShuffleWidth::One => ([116, 232, 464], 1024),
        ShuffleWidth::OneAndHalf => ([176, 352, 704], 1024),
        ShuffleWidth::Two => ([244, 488, 976], 2048),
    }
}

/// The stem, 16 blocks in three stages, and the last convolution.
pub(super) fn blocks<E>(make: &mut Maker<'_, E>, width: ShuffleWidth) -> Result<Vec<Block>, E> {
    let (stages, last) = channels(width);
    let stem = Shape::new(3, STEM, 3).stride(2).then(Activation::Relu);
    let mut blocks = vec![Block::Pooled(ConvBn::new(make, &names("conv1", 0), stem)?)];
    let mut from = STEM;
    for ((stage, to), count) in (2..).zip(stages).zip(REPEATS) {
        for index in 0..count {
            let block = Shuffle::new(make, &format!("stage{stage}.{index}"), from, to)?;
            blocks.push(Block::Shuffle(block));
            from = to;
        }
    }
    let last = Shape::new(from, last, 1).then(Activation::Relu);
    blocks.push(Block::Plain(ConvBn::new(make, &names("conv5", 0), last)?));
    Ok(blocks)
}

/// Names of the convolution at `index` of a sequence, and of the normalisation after it.
fn names(sequence: &str, index: usize) -> Names {
    Names(
        format!("{sequence}.{index}"),
        format!("{sequence}.{}", index + 1),
    )
}

/// A block whose output's channels come from two sides in turn: one convolves, the other keeps half
/// of the input, or, where the map is halved, convolves too.
#[derive(Debug)]
pub(crate) struct Shuffle {
    /// Depthwise and 1×1 convolution of the side that otherwise keeps; where the map is halved.
    pub(super) halving: Option<[ConvBn; 2]>,
    pub(super) convolutions: [ConvBn; 3],
}

impl Shuffle {
    /// Halves the map where the number of channels changes.
    fn new<E>(make: &mut Maker<'_, E>, name: &str, from: i64, to: i64) -> Result<Self, E> {
        let (half, halves) = (to / 2, from != to);
        let (stride, input) = if halves { (2, from) } else { (1, half) };
        let mut conv = |branch: u8, index, shape| {
            ConvBn::new(
                make,
                &names(&format!("{name}.branch{branch}"), index),
                shape,
            )
        };
        let relu = Activation::Relu;
        let halving = if halves {
            Some([
                conv(1, 0, Shape::depthwise(from, 3).stride(2))?,
                conv(1, 2, Shape::new(from, half, 1).then(relu))?,
            ])
        } else {
            None
        };
        let convolutions = [
            conv(2, 0, Shape::new(input, half, 1).then(relu))?,
            conv(2, 3, Shape::depthwise(half, 3).stride(stride))?,
            conv(2, 5, Shape::new(half, half, 1).then(relu))?,
        ];
        Ok(Self {
            halving,
            convolutions,
        })
    }

    pub(super) fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let (kept, convolved) = match &self.halving {
            Some(halving) => (chain(halving, input, train)?, input.shallow_clone()),
            None => {
                let half = input.size()[1] / 2;
                let part = |from| input.f_narrow(1, from, half);
                (part(0)?, part(half)?)
            }
        };
        let convolved = chain(&self.convolutions, &convolved, train)?;
        // Channels of both sides in turn: stacked side by side, then laid out one after another.
        Tensor::f_stack(&[kept, convolved], 2)?.f_flatten(1, 2)
    }

    /// Channels that it gives.
    pub(super) const fn channels(&self) -> i64 {
        2 * self.convolutions[2].channels()
    }
}

fn chain(convolutions: &[ConvBn], input: &Tensor, train: bool) -> Result<Tensor, TchError> {
    let mut map = input.shallow_clone();
    for conv in convolutions {
        map = conv.forward(&map, train)?;
    }
    Ok(map)
}
