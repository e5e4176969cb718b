//! The two networks made for the procedural scene: its student and its teacher.

use super::block::Block;
use super::conv::{Activation, ConvBn, Maker, Names, Shape};
use super::resnet::residual;

/// Four convolutions, three of which halve the map.
pub(super) fn student<E>(make: &mut Maker<'_, E>) -> Result<Vec<Block>, E> {
    let shapes = [
        Shape::new(3, 16, 3).stride(2),
        Shape::new(16, 32, 3),
        Shape::new(32, 64, 3).stride(2),
        Shape::new(64, 96, 3).stride(2),
    ];
    let block = |(index, shape)| plain(make, &format!("block{index}"), shape);
    shapes.into_iter().enumerate().map(block).collect()
}

/// A convolution and four residual blocks, two of which halve the map.
pub(super) fn teacher<E>(make: &mut Maker<'_, E>) -> Result<Vec<Block>, E> {
    let mut blocks = vec![plain(make, "block0", Shape::new(3, 32, 3))?];
    for (from, to) in [(32, 32), (32, 64), (64, 128), (128, 128)] {
        let stride = if from == to { 1 } else { 2 };
        let name = |part: &str| names(&format!("block{}.{part}", blocks.len()));
        let first = Shape::new(from, to, 3)
            .stride(stride)
            .then(Activation::Relu);
        let convolutions = [
            (name("first"), first),
            (name("second"), Shape::new(to, to, 3)),
        ];
        blocks.push(residual(make, &convolutions, &name("shortcut"))?);
    }
    Ok(blocks)
}

fn plain<E>(make: &mut Maker<'_, E>, name: &str, shape: Shape) -> Result<Block, E> {
    ConvBn::new(make, &names(name), shape.then(Activation::Relu)).map(Block::Plain)
}

fn names(part: &str) -> Names {
    Names(format!("{part}.conv"), format!("{part}.bn"))
}
