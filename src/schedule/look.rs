//! What the scheduler says of itself to whoever shows it to people. Only looks.

use ekya_actors::{Ctx, Handler, Message};
use ekya_sched::{RetrainingConfig, Share};

use super::actor::SchedulerActor;
use super::journal::Tally;
use super::stream::{Running, Stage};
use crate::planning::{Ahead, Place};
use crate::record::{Decision, WindowRecord};

/// Asks what is in force now.
#[derive(Debug, Clone, Copy)]
pub struct Look;

/// What is in force.
#[derive(Debug, Clone)]
pub struct Looked {
    /// Seconds of the run.
    pub now: f64,
    /// Index of the open window.
    pub window: usize,
    /// Start of the open window.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// The streams that are here, in the order of their indices.
    pub streams: Vec<StreamLook>,
}

/// One stream.
#[derive(Debug, Clone)]
pub struct StreamLook {
    /// Its name.
    pub name: String,
    /// Whether its source has ended.
    pub ended: bool,
    /// "idle", "profiling", "ready" or "training".
    pub stage: &'static str,
    /// The retraining in progress.
    pub training: Option<TrainingLook>,
    /// Granted to inference.
    pub inference: Share,
    /// Granted to training.
    pub training_share: Share,
    /// Every how many frames one is answered.
    pub sample_every: u32,
    /// Side of the network's input relative to full.
    pub resolution: f64,
    /// Live accuracy of the newest window with labels.
    pub measured: Option<MeasuredLook>,
    /// Accuracy that the plan in force expects over its horizon.
    pub expected: Option<f64>,
    /// The newest decision.
    pub decision: Option<Decision>,
    /// How its retrainings have ended so far.
    pub tally: Tally,
}

/// A retraining in progress.
#[derive(Debug, Clone)]
pub struct TrainingLook {
    /// How.
    pub config: RetrainingConfig,
    /// Since when, in seconds of the run.
    pub since: f64,
    /// Accuracy of the stream that is expected of its end.
    pub expected_accuracy: f64,
    /// The part of its device time that is behind it.
    pub progress: f64,
    /// Where, when that is another node.
    pub on: Option<Place>,
}

/// A measured live accuracy.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredLook {
    /// Index of its window.
    pub window: usize,
    /// Mean over the labelled frames.
    pub mean: f64,
    /// Standard deviation of measuring it.
    pub sd: Option<f64>,
    /// Labelled frames.
    pub frames: usize,
}

/// Asks for the newest `windows` windows: all of one stream, or the accuracies of all streams.
#[derive(Debug, Clone)]
pub struct Past {
    /// Name of the stream.
    pub stream: Option<String>,
    /// How many windows.
    pub windows: usize,
}

/// Windows, oldest first.
#[derive(Debug, Clone)]
pub struct Windows {
    /// The streams of each window, by their index in it.
    pub streams: Vec<String>,
    /// The windows, the open one last.
    pub windows: Vec<WindowRecord>,
}

/// Asks for the shares of the open window, past and planned.
#[derive(Debug, Clone, Copy)]
pub struct Planned;

/// The open window.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// Seconds of the run.
    pub now: f64,
    /// The window with all its streams.
    pub window: Windows,
    /// By index of the stream: what was granted last and is in force since when.
    pub in_force: Vec<Option<Ahead>>,
    /// By index of the stream: what the plan in force intends from now on, in seconds of the run.
    pub ahead: Vec<Vec<Ahead>>,
}

impl Message for Look {
    type Reply = Looked;
}

impl Message for Past {
    type Reply = Windows;
}

impl Message for Planned {
    type Reply = Timeline;
}

impl Handler<Look> for SchedulerActor {
    fn handle(&mut self, _: Look, _: &mut Ctx<Self>) -> Looked {
        let (from, to) = self.journal.span();
        let here = (0..self.streams.len()).filter(|index| !self.streams[*index].gone);
        Looked {
            now: self.now(),
            window: self.window,
            from,
            to,
            streams: here.map(|index| self.look_at(index)).collect(),
        }
    }
}

impl Handler<Past> for SchedulerActor {
    fn handle(&mut self, Past { stream, windows }: Past, _: &mut Ctx<Self>) -> Windows {
        let streams = self.streams.iter().map(|stream| stream.name.clone());
        let mut names: Vec<String> = streams.collect();
        let windows = match stream {
            None => self.journal.accuracies(windows),
            Some(name) => {
                let index = names.iter().position(|one| *one == name);
                names = vec![name];
                index.map_or_else(Vec::new, |index| self.journal.of_stream(index, windows))
            }
        };
        Windows {
            streams: names,
            windows,
        }
    }
}

impl Handler<Planned> for SchedulerActor {
    fn handle(&mut self, _: Planned, _: &mut Ctx<Self>) -> Timeline {
        let now = self.now();
        let in_force = |index: usize| {
            let open = self.journal.segment_now(index)?;
            Some(Ahead {
                from: open.from,
                to: now,
                inference: open.inference,
                training: open.training,
            })
        };
        let streams = self.streams.iter();
        Timeline {
            now,
            window: Windows {
                streams: streams.clone().map(|stream| stream.name.clone()).collect(),
                windows: self.journal.open_window().cloned().into_iter().collect(),
            },
            in_force: (0..self.streams.len()).map(in_force).collect(),
            ahead: streams.map(|stream| stream.ahead.clone()).collect(),
        }
    }
}

impl SchedulerActor {
    fn look_at(&self, index: usize) -> StreamLook {
        let state = &self.streams[index];
        let open = self.journal.segment_now(index);
        let share =
            |of: fn(&super::journal::OpenSegment) -> Share| open.as_ref().map_or(Share::ZERO, of);
        let (stage, training) = match &state.stage {
            Stage::Idle => ("idle", None),
            Stage::Preparing => ("profiling", None),
            Stage::Ready(_) => ("ready", None),
            Stage::Training(running) => ("training", Some(self.look_at_training(index, running))),
        };
        StreamLook {
            name: state.name.clone(),
            ended: state.ended,
            stage,
            training,
            inference: share(|open| open.inference),
            training_share: share(|open| open.training),
            sample_every: open.map_or(1, |open| open.sample_every),
            resolution: open.map_or(1.0, |open| open.resolution),
            measured: self.journal.newest_measured(index),
            expected: state.expected,
            decision: self.journal.newest_decision(index).cloned(),
            tally: self.journal.tally(index),
        }
    }

    fn look_at_training(&self, index: usize, running: &Running) -> TrainingLook {
        let configurations = &self.setup.config.learning.configurations;
        TrainingLook {
            config: configurations[running.configuration].clone(),
            since: self.streams[index].stage_began,
            expected_accuracy: running.end_accuracy(),
            progress: running.progress(),
            on: running.place.clone(),
        }
    }
}
