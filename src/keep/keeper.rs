//! Keeps what one stream learns: checkpoints of its promoted students, and the frames that it would
//! train on.
//!
//! A disk that fails is logged with what to do, and counted; the stream goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ekya_models::{Checkpoint, CheckpointStore, ModelError, Provenance, Seen, Student, TrainedOn};
use ekya_sched::RetrainingConfig;

use super::folder::{StateError, StateFolder, StreamFolder};
use super::frames::{FrameError, FrameStore};
use super::ids::Ids;
use crate::learn::Kept;

/// What weights must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Name of the stream.
    pub stream: String,
    /// The network that its configuration names.
    pub network: String,
    /// Its class names, by class index.
    pub classes: Vec<String>,
}

/// How a student was retrained, and how good it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrained {
    /// How.
    pub config: RetrainingConfig,
    /// Seed of the retraining.
    pub seed: u64,
    /// Accuracy on held-out frames, 0..=1.
    pub accuracy: f64,
    /// How many frames that is the mean of.
    pub held_out: usize,
}

/// Keeps what one stream learns.
#[derive(Debug)]
pub struct Keeper {
    kind: Kind,
    checkpoints: CheckpointStore,
    frames: FrameStore,
    ids: Ids,
    /// Digest of the serving student's weights, where they are on disk.
    parent: Option<String>,
    /// Number of the checkpoint written last, and the parent it had.
    last: Option<(u64, Option<String>)>,
    /// What the serving student has been trained on.
    seen: Seen,
    failures: Arc<AtomicU64>,
    /// The lock is held for as long as anybody may write.
    _state: StateFolder,
}

impl Keeper {
    /// A keeper in `state` for a stream of that kind, which keeps the newest `checkpoints`.
    ///
    /// # Errors
    /// [`StateError`] when the stream's folders cannot be made.
    pub fn open(state: &StateFolder, kind: Kind, checkpoints: usize) -> Result<Self, StateError> {
        let folder = StreamFolder::of(state.path(), &kind.stream);
        let frames = FrameStore::open(&folder.frames, kind.classes.clone());
        let frames = frames.map_err(|FrameError { path, reason }| StateError::Folder {
            path,
            step: "open it",
            reason,
        })?;
        Ok(Self {
            checkpoints: CheckpointStore::open(&folder.checkpoints, checkpoints)?,
            frames,
            ids: Ids::default(),
            parent: None,
            last: None,
            seen: Seen::default(),
            failures: Arc::default(),
            kind,
            _state: state.clone(),
        })
    }

    /// Counts what could not be kept.
    #[must_use]
    pub fn failures(&self) -> Arc<AtomicU64> {
        self.failures.clone()
    }

    /// The student of the newest checkpoint that is whole, if it fits, made by `load`, and its
    /// number. The log says what is skipped, and why the stream starts anew when it does.
    pub fn resume(
        &mut self,
        load: impl FnOnce(&Path) -> Result<Box<dyn Student>, ModelError>,
    ) -> Option<(Box<dyn Student>, u64)> {
        let newest = self.newest()?;
        let (stream, number) = (&self.kind.stream, newest.manifest.sequence);
        let loaded = self.fit(&newest.manifest.provenance).and_then(|()| {
            let loaded = self.checkpoints.load(&newest, load);
            loaded.map_err(|error| error.to_string())
        });
        match loaded {
            Ok(student) => {
                let accuracy = newest.manifest.provenance.accuracy;
                tracing::info!(
                    stream,
                    number,
                    accuracy,
                    "continues from its newest checkpoint"
                );
                self.parent = Some(newest.manifest.weights_sha256);
                self.seen = newest.manifest.provenance.seen;
                Some((student, number))
            }
            Err(reason) => {
                tracing::warn!(stream, number, reason, "starts from the configured weights");
                None
            }
        }
    }

    fn newest(&self) -> Option<Checkpoint> {
        let stream = &self.kind.stream;
        let found = self.checkpoints.newest();
        let (newest, unusable) = found
            .inspect_err(
                |error| tracing::warn!(stream, %error, "starts from the configured weights"),
            )
            .ok()?;
        for one in unusable {
            let (path, reason) = (one.path.display(), one.reason);
            tracing::warn!(stream, %path, reason, "not a checkpoint; the one before it is used");
        }
        newest
    }

