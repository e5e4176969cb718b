//! What the networks are made of: a convolution, its batch normalisation or bias, its activation.
//!
//! Layers are taken out of named weights. Built *folded*, every batch normalisation is merged into
//! the convolution before it, which halves the time of a frame; built for training, layers share
//! their tensors with the [`Weights`].

use rand_chacha::ChaCha8Rng;
use tch::{Kind, TchError, Tensor};

use super::weights::{Init, Weights};

/// Added to the variance in batch normalisation, PyTorch's default.
const BN_EPS: f64 = 1e-5;

/// How far a minibatch moves the running statistics, PyTorch's default and darknet's.
const BN_MOMENTUM: f64 = 0.1;

/// Fewest values of a channel that a minibatch's statistics are taken from; the smallest maps of a
/// small minibatch have fewer, and use the running statistics.
const STATISTICS_MIN: i64 = 16;

/// Slope of the leaky ReLU below zero, darknet's.
const LEAK: f64 = 0.1;

/// What becomes of batch normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Build {
    /// Merged into the convolutions: fast, and the tensors are copies.
    Folded,
    /// Kept for training; uses its running statistics, which stay as they are.
    Steady,
    /// Kept for training; uses the minibatch's statistics and moves the running ones towards them.
    Moving,
}

/// What follows a convolution and its normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// Nothing.
    None,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x above zero, a tenth of it below
    Leaky,
}

impl Activation {
    fn apply(self, mut x: Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::None => Ok(x),
            Self::Relu => x.f_relu_(),
            Self::Relu6 => x.f_clamp_(0.0, 6.0),
            Self::Leaky => x.f_prelu(&Tensor::f_full([1], LEAK, (Kind::Float, x.device()))?),
        }
    }
}

/// A convolution's size. The padding keeps the side of a map at stride 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) outputs: i64,
    pub(super) inputs: i64,
    /// Side of the kernel, odd.
    pub(super) kernel: i64,
    pub(super) stride: i64,
    /// One filter a channel.
    pub(super) depthwise: bool,
}

impl Shape {
    /// A filter over all channels for each output, at stride 1.
    pub(super) fn full(outputs: i64, inputs: i64, kernel: i64) -> Self {
        Self {
            outputs,
            inputs,
            kernel,
            stride: 1,
            depthwise: false,
        }
    }

    /// 1×1.
    pub(super) fn point(outputs: i64, inputs: i64) -> Self {
        Self::full(outputs, inputs, 1)
    }

    /// A filter for each channel, at stride 1.
    pub(super) fn depthwise(channels: i64, kernel: i64) -> Self {
        Self {
            depthwise: true,
            ..Self::full(channels, channels, kernel)
        }
    }

    /// The same with that stride.
    pub(super) fn with_stride(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    /// Of the convolution's weight.
    pub(super) fn weight(self) -> [i64; 4] {
        let inputs = if self.depthwise { 1 } else { self.inputs };
        [self.outputs, inputs, self.kernel, self.kernel]
    }
}

/// A convolution, what is added or normalised after it, and its activation.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor,
    after: After,
    shape: Shape,
    activation: Activation,
}

#[derive(Debug)]
enum After {
    Bias(Tensor),
    Norm(Norm),
}

#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    /// Whether minibatches move the running statistics.
    moves: bool,
}

impl Conv {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (stride, padding) = ([self.shape.stride; 2], [self.shape.kernel / 2; 2]);
        let groups = if self.shape.depthwise {
            self.shape.inputs
        } else {
            1
        };
        let bias = match &self.after {
            After::Bias(bias) => Some(bias),
            After::Norm(_) => None,
        };
        let mut y = x.f_conv2d(&self.weight, bias, stride, padding, [1, 1], groups)?;
        if let After::Norm(norm) = &self.after {
            y = norm.forward(&y)?;
        }
        self.activation.apply(y)
    }
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let (n, _, h, w) = x.size4()?;
        x.f_batch_norm(
            weight,
            bias,
            Some(&self.mean),
            Some(&self.var),
            self.moves && n * h * w >= STATISTICS_MIN,
            BN_MOMENTUM,
            BN_EPS,
            true,
        )
    }

    /// The factor and the constant that it comes down to, one a channel.
    fn affine(&self) -> Result<(Tensor, Tensor), TchError> {
        let factor = self
            .weight
            .f_div(&self.var.f_add_scalar(BN_EPS)?.f_sqrt()?)?;
        let constant = self.bias.f_sub(&self.mean.f_mul(&factor)?)?;
        Ok((factor, constant))
    }
}

