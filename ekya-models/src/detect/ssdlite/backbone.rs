//! MobileNetV2 without its classifier: a stem, 17 inverted residual blocks, a last convolution; the
//! names of the tensors are those of torchvision's published weights.

use tch::{TchError, Tensor};

use super::super::layers::{Activation, Build, Conv, Shape, Source};
use super::super::weights::Weights;
use crate::backbone::mobilenetv2::{LAST, RUNS, STEM};

/// Blocks: the stem, the inverted residuals, the last convolution.
pub(super) const BLOCKS: usize = 19;

/// How the names of all its tensors begin.
const PREFIX: &str = "features.";

/// A block.
#[derive(Debug)]
pub(super) enum Block {
    /// A convolution.
    Plain(Conv),
    /// An inverted residual.
    Inverted(Inverted),
}

/// Many channels inside, few outside.
#[derive(Debug)]
pub(super) struct Inverted {
    /// To many channels; without it there are as many inside as outside.
    expand: Option<Conv>,
    depthwise: Conv,
    /// Back to few channels.
    project: Conv,
    /// Whether the input is added to the output.
    adds: bool,
}

impl Block {
    /// What the block makes of a map, and the map of many channels inside it, if there is one.
    pub(super) fn forward(&self, x: &Tensor) -> Result<(Tensor, Option<Tensor>), TchError> {
        match self {
            Self::Plain(conv) => Ok((conv.forward(x)?, None)),
            Self::Inverted(block) => block.forward(x),
        }
    }
}

impl Inverted {
    /// The block at `name` from `inputs` channels to `outputs`, with `factor` times as many inside.
    fn new(
        source: &mut Source<'_>,
        name: &str,
        (inputs, outputs): (i64, i64),
        factor: i64,
        stride: i64,
    ) -> Result<Self, String> {
        let inner = inputs * factor;
        let part = |index: usize| format!("{name}.conv.{index}");
        let expand = if factor == 1 {
            None
        } else {
            Some(conv(source, &part(0), Shape::point(inner, inputs))?)
        };
        let first = usize::from(expand.is_some());
        let depthwise = Shape::depthwise(inner, 3).with_stride(stride);
        let project = Shape::point(outputs, inner);
        let (weight, norm) = (part(first + 1), part(first + 2));
        Ok(Self {
            expand,
            depthwise: conv(source, &part(first), depthwise)?,
            project: source.normed(&weight, &norm, project, Activation::None)?,
            adds: stride == 1 && inputs == outputs,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<(Tensor, Option<Tensor>), TchError> {
        let expanded = match &self.expand {
            Some(conv) => conv.forward(x)?,
            None => x.shallow_clone(),
        };
        let projected = self.project.forward(&self.depthwise.forward(&expanded)?)?;
        let output = if self.adds {
            projected.f_add(x)?
        } else {
            projected
        };
        Ok((output, Some(expanded)))
    }
}

/// All blocks.
///
/// # Errors
/// What is wrong with which tensor.
pub(super) fn blocks(source: &mut Source<'_>) -> Result<Vec<Block>, String> {
    let stem = Shape::full(STEM, 3, 3).with_stride(2);
    let stem = conv(source, &format!("{PREFIX}0"), stem)?;
    let mut blocks = vec![Block::Plain(stem)];
    let mut inputs = STEM;
    for (factor, outputs, repeats, first_stride) in RUNS {
        for repeat in 0..repeats {
            let name = format!("{PREFIX}{}", blocks.len());
            let stride = if repeat == 0 { first_stride } else { 1 };
            let block = Inverted::new(source, &name, (inputs, outputs), factor, stride)?;
            blocks.push(Block::Inverted(block));
            inputs = outputs;
        }
    }
    let (name, last) = (
        format!("{PREFIX}{}", blocks.len()),
        Shape::point(LAST, inputs),
    );
    let last = conv(source, &name, last)?;
    blocks.push(Block::Plain(last));
    Ok(blocks)
}

/// Whether a tensor of that name is one of the backbone's.
pub(super) fn owns(tensor: &str) -> bool {
    block_of(tensor).is_some()
}

/// The block that a tensor belongs to.
pub(super) fn block_of(tensor: &str) -> Option<usize> {
    let (block, _) = tensor.strip_prefix(PREFIX)?.split_once('.')?;
    block.parse().ok().filter(|block| *block < BLOCKS)
}

/// Whether the weights are those of a whole backbone; the error says which tensor is missing or wrong.
pub(super) fn check(weights: &mut Weights) -> Result<(), String> {
    let _guard = tch::no_grad_guard();
    let mut source = Source {
        weights,
        build: Build::Steady,
        rng: None,
    };
    blocks(&mut source).map(drop)
}

/// A convolution with ReLU6.
fn conv(source: &mut Source<'_>, name: &str, shape: Shape) -> Result<Conv, String> {
    let (conv, norm) = (format!("{name}.0"), format!("{name}.1"));
    source.normed(&conv, &norm, shape, Activation::Relu6)
}
