//! What the API says of a node: the types of its JSON, made from what was [seen](super::live::Seen).
//! Shares are parts of a device, accuracies 0..=1, times seconds of the run or, as `at`, Unix seconds.

use std::collections::{BTreeMap, VecDeque};

use ekya_sched::RetrainingConfig;
use serde::Serialize;

use super::live::{Face, Live, Seen};
use crate::record::{Decision, FrameCounts};
use crate::schedule::{MeasuredLook, StreamLook, inference_job, training_job};
use crate::source::health::HealthReport;
use crate::stream::Timing;

/// Rates are those of so many looks, a second apart: minibatches may take longer than a second.
const RATES_OVER: usize = 5;

/// A node at one moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Snapshot {
    pub(super) at: f64,
    pub(super) run_time: f64,
    pub(super) node: NodeView,
    pub(super) pictures: bool,
    pub(super) window: WindowView,
    pub(super) devices: Vec<DeviceView>,
    pub(super) streams: Vec<StreamView>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct NodeView {
    /// Absent on a node that is alone.
    pub(super) name: Option<String>,
    pub(super) version: &'static str,
    pub(super) scheduler: String,
    /// Whom it follows.
    pub(super) leader: Option<crate::cluster::Leader>,
    pub(super) draining: bool,
}

