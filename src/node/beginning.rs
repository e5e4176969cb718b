//! What a stream begins with: the student and the memory that an earlier process has left, or those
//! of its configuration.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ekya_models::{Placement, Student};

use super::models::load_checkpoint;
use super::networks::exemplars;
use super::options::Brought;
use super::run::NodeError;
use crate::clock::unix_seconds;
use crate::config::{Config, StreamConfig};
use crate::keep::{Keeper, Kind, StateFolder};
use crate::learn::Kept;

/// What a stream begins with.
pub(super) struct Beginning {
    pub(super) student: Box<dyn Student>,
    /// The frames that it remembers.
    pub(super) kept: Vec<Kept>,
    /// Keeps what it learns; absent where nothing outlives the process.
    pub(super) keeper: Option<Keeper>,
    /// The number of the checkpoint that the student comes from.
    pub(super) continued_from: Option<u64>,
    /// Counts what could not be kept.
    pub(super) failures: Arc<AtomicU64>,
}

impl Beginning {
    /// Begins with what `state` keeps of the stream, where that fits the `configured` student.
    pub(super) fn new(
        state: Option<&StateFolder>,
        config: &Config,
        stream: &StreamConfig,
        classes: &[String],
        configured: Box<dyn Student>,
        brought: &Brought,
        placement: Placement,
    ) -> Result<Self, NodeError> {
        let mut beginning = Self {
            student: configured,
            kept: Vec::new(),
            keeper: None,
            continued_from: None,
            failures: Arc::default(),
        };
        if let Some(state) = state {
            beginning.take_up(state, config, stream, classes, brought, placement)?;
        }
        if beginning.kept.is_empty() {
            beginning.kept = exemplars(&stream.student)?;
        }
        Ok(beginning)
    }

    fn take_up(
        &mut self,
        state: &StateFolder,
        config: &Config,
        stream: &StreamConfig,
        classes: &[String],
        brought: &Brought,
        placement: Placement,
    ) -> Result<(), NodeError> {
        let kind = Kind {
            stream: stream.name.clone(),
            network: self.student.network(),
            classes: classes.to_vec(),
        };
        let mut keeper = Keeper::open(state, kind, config.run.checkpoints)?;
        let load =
            |path: &Path| load_checkpoint(&stream.student, classes, path, brought, placement);
        if let Some((student, number)) = keeper.resume(load) {
            self.student = student;
            self.continued_from = Some(number);
        }
        let learning = &config.learning;
        let limit = learning.memory + learning.spread() + learning.held_out();
        self.kept = keeper.frames(learning.oldest_kept(unix_seconds()), limit);
        self.failures = keeper.failures();
        self.keeper = Some(keeper);
        Ok(())
    }
}
