//! Runs a node from start to record.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use ekya_actors::Ref;
use ekya_models::ModelError;
use thiserror::Error;

use super::build::{Node, NodeStream, tell};
use super::lines::{Lines, write_error};
use super::options::RunOptions;
use super::roster::Command;
use crate::cluster::ClusterError;
use crate::config::{ConfigError, ValidConfig};
use crate::keep::StateError;
use crate::record::{
    AccuracyPoint, DeviceRecord, RECORD_VERSION, RunRecord, StreamRecord, WindowRecord,
};
use crate::schedule::{Event, Journal, SchedulerActor};
use crate::serve::ServeError;
use crate::sink::{OutputError, Outputs};
use crate::source::{SourceError, StopFlag};
use crate::write::{WriteError, write_atomically};

/// How often a run looks at its stop flag.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// How often memory that was freed goes back to the system: threads that take and free much of it by
/// turns would keep what each has needed at most.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// Commands that may wait.
const COMMANDS_MAX: usize = 64;
/// How long the scheduler may take to write its journal after it was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Why a run could not start or end well.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A thread or an actor could not be started.
    #[error("cannot start: {reason}")]
    Start {
        /// What failed.
        reason: String,
    },
    /// The configuration wants what the program does not have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A device is not there.
    #[error("device '{device}': {reason}")]
    Device {
        /// Name from the configuration.
        device: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A source cannot be opened.
    #[error("stream '{stream}': cannot open the source")]
    Source {
        /// Name from the configuration.
        stream: String,
        /// What is wrong.
        source: SourceError,
    },
    /// A model cannot be loaded.
    #[error("stream '{stream}': cannot load a model")]
    Model {
        /// Name from the configuration.
        stream: String,
        /// What is wrong.
        source: ModelError,
    },
    /// The node cannot be one among others.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// What the node does cannot be shown.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Results cannot go where they should.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The record could not be written.
    #[error(transparent)]
    Record(#[from] WriteError),
    /// The results could not be written.
    #[error("{}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The scheduler died. The record of the run is lost.
    #[error("the scheduler died; this is a bug, please report it with the log")]
    SchedulerDied,
}

/// Runs `config` to its end, or until the stop flag is set. See [`RunOptions`].
///
/// # Errors
/// [`NodeError`]. When only writing fails, the run itself has come to its end.
pub fn run(config: &ValidConfig, options: RunOptions) -> Result<RunRecord, NodeError> {
    Run::begin(config, options)?.finish()
}

/// A run that has begun.
pub(super) struct Run {
    node: Node,
    scheduler: Ref<SchedulerActor>,
    journal: Receiver<Journal>,
    asked: Asked,
    out: Option<PathBuf>,
    lines: Option<Lines>,
    /// Dropped after the node, whose end closes the outlets.
    outputs: Outputs,
}

impl Run {
    /// Opens and loads everything, and begins.
    pub(super) fn begin(config: &ValidConfig, options: RunOptions) -> Result<Self, NodeError> {
        options.check(config)?;
        config.check_state()?;
        let config = (**config).clone();
        let mut outlets = options.outlets;
        // Before anything is begun anew: another node may have the same outputs.
        let outputs = Outputs::start(&config.outputs, &mut outlets)?;
        let lines = options.out.as_deref();
        let lines = lines.map(|out| Lines::create(out, &mut outlets));
        let (lines, labelled) = lines.transpose()?.unzip();
        let mut node = Node::build(config, outlets, labelled, options.brought)?;
        let (done, journal) = bounded(1);
        let (command, commands) = bounded(COMMANDS_MAX);
        let scheduler = node.begin(Instant::now(), done, command.clone(), options.on_window)?;
        let asked = Asked {
            commands,
            _command: command,
            reloads: options.reloads,
            stop: options.stop,
        };
        Ok(Self {
            node,
            scheduler,
            journal,
            asked,
            out: options.out,
            lines,
            outputs,
        })
    }

    /// Waits for its end, and writes down what there was.
    pub(super) fn finish(mut self) -> Result<RunRecord, NodeError> {
        let interrupt = || tell(&self.scheduler, Event::Interrupt);
        let journal = wait(&self.journal, &self.asked, &mut self.node, interrupt)?;
        let interrupted = self.asked.stop.is_set();
        drop(self.asked);
        let record = self.node.wind_up(journal, interrupted);
        drop(self.outputs);
        if let (Some(out), Some(lines)) = (&self.out, self.lines) {
            write_record(out, &record)?;
            lines.finish()?;
        }
        Ok(record)
    }
}

fn write_record(out: &Path, record: &RunRecord) -> Result<(), NodeError> {
    let path = out.join("run.json");
    let json = serde_json::to_vec_pretty(record).map_err(|error| write_error(&path, &error))?;
    Ok(write_atomically(&path, &json)?)
}

/// What a running node is asked to do.
struct Asked {
    commands: Receiver<Command>,
    /// The other end: a channel without a sender would not be waited for.
    _command: Sender<Command>,
    reloads: Receiver<ValidConfig>,
    stop: StopFlag,
}

/// Waits for the journal; meanwhile, has the node obey, and passes the stop flag on to the scheduler.
fn wait(
    journal: &Receiver<Journal>,
    asked: &Asked,
    node: &mut Node,
    interrupt: impl Fn() -> Result<(), NodeError>,
) -> Result<Journal, NodeError> {
    let mut trimmed = Instant::now();
    // Nobody may ever reload, and a channel without a sender is always ready.
    let mut reloads = Some(&asked.reloads);
    let none = never();
    loop {
        if trimmed.elapsed() >= TRIM_EVERY {
            trimmed = Instant::now();
            ekya_models::give_memory_back();
        }
        select! {
            recv(journal) -> journal => return journal.map_err(|_| NodeError::SchedulerDied),
            recv(asked.commands) -> command => command.into_iter().for_each(|one| node.obey(one)),
            recv(reloads.unwrap_or(&none)) -> config => match config {
                Ok(config) => node.reload(&config),
                Err(_) => reloads = None,
            },
            default(STOP_CHECK) => {}
        }
        if asked.stop.is_set() {
            interrupt()?;
            return journal
                .recv_timeout(STOP_PATIENCE)
                .map_err(|_| NodeError::SchedulerDied);
        }
    }
}

impl Node {
    /// Ends all threads and writes the record.
    fn wind_up(mut self, journal: Journal, interrupted: bool) -> RunRecord {
        // Nothing is shown of what ends.
        drop(self.server.take());
        // Sources first, then what waits for frames or for the device.
        for stream in &self.streams {
            stream.stop_source();
        }
        let devices = self.devices.iter().map(device_record).collect();
        for on in &self.devices {
            on.device.close();
            if let Some(hosting) = &on.hosting {
                hosting.close();
            }
        }
        for stream in &mut self.streams {
            stream.end_source();
        }
        for on in &mut self.devices {
            if !on.inference.end() {
                tracing::error!(device = on.device.name(), "an inference thread panicked");
            }
        }
        // Every frame has settled.
        self.outlets.close();
        let mut windows = journal.into_windows();
        let streams = self.streams.iter().enumerate();
        let mut streams: Vec<StreamRecord> = streams
            .map(|(index, stream)| stream_record(stream, Some(index), &mut windows))
            .collect();
        // Of those that were here before, windows tell under their last stay.
        streams.append(&mut self.departed);
        let config = &self.config;
        let complete = !interrupted;
        let record = RunRecord {
            version: RECORD_VERSION,
            scheduler: self.policy.name.clone(),
            seed: config.run.seed,
            window_seconds: config.run.window_seconds,
            overhead_share: Some(config.learning.overhead_share),
            devices,
            streams,
            windows,
            complete,
        };
        let ended = match &self.cluster {
            Some(cluster) => cluster.leave(STOP_PATIENCE),
            None => self.system.shutdown(STOP_PATIENCE),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "actors did not end in time");
        }
        record
    }
}