/// The open window.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct WindowView {
    pub(super) index: usize,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct DeviceView {
    pub(super) name: String,
    /// Granted to nobody.
    pub(super) free: f64,
    pub(super) jobs: Vec<JobView>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct JobView {
    pub(super) name: String,
    /// The stream that it is about.
    pub(super) stream: Option<String>,
    pub(super) kind: JobKind,
    pub(super) granted: f64,
    /// Device time over the last seconds.
    pub(super) used: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JobKind {
    Inference,
    Training,
    Labelling,
    /// Another node's retraining.
    Guest,
    /// Of a stream that has gone.
    Other,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct StreamView {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) state: StreamState,
    /// Why it failed, or its camera is lost.
    pub(super) failure: Option<String>,
    /// How often its camera was lost and connected to again, successfully or not.
    pub(super) reconnects: u64,
    /// Since the start.
    pub(super) frames: FrameCounts,
    pub(super) rates: Rates,
    pub(super) latency: Option<Latency>,
    /// Which student answers, counted from 0.
    pub(super) student: Option<u64>,
    /// The checkpoint that it began with.
    pub(super) checkpoint: Option<u64>,
    pub(super) classes: Vec<String>,
    pub(super) accuracy: Option<AccuracyView>,
    /// Against the truth, in the last whole second, where the source knows it.
    pub(super) true_accuracy: Option<f64>,
    /// Expected by the plan in force over its horizon.
    pub(super) predicted: Option<f64>,
    pub(super) inference: InferenceView,
    pub(super) shares: Shares,
    pub(super) stage: &'static str,
    pub(super) training: Option<TrainingView>,
    /// The newest.
    pub(super) decision: Option<Decision>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StreamState {
    Running,
    /// Its camera gives no frames; it is tried again and again.
    Lost,
    Ended,
    Failed,
}

impl StreamState {
    /// How a stream is doing, and why it does not run.
    pub(super) fn of(
        face: &Face,
        look: Option<&StreamLook>,
        camera: Option<&HealthReport>,
    ) -> (Self, Option<String>) {
        if let Some(why) = face.failure.lock().clone() {
            return (Self::Failed, Some(why));
        }
        if look.is_some_and(|look| look.ended) {
            return (Self::Ended, None);
        }
        match camera.filter(|camera| !camera.connected) {
            Some(camera) => (Self::Lost, Some(camera.reason.clone())),
            None => (Self::Running, None),
        }
    }
}

/// Frames a second.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Rates {
    pub(super) arrived: f64,
    pub(super) answered: f64,
    pub(super) skipped: f64,
    pub(super) dropped: f64,
}

/// Seconds from a frame's arrival to its answer, over the last seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Live accuracy against the teacher's labels.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct AccuracyView {
    pub(super) measured: f64,
    pub(super) sd: Option<f64>,
    /// Labelled frames that it is the mean of.
    pub(super) frames: usize,
    /// Index of the window.
    pub(super) window: usize,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct InferenceView {
    pub(super) sample_every: u32,
    pub(super) resolution: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Shares {
    pub(super) inference: ShareView,
    pub(super) training: ShareView,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct ShareView {
    pub(super) granted: f64,
    pub(super) used: f64,
}

/// A retraining in progress.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TrainingView {
    /// In words.
    pub(super) configuration: String,
    pub(super) since: f64,
    pub(super) expected_accuracy: f64,
    /// The part of its device time that is behind it.
    pub(super) progress: f64,
    /// The node and device, when that is another node's.
    pub(super) on: Option<String>,
}

/// Makes views of looks, a second apart.
pub(super) struct Viewer {
    pictures: bool,
    /// Oldest first.
    before: VecDeque<Before>,
}

/// What is needed of an earlier look.
struct Before {
    run_time: f64,
    frames: BTreeMap<String, FrameCounts>,
    /// By device and job.
    busy: BTreeMap<(String, String), f64>,
    timings: BTreeMap<String, Vec<Timing>>,
}

impl Viewer {
    pub(super) fn new(pictures: bool) -> Self {
        Self {
            pictures,
            before: VecDeque::new(),
        }
    }

    /// The view of a look, and what it takes from the streams: how long answers took since the last one.
    pub(super) fn view(
        &mut self,
        live: &Live,
        seen: &Seen,
    ) -> (Snapshot, Vec<(String, Vec<Timing>)>) {
        let timings = seen.streams.iter();
        let timings: Vec<_> = timings
            .map(|face| (face.name.clone(), face.intake.take_timings()))
            .collect();
        self.before.push_back(Before::of(seen, &timings));
        if self.before.len() > RATES_OVER + 1 {
            self.before.pop_front();
        }
        let devices: Vec<DeviceView> = seen
            .devices
            .iter()
            .map(|one| self.device(one, seen))
            .collect();
        let streams = seen.streams.iter();
        let streams = streams
            .map(|face| self.stream(face, seen, &devices))
            .collect();
        let looked = seen.looked.as_ref();
        let snapshot = Snapshot {
            at: seen.at,
            run_time: seen.run_time,
            node: NodeView {
                name: live
                    .cluster
                    .as_ref()
                    .map(|(node, _)| node.who().name.to_string()),
                version: env!("CARGO_PKG_VERSION"),
                scheduler: live.scheduler_name.clone(),
                leader: seen.overview.as_ref().and_then(|one| one.leader.clone()),
                draining: seen.overview.as_ref().is_some_and(|one| one.claim.drains),
            },
            pictures: self.pictures,
            window: WindowView {
                index: looked.map_or(0, |looked| looked.window),
                from: looked.map_or(0.0, |looked| looked.from),
                to: looked.map_or(0.0, |looked| looked.to),
                seconds: live.window_seconds,
            },
            devices,
            streams,
        };
        (snapshot, timings)
    }

    /// The oldest look that rates are taken from, and the seconds since.
    fn since(&self, seen: &Seen) -> Option<(&Before, f64)> {
        let before = self.before.front()?;
        let seconds = seen.run_time - before.run_time;
        (seconds > 0.0).then_some((before, seconds))
    }

    fn device(&self, device: &ekya_actors::DeviceState, seen: &Seen) -> DeviceView {
        let used = |job: &ekya_actors::JobState| {
            let (before, seconds) = self.since(seen)?;
            let busy = before.busy.get(&(device.name.clone(), job.name.clone()))?;
            Some((job.busy_seconds - busy) / seconds)
        };
        let job = |job: &ekya_actors::JobState| {
            let (kind, stream) = kind_of(&job.name, &seen.streams);
            JobView {
                name: job.name.clone(),
                stream,
                kind,
                granted: f64::from(job.share_micro) / 1e6,
                used: used(job).unwrap_or(0.0),
            }
        };
        DeviceView {
            name: device.name.clone(),
            free: f64::from(device.free_micro) / 1e6,
            jobs: device.jobs.iter().map(job).collect(),
        }
    }

    fn stream(&self, face: &Face, seen: &Seen, devices: &[DeviceView]) -> StreamView {
        let mut looks = seen.looked.iter().flat_map(|looked| &looked.streams);
        let look = looks.find(|look| look.name == face.name);
        let camera = face.camera();
        let (state, failure) = StreamState::of(face, look, camera.as_ref());
        let frames = face.intake.counts();
        StreamView {
            name: face.name.clone(),
            device: face.device.clone(),
            state,
            failure,
            reconnects: camera.map_or(0, |camera| camera.reconnects),
            frames,
            rates: self.rates(&face.name, frames, seen),
            latency: self.latency(&face.name),
            student: face.intake.student(),
            checkpoint: face.continued_from,
            classes: face.classes.clone(),
            accuracy: look.and_then(|look| look.measured).map(AccuracyView::from),
            true_accuracy: face.newest_truth().map(|point| point.accuracy),
            predicted: look.and_then(|look| look.expected),
            inference: InferenceView {
                sample_every: look.map_or(1, |look| look.sample_every),
                resolution: look.map_or(1.0, |look| look.resolution),
            },
            shares: Shares::of(face, devices),
            stage: look.map_or("idle", |look| look.stage),
            training: look.and_then(TrainingView::of),
            decision: look.and_then(|look| look.decision.clone()),
        }
    }

    fn rates(&self, stream: &str, now: FrameCounts, seen: &Seen) -> Rates {
        let before = self.since(seen);
        let before =
            before.and_then(|(before, seconds)| Some((before.frames.get(stream)?, seconds)));
        let Some((before, seconds)) = before else {
            return Rates::default();
        };
        // A stream that has gone and come again counts anew.
        let rate =
            |of: fn(&FrameCounts) -> u64| of(&now).saturating_sub(of(before)) as f64 / seconds;
        Rates {
            arrived: rate(|counts| counts.arrived),
            answered: rate(|counts| counts.answered),
            skipped: rate(|counts| counts.skipped),
            dropped: rate(|counts| counts.dropped),
        }
    }

    fn latency(&self, stream: &str) -> Option<Latency> {
        let timings = self
            .before
            .iter()
            .filter_map(|before| before.timings.get(stream));
        let seconds = timings
            .flatten()
            .map(|one| (one.queued + one.computed).as_secs_f64());
        Latency::of(seconds.collect())
    }
}

impl Before {
    fn of(seen: &Seen, timings: &[(String, Vec<Timing>)]) -> Self {
        let jobs = seen.devices.iter().flat_map(|device| {
            let job = |job: &ekya_actors::JobState| {
                ((device.name.clone(), job.name.clone()), job.busy_seconds)
            };
            device.jobs.iter().map(job)
        });
        let frames = |face: &Face| (face.name.clone(), face.intake.counts());
        Self {
            run_time: seen.run_time,
            frames: seen.streams.iter().map(frames).collect(),
            busy: jobs.collect(),
            timings: timings.iter().cloned().collect(),
        }
    }
}

impl Latency {
    /// Of so many answers; none of none.
    fn of(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.sort_by(f64::total_cmp);
        let rank = |part: f64| {
            let index = (part * seconds.len() as f64).ceil() as usize;
            seconds.get(index.saturating_sub(1)).copied()
        };
        Some(Self {
            p50: rank(0.5)?,
            p99: rank(0.99)?,
        })
    }
}

impl Shares {
    fn of(face: &Face, devices: &[DeviceView]) -> Self {
        let share = |job: String| {
            let mut devices = devices.iter().filter(|device| device.name == face.device);
            let job = devices.find_map(|device| device.jobs.iter().find(|one| one.name == job));
            job.map_or_else(ShareView::default, |job| ShareView {
                granted: job.granted,
                used: job.used,
            })
        };
        Self {
            inference: share(inference_job(&face.name)),
            training: share(training_job(&face.name)),
        }
    }
}

impl From<MeasuredLook> for AccuracyView {
    fn from(look: MeasuredLook) -> Self {
        Self {
            measured: look.mean,
            sd: look.sd,
            frames: look.frames,
            window: look.window,
        }
    }
}

impl TrainingView {
    fn of(look: &StreamLook) -> Option<Self> {
        let training = look.training.as_ref()?;
        let on = training.on.as_ref();
        Some(Self {
            configuration: in_words(&training.config),
            since: training.since,
            expected_accuracy: training.expected_accuracy,
            progress: training.progress,
            on: on.map(|place| format!("{}/{}", place.node, place.device)),
        })
    }
}

/// A retraining configuration for people.
pub(super) fn in_words(config: &RetrainingConfig) -> String {
    let frozen = match config.layers_frozen {
        0 => "all layers".to_owned(),
        usize::MAX => "the head alone".to_owned(),
        frozen => format!("{frozen} blocks frozen"),
    };
    let head = match config.head_width {
        0 => String::new(),
        width => format!(", head of {width}"),
    };
    format!(
        "{} epochs on {:.0} % of the data, {frozen}{head}",
        config.epochs,
        config.data_fraction * 100.0
    )
}

/// What a job of that name does, and for which stream of the node.
fn kind_of(job: &str, streams: &[Face]) -> (JobKind, Option<String>) {
    let of = |name: fn(&str) -> String| {
        let face = streams.iter().find(|face| name(&face.name) == job)?;
        Some(face.name.clone())
    };
    if let Some(stream) = of(inference_job) {
        (JobKind::Inference, Some(stream))
    } else if let Some(stream) = of(training_job) {
        (JobKind::Training, Some(stream))
    } else if job.starts_with("labelling/") {
        (JobKind::Labelling, None)
    } else if job.contains('@') {
        (JobKind::Guest, None)
    } else {
        (JobKind::Other, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_ranks() {
        let of = |seconds: &[f64]| Latency::of(seconds.to_vec());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[2.0]), Some(Latency { p50: 2.0, p99: 2.0 }));
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let expected = Latency {
            p50: 50.0,
            p99: 99.0,
        };
        assert_eq!(of(&hundred), Some(expected));
    }
}
