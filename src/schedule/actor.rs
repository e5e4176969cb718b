//! The scheduler actor.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ekya_actors::{Actor, Ctx, Device, Handler, JobId, Ref};
use ekya_models::{ModelError, Student};

use super::device::DeviceActor;
use super::event::Event;
use super::guests::Guests;
use super::journal::Journal;
use super::policy::{Policy, Retraining};
use super::stream::{Stage, StreamState};
use crate::config::Config;
use crate::learn::{Elsewhere, LabellerActor, Report, TrainerActor};
use crate::planning::{Guest, Place, Situation};
use crate::sink::{LabelledLine, LineSink};
use crate::stream::{InferenceActor, Intake};
use crate::throughput::Curves;

/// What the scheduler works with.
pub struct Setup {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who decides.
    pub policy: Policy,
    /// Devices and the actors in front of them, in the order of the configuration.
    pub devices: Vec<(Device, Ref<DeviceActor>)>,
    /// Bytes of each device that retrainings may take together; `None` where they are never short.
    pub device_memory: Vec<Option<u64>>,
    /// Streams, in the order of the configuration.
    pub streams: Vec<StreamSetup>,
    /// The moment from which the run's seconds count.
    pub start: Instant,
    /// Gets the journal when the run is over; room for one.
    pub done: Sender<Journal>,
    /// Where labelled frames are written down.
    pub labelled: Option<LineSink<LabelledLine>>,
    /// Called at the end of each window with the number of windows done.
    pub on_window: Box<dyn Fn(usize) + Send>,
    /// Whoever plans for several nodes; absent on a node that is alone.
    pub ask: Option<Ask>,
    /// Retrainings of other nodes' students that run here.
    pub guests: Guests,
    /// Whether the devices may be lent to other nodes.
    pub lends: bool,
    /// By device, training steps a second by kind of student, as far as they were measured.
    pub speeds: Vec<Vec<(String, f64)>>,
}

/// Hands a situation to whoever plans for several nodes, whose answer comes as an event. False when it is
/// not taken: then the node plans for itself.
pub type Ask = Box<dyn Fn(&Situation) -> bool + Send>;

/// What serves one stream.
pub struct StreamSetup {
    /// Name from the configuration.
    pub name: String,
    /// Class names, by class index.
    pub classes: Vec<String>,
    /// Index of its device.
    pub device: usize,
    /// Frames a second that it sends.
    pub rate: f64,
    /// How fast its kind of student is under shares of the device.
    pub curves: Curves,
    /// Bytes that its retraining takes of the device; 0 where they are not counted.
    pub training_bytes: u64,
    /// Its frames.
    pub intake: Arc<Intake>,
    /// Serves it.
    pub inference: Ref<InferenceActor>,
    /// Its inference on the device.
    pub inference_job: JobId,
    /// Labels its samples.
    pub labeller: Ref<LabellerActor>,
    /// Whether its labels cost device time.
    pub labels_cost: bool,
    /// The labeller's job on the device; streams with the same teacher share it.
    pub labelling_job: JobId,
    /// Retrains it.
    pub trainer: Ref<TrainerActor>,
    /// Its retraining and profiling on the device.
    pub training_job: JobId,
    /// How much it counts beside others.
    pub weight: f64,
    /// The kind of its student.
    pub kind: String,
    /// How it is retrained on other nodes; absent where it stays on its own.
    pub travel: Option<Travel>,
}

/// Makes a student of a file of weights.
pub type Load = Arc<dyn Fn(&Path) -> Result<Box<dyn Student>, ModelError> + Send + Sync>;

/// How a stream is retrained on other nodes.
pub struct Travel {
    /// Has it trained on a device of another node.
    pub elsewhere: Box<dyn Fn(&Place) -> Elsewhere + Send>,
    /// Makes a student that computes where the serving one does, of a file of weights.
    pub load: Load,
    /// Bytes of its student.
    pub weights: u64,
    /// Bytes a second that the link carries.
    pub link: f64,
}

/// Plans for all streams of a node. See the module's description.
pub struct SchedulerActor {
    pub(super) setup: Setup,
    pub(super) streams: Vec<StreamState>,
    pub(super) journal: Journal,
    pub(super) window: usize,
    /// Set when the teachers are to stop.
    pub(super) stopped: Arc<AtomicBool>,
    /// The highest term in which decisions came from elsewhere.
    pub(super) term: u64,
    pub(super) sequence: u64,
    /// Counts what was to be planned.
    pub(super) situations: u64,
    /// What was decided for other nodes' retrainings here.
    pub(super) guests: Vec<Guest>,
    /// All windows are over; only the last samples are still being labelled.
    pub(super) finishing: bool,
    pub(super) finished: bool,
}

