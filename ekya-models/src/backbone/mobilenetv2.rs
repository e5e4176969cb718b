//! MobileNetV2 (Sandler et al. 2018, table 2), with the names of torchvision's tensors.

use std::collections::BTreeMap;

use tch::Tensor;

use super::block::{Block, Inverted};
use super::conv::{Activation, ConvBn, Maker, Names, Shape};
use crate::Width;

/// Runs of inverted residual blocks: expansion, channels, blocks, stride of the first.
pub(crate) const RUNS: [(i64, i64, usize, i64); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Channels after the stem.
pub(crate) const STEM: i64 = 32;
/// Channels at the end; a narrower network has as many.
pub(crate) const LAST: i64 = 1280;

/// The 19 blocks `features.0` to `features.18`; the names of their tensors begin with `prefix`,
/// which is empty or ends in a dot. Strides: 2 after block 0, 4 after 2, 8 after 4, 16 after 7,
/// 32 after 14.
pub(crate) fn blocks<E>(
    make: &mut Maker<'_, E>,
    prefix: &str,
    width: Width,
) -> Result<Vec<Block>, E> {
    let name = |index: usize| format!("{prefix}features.{index}");
    let mut from = scaled(STEM, width);
    let stem = relu6(make, &name(0), Shape::new(3, from, 3).stride(2))?;
    let mut blocks = vec![Block::Plain(stem)];
    for (expansion, channels, count, stride) in RUNS {
        let to = scaled(channels, width);
        for index in 0..count {
            let stride = if index == 0 { stride } else { 1 };
            let form = Form {
                from,
                to,
                inside: from * expansion,
                stride,
            };
            blocks.push(inverted(make, &name(blocks.len()), form)?);
            from = to;
        }
    }
    let last = scaled(LAST, width).max(LAST);
    let last = relu6(make, &name(blocks.len()), Shape::new(from, last, 1))?;
    blocks.push(Block::Plain(last));
    Ok(blocks)
}

/// A convolution with ReLU6.
fn relu6<E>(make: &mut Maker<'_, E>, name: &str, shape: Shape) -> Result<ConvBn, E> {
    let names = Names(format!("{name}.0"), format!("{name}.1"));
    ConvBn::new(make, &names, shape.then(Activation::Relu6))
}

/// Channels and stride of an inverted residual block.
#[derive(Clone, Copy)]
struct Form {
    from: i64,
    to: i64,
    inside: i64,
    stride: i64,
}

fn inverted<E>(make: &mut Maker<'_, E>, name: &str, form: Form) -> Result<Block, E> {
    let Form {
        from,
        to,
        inside,
        stride,
    } = form;
    let part = |index: usize| format!("{name}.conv.{index}");
    let expand = (inside != from).then(|| relu6(make, &part(0), Shape::new(from, inside, 1)));
    let expand = expand.transpose()?;
    let first = usize::from(expand.is_some());
    let depthwise = Shape::depthwise(inside, 3).stride(stride);
    let depthwise = relu6(make, &part(first), depthwise)?;
    let names = Names(part(first + 1), part(first + 2));
    Ok(Block::Inverted(Inverted {
        expand,
        depthwise,
        project: ConvBn::new(make, &names, Shape::new(inside, to, 1))?,
        adds: stride == 1 && from == to,
    }))
}

/// Tensors under torchvision's names: the network was first released with its blocks' layers numbered
/// one after another, activations included.
pub(crate) fn renamed(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    // A layer that only those files number so: in torchvision's the first block ends before.
    if !tensors.contains_key("features.1.conv.3.weight") {
        return tensors;
    }
    let rename = |(name, tensor): (String, Tensor)| (today(&name).unwrap_or(name), tensor);
    tensors.into_iter().map(rename).collect()
}

/// Today's name of a tensor of the first release, if it has another.
fn today(name: &str) -> Option<String> {
    let (block, rest) = name.split_once(".conv.")?;
    let (layer, value) = rest.split_once('.')?;
    let layer = match (block, layer) {
        (_, "0") => "0.0",
        (_, "1") => "0.1",
        ("features.1", "3") => "1",
        ("features.1", "4") => "2",
        (_, "3") => "1.0",
        (_, "4") => "1.1",
        (_, "6") => "2",
        (_, "7") => "3",
        _ => return None,
    };
    Some(format!("{block}.conv.{layer}.{value}"))
}

/// `channels` times `width`, as the nearest multiple of 8 that takes off no more than a tenth.
fn scaled(channels: i64, width: Width) -> i64 {
    let wanted = channels * i64::from(width.hundredths());
    let nearest = ((wanted + 400) / 800 * 8).max(8);
    if 1000 * nearest < 9 * wanted {
        nearest + 8
    } else {
        nearest
    }
}