fn device_record(on: &super::build::NodeDevice) -> DeviceRecord {
    let busy = |used: ekya_actors::JobUsage| (used.name, used.busy.as_secs_f64());
    DeviceRecord {
        name: on.device.name().to_owned(),
        cores: if on.is_cpu() { on.threads } else { 0 },
        busy_seconds: on.device.usage().into_iter().map(busy).collect(),
    }
}

/// What a stream leaves behind; its windows, where it has an index in them, learn its true accuracy.
pub(super) fn stream_record(
    stream: &NodeStream,
    index: Option<usize>,
    windows: &mut [WindowRecord],
) -> StreamRecord {
    let (true_accuracy, points) = stream.intake.with_log(|log| {
        let timeline = log.against_truth();
        (timeline.mean(), timeline.points())
    });
    // Mean, its standard deviation, frames; window by window.
    let mut measured: Vec<(f64, f64, f64)> = Vec::new();
    for window in windows.iter_mut() {
        let (from, to) = (window.from, window.to);
        let Some(entry) = index.and_then(|index| window.streams.get_mut(index)) else {
            continue;
        };
        entry.true_accuracy = mean(
            points
                .iter()
                .filter(|point| point.at >= from && point.at < to),
        );
        measured.extend(
            entry
                .measured_accuracy
                .zip(entry.measured_sd)
                .map(|(accuracy, sd)| (accuracy, sd, entry.labelled_frames as f64)),
        );
    }
    let labelled: f64 = measured.iter().map(|(_, _, frames)| frames).sum();
    let sum: f64 = measured.iter().map(|(mean, _, frames)| mean * frames).sum();
    // Windows are taken to be independent.
    let squares: f64 = measured.iter().map(|(_, sd, n)| (sd * n).powi(2)).sum();
    let is_measured = labelled > 0.0;
    StreamRecord {
        name: stream.name.clone(),
        classes: stream.classes.clone(),
        frames: stream.intake.counts(),
        true_accuracy,
        measured_accuracy: is_measured.then(|| sum / labelled),
        measured_sd: is_measured.then(|| squares.sqrt() / labelled),
        accuracy_over_time: points,
        slowdown: stream.slowdown,
        failure: stream.failure.lock().clone(),
        continued_from: stream.continued_from,
        not_kept: stream.not_kept.load(Ordering::Relaxed),
    }
}

/// Mean over the frames of some seconds.
fn mean<'a>(points: impl Iterator<Item = &'a AccuracyPoint>) -> Option<f64> {
    let (sum, frames) = points.fold((0.0, 0u64), |(sum, frames), point| {
        (
            sum + point.accuracy * point.frames as f64,
            frames + point.frames,
        )
    });
    (frames > 0).then(|| sum / frames as f64)
}
