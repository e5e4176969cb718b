//! What a scheduler is asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{CachedStudent, Scene, Share, Throughput};

/// The quantum δ when none is given: a tenth of a device, as in the paper.
pub const DEFAULT_QUANTUM: Share = Share::from_micro(100_000);

/// GPU-seconds below which nothing is left of a retraining: times of that length vanish beside
/// others.
const LEAST_WORK: f64 = 1e-12;

/// Weights that a stream may have, and speeds of devices for it.
const WEIGHTS: std::ops::RangeInclusive<f64> = 1e-3..=1e3;

/// Everything a scheduler may know: the devices, the time left, and per stream what each
/// configuration would give and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// What is left of the retraining window.
    pub remaining: Duration,
    /// No retraining but those that run already can start before this time, counted from now: labels
    /// are being made. May be longer than what remains; then none is started.
    #[serde(default)]
    pub labelling_delay: Duration,
    /// The step δ in which shares are moved; above zero.
    #[serde(default = "default_quantum")]
    pub quantum: Share,
    /// Accuracy that no stream should fall below (a_MIN), in 0..=1; 0 asks for nothing.
    #[serde(default)]
    pub min_accuracy: f64,
    /// Devices, referred to by their index. None at all is allowed: then nothing is served.
    pub devices: Vec<DeviceSpec>,
    /// Streams, in the order in which the plan lists them.
    pub streams: Vec<StreamSpec>,
}

/// A device, or as many equal ones as its capacity says when jobs may span them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// What all jobs together may use of it at any instant. GPU-seconds and shares refer to one
    /// kind of device; one that is half as fast has half its capacity.
    pub capacity: Share,
    /// Bytes that students and retrainings may occupy together; `None`: never short.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Index of the node that the device belongs to. Both jobs of a stream stay on one node, unless it
    /// may [travel](StreamSpec::transfer_seconds).
    #[serde(default)]
    pub node: usize,
    /// How many retrainings may run at a time; `None`: any number.
    #[serde(default)]
    pub training_slots: Option<usize>,
    /// Whether streams of other nodes may be retrained on it; true by default.
    #[serde(default = "yes")]
    pub lends: bool,
}

impl Default for DeviceSpec {
    /// A device of no capacity.
    fn default() -> Self {
        Self::new(Share::ZERO)
    }
}

/// One stream as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamSpec {
    /// Name, for reasons and errors.
    pub name: String,
    /// Index of the device that the stream's inference runs on; `None`: the scheduler places it.
    pub device: Option<usize>,
    /// Index of the device that the stream is retrained on; `None`: that of its inference if that
    /// is given and the stream may not [travel](Self::transfer_seconds), else the scheduler places it.
    pub training_device: Option<usize>,
    /// How much the stream counts, from a thousandth to a thousand; 1 by default.
    pub weight: f64,
    /// Accuracy of the serving student when every frame is answered, in 0..=1.
    pub accuracy: f64,
    /// Bytes that the serving student occupies on its device.
    pub memory: u64,
    /// Inference configurations Λ, in any order.
    pub inference: Vec<InferenceOption>,
    /// Retraining configurations Γ, in any order; empty when the stream is not to be retrained
    /// any more in this window.
    pub retraining: Vec<RetrainingOption>,
    /// How fast its retraining is under a share.
    pub throughput: Throughput,
    /// How fast each device works for this stream, beside the one that its shares and GPU-seconds refer
    /// to: on one that is twice as fast (2), both are halved. From a thousandth to a thousand; none at
    /// all: the devices are alike.
    pub speeds: Vec<f64>,
    /// Seconds that its sample and student take to another node, and the retrained student back: then it
    /// may be retrained there. `None`: it stays on the node that serves it.
    pub transfer_seconds: Option<f64>,
    /// What the stream shows.
    pub scene: Option<Scene>,
    /// Students trained before that it could be served with.
    pub cached: Vec<CachedStudent>,
    /// A retraining already runs; `retraining` then holds the one option that finishes it.
    pub training_running: bool,
}

/// An inference configuration λ.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceOption {
    /// What is left of the student's accuracy under this configuration, in 0..=1.
    pub accuracy_factor: f64,
    /// Share of the device that it needs to keep up with the source.
    pub share: Share,
}

