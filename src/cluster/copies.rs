//! The copies that a node keeps of other nodes' streams, in the folder `copies` of its state folder: each
//! as it would lie in a state folder, and beside it how it was assigned.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ekya_models::CheckpointStore;
use serde::{Deserialize, Serialize};

use super::assignments::Assignment;
use super::bundle;
use super::homes::Entry;
use crate::keep::{StreamFolder, streams};
use crate::schedule::Found;
use crate::write::write_privately;

/// A copy of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Copied {
    /// As its node runs it.
    pub(super) assignment: Assignment,
    /// Counts what was copied.
    pub(super) revision: u64,
}

/// What there is in the folder.
#[derive(Debug)]
pub(super) struct Copies {
    known: BTreeMap<String, Copied>,
}

impl Copies {
    /// Those in the state folder at `state`; what cannot be read is left out.
    pub(super) fn read(state: &Path) -> Self {
        let names = streams(&root(state)).unwrap_or_default();
        let known = names.into_iter().filter_map(|stream| {
            let bytes = fs::read(folder(state, &stream).join(ENTRY)).ok()?;
            let copied = serde_json::from_slice(&bytes).ok()?;
            Some((stream, copied))
        });
        Self {
            known: known.collect(),
        }
    }

    pub(super) fn get(&self, stream: &str) -> Option<&Copied> {
        self.known.get(stream)
    }

    pub(super) fn add(&mut self, stream: &str, copied: Copied) {
        self.known.insert(stream.to_owned(), copied);
    }

    pub(super) fn remove(&mut self, stream: &str) {
        self.known.remove(stream);
    }

    /// What is kept, for whoever leads.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |(stream, copied): (&String, &Copied)| Entry {
            stream: stream.clone(),
            epoch: copied.assignment.epoch,
            home: copied.assignment.home.clone(),
            revision: copied.revision,
            nodes: copied.assignment.config.nodes.clone(),
        };
        self.known.iter().map(entry).collect()
    }
}

const ENTRY: &str = "copy.json";

fn root(state: &Path) -> PathBuf {
    state.join("copies")
}

fn folder(state: &Path, stream: &str) -> PathBuf {
    of(&root(state), stream)
}

/// The folder in which both the checkpoints and the frames of a stream lie.
fn of(state: &Path, stream: &str) -> PathBuf {
    let StreamFolder { checkpoints, .. } = StreamFolder::of(state, stream);
    checkpoints
        .parent()
        .map_or_else(|| checkpoints.clone(), Path::to_owned)
}

/// Keeps a copy on the disk, in the place of an older one.
///
/// # Errors
/// What the system says.
pub(super) fn keep(state: &Path, stream: &str, copied: &Copied, bundle: &[u8]) -> io::Result<()> {
    let folder = folder(state, stream);
    bundle::unpack(bundle, &folder)?;
    // Strings and finite numbers: always JSON. A camera's URL may hold its password.
    let entry = serde_json::to_vec_pretty(copied).unwrap_or_default();
    write_privately(&folder.join(ENTRY), &entry).map_err(io::Error::other)
}

/// Puts a copy where the node runs its streams from, in the place of what it has of it from before.
///
/// # Errors
/// What the system says.
pub(super) fn promote(state: &Path, stream: &str) -> io::Result<()> {
    let (from, to) = (folder(state, stream), of(state, stream));
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    bundle::remove(&to)?;
    fs::rename(from, to)
}

/// Puts it back, when it could not be run.
///
/// # Errors
/// What the system says.
pub(super) fn put_back(state: &Path, stream: &str) -> io::Result<()> {
    let (from, to) = (of(state, stream), folder(state, stream));
    bundle::remove(&to)?;
    fs::rename(from, to)
}

/// Puts what has come of a stream where the node runs its streams from.
///
/// # Errors
/// What the system says.
pub(super) fn put_in_place(state: &Path, stream: &str, bundle: &[u8]) -> io::Result<()> {
    bundle::unpack(bundle, &of(state, stream))
}

/// The newest student of a stream that has run on another node, in a folder that goes with it; nothing
/// where there is none that is whole.
///
/// # Errors
/// What the system says.
pub(super) fn find(
    state: &Path,
    stream: &str,
    node: &str,
    bundle: &[u8],
) -> io::Result<Option<Box<Found>>> {
    let folder = tempfile::Builder::new()
        .prefix(".found")
        .tempdir_in(state)?;
    let inside = of(folder.path(), stream);
    bundle::unpack(bundle, &inside)?;
    let checkpoints = StreamFolder::of(folder.path(), stream).checkpoints;
    let store = CheckpointStore::open(&checkpoints, 1).map_err(io::Error::other)?;
    let (newest, _) = store.newest().map_err(io::Error::other)?;
    Ok(newest.map(|newest| {
        Box::new(Found {
            stream: stream.to_owned(),
            node: node.to_owned(),
            classes: newest.manifest.provenance.classes,
            weights: newest.weights,
            folder,
        })
    }))
}

/// Removes a copy.
///
/// # Errors
/// What the system says.
pub(super) fn drop_copy(state: &Path, stream: &str) -> io::Result<()> {
    bundle::remove(&folder(state, stream))
}

/// Changes when what the state folder keeps of a stream does: its checkpoints, and its frames.
pub(super) fn version(state: &Path, stream: &str) -> [u64; 2] {
    let StreamFolder {
        checkpoints,
        frames,
    } = StreamFolder::of(state, stream);
    [checkpoints, frames].map(|folder| {
        let modified = folder.metadata().and_then(|folder| folder.modified());
        let since = modified
            .ok()
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(0, |since| since.as_nanos() as u64)
    })
}