    fn fit(&self, provenance: &Provenance) -> Result<(), String> {
        let Kind {
            stream,
            network,
            classes,
        } = &self.kind;
        let (of, kept, known) = (&provenance.stream, &provenance.network, &provenance.classes);
        if of != stream {
            return Err(format!("the newest checkpoint is one of stream '{of}'"));
        }
        if kept != network {
            return Err(format!(
                "the newest checkpoint is of network {kept}, the configuration names {network}"
            ));
        }
        if known != classes {
            return Err(format!(
                "the newest checkpoint knows the classes {}, the stream has {}",
                known.join(", "),
                classes.join(", ")
            ));
        }
        Ok(())
    }

    /// The frames kept, taken at `since` (Unix seconds) or later: the latest `limit`.
    #[must_use]
    pub fn frames(&self, since: u64, limit: usize) -> Vec<Kept> {
        let mut unreadable = Vec::new();
        let frames = self.frames.load().filter_map(|read| {
            let read = read.map_err(|one| unreadable.push(one));
            read.ok()
        });
        let frames: Vec<Kept> = frames
            .filter(|kept| kept.taken_at >= since)
            .take(limit)
            .collect();
        if let Some(first) = unreadable.first() {
            let (stream, count) = (&self.kind.stream, unreadable.len());
            let (id, reason) = (first.id, &first.reason);
            tracing::warn!(
                stream, count, %id, reason,
                "frames of the training memory cannot be used; they will be removed"
            );
        }
        frames
    }

    /// Saves a promoted student that was retrained on `examples`; `now` in Unix seconds.
    pub fn save(
        &mut self,
        student: &dyn Student,
        retrained: Retrained,
        examples: &[Kept],
        now: u64,
    ) {
        let ids = &mut self.ids;
        let before = self.parent.take();
        self.seen.add(
            examples
                .iter()
                .map(|kept| (kept.taken_at, ids.of(&kept.example.image))),
        );
        let provenance = Provenance {
            stream: self.kind.stream.clone(),
            network: student.network(),
            classes: self.kind.classes.clone(),
            parent: before.clone(),
            trained_on: self.summary(examples),
            seen: self.seen.clone(),
            config: retrained.config,
            seed: retrained.seed,
            accuracy: retrained.accuracy,
            held_out: retrained.held_out,
            written_at: now,
        };
        match self.checkpoints.save(student, provenance) {
            Ok(saved) => {
                let (stream, number) = (&self.kind.stream, saved.manifest.sequence);
                tracing::info!(stream, number, "kept a checkpoint");
                self.last = Some((number, before));
                self.parent = Some(saved.manifest.weights_sha256);
            }
            Err(error) => self.failed("the promoted student", &error),
        }
    }

    /// Removes the checkpoint written last, whose promotion was taken back: the one before it is to
    /// be continued from.
    pub fn withdraw(&mut self) {
        let Some((number, parent)) = self.last.take() else {
            return;
        };
        self.parent = parent;
        if let Err(error) = self.checkpoints.remove(number) {
            self.failed("that a promotion was taken back", &error);
        }
    }

    fn summary(&self, examples: &[Kept]) -> TrainedOn {
        let mut objects: BTreeMap<String, usize> = BTreeMap::new();
        for object in examples.iter().flat_map(|kept| &kept.example.objects) {
            if let Some(class) = self.kind.classes.get(object.class) {
                *objects.entry(class.clone()).or_default() += 1;
            }
        }
        let times = examples.iter().map(|kept| kept.taken_at);
        TrainedOn {
            frames: examples.len(),
            from: times.clone().min().unwrap_or(0),
            to: times.max().unwrap_or(0),
            objects,
        }
    }

    /// Has the disk hold these frames and no others.
    pub fn sync(&mut self, wanted: &[Kept]) {
        let ids = &mut self.ids;
        let named = wanted
            .iter()
            .map(|kept| (ids.of(&kept.example.image), kept));
        let result = self.frames.sync(named.collect::<Vec<_>>());
        self.ids.prune();
        if let Err(error) = result {
            self.failed("the training memory", &error);
        }
    }

    /// Once is news; a disk that stays full must not fill the log.
    fn failed(&self, what: &str, error: &dyn std::error::Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures.is_power_of_two() {
            let stream = &self.kind.stream;
            tracing::warn!(
                stream, %error, failures,
                "{what} could not be kept, the stream goes on; make room or mend the state folder, or what is learnt is lost with the process"
            );
        }
    }
}