impl SchedulerActor {
    /// A scheduler that waits for [`Event::Begin`].
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let trains = setup.policy.retraining != Retraining::Never;
        let state = |stream: &StreamSetup| Self::newcomer(stream, trains, 0);
        let streams = setup.streams.iter().map(state).collect();
        Self {
            setup,
            streams,
            journal: Journal::default(),
            window: 0,
            stopped: Arc::default(),
            term: 0,
            sequence: 0,
            situations: 0,
            guests: Vec::new(),
            finishing: false,
            finished: false,
        }
    }

    /// What serves the streams that have not gone, and what is known of them.
    pub(super) fn here(&self) -> impl Iterator<Item = (&StreamSetup, &StreamState)> {
        let all = self.setup.streams.iter().zip(&self.streams);
        all.filter(|(_, state)| !state.gone)
    }

    /// Whether students are retrained at all.
    pub(super) fn trains(&self) -> bool {
        self.setup.policy.retraining != Retraining::Never
    }

    pub(super) fn now(&self) -> f64 {
        self.setup.start.elapsed().as_secs_f64()
    }

    pub(super) fn window_end(&self) -> f64 {
        (self.window + 1) as f64 * self.setup.config.run.window_seconds
    }

    pub(super) fn remaining(&self) -> Duration {
        Duration::from_secs_f64((self.window_end() - self.now()).max(0.0))
    }

    /// How far a plan looks ahead. A fixed configuration is bound to its window. Where retrainings
    /// go on across windows and begin anew with new labels, what is decided now is in force for
    /// about a window's length, at most until the run ends.
    pub(super) fn horizon(&self) -> Duration {
        let run = &self.setup.config.run;
        if self.bound_to_window() {
            return self.remaining();
        }
        let length = match run.windows {
            0 => run.window_seconds,
            windows => (windows as f64 * run.window_seconds - self.now()).min(run.window_seconds),
        };
        Duration::from_secs_f64(length.max(0.0))
    }

    /// Whether each stream is retrained once a window and cut off at its end.
    pub(super) fn bound_to_window(&self) -> bool {
        matches!(self.setup.policy.retraining, Retraining::Fixed(_))
    }

    /// Seed for the `turn`-th draw of stream `stream`; `purpose` keeps draws for different ends
    /// apart.
    pub(super) fn seed(&self, stream: usize, turn: u64, purpose: u64) -> u64 {
        let mix = [stream as u64, turn, purpose];
        mix.iter().fold(self.setup.config.run.seed, |seed, part| {
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(part + 1)
        })
    }
}

impl Actor for SchedulerActor {}

impl Handler<Event> for SchedulerActor {
    fn handle(&mut self, event: Event, ctx: &mut Ctx<Self>) {
        if self.finished {
            return;
        }
        match event {
            Event::Begin => self.begin_window(ctx),
            Event::BurstReady { stream } => self.burst_ready(stream, ctx),
            Event::CollectSamples(window) if window == self.window => self.collect_samples(ctx),
            Event::Labelled { stream, labelling } => self.labelled(stream, labelling, ctx),
            Event::Trainer {
                stream,
                order,
                report,
            } if order == self.streams[stream].order => match report {
                Report::Prepared(result) => self.prepared(stream, result, ctx),
                Report::Progressed(progress) => self.progressed(stream, progress, ctx),
                Report::Finished(result) => self.retrained(stream, result, ctx),
            },
            Event::Joined { stream, setup } => self.join(stream, *setup, ctx),
            Event::Left { stream } => self.leave(stream, ctx),
            Event::SourceEnded { stream, failure } => self.source_ended(stream, failure, ctx),
            Event::WindowOver(window) if window == self.window && !self.finishing => {
                self.end_window(ctx);
            }
            Event::Decided { term, decisions } => self.decided(term, &decisions, ctx),
            Event::Found(found) => self.found(found, ctx),
            Event::GuestCame { of, stream } => self.guest_came(&of, &stream, ctx),
            Event::PlanHere => self.plan_here(ctx),
            Event::Interrupt => self.finish(),
            // From an order that was cut off, or a window that was ended early.
            Event::Trainer { .. } | Event::CollectSamples(_) | Event::WindowOver(_) => {}
        }
    }
}

