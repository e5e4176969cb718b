//! Convolution, batch normalisation, activation: the part that every backbone is made of.
//!
//! Layers are built through a [`Maker`], which draws, loads or copies the tensors they ask for by
//! name, and keeps them. A frozen layer runs with `train = false`: otherwise its batch
//! normalisation would go on moving although its weights stay.

use tch::{TchError, Tensor};

/// Added to the variance in batch normalisation.
const BN_EPS: f64 = 1e-5;
/// How far a minibatch moves the running statistics.
const BN_MOMENTUM: f64 = 0.1;

/// How a new tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    /// Normal with variance 2 / fan-in (He et al. 2015).
    He,
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// Provides the tensor of a name and shape: `(name, shape, how to begin)`.
pub(crate) type Maker<'a, E> = dyn FnMut(&str, &[i64], Init) -> Result<Tensor, E> + 'a;

/// How the names of a convolution's tensors begin, and those of its batch normalisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) String, pub(crate) String);

/// What follows a batch normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Nothing.
    None,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
}

impl Activation {
    fn apply(self, map: Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::None => Ok(map),
            Self::Relu => map.f_relu(),
            Self::Relu6 => map.f_clamp(0.0, 6.0),
        }
    }
}

/// The form of a convolution and what follows its normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Channels that it takes.
    from: i64,
    /// Channels that it gives.
    to: i64,
    /// Side of the kernel, odd; the padding keeps the map's side at stride 1.
    kernel: i64,
    stride: i64,
    /// Groups of channels that do not see each other.
    groups: i64,
    activation: Activation,
}

impl Shape {
    /// `from` channels to `to`, stride 1, one group, no activation.
    pub(crate) const fn new(from: i64, to: i64, kernel: i64) -> Self {
        Self {
            from,
            to,
            kernel,
            stride: 1,
            groups: 1,
            activation: Activation::None,
        }
    }

    /// Each of `channels` by itself.
    pub(crate) const fn depthwise(channels: i64, kernel: i64) -> Self {
        Self::new(channels, channels, kernel).groups(channels)
    }

    pub(crate) const fn stride(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    pub(crate) const fn groups(self, groups: i64) -> Self {
        Self { groups, ..self }
    }

    pub(crate) const fn then(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The 1×1 convolution that brings a map to the form that these, one after another, bring it
    /// to; `None` where they keep it.
    pub(super) fn across<'a>(shapes: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let join = |whole: Option<Self>, next: &Self| {
            let (from, stride) = whole.map_or((next.from, 1), |whole| (whole.from, whole.stride));
            Some(Self::new(from, next.to, 1).stride(stride * next.stride))
        };
        let whole = shapes.fold(None, join)?;
        (whole.stride != 1 || whole.from != whole.to).then_some(whole)
    }

    /// The shape of its weights.
    const fn weights(self) -> [i64; 4] {
        [self.to, self.from / self.groups, self.kernel, self.kernel]
    }
}

/// Convolution without bias, batch normalisation, activation.
#[derive(Debug)]
pub(crate) struct ConvBn {
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    shape: Shape,
}

impl ConvBn {
    /// Builds it from tensors of these names.
    pub(crate) fn new<E>(
        make: &mut Maker<'_, E>,
        Names(conv, bn): &Names,
        shape: Shape,
    ) -> Result<Self, E> {
        let weight = make(&format!("{conv}.weight"), &shape.weights(), Init::He)?;
        let mut channel = |name: &str, init| make(&format!("{bn}.{name}"), &[shape.to], init);
        Ok(Self {
            weight,
            scale: channel("weight", Init::Ones)?,
            shift: channel("bias", Init::Zeros)?,
            mean: channel("running_mean", Init::Zeros)?,
            variance: channel("running_var", Init::Ones)?,
            shape,
        })
    }

    /// `[n, from, h, w]` to `[n, to, ⌈h / stride⌉, ⌈w / stride⌉]`. With `train` it normalises by
    /// the statistics of the minibatch and moves the running ones, else by the running ones.
    pub(crate) fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let (stride, padding) = ([self.shape.stride; 2], [self.shape.kernel / 2; 2]);
        let map = input
            .f_conv2d::<&Tensor>(
                &self.weight,
                None,
                stride,
                padding,
                [1, 1],
                self.shape.groups,
            )?
            .f_batch_norm(
                Some(&self.scale),
                Some(&self.shift),
                Some(&self.mean),
                Some(&self.variance),
                train,
                BN_MOMENTUM,
                BN_EPS,
                false,
            )?;
        self.shape.activation.apply(map)
    }

    /// Whether its running statistics are those it began with.
    #[cfg(test)]
    pub(crate) fn is_unmoved(&self) -> bool {
        self.mean.eq(0.0).all().int64_value(&[]) == 1
            && self.variance.eq(1.0).all().int64_value(&[]) == 1
    }

    /// Channels that it gives.
    pub(crate) const fn channels(&self) -> i64 {
        self.shape.to
    }

    /// Tensors that training changes; the running statistics are none of them.
    pub(crate) fn trainable(&self) -> [&Tensor; 3] {
        [&self.weight, &self.scale, &self.shift]
    }

    /// Multiply-adds on a map of `side`, and the side of the map that it gives.
    pub(crate) const fn cost(&self, side: u64) -> (u64, u64) {
        let [to, from, height, width] = self.shape.weights();
        let side = side.div_ceil(self.shape.stride.unsigned_abs());
        (
            (to * from * height * width).unsigned_abs() * side * side,
            side,
        )
    }
}
