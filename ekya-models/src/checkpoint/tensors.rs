//! Named tensors in files: safetensors, with what is to be said about them in the file's metadata.
//!
//! They are written in two ways. [`save`] makes a file that lasts: with a digest, on the disk, there
//! whole or not at all. [`hand_over`] makes one for a process that reads it at once and is told when
//! it is whole; it has nothing of all that. Either way values go from the memory of the tensors into
//! the file without a copy in between, and back, and one reader reads both.
//!
//! The digest covers the metadata and every tensor's name, shape and bytes. Where a file carries one,
//! it is verified before any tensor is handed out: a damaged file is never half a model. A file
//! without must still have the length and the layout that its header says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, TchError, Tensor};

use super::whole::write_whole;
use crate::ModelError;

/// Key of the digest in the metadata.
pub(crate) const SHA256_KEY: &str = "sha256";

/// Names ending so count training steps in published files; they are no floats, and nothing depends
/// on them.
const COUNTERS: &str = ".num_batches_tracked";

/// The only type of values that a network takes.
const F32: &str = "F32";

/// A longer header is none.
const HEADER_MAX: u64 = 100_000_000;

/// What a file says beside its tensors.
pub(crate) type Metadata = BTreeMap<String, String>;

/// Tensors by name.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// What stands before the values, as JSON.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: Metadata,
    #[serde(flatten)]
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor's values are, behind the header.
#[derive(Serialize, Deserialize)]
struct Place {
    dtype: String,
    shape: Vec<usize>,
    #[serde(rename = "data_offsets")]
    span: (u64, u64),
}

/// A tensor whose values are floats, one after the other, in main memory.
struct Plain<'a> {
    name: &'a str,
    shape: Vec<usize>,
    tensor: Tensor,
}

/// Why a file holds no tensors.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// It cannot be read.
    Unread(io::Error),
    /// It is something else, or damaged: why, as text.
    Bad(String),
}

impl Flaw {
    /// The error about the file at `path`.
    pub(crate) fn at(self, path: &Path) -> ModelError {
        let path = path.to_owned();
        match self {
            Self::Unread(source) => ModelError::Io { path, source },
            Self::Bad(reason) => ModelError::BadFile { path, reason },
        }
    }
}

/// Writes a file that lasts: whole or not at all, with a digest.
///
/// # Errors
/// [`ModelError::Io`] when it cannot be written, [`ModelError::Torch`] when the tensors cannot be
/// read; what was at `path` before is still there then.
pub(crate) fn save(
    path: &Path,
    mut metadata: Metadata,
    tensors: &Tensors,
) -> Result<(), ModelError> {
    let tensors = plain(tensors)?;
    let digest = digest(&metadata, &tensors);
    metadata.insert(SHA256_KEY.to_owned(), digest);
    write_whole(path, |file| write(file, metadata, &tensors)).map_err(unwritten(path))
}

