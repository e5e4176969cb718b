//! What the student asks of a network, and networks of which the first blocks are frozen.

use std::fmt;

use tch::{TchError, Tensor};

use super::coco::ClassMap;
use super::layers::{Build, Source};
use super::view::{Levels, View};
use super::weights::Weights;
use crate::{Image, ModelError, Object};

/// A detection network on named weights: blocks that can be frozen, from the input, and heads.
pub(super) trait Network: fmt::Debug + Send + Sized + 'static {
    /// Its name in files of weights.
    const NAME: &'static str;
    /// Side in pixels of the input that it is meant for, a multiple of 32.
    const SIDE: usize;
    /// Pixels as it wants them.
    const LEVELS: Levels;
    /// Parts that can be frozen. The heads always train.
    const BLOCKS: usize;
    /// What becomes of batch normalisation in parts that train.
    const TRAINED: Build;
    /// Tensors with a row for every class: how their names begin, and how many groups of rows they
    /// have, each ending in a row for every class.
    const CLASS_ROWS: &'static [(&'static str, i64)];
    /// What the heads say about a batch.
    type Answer;

    /// Builds the layers for that many classes.
    ///
    /// # Errors
    /// What is wrong with which tensor.
    fn new(source: &mut Source<'_>, classes: usize) -> Result<Self, String>;

    /// Block that a tensor belongs to; `None` for the heads'.
    fn block_of(tensor: &str) -> Option<usize>;

    /// The part of a picture that fills the input.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for a picture without pixels.
    fn view(image: &Image) -> Result<View, ModelError>;

    /// Runs one block.
    fn advance(&self, features: &mut Features, block: usize) -> Result<(), TchError>;

    /// Runs the heads on what the last block made.
    fn answer(&self, features: &Features) -> Result<Self::Answer, TchError>;

    /// Loss of an answer about a batch, its mean over the pictures or cells.
    fn loss(answer: &Self::Answer, targets: &[Target]) -> Result<Tensor, TchError>;

    /// The part of an answer about a batch that is about one of its pictures.
    fn about(answer: &Self::Answer, picture: usize) -> Result<Self::Answer, TchError>;

    /// Boxes of the stream's classes in an answer about one picture, in fractions of the input, and
    /// with those that overlap.
    fn boxes(answer: &Self::Answer, classes: &ClassMap) -> Result<Vec<Object>, TchError>;

    /// Answers a batch `[n, 3, side, side]`, `side` a multiple of 32.
    fn forward(&self, input: &Tensor) -> Result<Self::Answer, TchError> {
        let mut features = Features::new(input);
        for block in 0..Self::BLOCKS {
            self.advance(&mut features, block)?;
        }
        self.answer(&features)
    }
}

/// An object to be found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Target {
    /// Which picture of the batch.
    pub(super) picture: usize,
    /// Output of the network that stands for its class.
    pub(super) output: usize,
    /// Centre x, centre y, width, height in fractions of the input's side.
    pub(super) bbox: [f32; 4],
}

/// A network for training whose first blocks stay as they are: these run folded and track nothing,
/// which is most of what freezing saves.
#[derive(Debug)]
pub(super) struct PartlyFrozen<N> {
    fixed: N,
    trained: N,
    frozen: usize,
}

impl<N: Network> PartlyFrozen<N> {
    /// Marks the tensors of `weights` after the first `frozen` blocks as trainable and builds on
    /// them.
    ///
    /// # Errors
    /// What is wrong with which tensor.
    pub(super) fn new(
        weights: &mut Weights,
        classes: usize,
        frozen: usize,
    ) -> Result<Self, String> {
        let fixed = built(weights, Build::Folded, classes)?;
        for tensor in weights.trainable::<N>(frozen) {
            let _same = tensor
                .f_set_requires_grad(true)
                .map_err(|error| error.to_string())?;
        }
        Ok(Self {
            fixed,
            trained: built(weights, N::TRAINED, classes)?,
            frozen: frozen.min(N::BLOCKS),
        })
    }

    /// What the blocks that stay as they are make of a batch `[n, 3, side, side]`.
    pub(super) fn fixed(&self, input: &Tensor) -> Result<Features, TchError> {
        let _guard = tch::no_grad_guard();
        let mut features = Features::new(input);
        for block in 0..self.frozen {
            self.fixed.advance(&mut features, block)?;
        }
        Ok(features)
    }

    /// The answer of the blocks that are trained, through which gradients flow.
    pub(super) fn trained(&self, mut features: Features) -> Result<N::Answer, TchError> {
        for block in self.frozen..N::BLOCKS {
            self.trained.advance(&mut features, block)?;
        }
        self.trained.answer(&features)
    }
}

/// A network on weights that are all there.
///
/// # Errors
/// What is wrong with which tensor.
pub(super) fn built<N: Network>(
    weights: &mut Weights,
    build: Build,
    classes: usize,
) -> Result<N, String> {
    let _guard = tch::no_grad_guard();
    let mut source = Source {
        weights,
        build,
        rng: None,
    };
    N::new(&mut source, classes)
}

/// What is known after some blocks: the newest features, and those of earlier blocks that are still
/// needed.
#[derive(Debug)]
pub(super) struct Features {
    pub(super) top: Tensor,
    pub(super) levels: Vec<Tensor>,
}

impl Features {
    pub(super) fn new(input: &Tensor) -> Self {
        Self {
            top: input.shallow_clone(),
            levels: Vec::new(),
        }
    }

    /// One batch of several, all taken after the same block; `None` of none.
    pub(super) fn stack(parts: &[&Self]) -> Result<Option<Self>, TchError> {
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let tops: Vec<&Tensor> = parts.iter().map(|part| &part.top).collect();
        let levels = (0..first.levels.len()).map(|level| {
            let level: Vec<&Tensor> = parts.iter().map(|part| &part.levels[level]).collect();
            Tensor::f_cat(&level, 0)
        });
        let levels = levels.collect::<Result<_, _>>()?;
        Ok(Some(Self {
            top: Tensor::f_cat(&tops, 0)?,
            levels,
        }))
    }

    /// Memory that they take.
    pub(super) fn bytes(&self) -> usize {
        let all = std::iter::once(&self.top).chain(&self.levels);
        all.map(|map| map.numel() * size_of::<f32>()).sum()
    }
}
