//! The parts of a backbone that can be frozen, and taken by themselves.

use tch::{TchError, Tensor};

use super::conv::ConvBn;
use super::shufflenetv2::Shuffle;

/// A part of a backbone that can be frozen.
#[derive(Debug)]
pub(crate) enum Block {
    /// A convolution.
    Plain(ConvBn),
    /// A convolution, then 3×3 maximum pooling with stride 2.
    Pooled(ConvBn),
    /// Residual block (He et al. 2016).
    Residual(Residual),
    /// Inverted residual block (Sandler et al. 2018).
    Inverted(Inverted),
    /// Block of a ShuffleNetV2 (Ma et al. 2018).
    Shuffle(Shuffle),
}

/// See [`Block::Residual`]: the convolutions' output and the shortcut's are added, then ReLU.
#[derive(Debug)]
pub(crate) struct Residual {
    pub(super) convolutions: Vec<ConvBn>,
    /// Brings the input to the output's shape where they differ.
    pub(super) shortcut: Option<ConvBn>,
}

/// See [`Block::Inverted`]: many channels inside, few outside.
#[derive(Debug)]
pub(crate) struct Inverted {
    /// To many channels; without it there are as many inside as outside.
    pub(super) expand: Option<ConvBn>,
    pub(super) depthwise: ConvBn,
    /// Back to few channels.
    pub(super) project: ConvBn,
    /// Whether the input is added to the output.
    pub(super) adds: bool,
}

impl Block {
    /// What the block makes of a map `[n, channels, h, w]`; `train` as for [`ConvBn::forward`].
    pub(crate) fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor, TchError> {
        match self {
            Self::Plain(conv) => conv.forward(input, train),
            Self::Pooled(conv) => {
                let output = conv.forward(input, train)?;
                output.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)
            }
            Self::Residual(block) => block.forward(input, train),
            Self::Inverted(block) => block.contract(input, &block.expand(input, train)?, train),
            Self::Shuffle(block) => block.forward(input, train),
        }
    }

    /// Its convolutions; those of a shortcut come last.
    pub(crate) fn convolutions(&self) -> Vec<&ConvBn> {
        match self {
            Self::Plain(conv) | Self::Pooled(conv) => vec![conv],
            Self::Residual(block) => block.convolutions.iter().chain(&block.shortcut).collect(),
            Self::Inverted(block) => {
                let inner = [&block.depthwise, &block.project];
                block.expand.iter().chain(inner).collect()
            }
            Self::Shuffle(block) => {
                let halving = block.halving.iter().flatten();
                block.convolutions.iter().chain(halving).collect()
            }
        }
    }

    /// Tensors that training changes.
    pub(crate) fn trainable(&self) -> impl Iterator<Item = &Tensor> {
        self.convolutions().into_iter().flat_map(ConvBn::trainable)
    }

    /// Channels that it gives.
    pub(crate) fn channels(&self) -> i64 {
        match self {
            Self::Plain(conv) | Self::Pooled(conv) => conv.channels(),
            Self::Residual(block) => block.convolutions.last().map_or(0, ConvBn::channels),
            Self::Inverted(block) => block.project.channels(),
            Self::Shuffle(block) => block.channels(),
        }
    }

    /// Multiply-adds on a map of `side`, and the side of the map that it gives.
    pub(crate) fn cost(&self, side: u64) -> (u64, u64) {
        match self {
            Self::Plain(conv) => conv.cost(side),
            Self::Pooled(conv) => {
                let (cost, side) = conv.cost(side);
                (cost, side.div_ceil(2))
            }
            Self::Residual(block) => {
                let (aside, _) = chain_cost(&block.shortcut, side);
                let (cost, side) = chain_cost(&block.convolutions, side);
                (cost + aside, side)
            }
            Self::Inverted(_) => chain_cost(self.convolutions(), side),
            Self::Shuffle(block) => {
                let (aside, _) = chain_cost(block.halving.iter().flatten(), side);
                let (cost, side) = chain_cost(&block.convolutions, side);
                (cost + aside, side)
            }
        }
    }
}

/// What convolutions one after another cost on a map of `side`, and the side at their end.
fn chain_cost<'a>(convolutions: impl IntoIterator<Item = &'a ConvBn>, side: u64) -> (u64, u64) {
    let add = |(sum, side), conv: &ConvBn| {
        let (cost, side) = conv.cost(side);
        (sum + cost, side)
    };
    convolutions.into_iter().fold((0, side), add)
}

impl Residual {
    fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let mut inner = input.shallow_clone();
        for conv in &self.convolutions {
            inner = conv.forward(&inner, train)?;
        }
        let outer = match &self.shortcut {
            Some(shortcut) => shortcut.forward(input, train)?,
            None => input.shallow_clone(),
        };
        inner.f_add(&outer)?.f_relu()
    }
}

impl Inverted {
    /// The map of many channels, which has the input's side.
    pub(crate) fn expand(&self, input: &Tensor, train: bool) -> Result<Tensor, TchError> {
        match &self.expand {
            Some(conv) => conv.forward(input, train),
            None => Ok(input.shallow_clone()),
        }
    }

    /// The block's output, from its input and what [`Inverted::expand`] made of it.
    pub(crate) fn contract(
        &self,
        input: &Tensor,
        expanded: &Tensor,
        train: bool,
    ) -> Result<Tensor, TchError> {
        let inner = self.depthwise.forward(expanded, train)?;
        let output = self.project.forward(&inner, train)?;
        if self.adds {
            output.f_add(input)
        } else {
            Ok(output)
        }
    }
}
