//! Weights of classifiers in files: safetensors, with what the network is and a digest in the
//! file's metadata.
//!
//! The digest covers the metadata and every tensor's name, shape and bytes, and is verified before
//! anything is put into a network: a damaged file is never half a model. A file is written beside
//! its place and renamed, so that it is there whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, TchError, Tensor};

use super::whole::write_whole;
use crate::{Architecture, ArchitectureError, ModelError};

/// Version of the metadata; files of a newer one are refused. Raise it, too, when a network changes
/// in a way that the shapes of its tensors do not show (a stride, the scaling of crops).
const VERSION: u32 = 1;

/// More classes, or more neurons in a head, than any file may claim.
const SIZE_MAX: usize = 1 << 20;

/// Names ending so count training steps in published files; they are no floats, and nothing depends
/// on them.
const COUNTERS: &str = ".num_batches_tracked";

/// Key of the digest in the metadata of every file of weights.
pub(crate) const SHA256_KEY: &str = "sha256";

/// Keys of the metadata.
mod key {
    pub(super) const VERSION: &str = "ekya.version";
    pub(super) const ARCHITECTURE: &str = "architecture";
    pub(super) const CLASSES: &str = "classes";
    pub(super) const HEAD_WIDTH: &str = "head_width";
    pub(super) const INPUT_SIDE: &str = "input_side";
    pub(super) const SHA256: &str = super::SHA256_KEY;
}

/// Which network a file's tensors belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) architecture: Architecture,
    pub(crate) classes: usize,
    pub(crate) head_width: usize,
    /// Side of the crops at full resolution, in pixels.
    pub(crate) input_side: usize,
}

/// Writes a checkpoint to `path`, whole or not at all.
///
/// # Errors
/// [`ModelError::Io`] when it cannot be written, [`ModelError::Torch`] when the tensors cannot be
/// read; what was at `path` before is still there then.
pub(crate) fn write(
    path: &Path,
    description: &Description,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), ModelError> {
    let bytes = to_bytes(description, tensors)?;
    write_whole(path, &bytes).map_err(|source| ModelError::Io {
        path: path.into(),
        source,
    })
}

/// Parses the bytes of a checkpoint; the error is the reason why they are none: damaged, of a newer
/// version, or something else altogether. The tensors are in main memory, and not yet compared with
/// the network that the description names.
pub(crate) fn read(bytes: &[u8]) -> Result<(Description, BTreeMap<String, Tensor>), String> {
    let metadata = metadata(bytes)?;
    let description = describe(&metadata)?;
    value(&metadata, key::SHA256)?;
    Ok((description, tensors(bytes, &metadata)?))
}

/// The tensors of any safetensors file. If it carries a digest, that is verified.
pub(crate) fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    tensors(bytes, &metadata(bytes)?)
}

fn metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
    let entries = header.metadata().iter().flatten();
    Ok(entries.map(|(k, v)| (k.clone(), v.clone())).collect())
}

fn tensors(
    bytes: &[u8],
    metadata: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
    let views: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    if let Some(stored) = metadata.get(key::SHA256) {
        let parts = views
            .iter()
            .map(|(name, view)| (name.as_str(), view.shape(), view.data()));
        let actual = digest(metadata, parts);
        if *stored != actual {
            return Err(format!(
                "damaged: the digest of its content is {actual}, it says {stored}"
            ));
        }
    }
    views
        .into_iter()
        .filter(|(name, _)| !name.ends_with(COUNTERS))
        .map(|(name, view)| Ok((name.clone(), tensor(&name, &view)?)))
        .collect()
}

fn not_safetensors(error: safetensors::SafeTensorError) -> String {
    format!("not a safetensors file, or cut short: {error}")
}

/// Reads the metadata, version first.
fn describe(metadata: &BTreeMap<String, String>) -> Result<Description, String> {
    let version: u32 = number(metadata, key::VERSION)?;
    if version > VERSION {
        return Err(format!(
            "version {version} is newer than {VERSION}, the newest known here; update ekya"
        ));
    }
    let name = value(metadata, key::ARCHITECTURE)?;
    let architecture: Architecture = name
        .parse()
        .map_err(|error: ArchitectureError| error.to_string())?;
    let size = |key| match number::<usize>(metadata, key)? {
        size @ 1..=SIZE_MAX => Ok(size),
        size => Err(format!("{key} is {size}, expected 1 to {SIZE_MAX}")),
    };
    Ok(Description {
        architecture,
        classes: size(key::CLASSES)?,
        head_width: size(key::HEAD_WIDTH)?,
        input_side: size(key::INPUT_SIDE)?,
    })
}

fn value<'a>(metadata: &'a BTreeMap<String, String>, key: &str) -> Result<&'a str, String> {
    metadata
        .get(key)
        .map(String::as_str)
        .ok_or_else(|| format!("not written by ekya: no {key} in its metadata"))
}

fn number<T: std::str::FromStr>(
    metadata: &BTreeMap<String, String>,
    key: &str,
) -> Result<T, String> {
    let text = value(metadata, key)?;
    text.parse()
        .map_err(|_| format!("{key} is \"{text}\", expected a number"))
}