/// A retraining configuration γ.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainingOption {
    /// Accuracy of the retrained student when every frame is answered, in 0..=1.
    pub end_accuracy: f64,
    /// Between what the end accuracy is expected to lie (low, high), around `end_accuracy`. Plans
    /// aim at `end_accuracy`; reasons name the interval.
    #[serde(default)]
    pub interval: Option<(f64, f64)>,
    /// All its work, on a whole device.
    pub gpu_seconds: f64,
    /// Part of the work that is done already, in 0..=1.
    #[serde(default)]
    pub progress: f64,
    /// Seconds from its start until it computes, whatever its share; what is left of them when it
    /// runs already.
    #[serde(default)]
    pub startup_seconds: f64,
    /// Bytes that it occupies on its device while it runs.
    #[serde(default)]
    pub memory: u64,
}

impl Default for StreamSpec {
    /// A stream without options, of weight 1.
    fn default() -> Self {
        Self {
            name: String::new(),
            device: None,
            training_device: None,
            weight: 1.0,
            accuracy: 0.0,
            memory: 0,
            inference: Vec::new(),
            retraining: Vec::new(),
            throughput: Throughput::default(),
            speeds: Vec::new(),
            transfer_seconds: None,
            scene: None,
            cached: Vec::new(),
            training_running: false,
        }
    }
}

impl DeviceSpec {
    /// A device with this capacity and no other limit.
    #[must_use]
    pub const fn new(capacity: Share) -> Self {
        Self {
            capacity,
            memory: None,
            node: 0,
            training_slots: None,
            lends: true,
        }
    }
}

impl RetrainingOption {
    /// An option of which nothing is done yet, without start-up, that occupies nothing.
    #[must_use]
    pub const fn new(end_accuracy: f64, gpu_seconds: f64) -> Self {
        Self {
            end_accuracy,
            interval: None,
            gpu_seconds,
            progress: 0.0,
            startup_seconds: 0.0,
            memory: 0,
        }
    }

    /// GPU-seconds that are still to do; what takes no time is nothing.
    #[must_use]
    pub fn gpu_seconds_left(&self) -> f64 {
        let left = self.gpu_seconds * (1.0 - self.progress);
        if left > LEAST_WORK { left } else { 0.0 }
    }

    /// Whether the numbers make sense.
    fn is_valid(&self) -> bool {
        let (low, high) = self
            .interval
            .unwrap_or((self.end_accuracy, self.end_accuracy));
        is_fraction(self.end_accuracy)
            && is_fraction(low)
            && is_fraction(high)
            && (low..=high).contains(&self.end_accuracy)
            && is_fraction(self.progress)
            && is_amount(self.gpu_seconds)
            && is_amount(self.startup_seconds)
    }
}

/// What is wrong with a [`Problem`].
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// Shares could not be moved.
    #[error("the quantum is zero; it has to be above, such as 0.1 of a device")]
    ZeroQuantum,
    /// `min_accuracy` is no accuracy.
    #[error("the lowest acceptable accuracy is {value}; it has to be in 0..=1")]
    MinAccuracy {
        /// What was given.
        value: f64,
    },
    /// The serving student's accuracy is no accuracy.
    #[error("stream {stream:?}: accuracy {value} is not in 0..=1")]
    Accuracy {
        /// Name of the stream.
        stream: String,
        /// What was given.
        value: f64,
    },
    /// A stream names a device that does not exist.
    #[error("stream {stream:?}: no device {device}, there are {devices}")]
    NoSuchDevice {
        /// Name of the stream.
        stream: String,
        /// The index it gives.
        device: usize,
        /// How many devices there are.
        devices: usize,
    },
    /// An accuracy factor is none.
    #[error(
        "stream {stream:?}: accuracy factor {value} of inference option {option} is not in 0..=1"
    )]
    AccuracyFactor {
        /// Name of the stream.
        stream: String,
        /// Index of the option.
        option: usize,
        /// What was given.
        value: f64,
    },
    /// A retraining option with an accuracy, an interval or a progress outside 0..=1, or a cost
    /// that is no number of seconds.
    #[error("stream {stream:?}: retraining option {option} makes no sense: {value:?}")]
    RetrainingOption {
        /// Name of the stream.
        stream: String,
        /// Index of the option.
        option: usize,
        /// What was given.
        value: RetrainingOption,
    },
    /// A scene with something that is no number, or a cached student whose accuracy is none.
    #[error("stream {stream:?}: its scene or a cached student holds a number that makes no sense")]
    Scene {
        /// Name of the stream.
        stream: String,
    },
    /// A speed of a device that is none, or not one for each device.
    #[error(
        "stream {stream:?}: speeds {speeds:?} of {devices} devices; one each, from a thousandth to a thousand, or none at all"
    )]
    Speeds {
        /// Name of the stream.
        stream: String,
        /// What was given.
        speeds: Vec<f64>,
        /// How many devices there are.
        devices: usize,
    },
    /// A time on the way to another node that is no number of seconds.
    #[error("stream {stream:?}: {value} s on the way to another node")]
    Transfer {
        /// Name of the stream.
        stream: String,
        /// What was given.
        value: f64,
    },
    /// A weight that would vanish beside others, or make others vanish.
    #[error("stream {stream:?}: weight {value} is not from a thousandth to a thousand")]
    Weight {
        /// Name of the stream.
        stream: String,
        /// What was given.
        value: f64,
    },
    /// A running retraining can be finished in one way only.
    #[error(
        "stream {stream:?}: a running retraining needs exactly the option that finishes it, got {options}"
    )]
    RunningOptions {
        /// Name of the stream.
        stream: String,
        /// How many options were given.
        options: usize,
    },
}

