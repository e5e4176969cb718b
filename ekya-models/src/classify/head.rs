//! What follows a classifier's backbone: a hidden layer and the output.

use tch::{TchError, Tensor};

use crate::backbone::{Init, Maker};

/// Names of the head's tensors begin with this.
pub(super) const HEAD: &str = "head.";

/// Hidden layer and output.
#[derive(Debug)]
pub(super) struct Head {
    hidden: (Tensor, Tensor),
    output: (Tensor, Tensor),
    /// Numbers of features, hidden neurons and classes.
    sizes: [i64; 3],
}

impl Head {
    pub(super) fn new<E>(make: &mut Maker<'_, E>, sizes: [i64; 3]) -> Result<Self, E> {
        let mut linear = |name: &str, from: i64, to: i64| -> Result<_, E> {
            let weight = make(&format!("{HEAD}{name}.weight"), &[to, from], Init::He)?;
            Ok((
                weight,
                make(&format!("{HEAD}{name}.bias"), &[to], Init::Zeros)?,
            ))
        };
        let [features, width, classes] = sizes;
        Ok(Self {
            hidden: linear("hidden", features, width)?,
            output: linear("output", width, classes)?,
            sizes,
        })
    }

    /// Features that it takes.
    pub(super) fn features(&self) -> i64 {
        self.sizes[0]
    }

    /// Tensors that training changes.
    pub(super) fn trainable(&self) -> [&Tensor; 4] {
        let ((hidden, hidden_bias), (output, output_bias)) = (&self.hidden, &self.output);
        [hidden, hidden_bias, output, output_bias]
    }

    /// Multiply-adds of one crop.
    pub(super) fn multiply_adds(&self) -> u64 {
        let [features, width, classes] = self.sizes;
        (width * (features + classes)).unsigned_abs()
    }

    /// Logits `[n, classes]` from features `[n, features]`.
    pub(super) fn forward(&self, features: &Tensor) -> Result<Tensor, TchError> {
        let hidden = features
            .f_linear(&self.hidden.0, Some(&self.hidden.1))?
            .f_relu()?;
        outputs(&hidden, &self.output.0, &self.output.1)
    }
}

/// Outputs that are computed together.
const TOGETHER: i64 = 16;

/// `[n, classes]` from `[n, width]`, [`TOGETHER`] at a time, the last ones filled up with zeros.
/// libtorch adds in an order that depends on how many outputs there are; so computed, the logits of
/// known classes stay the same to the last bit when others are added.
fn outputs(hidden: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
    let classes = bias.size()[0];
    let more = (TOGETHER - classes % TOGETHER) % TOGETHER;
    let weight = weight.f_constant_pad_nd([0, 0, 0, more])?;
    let bias = bias.f_constant_pad_nd([0, more])?;
    let logits = (0..classes)
        .step_by(TOGETHER as usize)
        .map(|from| {
            let bias = bias.f_narrow(0, from, TOGETHER)?;
            hidden.f_linear(&weight.f_narrow(0, from, TOGETHER)?, Some(&bias))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Tensor::f_cat(&logits, 1)?.f_narrow(1, 0, classes)
}
