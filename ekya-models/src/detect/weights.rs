//! The named weights of a network: drawn, copied, grown, from and to files.

use std::path::Path;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tch::{Device, Kind, TchError, Tensor};

use super::network::Network;
use crate::ModelError;
use crate::checkpoint::{self, Metadata, Tensors};

/// Deviation of new weights of a convolution that answers: its answers begin near its bias.
const SMALL: f32 = 0.01;

/// Bias of the output for a new class: the logit of 1 %, so that it is not reported before it is
/// learned.
const NEW_CLASS_BIAS: f32 = -4.6;

/// How a new tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Init {
    /// Normal with variance 2 / fan-in (He et al. 2015).
    He,
    /// Normal with a deviation of 0.01.
    Small,
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// The weights of a network, by name, on one device.
#[derive(Debug)]
pub(super) struct Weights {
    tensors: Tensors,
    device: Device,
}

impl Weights {
    /// No weights yet.
    pub(super) fn none(device: Device) -> Self {
        Self {
            tensors: Tensors::new(),
            device,
        }
    }

    /// Reads a safetensors file, and what it says about its network. Files written by
    /// [`Weights::save`] carry a digest, which must fit; published ones, and those that
    /// [`Weights::hand_over`] has written, carry none. Shapes are checked when a network is built.
    ///
    /// # Errors
    /// [`ModelError::Io`] when it cannot be read, [`ModelError::BadFile`] when it is damaged.
    pub(super) fn read(path: &Path, device: Device) -> Result<(Self, Metadata), ModelError> {
        let (metadata, tensors) = checkpoint::open(path)?;
        let mut weights = Self::none(device);
        for (name, tensor) in tensors {
            weights.insert(name, &tensor)?;
        }
        Ok((weights, metadata))
    }

    /// Writes a safetensors file with `metadata` and a digest, whole or not at all.
    ///
    /// # Errors
    /// See [`checkpoint::save`].
    pub(super) fn save(&self, path: &Path, metadata: Metadata) -> Result<(), ModelError> {
        checkpoint::save(path, metadata, &self.tensors)
    }

    /// Writes a safetensors file with `metadata` for another process.
    ///
    /// # Errors
    /// See [`checkpoint::hand_over`].
    pub(super) fn hand_over(&self, path: &Path, metadata: Metadata) -> Result<(), ModelError> {
        checkpoint::hand_over(path, metadata, &self.tensors)
    }

    /// A copy that shares no memory with this one, and tracks no gradients.
    pub(super) fn copied(&self) -> Result<Self, TchError> {
        let _guard = tch::no_grad_guard();
        let copy = |(name, tensor): (&String, &Tensor)| {
            let mut copy = tensor.f_empty_like()?;
            copy.f_copy_(tensor)?;
            Ok((name.clone(), copy))
        };
        Ok(Self {
            tensors: self
                .tensors
                .iter()
                .map(copy)
                .collect::<Result<_, TchError>>()?,
            device: self.device,
        })
    }

    /// The tensor of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Where its tensors live.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Names and tensors, in the order of the names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Puts a tensor in, in place of one of that name.
    pub(super) fn insert(&mut self, name: String, tensor: &Tensor) -> Result<(), TchError> {
        let _replaced = self.tensors.insert(name, tensor.f_to_device(self.device)?);
        Ok(())
    }

    /// The same tensors under other names.
    pub(super) fn renamed(self, rename: impl FnOnce(Tensors) -> Tensors) -> Self {
        Self {
            tensors: rename(self.tensors),
            ..self
        }
    }

