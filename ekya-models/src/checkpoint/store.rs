//! A folder of checkpoints, the newest of which a stream continues from.
//!
//! A checkpoint is two files, `000012.safetensors` and `000012.json`. The manifest is written last
//! and removed first, so that whatever has a manifest has its weights: a crash at any point leaves
//! the checkpoint before. One process writes to a folder at a time, and sees to that itself; any
//! number may read. What a crash has left is swept away by the next save.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Provenance, VERSION};
use super::sealed::{hex, seal, unseal};
use super::whole::{is_partial, write_whole};
use crate::{ModelError, Student};

/// Longest manifest that is read: several times that of the most frames and classes.
const MANIFEST_BYTES_MAX: u64 = 8 << 20;

/// Extensions of the two files of a checkpoint.
const WEIGHTS: &str = "safetensors";
const MANIFEST: &str = "json";

/// The checkpoints of one stream.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    folder: PathBuf,
    keep: usize,
}

/// A checkpoint whose manifest is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What is known about it.
    pub manifest: Manifest,
    /// The file of weights.
    pub weights: PathBuf,
}

/// What looks like a checkpoint and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Its number.
    pub sequence: u64,
    /// The file that is to blame.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listing {
    /// Newest first.
    pub checkpoints: Vec<Checkpoint>,
    /// Newest first.
    pub unusable: Vec<Unusable>,
}

