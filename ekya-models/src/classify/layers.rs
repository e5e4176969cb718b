//! The parts of a classifier: convolutions with batch normalisation, residual blocks, the head.
//!
//! Layers are built through a [`Maker`], which draws, loads or copies the tensors they ask for by
//! name, and keeps them. A frozen block runs with `train = false`: otherwise its batch
//! normalisation would go on moving although its weights stay.

use tch::{Kind, TchError, Tensor};

/// Added to the variance in batch normalisation.
const BN_EPS: f64 = 1e-5;
/// How far a minibatch moves the running statistics.
const BN_MOMENTUM: f64 = 0.1;

/// How a new tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Init {
    /// Normal with variance 2 / fan-in (He et al. 2015).
    He,
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// Provides the tensor of a name and shape: `(name, shape, how to begin, whether it is trained)`.
pub(super) type Maker<'a, E> = dyn FnMut(&str, &[i64], Init, bool) -> Result<Tensor, E> + 'a;

/// Convolution without bias, batch normalisation.
#[derive(Debug)]
pub(super) struct ConvBn {
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    stride: i64,
    padding: i64,
}

impl ConvBn {
    pub(super) fn new<E>(
        make: &mut Maker<'_, E>,
        name: &str,
        channels: (i64, i64),
        kernel: i64,
        stride: i64,
    ) -> Result<Self, E> {
        let (from, to) = channels;
        Ok(Self {
            weight: make(
                &format!("{name}.conv.weight"),
                &[to, from, kernel, kernel],
                Init::He,
                true,
            )?,
            scale: make(&format!("{name}.bn.weight"), &[to], Init::Ones, true)?,
            shift: make(&format!("{name}.bn.bias"), &[to], Init::Zeros, true)?,
            mean: make(
                &format!("{name}.bn.running_mean"),
                &[to],
                Init::Zeros,
                false,
            )?,
            variance: make(&format!("{name}.bn.running_var"), &[to], Init::Ones, false)?,
            stride,
            padding: kernel / 2,
        })
    }

    fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        input
            .f_conv2d::<&Tensor>(&self.weight, None, stride, padding, [1, 1], 1)?
            .f_batch_norm(
                Some(&self.scale),
                Some(&self.shift),
                Some(&self.mean),
                Some(&self.variance),
                train,
                BN_MOMENTUM,
                BN_EPS,
                false,
            )
    }
}

/// A part of the network that can be frozen.
#[derive(Debug)]
pub(super) enum Block {
    /// Convolution, normalisation, ReLU.
    Plain(ConvBn),
    /// The same, then 3×3 maximum pooling with stride 2.
    Pooled(ConvBn),
    /// Residual block of two convolutions (He et al. 2016).
    Residual(Box<Residual>),
}

/// See [`Block::Residual`].
#[derive(Debug)]
pub(super) struct Residual {
    first: ConvBn,
    second: ConvBn,
    /// Brings the input to the output's shape where they differ.
    shortcut: Option<ConvBn>,
}

impl Block {
    pub(super) fn residual<E>(
        make: &mut Maker<'_, E>,
        name: &str,
        channels: (i64, i64),
        stride: i64,
    ) -> Result<Self, E> {
        let (from, to) = channels;
        let differs = stride != 1 || from != to;
        let shortcut =
            differs.then(|| ConvBn::new(make, &format!("{name}.shortcut"), channels, 1, stride));
        let shortcut = shortcut.transpose()?;
        let first = ConvBn::new(make, &format!("{name}.first"), channels, 3, stride)?;
        let second = ConvBn::new(make, &format!("{name}.second"), (to, to), 3, 1)?;
        Ok(Self::Residual(Box::new(Residual {
            first,
            second,
            shortcut,
        })))
    }

    pub(super) fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor, TchError> {
        match self {
            Self::Plain(conv) => conv.forward(input, train)?.f_relu(),
            Self::Pooled(conv) => {
                let output = conv.forward(input, train)?.f_relu()?;
                output.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)
            }
            Self::Residual(block) => {
                let inner = block.first.forward(input, train)?.f_relu()?;
                let inner = block.second.forward(&inner, train)?;
                let outer = match &block.shortcut {
                    Some(shortcut) => shortcut.forward(input, train)?,
                    None => input.shallow_clone(),
                };
                inner.f_add(&outer)?.f_relu()
            }
        }
    }
}

/// Hidden layer and output.
#[derive(Debug)]
pub(super) struct Head {
    features: i64,
    hidden: (Tensor, Tensor),
    output: (Tensor, Tensor),
}

/// Names of the head's tensors begin with this.
pub(super) const HEAD: &str = "head.";

impl Head {
    pub(super) fn new<E>(
        make: &mut Maker<'_, E>,
        features: i64,
        width: i64,
        classes: i64,
    ) -> Result<Self, E> {
        let mut linear = |name: &str, from: i64, to: i64| -> Result<_, E> {
            let weight = make(&format!("{HEAD}{name}.weight"), &[to, from], Init::He, true)?;
            Ok((
                weight,
                make(&format!("{HEAD}{name}.bias"), &[to], Init::Zeros, true)?,
            ))
        };
        Ok(Self {
            features,
            hidden: linear("hidden", features, width)?,
            output: linear("output", width, classes)?,
        })
    }

    /// Features that it takes.
    pub(super) fn features(&self) -> i64 {
        self.features
    }

    /// Logits `[n, classes]` from features `[n, features]`.
    pub(super) fn forward(&self, features: &Tensor) -> Result<Tensor, TchError> {
        let hidden = features
            .f_linear(&self.hidden.0, Some(&self.hidden.1))?
            .f_relu()?;
        hidden.f_linear(&self.output.0, Some(&self.output.1))
    }
}

/// Mean over the picture: `[n, c, h, w]` to `[n, c]`.
pub(super) fn pool(map: &Tensor) -> Result<Tensor, TchError> {
    map.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)
}