/// Writes a file for another process that is told when it is there, and then reads it once: without
/// digest, into the system's memory but not onto a disk.
///
/// # Errors
/// [`ModelError::Io`] when it cannot be written or there is a file already, [`ModelError::Torch`]
/// when the tensors cannot be read. What has been written by then is removed.
pub(crate) fn hand_over(
    path: &Path,
    metadata: Metadata,
    tensors: &Tensors,
) -> Result<(), ModelError> {
    let tensors = plain(tensors)?;
    let mut file = File::create_new(path).map_err(unwritten(path))?;
    let written = write(&mut file, metadata, &tensors);
    if written.is_err() {
        // Nothing more can be done when this fails too; the first error is the one that counts.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(unwritten(path))
}

/// Reads a file: what it says, and its tensors in main memory.
///
/// # Errors
/// [`ModelError::Io`] when it cannot be read, [`ModelError::BadFile`] when it is damaged or no such
/// file.
pub(crate) fn open(path: &Path) -> Result<(Metadata, Tensors), ModelError> {
    let read = || {
        let file = File::open(path).map_err(Flaw::Unread)?;
        let bytes = file.metadata().map_err(Flaw::Unread)?.len();
        read(&mut BufReader::new(file), bytes)
    };
    read().map_err(|flaw: Flaw| flaw.at(path))
}

/// Reads what [`open`] reads from `source`, which gives so many `bytes`.
///
/// # Errors
/// [`Flaw`].
pub(crate) fn read(source: &mut impl Read, bytes: u64) -> Result<(Metadata, Tensors), Flaw> {
    let header = Header::read(source, bytes)?;
    let mut places: Vec<(String, Place)> = header.tensors.into_iter().collect();
    places.sort_by_key(|(_, place)| place.span);
    let mut tensors = Tensors::new();
    for (name, place) in places {
        if name.ends_with(COUNTERS) {
            let mut values = source.take(place.bytes());
            io::copy(&mut values, &mut io::sink()).map_err(unread)?;
        } else {
            let tensor = place.tensor(&name, source)?;
            tensors.insert(name, tensor);
        }
    }
    if let Some(stored) = header.metadata.get(SHA256_KEY) {
        let actual = digest(&header.metadata, &plain(&tensors).map_err(torch)?);
        if *stored != actual {
            return Err(Flaw::Bad(format!(
                "damaged: the digest of its content is {actual}, it says {stored}"
            )));
        }
    }
    Ok((header.metadata, tensors))
}

impl Header {
    fn of(metadata: Metadata, tensors: &[Plain<'_>]) -> Self {
        let mut end = 0;
        let place = |plain: &Plain<'_>| {
            let start = end;
            end += bytes(&plain.tensor).len() as u64;
            let place = Place {
                dtype: F32.to_owned(),
                shape: plain.shape.clone(),
                span: (start, end),
            };
            (plain.name.to_owned(), place)
        };
        Self {
            metadata,
            tensors: tensors.iter().map(place).collect(),
        }
    }

    /// Reads it, and checks that the values behind it are what it says and nothing else.
    fn read(source: &mut impl Read, bytes: u64) -> Result<Self, Flaw> {
        let bad = |reason: &dyn std::fmt::Display| {
            Flaw::Bad(format!("not a safetensors file, or cut short: {reason}"))
        };
        let mut length = [0; 8];
        source.read_exact(&mut length).map_err(unread)?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_MAX.min(bytes.saturating_sub(8)) {
            return Err(bad(&format_args!("a header of {length} bytes in {bytes}")));
        }
        let mut json = vec![0; length as usize];
        source.read_exact(&mut json).map_err(unread)?;
        let header: Self = serde_json::from_slice(&json).map_err(|error| bad(&error))?;
        let mut spans: Vec<(u64, u64)> = header.tensors.values().map(|place| place.span).collect();
        spans.sort_unstable();
        let end = spans.into_iter().try_fold(0, |end, (start, next)| {
            (start == end && next >= end).then_some(next)
        });
        if end != Some(bytes - 8 - length) {
            return Err(bad(&format_args!(
                "its header and the {bytes} bytes that it has do not fit together"
            )));
        }
        Ok(header)
    }

    /// As it stands in a file: its length, and JSON with blanks behind it so that the values begin
    /// at a multiple of eight.
    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        let mut json = serde_json::to_vec(self)?;
        json.resize(json.len().next_multiple_of(8), b' ');
        file.write_all(&(json.len() as u64).to_le_bytes())?;
        file.write_all(&json)
    }
}

impl Place {
    fn bytes(&self) -> u64 {
        self.span.1 - self.span.0
    }