    /// Drops the tensors whose names are not wanted.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| wanted(name));
    }

    /// Draws the tensor of that name if there is none.
    pub(super) fn draw_missing(
        &mut self,
        name: &str,
        shape: &[i64],
        init: Init,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), TchError> {
        if self.tensors.contains_key(name) {
            return Ok(());
        }
        self.insert(name.to_owned(), &draw(shape, init, rng)?)
    }

    /// Appends `added` rows for new classes to each of the `groups` of rows of every tensor whose
    /// name begins with `prefix`; the rows that are there stay as they are.
    pub(super) fn grow(
        &mut self,
        (prefix, groups): (&str, i64),
        added: i64,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), TchError> {
        let _guard = tch::no_grad_guard();
        for (name, tensor) in &mut self.tensors {
            if !name.starts_with(prefix) {
                continue;
            }
            let size = tensor.size();
            let rest = &size[1..];
            let with = |first: &[i64]| [first, rest].concat();
            let new = new_rows(name, &with(&[groups, added]), rng)?.f_to_device(self.device)?;
            let old = tensor.f_reshape(with(&[groups, -1]))?;
            *tensor = Tensor::f_cat(&[old, new], 1)?.f_reshape(with(&[-1]))?;
        }
        Ok(())
    }

    /// Tensors that training changes when the first `frozen` blocks stay as they are.
    pub(super) fn trainable<N: Network>(&self, frozen: usize) -> Vec<&Tensor> {
        self.iter()
            .filter(|(name, _)| name.ends_with(".weight") || name.ends_with(".bias"))
            .filter(|(name, _)| N::block_of(name).is_none_or(|block| block >= frozen))
            .map(|(_, tensor)| tensor)
            .collect()
    }
}

/// The bytes of a file.
///
/// # Errors
/// [`ModelError::Io`] when it cannot be read.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::Io {
        path: path.into(),
        source,
    })
}

fn draw(shape: &[i64], init: Init, rng: &mut ChaCha8Rng) -> Result<Tensor, TchError> {
    let kind = (Kind::Float, Device::Cpu);
    let deviation = match init {
        Init::Zeros => return Tensor::f_zeros(shape, kind),
        Init::Ones => return Tensor::f_ones(shape, kind),
        Init::Small => SMALL,
        Init::He => {
            let fan_in: i64 = shape[1..].iter().product();
            (2.0 / fan_in.max(1) as f32).sqrt()
        }
    };
    let count = shape.iter().product::<i64>().unsigned_abs() as usize;
    let values: Vec<f32> = (0..count)
        .map(|_| rng.sample::<f32, _>(StandardNormal) * deviation)
        .collect();
    Tensor::f_from_slice(&values)?.f_reshape(shape)
}

/// Rows `[groups, added, …]` for new classes in the tensor of that name.
fn new_rows(name: &str, shape: &[i64], rng: &mut ChaCha8Rng) -> Result<Tensor, TchError> {
    if name.ends_with(".bias") {
        return Tensor::f_full(shape, f64::from(NEW_CLASS_BIAS), (Kind::Float, Device::Cpu));
    }
    let of_convolution = shape.len() > 2;
    let init = match name.rsplit_once('.') {
        Some((_, "weight")) if of_convolution => Init::Small,
        Some((_, "running_mean")) => Init::Zeros,
        _ => Init::Ones,
    };
    draw(shape, init, rng)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn new_rows_come_at_the_end_of_every_group() {
        let mut weights = Weights::none(Device::Cpu);
        let old = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        weights.insert("head.bias".to_owned(), &old).unwrap();
        weights.insert("other.bias".to_owned(), &old).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        weights.grow(("head.", 2), 1, &mut rng).unwrap();
        let values = |name| Vec::<f32>::try_from(weights.get(name).unwrap()).unwrap();
        assert_eq!(
            values("head.bias"),
            [1.0, 2.0, 3.0, NEW_CLASS_BIAS, 4.0, 5.0, 6.0, NEW_CLASS_BIAS]
        );
        assert_eq!(values("other.bias").len(), 6);
    }

    #[test]
    fn drawn_weights_have_the_variance_of_their_fan_in() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn = draw(&[64, 32, 3, 3], Init::He, &mut rng).unwrap();
        let deviation = drawn.std(true).double_value(&[]);
        let expected = (2.0f64 / (32.0 * 9.0)).sqrt();
        assert!((deviation / expected - 1.0).abs() < 0.02, "{deviation}");
    }
}