fn tensor(name: &str, view: &TensorView<'_>) -> Result<Tensor, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("{name} holds {:?}, expected F32", view.dtype()));
    }
    // The length of the data was compared with the shape when the header was read.
    let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
    Tensor::f_from_data_size(view.data(), &shape, Kind::Float)
        .map_err(|error| format!("{name}: {error}"))
}

fn to_bytes(
    description: &Description,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<Vec<u8>, ModelError> {
    let raw: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let (shape, bytes) = raw_bytes(tensor)?;
            Ok((name.clone(), shape, bytes))
        })
        .collect::<Result<_, TchError>>()?;
    let Description {
        architecture,
        classes,
        head_width,
        input_side,
    } = description;
    let mut metadata: BTreeMap<String, String> = [
        (key::VERSION, VERSION.to_string()),
        (key::ARCHITECTURE, architecture.to_string()),
        (key::CLASSES, classes.to_string()),
        (key::HEAD_WIDTH, head_width.to_string()),
        (key::INPUT_SIDE, input_side.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let parts = raw
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), shape.as_slice(), bytes.as_slice()));
    metadata.insert(key::SHA256.to_owned(), digest(&metadata, parts));

    let failed = |error: safetensors::SafeTensorError| {
        ModelError::Torch(format!("weights to safetensors: {error}"))
    };
    let views = raw
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((
                name.as_str(),
                TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?,
            ))
        })
        .collect::<Result<Vec<_>, ModelError>>()?;
    let metadata: HashMap<String, String> = metadata.into_iter().collect();
    serialize(views, &Some(metadata)).map_err(failed)
}

pub(crate) fn raw_bytes(tensor: &Tensor) -> Result<(Vec<usize>, Vec<u8>), TchError> {
    let tensor = tensor
        .f_detach()?
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * size_of::<f32>()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok((
        tensor
            .size()
            .iter()
            .map(|side| side.unsigned_abs() as usize)
            .collect(),
        bytes,
    ))
}

/// SHA-256, in hexadecimal, of the metadata but for the digest itself and of the tensors in the
/// order of their names. Every part is preceded by its length, so that no two contents look alike.
pub(crate) fn digest<'a>(
    metadata: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (key, value) in metadata.iter().filter(|(key, _)| *key != key::SHA256) {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    for (name, shape, data) in tensors {
        part(name.as_bytes());
        let shape: Vec<u8> = shape
            .iter()
            .flat_map(|&side| (side as u64).to_le_bytes())
            .collect();
        part(&shape);
        part(data);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Classifier, Placement};

    const SMALL: Description = Description {
        architecture: Architecture::Small,
        classes: 4,
        head_width: 8,
        input_side: 32,
    };

    fn reason(bytes: &[u8]) -> String {
        match Classifier::from_bytes(bytes, "test", Placement::Cpu) {
            Err(ModelError::BadFile { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn metadata(changed: &str, to: &str) -> BTreeMap<String, String> {
        let entries = [
            (key::VERSION, "1"),
            (key::ARCHITECTURE, "small"),
            (key::CLASSES, "4"),
            (key::HEAD_WIDTH, "8"),
            (key::INPUT_SIDE, "32"),
        ];
        let change = |(key, value): (&str, &str)| {
            (
                key.to_owned(),
                if key == changed { to } else { value }.to_owned(),
            )
        };
        entries.map(change).into()
    }

    #[test]
    fn metadata_is_read_back() {
        assert_eq!(describe(&metadata("", "")), Ok(SMALL));
    }

    #[test]
    fn metadata_that_cannot_be_right_is_refused() {
        for (key, value, expected) in [
            (key::VERSION, "2", "newer"),
            (key::VERSION, "one", "expected a number"),
            (key::ARCHITECTURE, "large", "large"),
            (key::CLASSES, "0", "classes is 0"),
            (key::HEAD_WIDTH, "99999999", "expected 1 to"),
            (key::INPUT_SIDE, "0", "input_side is 0"),
        ] {
            let refused = describe(&metadata(key, value)).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    /// Undamaged, but of another network than the file says.
    #[test]
    fn tensors_of_another_network_are_refused() {
        let (_, own) = read(&to_bytes(&SMALL, &network(SMALL)).unwrap()).unwrap();
        let with = |description| reason(&to_bytes(&description, &own).unwrap());
        assert!(
            with(Description {
                classes: 5,
                ..SMALL
            })
            .contains("head.output.weight has shape [4, 8]")
        );
        assert!(
            with(Description {
                head_width: 9,
                ..SMALL
            })
            .contains("expected [9, 96]")
        );
        assert!(
            with(Description {
                architecture: Architecture::Teacher,
                ..SMALL
            })
            .contains("block0")
        );
        let mut fewer = network(SMALL);
        fewer.remove("head.output.bias");
        assert!(reason(&to_bytes(&SMALL, &fewer).unwrap()).contains("head.output.bias is missing"));
        let mut more = network(SMALL);
        more.insert(
            "stray".to_owned(),
            Tensor::zeros([1], (Kind::Float, Device::Cpu)),
        );
        assert!(reason(&to_bytes(&SMALL, &more).unwrap()).contains("stray"));
    }

    fn network(description: Description) -> BTreeMap<String, Tensor> {
        let Description {
            architecture,
            classes,
            head_width,
            ..
        } = description;
        let classifier =
            Classifier::new(architecture, classes, head_width, Placement::Cpu, 1).unwrap();
        classifier
            .tensors()
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect()
    }
}