/// Takes layers out of named weights.
pub(super) struct Source<'a> {
    pub(super) weights: &'a mut Weights,
    pub(super) build: Build,
    /// Draws the tensors that are missing; without it they are refused.
    pub(super) rng: Option<&'a mut ChaCha8Rng>,
}

impl Source<'_> {
    /// The convolution of that name and the batch normalisation of another.
    ///
    /// # Errors
    /// What is wrong with which tensor.
    pub(super) fn normed(
        &mut self,
        conv: &str,
        norm: &str,
        shape: Shape,
        activation: Activation,
    ) -> Result<Conv, String> {
        let weight = self.tensor(&format!("{conv}.weight"), &shape.weight(), Init::He)?;
        let mut part = |part: &str, init| {
            let name = format!("{norm}.{part}");
            self.tensor(&name, &[shape.outputs], init)
        };
        let norm = Norm {
            weight: part("weight", Init::Ones)?,
            bias: part("bias", Init::Zeros)?,
            mean: part("running_mean", Init::Zeros)?,
            var: part("running_var", Init::Ones)?,
            moves: self.build == Build::Moving,
        };
        let unfolded = Conv {
            weight,
            after: After::Norm(norm),
            shape,
            activation,
        };
        if self.build == Build::Folded {
            fold(unfolded).map_err(|error| format!("{conv}: {error}"))
        } else {
            Ok(unfolded)
        }
    }

    /// The convolution of that name, which has a bias in place of a normalisation: one that answers.
    ///
    /// # Errors
    /// What is wrong with which tensor.
    pub(super) fn biased(&mut self, name: &str, shape: Shape) -> Result<Conv, String> {
        let weight = self.tensor(&format!("{name}.weight"), &shape.weight(), Init::Small)?;
        let bias = self.tensor(&format!("{name}.bias"), &[shape.outputs], Init::Zeros)?;
        Ok(Conv {
            weight,
            after: After::Bias(bias),
            shape,
            activation: Activation::None,
        })
    }

    fn tensor(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor, String> {
        if let Some(rng) = &mut self.rng {
            self.weights
                .draw_missing(name, shape, init, rng)
                .map_err(|error| format!("{name}: {error}"))?;
        }
        let Some(tensor) = self.weights.get(name) else {
            return Err(format!("has no tensor {name:?}"));
        };
        if tensor.size() != shape || tensor.kind() != Kind::Float {
            let (kind, size) = (tensor.kind(), tensor.size());
            return Err(format!(
                "tensor {name:?} is {kind:?} {size:?}, not Float {shape:?}"
            ));
        }
        let finite = tensor
            .f_isfinite()
            .and_then(|t| t.f_all())
            .and_then(|t| t.f_int64_value(&[]));
        match finite {
            Ok(1) => Ok(tensor.shallow_clone()),
            Ok(_) => Err(format!("tensor {name:?} has values that are not finite")),
            Err(error) => Err(format!("tensor {name:?}: {error}")),
        }
    }
}

/// The same convolution with its normalisation merged into weight and bias.
fn fold(conv: Conv) -> Result<Conv, TchError> {
    let After::Norm(norm) = &conv.after else {
        return Ok(conv);
    };
    let (factor, constant) = norm.affine()?;
    let weight = conv.weight.f_mul(&factor.f_reshape([-1, 1, 1, 1])?)?;
    Ok(Conv {
        weight: weight.f_detach()?,
        after: After::Bias(constant.f_detach()?),
        ..conv
    })
}
