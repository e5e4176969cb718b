//! Erases a stream's frames on request, and finds the checkpoints that have learnt from them.
//!
//! Files are removed, not overwritten: what a disk makes of that is the disk's business.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ekya_models::{CheckpointStore, FrameId, Seen};

use super::folder::{StateError, StateFolder, StreamFolder, streams};
use super::frames::{FrameError, FrameStore};

/// What an erasure did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Erasure {
    /// Frames erased, those of which only a part was there included.
    pub frames: usize,
    /// Bytes that they took.
    pub bytes: u64,
    /// The checkpoints that have learnt from such frames.
    pub saw: Vec<Saw>,
}

/// A checkpoint that has learnt from erased frames, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saw {
    /// Its stream.
    pub stream: String,
    /// Its number.
    pub sequence: u64,
    /// Its weights.
    pub weights: PathBuf,
    /// What is known.
    pub verdict: Verdict,
}

/// What a checkpoint has learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// So many of the frames asked for.
    Frames(usize),
    /// Its list of frames is cut short or cannot be read.
    Unknown,
}

/// Erases the frames of `stream` that were taken before `before` (Unix seconds), or all; damaged and
/// half-written ones always, since nobody can say when they were taken. With `checkpoints` those
/// that have or may have learnt from frames of that time, erased now or gone long ago, are removed
/// too.
///
/// # Errors
/// [`StateError`]. What was erased until then is gone.
pub fn erase(
    state: &StateFolder,
    stream: &str,
    before: Option<u64>,
    checkpoints: bool,
) -> Result<Erasure, StateError> {
    let known = streams_with(state.path(), stream)?;
    let folder = StreamFolder::of(state.path(), stream).frames;
    let mut frames = FrameStore::open(&folder, Vec::new()).map_err(frame_error)?;
    let asked = Asked {
        stream,
        before: before.unwrap_or(u64::MAX),
        ids: frames.before(before.unwrap_or(u64::MAX)),
    };
    let mut erasure = Erasure::default();
    for name in &known {
        erasure
            .saw
            .extend(asked.saw(state.path(), name, checkpoints)?);
    }
    for id in &asked.ids {
        erasure.bytes += frames.remove(*id).map_err(frame_error)?;
        erasure.frames += 1;
    }
    Ok(erasure)
}

/// The streams of which something is kept, `stream` among them.
fn streams_with(state: &Path, stream: &str) -> Result<Vec<String>, StateError> {
    let known = streams(state)?;
    if known.iter().any(|name| name == stream) {
        return Ok(known);
    }
    Err(StateError::UnknownStream {
        path: state.to_owned(),
        stream: stream.to_owned(),
        known: known.join(", "),
    })
}

fn frame_error(FrameError { path, reason }: FrameError) -> StateError {
    StateError::Folder {
        path,
        step: "erase frames",
        reason,
    }
}

/// What is to be erased.
struct Asked<'a> {
    stream: &'a str,
    /// Unix seconds.
    before: u64,
    ids: BTreeSet<FrameId>,
}

impl Asked<'_> {
    /// The checkpoints of the stream `name` that have learnt from it; removes them when told to.
    fn saw(&self, state: &Path, name: &str, remove: bool) -> Result<Vec<Saw>, StateError> {
        let folder = StreamFolder::of(state, name).checkpoints;
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let store = CheckpointStore::open(&folder, usize::MAX)?;
        let listing = store.list()?;
        let readable = listing.checkpoints.iter().filter_map(|checkpoint| {
            let verdict = self.verdict(name, &checkpoint.manifest.provenance.seen)?;
            Some((checkpoint.manifest.sequence, verdict))
        });
        let damaged = listing
            .unusable
            .iter()
            .map(|one| (one.sequence, Verdict::Unknown));
        // Of another stream's it would be far-fetched.
        let damaged = damaged.filter(|_| name == self.stream);
        let saw = readable.chain(damaged).map(|(sequence, verdict)| Saw {
            stream: name.to_owned(),
            sequence,
            weights: store.weights(sequence),
            verdict,
        });
        let saw: Vec<Saw> = saw.collect();
        for one in saw.iter().filter(|_| remove) {
            store.remove(one.sequence)?;
        }
        if name == self.stream {
            // What an interrupted save has left may have learnt from anything.
            store.sweep()?;
        }
        Ok(saw)
    }

    /// Of the stream's own checkpoints the time of a frame decides, since most frames that one has
    /// learnt from are no longer kept; of another stream's, whether it is one of those erased now.
    fn verdict(&self, name: &str, seen: &Seen) -> Option<Verdict> {
        let own = name == self.stream;
        let asked = |(taken_at, id): &(u64, FrameId)| {
            own && *taken_at < self.before || self.ids.contains(id)
        };
        match seen.frames().filter(asked).count() {
            0 if own && seen.left_out_until().is_some() => Some(Verdict::Unknown),
            0 => None,
            frames => Some(Verdict::Frames(frames)),
        }
    }
}