impl CheckpointStore {
    /// The store in `folder`, which is made when absent. Each save keeps the newest `keep`
    /// checkpoints, at least one, and removes those before.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder cannot be made.
    pub fn open(folder: &Path, keep: usize) -> Result<Self, ModelError> {
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            keep: keep.max(1),
        })
    }

    /// Saves `student` as the newest checkpoint, then removes what is too old.
    ///
    /// # Errors
    /// [`ModelError::Io`] when it cannot be written, or something old not removed; the checkpoints
    /// before are still there then.
    pub fn save(
        &self,
        student: &dyn Student,
        provenance: Provenance,
    ) -> Result<Checkpoint, ModelError> {
        self.sweep()?;
        let last = self.files()?.last_key_value().map_or(0, |(last, _)| *last);
        let sequence = last.saturating_add(1);
        let weights = self.weights(sequence);
        student.save(&weights)?;
        let (weights_sha256, weights_bytes) = file_digest(&weights).map_err(failed(&weights))?;
        let manifest = Manifest {
            sequence,
            weights_sha256,
            weights_bytes,
            provenance,
        };
        self.write_manifest(&manifest)?;
        self.sweep()?;
        Ok(Checkpoint { manifest, weights })
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<(), ModelError> {
        let path = self.path(manifest.sequence, MANIFEST);
        // What cannot be read back, such as an accuracy that is no number, must not be written.
        let bytes = seal(VERSION, manifest)
            .and_then(|bytes| unseal::<Manifest>(&bytes, VERSION).map(|_| bytes))
            .map_err(|reason| ModelError::BadInput(format!("a manifest: {reason}")))?;
        write_whole(&path, |file| file.write_all(&bytes)).map_err(failed(&path))
    }

    /// The checkpoints whose manifests are whole, and what is not. Weights are not looked into: see
    /// [`Self::verify`].
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder cannot be read.
    pub fn list(&self) -> Result<Listing, ModelError> {
        let mut listing = Listing::default();
        for (sequence, _) in self
            .files()?
            .into_iter()
            .rev()
            .filter(|(_, manifest)| *manifest)
        {
            match self.read(sequence) {
                Ok(Some(checkpoint)) => listing.checkpoints.push(checkpoint),
                // Another process has removed it in the meantime.
                Ok(None) => {}
                Err(reason) => listing.unusable.push(Unusable {
                    sequence,
                    path: self.path(sequence, MANIFEST),
                    reason,
                }),
            }
        }
        Ok(listing)
    }

    /// The newest checkpoint of which manifest and weights are whole; and what is newer, but is not.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder cannot be read.
    pub fn newest(&self) -> Result<(Option<Checkpoint>, Vec<Unusable>), ModelError> {
        let Listing {
            checkpoints,
            mut unusable,
        } = self.list()?;
        let mut newest = None;
        for checkpoint in checkpoints {
            match self.verify(&checkpoint) {
                Ok(()) => {
                    newest = Some(checkpoint);
                    break;
                }
                Err(error) => unusable.push(Unusable {
                    sequence: checkpoint.manifest.sequence,
                    path: checkpoint.weights,
                    reason: error.to_string(),
                }),
            }
        }
        let oldest = newest.as_ref().map_or(0, |newest| newest.manifest.sequence);
        unusable.retain(|one| one.sequence > oldest);
        unusable.sort_by_key(|one| Reverse(one.sequence));
        Ok((newest, unusable))
    }

    /// Compares the weights with the digest in the manifest.
    ///
    /// # Errors
    /// [`ModelError::Io`] when they cannot be read, [`ModelError::BadFile`] when they are others.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<(), ModelError> {
        let path = &checkpoint.weights;
        let (actual, bytes) = file_digest(path).map_err(failed(path))?;
        let Manifest {
            weights_sha256,
            weights_bytes,
            ..
        } = &checkpoint.manifest;
        if actual == *weights_sha256 && bytes == *weights_bytes {
            return Ok(());
        }
        Err(ModelError::BadFile {
            path: path.clone(),
            reason: format!(
                "damaged or swapped: {bytes} bytes of digest {actual}, its manifest says {weights_bytes} of {weights_sha256}"
            ),
        })
    }

    /// Verifies the weights and has `load` make a student of them.
    ///
    /// # Errors
    /// As [`Self::verify`] and `load`, and [`ModelError::BadFile`] when the student is of another
    /// network than the manifest says.
    pub fn load(
        &self,
        checkpoint: &Checkpoint,
        load: impl FnOnce(&Path) -> Result<Box<dyn Student>, ModelError>,
    ) -> Result<Box<dyn Student>, ModelError> {
        self.verify(checkpoint)?;
        let student = load(&checkpoint.weights)?;
        let expected = &checkpoint.manifest.provenance.network;
        if student.network() == *expected {
            return Ok(student);
        }
        Err(ModelError::BadFile {
            path: checkpoint.weights.clone(),
            reason: format!(
                "weights of network {}, its manifest says {expected}",
                student.network()
            ),
        })
    }

    /// Removes the checkpoint of that number, whole or not.
    ///
    /// # Errors
    /// [`ModelError::Io`] when a file of it cannot be removed.
    pub fn remove(&self, sequence: u64) -> Result<(), ModelError> {
        remove_if_there(&self.path(sequence, MANIFEST))?;
        remove_if_there(&self.path(sequence, WEIGHTS))
    }

    /// Where the weights of the checkpoint of that number lie.
    #[must_use]
    pub fn weights(&self, sequence: u64) -> PathBuf {
        self.path(sequence, WEIGHTS)
    }

    /// Removes what is too old, and what an interrupted save or removal has left.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder cannot be read or a file cannot be removed.
    pub fn sweep(&self) -> Result<(), ModelError> {
        let checkpoints = self.list()?.checkpoints;
        let oldest = checkpoints.get(self.keep - 1);
        let too_old = |sequence| oldest.is_some_and(|oldest| sequence < oldest.manifest.sequence);
        for (sequence, manifest) in self.files()? {
            if too_old(sequence) || !manifest {
                self.remove(sequence)?;
            }
        }
        for name in self.names()?.iter().filter(|name| is_partial(name)) {
            remove_if_there(&self.folder.join(name))?;
        }
        Ok(())
    }

    /// Reads a manifest; `None` when it is not there.
    fn read(&self, sequence: u64) -> Result<Option<Checkpoint>, String> {
        let path = self.path(sequence, MANIFEST);
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let manifest: Manifest = unseal(&bytes, VERSION)?;
        if manifest.sequence != sequence {
            return Err(format!(
                "the manifest of checkpoint {}: files were swapped",
                manifest.sequence
            ));
        }
        Ok(Some(Checkpoint {
            manifest,
            weights: self.weights(sequence),
        }))
    }

    fn path(&self, sequence: u64, extension: &str) -> PathBuf {
        self.folder.join(format!("{sequence:06}.{extension}"))
    }

    /// The numbers of which there are files, and whether a manifest is among them.
    fn files(&self) -> Result<BTreeMap<u64, bool>, ModelError> {
        let mut all = BTreeMap::new();
        for name in self.names()? {
            if let Some((sequence, extension)) = parse(&name) {
                *all.entry(sequence).or_default() |= extension == MANIFEST;
            }
        }
        Ok(all)
    }

    fn names(&self) -> Result<Vec<String>, ModelError> {
        let entries = std::fs::read_dir(&self.folder).map_err(failed(&self.folder))?;
        let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
        // Names that are no text are none of ours.
        let names = entries.filter_map(|entry| name(entry).transpose());
        names
            .collect::<io::Result<_>>()
            .map_err(failed(&self.folder))
    }
}

/// Number and extension of a file of a checkpoint, in the one spelling that a store gives it.
fn parse(name: &str) -> Option<(u64, &str)> {
    let (stem, extension) = name.split_once('.')?;
    let sequence: u64 = stem.parse().ok()?;
    let ours = matches!(extension, WEIGHTS | MANIFEST) && format!("{sequence:06}") == stem;
    ours.then_some((sequence, extension))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ModelError {
    let path = path.to_owned();
    move |source| ModelError::Io { path, source }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let length = std::fs::metadata(path)?.len();
    if length > MANIFEST_BYTES_MAX {
        return Err(io::Error::other(format!(
            "{length} bytes are no manifest, which has at most {MANIFEST_BYTES_MAX}"
        )));
    }
    std::fs::read(path)
}

/// SHA-256 of a file, in hexadecimal, and its length.
fn file_digest(path: &Path) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hash)?;
    Ok((hex(&hash.finalize()), bytes))
}

fn remove_if_there(path: &Path) -> Result<(), ModelError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}