/// Windows.
impl SchedulerActor {
    pub(super) fn begin_window(&mut self, ctx: &mut Ctx<Self>) {
        let seconds = self.setup.config.run.window_seconds;
        let from = self.window as f64 * seconds;
        self.journal
            .begin_window(from, from + seconds, self.streams.len());
        if let Err(error) = ctx.after(self.remaining(), Event::WindowOver(self.window)) {
            tracing::error!(%error, "no timer for the window's end; stopping");
            return self.finish();
        }
        for stream in 0..self.streams.len() {
            if self.streams[stream].gone {
                continue;
            }
            let samples = self.resample(stream, from, from + seconds);
            if self.window == 0 {
                self.wait_for_burst(stream, ctx);
                continue;
            }
            self.streams[stream].due = self.bound_to_window();
            if self.wants_labels() {
                self.label(stream, samples, ctx);
                self.prepare_when_due(stream, ctx);
            }
        }
        if self.wants_labels() {
            self.collect_later(ctx);
        }
        self.plan(ctx);
    }

    pub(super) fn end_window(&mut self, ctx: &mut Ctx<Self>) {
        self.close_window();
        let done = self.window + 1;
        (self.setup.on_window)(done);
        if done == self.setup.config.run.windows || self.has_nothing_to_do() {
            self.label_last(ctx);
        } else {
            self.window = done;
            self.begin_window(ctx);
        }
    }

    fn close_window(&mut self) {
        let now = self.now();
        self.journal.cut_window(now);
        if self.bound_to_window() {
            self.cut_off("the window is over");
        }
        for stream in 0..self.streams.len() {
            let used = self.used(stream);
            self.journal.segment(stream, now, used, None);
        }
    }

    /// Ends what the trainers are at.
    fn cut_off(&mut self, why: &str) {
        let now = self.now();
        for (stream, state) in self.streams.iter_mut().enumerate() {
            if matches!(state.stage, Stage::Training(_)) {
                self.journal
                    .cut_off(stream, now, format!("retraining cut off: {why}"));
            }
            state.cut_off();
        }
    }

    /// After the last window: its samples are labelled too, for the record only.
    pub(super) fn label_last(&mut self, ctx: &mut Ctx<Self>) {
        self.finishing = true;
        self.cut_off("the run is over");
        if !self.wants_labels() {
            return self.finish();
        }
        let end = self.now();
        for (stream, _) in self.here() {
            // What arrives from here on belongs to no window.
            stream.intake.close();
        }
        for stream in 0..self.streams.len() {
            if !self.streams[stream].gone {
                let samples = self.resample(stream, end, end + 1.0);
                self.label(stream, samples, ctx);
            }
        }
        self.grant_labelling_only();
        // A teacher that hangs must not keep the record from being written.
        let seconds = self.setup.config.learning.last_labels_seconds;
        let patience = Duration::from_secs_f64(seconds);
        if ctx.after(patience, Event::Interrupt).is_err() {
            return self.finish();
        }
        self.finish_when_labelled();
    }

    pub(super) fn finish_when_labelled(&mut self) {
        let mut here = self.streams.iter().filter(|stream| !stream.gone);
        if here.all(|stream| stream.labels.complete()) {
            self.finish();
        }
    }

    pub(super) fn finish(&mut self) {
        if !self.finishing {
            self.close_window();
            self.cut_off("the run is over");
        }
        self.stopped.store(true, Ordering::Relaxed);
        self.finished = true;
        // Room for one, and this is the only one.
        let _ = self.setup.done.try_send(std::mem::take(&mut self.journal));
    }

    /// Whether all sources have ended, and no stream can come any more.
    fn has_nothing_to_do(&self) -> bool {
        self.setup.ask.is_none() && self.streams.iter().all(|stream| stream.ended)
    }

    pub(super) fn source_ended(
        &mut self,
        stream: usize,
        failure: Option<String>,
        ctx: &mut Ctx<Self>,
    ) {
        let now = self.now();
        if self.streams[stream].gone {
            return;
        }
        self.streams[stream].ended = true;
        let text = failure.map_or_else(
            || "the source has ended".to_owned(),
            |why| format!("the source failed: {why}"),
        );
        self.journal.decide(stream, now, text);
        if self.has_nothing_to_do() && !self.finishing {
            self.end_window(ctx);
        }
    }
}

/// Name of a stream's inference job on its device.
#[must_use]
pub fn inference_job(stream: &str) -> String {
    format!("{stream}/inference")
}

/// Name of a stream's training job on its device.
#[must_use]
pub fn training_job(stream: &str) -> String {
    format!("{stream}/training")
}
