//! How a program runs a node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crossbeam_channel::{Receiver, never};
use ekya_models::{ModelError, Teacher};

use crate::config::ValidConfig;
use crate::sink::{Outlets, Results, Streams};
use crate::source::{Source, SourceError, StopFlag};

/// Makes a teacher for streams of these classes: the labels that it gives name a class by its index
/// among them. Streams of a device with the same classes share one, which labels one picture at a
/// time on a thread of its own. It may take its time, fail or panic; what that costs is labels.
pub type OpenTeacher = Box<dyn Fn(&[String]) -> Result<Box<dyn Teacher>, ModelError> + Send>;

/// Teachers of the program that runs a node, by the names that `teacher = { own = "…" }` calls them.
pub(crate) type Teachers = BTreeMap<String, OpenTeacher>;

/// Makes the source of a stream. Its frames come on a thread of their own, which may wait for them, but
/// no longer than a second once the flag is set. It is called again when a stream comes again.
pub type OpenSource = Box<dyn Fn(&StopFlag) -> Result<Box<dyn Source>, SourceError> + Send>;

/// Sources of that program, by the names that `source = { own = { name = "…" } }` calls them.
pub(crate) type Sources = BTreeMap<String, OpenSource>;

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
    pub(super) teachers: Teachers,
    pub(super) sources: Sources,
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
            teachers: Teachers::new(),
            sources: Sources::new(),
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
        self.teachers.insert(name.into(), Box::new(open));
        self
    }

    /// A source of the program, for streams whose `source` is `{ own = { name = "name", … } }`.
    #[must_use]
    pub fn source(
        mut self,
        name: impl Into<String>,
        open: impl Fn(&StopFlag) -> Result<Box<dyn Source>, SourceError> + Send + 'static,
    ) -> Self {
        self.sources.insert(name.into(), Box::new(open));
        self
    }

    /// Configurations that take the place of the one that runs. Streams that are new in one come, those
    /// that it does not name go, and those that it changes begin anew, from what the state folder keeps;
    /// the others notice nothing. Whatever else it changes needs a restart, which the log says.
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
            .field("teachers", &self.teachers.keys())
            .field("sources", &self.sources.keys())
            .finish_non_exhaustive()
    }
}