impl Problem {
    /// A problem without devices and streams, with the default quantum and no lowest accuracy.
    #[must_use]
    pub const fn new(remaining: Duration) -> Self {
        Self {
            remaining,
            labelling_delay: Duration::ZERO,
            quantum: DEFAULT_QUANTUM,
            min_accuracy: 0.0,
            devices: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Capacity of the first device, which in a problem of one device is the only one.
    pub(crate) fn capacity(&self) -> Share {
        self.devices
            .first()
            .map_or(Share::ZERO, |device| device.capacity)
    }

    /// Bytes that the students of all streams leave to a retraining on the first device; `None` when
    /// it may not run any.
    pub(crate) fn training_memory(&self) -> Option<u64> {
        let students = self.streams.iter().map(|stream| stream.memory);
        let used = students.fold(0, u64::saturating_add);
        let memory = self.devices.first().and_then(|device| device.memory);
        let free = memory.map_or(u64::MAX, |memory| memory.saturating_sub(used));
        (self.training_slots() > 0).then_some(free)
    }

    /// How many retrainings may run at a time on the first device.
    pub(crate) fn training_slots(&self) -> usize {
        let slots = self
            .devices
            .first()
            .and_then(|device| device.training_slots);
        slots.unwrap_or(usize::MAX)
    }

    /// Seconds until a retraining of this stream may start: one that runs has its labels.
    pub(crate) fn delay_of(&self, stream: &StreamSpec) -> f64 {
        if stream.training_running {
            0.0
        } else {
            self.labelling_delay.as_secs_f64()
        }
    }

    /// Weights of all streams together.
    pub(crate) fn weight(&self) -> f64 {
        self.streams.iter().map(|stream| stream.weight).sum()
    }

    /// Mean of what the streams have, by their weights; 0 of nothing.
    pub(crate) fn weighted_mean(&self, values: impl Iterator<Item = f64>) -> f64 {
        let parts = values.zip(&self.streams);
        let sum: f64 = parts.map(|(value, stream)| value * stream.weight).sum();
        let weight = self.weight();
        if weight > 0.0 { sum / weight } else { 0.0 }
    }

    /// Checks everything that the schedulers rely on.
    ///
    /// # Errors
    /// The first thing found wrong. With no devices at all, device indices are not looked at.
    pub fn validate(&self) -> Result<(), ProblemError> {
        if self.quantum == Share::ZERO {
            return Err(ProblemError::ZeroQuantum);
        }
        if !is_fraction(self.min_accuracy) {
            let value = self.min_accuracy;
            return Err(ProblemError::MinAccuracy { value });
        }
        self.streams.iter().try_for_each(|stream| {
            self.validate_device(stream)?;
            self.validate_speeds(stream)?;
            stream.validate()
        })
    }

    fn validate_device(&self, stream: &StreamSpec) -> Result<(), ProblemError> {
        let given = [stream.device, stream.training_device];
        let beyond = |device: &usize| *device >= self.devices.len();
        match given.into_iter().flatten().find(beyond) {
            Some(device) if !self.devices.is_empty() => Err(ProblemError::NoSuchDevice {
                stream: stream.name.clone(),
                device,
                devices: self.devices.len(),
            }),
            _ => Ok(()),
        }
    }
}

impl Problem {
    /// With no devices at all, speeds are not looked at.
    fn validate_speeds(&self, spec: &StreamSpec) -> Result<(), ProblemError> {
        let (speeds, devices) = (&spec.speeds, self.devices.len());
        let one_each = speeds.is_empty() || devices == 0 || speeds.len() == devices;
        if one_each && speeds.iter().all(|speed| WEIGHTS.contains(speed)) {
            return Ok(());
        }
        Err(ProblemError::Speeds {
            stream: spec.name.clone(),
            speeds: speeds.clone(),
            devices,
        })
    }
}

impl StreamSpec {
    /// Accuracy factor of an inference option; nothing for best effort.
    pub(crate) fn factor_of(&self, inference: Option<usize>) -> f64 {
        inference.map_or(0.0, |option| self.inference[option].accuracy_factor)
    }

    fn validate(&self) -> Result<(), ProblemError> {
        let stream = || self.name.clone();
        if !is_fraction(self.accuracy) {
            return Err(ProblemError::Accuracy {
                stream: stream(),
                value: self.accuracy,
            });
        }
        if !WEIGHTS.contains(&self.weight) {
            return Err(ProblemError::Weight {
                stream: stream(),
                value: self.weight,
            });
        }
        if let Some(value) = self.transfer_seconds.filter(|&seconds| !is_amount(seconds)) {
            let stream = stream();
            return Err(ProblemError::Transfer { stream, value });
        }
        let known =
            |student: &CachedStudent| is_fraction(student.accuracy) && student.scene.is_finite();
        if !self.scene.iter().all(Scene::is_finite) || !self.cached.iter().all(known) {
            return Err(ProblemError::Scene { stream: stream() });
        }
        if self.training_running && self.retraining.len() != 1 {
            return Err(ProblemError::RunningOptions {
                stream: stream(),
                options: self.retraining.len(),
            });
        }
        self.validate_inference()?;
        self.validate_retraining()
    }

    fn validate_inference(&self) -> Result<(), ProblemError> {
        let bad = |option: &InferenceOption| !is_fraction(option.accuracy_factor);
        match self.inference.iter().position(bad) {
            None => Ok(()),
            Some(option) => Err(ProblemError::AccuracyFactor {
                stream: self.name.clone(),
                option,
                value: self.inference[option].accuracy_factor,
            }),
        }
    }

    fn validate_retraining(&self) -> Result<(), ProblemError> {
        let bad = |option: &RetrainingOption| !option.is_valid();
        match self.retraining.iter().position(bad) {
            None => Ok(()),
            Some(option) => Err(ProblemError::RetrainingOption {
                stream: self.name.clone(),
                option,
                value: self.retraining[option],
            }),
        }
    }
}

const fn yes() -> bool {
    true
}

const fn default_quantum() -> Share {
    DEFAULT_QUANTUM
}

/// Whether a number is in 0..=1; false for NaN.
fn is_fraction(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

/// Whether a number is an amount of something; false for NaN and infinity.
fn is_amount(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_stream() -> Problem {
        Problem {
            devices: vec![DeviceSpec::new(Share::WHOLE)],
            streams: vec![StreamSpec {
                name: "a".into(),
                accuracy: 0.5,
                inference: vec![InferenceOption {
                    accuracy_factor: 1.0,
                    share: Share::WHOLE,
                }],
                retraining: vec![RetrainingOption::new(0.9, 10.0)],
                ..StreamSpec::default()
            }],
            ..Problem::new(Duration::from_secs(100))
        }
    }

    #[test]
    fn a_good_problem_passes() {
        assert_eq!(one_stream().validate(), Ok(()));
    }

    #[test]
    fn each_bad_number_is_found() {
        type Spoil = fn(&mut Problem);
        let spoilt: [Spoil; 17] = [
            |p| p.quantum = Share::ZERO,
            |p| p.min_accuracy = f64::NAN,
            |p| p.streams[0].accuracy = 1.1,
            |p| p.streams[0].device = Some(1),
            |p| p.streams[0].training_device = Some(1),
            |p| p.streams[0].weight = 0.0,
            |p| p.streams[0].speeds = vec![1.0, 1.0],
            |p| p.streams[0].speeds = vec![0.0],
            |p| p.streams[0].transfer_seconds = Some(f64::INFINITY),
            |p| p.streams[0].inference[0].accuracy_factor = -0.1,
            |p| p.streams[0].retraining[0].end_accuracy = f64::NAN,
            |p| p.streams[0].retraining[0].gpu_seconds = f64::INFINITY,
            |p| p.streams[0].retraining[0].gpu_seconds = -1.0,
            |p| p.streams[0].retraining[0].startup_seconds = -1.0,
            |p| p.streams[0].retraining[0].progress = 1.5,
            |p| p.streams[0].retraining[0].interval = Some((0.1, 0.2)),
            |p| {
                p.streams[0].training_running = true;
                p.streams[0].retraining.clear();
            },
        ];
        for (case, spoil) in spoilt.iter().enumerate() {
            let mut problem = one_stream();
            spoil(&mut problem);
            assert!(problem.validate().is_err(), "case {case}");
        }
    }

    #[test]
    fn no_devices_at_all_is_a_problem_that_can_be_planned() {
        let mut problem = one_stream();
        problem.devices.clear();
        assert_eq!(problem.validate(), Ok(()));
    }
}
