//! Residual networks (He et al. 2016; in groups, Xie et al. 2017), with the names of torchvision's
//! tensors. As there, a bottleneck halves the map in its 3×3 convolution.

use super::block::{Block, Residual};
use super::conv::{Activation, ConvBn, Maker, Names, Shape};

/// Channels inside the blocks of each stage, of a bottleneck in one group of 64.
const STAGES: [i64; 4] = [64, 128, 256, 512];

/// How many times more channels a bottleneck gives than are inside it.
const EXPANSION: i64 = 4;

/// The stem and two blocks a stage.
pub(super) fn resnet18<E>(make: &mut Maker<'_, E>) -> Result<Vec<Block>, E> {
    let mut blocks = vec![stem(make)?];
    let mut from = STAGES[0];
    for (stage, to) in STAGES.into_iter().enumerate() {
        for index in 0..2 {
            let (name, stride) = place(stage, index);
            let convolutions = [
                Shape::new(from, to, 3)
                    .stride(stride)
                    .then(Activation::Relu),
                Shape::new(to, to, 3),
            ];
            blocks.push(named(make, &name, &convolutions)?);
            from = to;
        }
    }
    Ok(blocks)
}

/// Groups of a bottleneck's 3×3 convolution.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub(super) count: i64,
    /// Channels of each in the first stage; they double with every stage.
    pub(super) width: i64,
}

/// The stem and 3, 4, 23, 3 bottlenecks.
pub(super) fn resnet101<E>(make: &mut Maker<'_, E>, groups: Groups) -> Result<Vec<Block>, E> {
    let mut blocks = vec![stem(make)?];
    let mut from = STAGES[0];
    for (stage, (channels, count)) in STAGES.into_iter().zip([3, 4, 23, 3]).enumerate() {
        let inside = channels / STAGES[0] * groups.width * groups.count;
        let to = channels * EXPANSION;
        for index in 0..count {
            let (name, stride) = place(stage, index);
            let middle = Shape::new(inside, inside, 3)
                .stride(stride)
                .groups(groups.count);
            let convolutions = [
                Shape::new(from, inside, 1).then(Activation::Relu),
                middle.then(Activation::Relu),
                Shape::new(inside, to, 1),
            ];
            blocks.push(named(make, &name, &convolutions)?);
            from = to;
        }
    }
    Ok(blocks)
}

/// Name of a stage's block, and its stride: the first block of every stage but the first halves.
fn place(stage: usize, index: usize) -> (String, i64) {
    let stride = if stage > 0 && index == 0 { 2 } else { 1 };
    (format!("layer{}.{index}", stage + 1), stride)
}

fn stem<E>(make: &mut Maker<'_, E>) -> Result<Block, E> {
    let shape = Shape::new(3, STAGES[0], 7).stride(2).then(Activation::Relu);
    ConvBn::new(make, &Names("conv1".to_owned(), "bn1".to_owned()), shape).map(Block::Pooled)
}

/// A residual block whose parts are numbered from 1.
fn named<E>(make: &mut Maker<'_, E>, block: &str, shapes: &[Shape]) -> Result<Block, E> {
    let name = |index: usize| Names(format!("{block}.conv{index}"), format!("{block}.bn{index}"));
    let convolutions: Vec<_> = (1..).map(name).zip(shapes.iter().copied()).collect();
    let shortcut = Names(
        format!("{block}.downsample.0"),
        format!("{block}.downsample.1"),
    );
    residual(make, &convolutions, &shortcut)
}

/// A residual block of these convolutions, with a 1×1 convolution as `shortcut` where they change
/// the shape of the map.
pub(super) fn residual<E>(
    make: &mut Maker<'_, E>,
    convolutions: &[(Names, Shape)],
    shortcut: &Names,
) -> Result<Block, E> {
    let whole = Shape::across(convolutions.iter().map(|(_, shape)| shape));
    let shortcut = whole
        .map(|shape| ConvBn::new(make, shortcut, shape))
        .transpose()?;
    let convolutions = convolutions
        .iter()
        .map(|(names, shape)| ConvBn::new(make, names, *shape))
        .collect::<Result<_, E>>()?;
    Ok(Block::Residual(Residual {
        convolutions,
        shortcut,
    }))
}
