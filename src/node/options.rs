//! How a program runs a node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, never};
use ekya_models::{ModelError, Student, Teacher};
use ekya_sched::Scheduler;

use crate::config::{ConfigError, Own, ValidConfig};
use crate::sink::{Outlets, Results, Streams};
use crate::source::push::{FramePusher, push};
use crate::source::{Source, SourceError, StopFlag};

/// Makes a teacher for streams of these classes: the labels that it gives name a class by its index
/// among them. Streams of a device with the same classes share one, which labels one picture at a
/// time on a thread of its own. It may take its time, fail or panic; what that costs is labels.
pub type OpenTeacher = Box<dyn Fn(&[String]) -> Result<Box<dyn Teacher>, ModelError> + Send>;

/// Makes a student for a stream of these classes, or for a detector of those that it finds: as a stream
/// begins, or from a file that [`Student::save`] has written.
pub type OpenStudent =
    Box<dyn Fn(&[String], Option<&Path>) -> Result<Box<dyn Student>, ModelError> + Send>;

/// Makes the source of a stream. Its frames come on a thread of their own, which may wait for them, but
/// no longer than a second once the flag is set. It is called again when a stream comes again.
pub type OpenSource = Box<dyn Fn(&StopFlag) -> Result<Box<dyn Source>, SourceError> + Send>;

/// What the program that runs a node brings along, by the names that a configuration calls it, as in
/// `teacher = { own = "…" }`.
#[derive(Default)]
pub(crate) struct Brought {
    pub(super) sources: BTreeMap<String, OpenSource>,
    pub(super) students: BTreeMap<String, OpenStudent>,
    pub(super) teachers: BTreeMap<String, OpenTeacher>,
    pub(super) scheduler: Option<Arc<dyn Scheduler + Send + Sync>>,
}

/// How to run a node: where its results go, how it is ended, and what the program brings along.
///
/// ```no_run
/// # use ekya::{config::ValidConfig, node::{self, RunOptions}, source::StopFlag};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ValidConfig::load("site.toml".as_ref())?;
/// let stop = StopFlag::default();
/// let options = RunOptions::new().out("run1").stop(stop.clone());
/// let record = node::run(&config, options)?;
/// # Ok(()) }
/// ```
pub struct RunOptions {
    pub(super) out: Option<PathBuf>,
    pub(super) stop: StopFlag,
    pub(super) on_window: Box<dyn Fn(usize) + Send>,
    pub(super) brought: Brought,
    pub(super) reloads: Receiver<ValidConfig>,
    pub(super) outlets: Outlets,
}

impl RunOptions {
    /// Runs to the end of the configuration, and leaves nothing behind but the record.
    #[must_use]
    pub fn new() -> Self {
        Self {
            out: None,
            stop: StopFlag::default(),
            on_window: Box::new(|_| {}),
            brought: Brought::default(),
            reloads: never(),
            outlets: Outlets::default(),
        }
    }

    /// Folder for `run.json`, `results.jsonl` and `labelled.jsonl`, made when absent.
    #[must_use]
    pub fn out(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out = Some(folder.into());
        self
    }

    /// Ends the run early when the flag is set; the record is written all the same.
    #[must_use]
    pub fn stop(mut self, flag: StopFlag) -> Self {
        self.stop = flag;
        self
    }

    /// Calls `done` at the end of each window with the number of windows that are over. It holds the
    /// scheduler up: keep it short.
    #[must_use]
    pub fn on_window(mut self, done: impl Fn(usize) + Send + 'static) -> Self {
        self.on_window = Box::new(done);
        self
    }

    /// A teacher of the program, for streams whose `teacher` is `{ own = "name" }`.
    #[must_use]
    pub fn teacher(
        mut self,
        name: impl Into<String>,
        open: impl Fn(&[String]) -> Result<Box<dyn Teacher>, ModelError> + Send + 'static,
    ) -> Self {
        self.brought.teachers.insert(name.into(), Box::new(open));
        self
    }

