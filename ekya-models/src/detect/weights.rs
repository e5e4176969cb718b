//! The named weights of FastestDet, from and to files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use tch::{Device, Kind, TchError, Tensor};

use super::network::BLOCK_PREFIXES;
use crate::ModelError;
use crate::checkpoint::{SHA256_KEY, digest, raw_bytes, write_whole};

/// Names ending so count training steps; they are I64 and nothing depends on them.
const COUNTERS: &str = ".num_batches_tracked";

/// The weights of a network, by their published names.
#[derive(Debug)]
pub(super) struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    /// Reads a safetensors file. Files written by [`Weights::write`] carry a digest, which must fit;
    /// published ones carry none. Shapes are checked when a network is built.
    ///
    /// # Errors
    /// [`ModelError::Io`] when it cannot be read, [`ModelError::BadFile`] when it is damaged.
    pub(super) fn read(path: &Path, device: Device) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io {
            path: path.into(),
            source,
        })?;
        let tensors = parse(&bytes).map_err(|reason| ModelError::BadFile {
            path: path.into(),
            reason,
        })?;
        let placed = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, tensor.f_to_device(device)?)));
        Ok(Self(placed.collect::<Result<_, TchError>>()?))
    }

    /// Writes a safetensors file with a digest, whole or not at all.
    ///
    /// # Errors
    /// [`ModelError::Io`] when it cannot be written, [`ModelError::Torch`] when a tensor cannot be
    /// read; what was at `path` before is still there then.
    pub(super) fn write(&self, path: &Path) -> Result<(), ModelError> {
        let raw: Vec<(&str, Vec<usize>, Vec<u8>)> = self
            .0
            .iter()
            .map(|(name, tensor)| {
                let (shape, bytes) = raw_bytes(tensor)?;
                Ok((name.as_str(), shape, bytes))
            })
            .collect::<Result<_, TchError>>()?;
        let parts = raw
            .iter()
            .map(|(name, shape, bytes)| (*name, shape.as_slice(), bytes.as_slice()));
        let digest = digest(&BTreeMap::new(), parts);
        let metadata = HashMap::from([(SHA256_KEY.to_owned(), digest)]);
        let failed =
            |error: SafeTensorError| ModelError::Torch(format!("weights to safetensors: {error}"));
        let views = raw
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        let bytes = serialize(views, &Some(metadata)).map_err(failed)?;
        write_whole(path, &bytes).map_err(|source| ModelError::Io {
            path: path.into(),
            source,
        })
    }

    /// A copy that shares no memory with this one, and tracks no gradients.
    pub(super) fn copied(&self) -> Result<Self, TchError> {
        let _guard = tch::no_grad_guard();
        let copy = |(name, tensor): (&String, &Tensor)| {
            let mut copy = tensor.f_empty_like()?;
            copy.f_copy_(tensor)?;
            Ok((name.clone(), copy))
        };
        Ok(Self(
            self.0.iter().map(copy).collect::<Result<_, TchError>>()?,
        ))
    }

    /// The tensor of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Tensors that training changes when the first `frozen` blocks stay as they are.
    pub(super) fn trainable(&self, frozen: usize) -> Vec<&Tensor> {
        let frozen = &BLOCK_PREFIXES[..frozen.min(BLOCK_PREFIXES.len())];
        self.0
            .iter()
            .filter(|(name, _)| name.ends_with(".weight") || name.ends_with(".bias"))
            .filter(|(name, _)| !frozen.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(_, tensor)| tensor)
            .collect()
    }
}

/// The tensors of a safetensors file, or what is wrong with it.
fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let broken = |error| format!("not a safetensors file, or cut short: {error}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let file = SafeTensors::deserialize(bytes).map_err(broken)?;
    let views: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    if let Some(stored) = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(SHA256_KEY))
    {
        let parts = views
            .iter()
            .map(|(name, view)| (name.as_str(), view.shape(), view.data()));
        let actual = digest(&BTreeMap::new(), parts);
        if *stored != actual {
            return Err(format!(
                "damaged: the digest of its content is {actual}, it says {stored}"
            ));
        }
    }
    let weights = views
        .into_iter()
        .filter(|(name, _)| !name.ends_with(COUNTERS));
    weights
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(format!("tensor {name:?} holds {:?}, not F32", view.dtype()));
            }
            let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
            match Tensor::f_from_data_size(view.data(), &shape, Kind::Float) {
                Ok(tensor) => Ok((name, tensor)),
                Err(error) => Err(format!("tensor {name:?}: {error}")),
            }
        })
        .collect()
}