    /// Reads the values.
    fn tensor(&self, name: &str, source: &mut impl Read) -> Result<Tensor, Flaw> {
        if self.dtype != F32 {
            let dtype = &self.dtype;
            return Err(Flaw::Bad(format!("{name} holds {dtype}, expected {F32}")));
        }
        let values = self.shape.iter().try_fold(1, |all: u64, &side| {
            all.checked_mul(side as u64)
                .filter(|&all| all <= i64::MAX as u64)
        });
        let all = values.and_then(|values| values.checked_mul(size_of::<f32>() as u64));
        if all != Some(self.bytes()) {
            let (shape, bytes) = (&self.shape, self.bytes());
            return Err(Flaw::Bad(format!(
                "{name} of shape {shape:?} has {bytes} bytes"
            )));
        }
        let shape: Vec<i64> = self.shape.iter().map(|&side| side as i64).collect();
        let mut tensor = Tensor::f_empty(&shape[..], (Kind::Float, Device::Cpu)).map_err(torch)?;
        source.read_exact(bytes_mut(&mut tensor)).map_err(unread)?;
        Ok(tensor)
    }
}

/// Writes header and values.
fn write(file: &mut File, metadata: Metadata, tensors: &[Plain<'_>]) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    Header::of(metadata, tensors).write(&mut file)?;
    for plain in tensors {
        file.write_all(bytes(&plain.tensor))?;
    }
    file.flush()
}

/// The tensors in the order of their names; what is a float in main memory already is not copied.
fn plain(tensors: &Tensors) -> Result<Vec<Plain<'_>>, TchError> {
    tensors.iter().map(Plain::of).collect()
}

impl<'a> Plain<'a> {
    fn of((name, tensor): (&'a String, &Tensor)) -> Result<Self, TchError> {
        let tensor = tensor
            .f_detach()?
            .f_to_device(Device::Cpu)?
            .f_to_kind(Kind::Float)?
            .f_contiguous()?;
        let size = tensor.size();
        Ok(Self {
            name,
            shape: size
                .iter()
                .map(|side| side.unsigned_abs() as usize)
                .collect(),
            tensor,
        })
    }
}

/// The values of a [`Plain`] tensor, where libtorch has them.
fn bytes(tensor: &Tensor) -> &[u8] {
    if tensor.numel() == 0 {
        return &[];
    }
    let (start, bytes) = (tensor.data_ptr().cast(), tensor.numel() * size_of::<f32>());
    // SAFETY: from there on libtorch holds so many bytes for as long as the tensor lives, since its
    // values are contiguous floats in main memory. Nobody writes to them meanwhile: whoever trains a
    // tensor does so on the thread that is here now.
    unsafe { std::slice::from_raw_parts(start, bytes) }
}

/// The same for writing, of a tensor that has just been made.
fn bytes_mut(tensor: &mut Tensor) -> &mut [u8] {
    if tensor.numel() == 0 {
        return &mut [];
    }
    let (start, bytes) = (tensor.data_ptr().cast(), tensor.numel() * size_of::<f32>());
    // SAFETY: as in `bytes`, and nobody else knows the tensor yet.
    unsafe { std::slice::from_raw_parts_mut(start, bytes) }
}

/// SHA-256, in hexadecimal, of the metadata but for the digest itself and of the tensors in the
/// order of their names. Every part is preceded by its length, so that no two contents look alike.
fn digest(metadata: &Metadata, tensors: &[Plain<'_>]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (key, value) in metadata.iter().filter(|(key, _)| *key != SHA256_KEY) {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    for plain in tensors {
        part(plain.name.as_bytes());
        let shape = plain.shape.iter();
        let shape: Vec<u8> = shape
            .flat_map(|&side| (side as u64).to_le_bytes())
            .collect();
        part(&shape);
        part(bytes(&plain.tensor));
    }
    super::sealed::hex(&hash.finalize())
}

fn unwritten(path: &Path) -> impl FnOnce(io::Error) -> ModelError {
    move |source| ModelError::Io {
        path: path.to_owned(),
        source,
    }
}

fn unread(error: io::Error) -> Flaw {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Flaw::Bad("not a safetensors file, or cut short".to_owned())
        }
        _ => Flaw::Unread(error),
    }
}

fn torch(error: TchError) -> Flaw {
    let error = ModelError::from(error);
    Flaw::Bad(error.to_string())
}