    /// A student of the program, for streams whose `student` is `{ own = { name = "name" } }`. It is
    /// retrained in the node's process whatever `isolation` says, and on no other node.
    #[must_use]
    pub fn student(
        mut self,
        name: impl Into<String>,
        open: impl Fn(&[String], Option<&Path>) -> Result<Box<dyn Student>, ModelError> + Send + 'static,
    ) -> Self {
        self.brought.students.insert(name.into(), Box::new(open));
        self
    }

    /// A scheduler of the program, in place of the one that is configured. What it plans with is profiled
    /// as for `ekya`. In a cluster the node that leads plans for all with its own.
    #[must_use]
    pub fn scheduler(mut self, scheduler: impl Scheduler + Send + Sync + 'static) -> Self {
        self.brought.scheduler = Some(Arc::new(scheduler));
        self
    }

    /// A source of the program, for streams whose `source` is `{ own = { name = "name", … } }`.
    #[must_use]
    pub fn source(
        mut self,
        name: impl Into<String>,
        open: impl Fn(&StopFlag) -> Result<Box<dyn Source>, SourceError> + Send + 'static,
    ) -> Self {
        self.brought.sources.insert(name.into(), Box::new(open));
        self
    }

    /// Has the program push the frames of the streams' source `{ own = { name = "name", … } }`, of which
    /// `room` may wait (at least 1). Such a stream ends when all clones of the handle are gone.
    ///
    /// ```
    /// # use ekya::node::RunOptions;
    /// let mut options = RunOptions::new();
    /// let camera = options.push("camera", 2);
    /// ```
    #[must_use]
    pub fn push(&mut self, name: impl Into<String>, room: usize) -> FramePusher {
        let (pusher, frames) = push(room);
        let open = move |stop: &StopFlag| -> Result<Box<dyn Source>, SourceError> {
            Ok(Box::new(frames.source(stop)))
        };
        self.brought.sources.insert(name.into(), Box::new(open));
        pusher
    }

    /// Configurations that take the place of the one that runs. Streams that are new in one come, those
    /// that it does not name go, and those that it changes begin anew, from what the state folder keeps;
    /// the others notice nothing. Whatever else it changes needs a restart, which the log says.
    ///
    /// A program that [starts](super::start) its node hands them to the handle.
    #[doc(hidden)]
    #[must_use]
    pub fn reloads(mut self, configurations: Receiver<ValidConfig>) -> Self {
        self.reloads = configurations;
        self
    }

    /// The result of every frame of the streams that are named, or of all, from the moment it settles
    /// until the run ends. `room` results may wait (at least 1); whoever is slower loses the oldest.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use ekya::{config::ValidConfig, node::{self, RunOptions}, sink::Streams};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = ValidConfig::load("site.toml".as_ref())?;
    /// let mut options = RunOptions::new();
    /// let mut all = options.subscribe(Streams::All, 100);
    /// let gate = options.subscribe("gate", 10);
    /// std::thread::spawn(move || {
    ///     while let Some(result) = all.next_timeout(Duration::MAX) {
    ///         println!("{} {}: {:?}", result.stream, result.frame, result.objects);
    ///     }
    /// });
    /// node::run(&config, options)?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn subscribe(&mut self, streams: impl Into<Streams>, room: usize) -> Results {
        Results::new(self.outlets.add(streams.into(), room))
    }

    /// Checks that the program brings along what `config` takes to be its own, without running anything.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with the key of what is not there.
    pub fn check(&self, config: &ValidConfig) -> Result<(), ConfigError> {
        let Brought {
            sources,
            students,
            teachers,
            ..
        } = &self.brought;
        config.check_own(&Own {
            sources: sources.keys().map(String::as_str).collect(),
            students: students.keys().map(String::as_str).collect(),
            teachers: teachers.keys().map(String::as_str).collect(),
        })
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions")
            .field("out", &self.out)
            .field("sources", &self.brought.sources.keys())
            .field("students", &self.brought.students.keys())
            .field("teachers", &self.brought.teachers.keys())
            .finish_non_exhaustive()
    }
}
