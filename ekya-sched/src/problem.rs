//! What a scheduler is asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Share;

/// The quantum δ when none is given: a tenth of a device, as in the paper.
pub const DEFAULT_QUANTUM: Share = Share::from_micro(100_000);

/// Everything a scheduler may know: the devices, the time left, and per stream what each
/// configuration would give and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// What is left of the retraining window.
    pub remaining: Duration,
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
    /// What all jobs together may use of it at any instant.
    pub capacity: Share,
}

/// One stream as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Name, for reasons and errors.
    pub name: String,
    /// Index of the device that both jobs of the stream run on.
    #[serde(default)]
    pub device: usize,
    /// Accuracy of the serving student when every frame is answered, in 0..=1.
    pub accuracy: f64,
    /// Inference configurations Λ, in any order.
    pub inference: Vec<InferenceOption>,
    /// Retraining configurations Γ, in any order; empty when the stream is not to be retrained
    /// any more in this window.
    pub retraining: Vec<RetrainingOption>,
    /// A retraining already runs; `retraining` then holds the one option that finishes it.
    #[serde(default)]
    pub training_running: bool,
}

/// An inference configuration λ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceOption {
    /// What is left of the student's accuracy under this configuration, in 0..=1.
    pub accuracy_factor: f64,
    /// Share of the device that it needs to keep up with the source.
    pub share: Share,
}

/// A retraining configuration γ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainingOption {
    /// Accuracy of the retrained student when every frame is answered, in 0..=1.
    pub end_accuracy: f64,
    /// What is still to do, on a whole device.
    pub gpu_seconds: f64,
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
    /// The end accuracy of an option is no accuracy.
    #[error(
        "stream {stream:?}: end accuracy {value} of retraining option {option} is not in 0..=1"
    )]
    EndAccuracy {
        /// Name of the stream.
        stream: String,
        /// Index of the option.
        option: usize,
        /// What was given.
        value: f64,
    },
    /// The cost of an option is negative, infinite or not a number.
    #[error(
        "stream {stream:?}: cost {value} of retraining option {option} is not a number of GPU-seconds"
    )]
    GpuSeconds {
        /// Name of the stream.
        stream: String,
        /// Index of the option.
        option: usize,
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
            quantum: DEFAULT_QUANTUM,
            min_accuracy: 0.0,
            devices: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Capacity of a stream's device; nothing when there is no such device.
    #[must_use]
    pub fn capacity_of(&self, stream: &StreamSpec) -> Share {
        self.devices
            .get(stream.device)
            .map_or(Share::ZERO, |device| device.capacity)
    }

    /// Indices of the streams of a device, in order.
    pub(crate) fn streams_on(&self, device: usize) -> Vec<usize> {
        let on_device = |&s: &usize| self.streams[s].device == device;
        (0..self.streams.len()).filter(on_device).collect()
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
            stream.validate()
        })
    }

    fn validate_device(&self, stream: &StreamSpec) -> Result<(), ProblemError> {
        if self.devices.is_empty() || stream.device < self.devices.len() {
            return Ok(());
        }
        Err(ProblemError::NoSuchDevice {
            stream: stream.name.clone(),
            device: stream.device,
            devices: self.devices.len(),
        })
    }
}

impl StreamSpec {
    fn validate(&self) -> Result<(), ProblemError> {
        let stream = || self.name.clone();
        if !is_fraction(self.accuracy) {
            return Err(ProblemError::Accuracy {
                stream: stream(),
                value: self.accuracy,
            });
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
        for (option, spec) in self.retraining.iter().enumerate() {
            if !is_fraction(spec.end_accuracy) {
                return Err(ProblemError::EndAccuracy {
                    stream: self.name.clone(),
                    option,
                    value: spec.end_accuracy,
                });
            }
            if !(spec.gpu_seconds.is_finite() && spec.gpu_seconds >= 0.0) {
                return Err(ProblemError::GpuSeconds {
                    stream: self.name.clone(),
                    option,
                    value: spec.gpu_seconds,
                });
            }
        }
        Ok(())
    }
}

const fn default_quantum() -> Share {
    DEFAULT_QUANTUM
}

/// Whether a number is in 0..=1; false for NaN.
fn is_fraction(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_stream() -> Problem {
        Problem {
            devices: vec![DeviceSpec {
                capacity: Share::WHOLE,
            }],
            streams: vec![StreamSpec {
                name: "a".into(),
                accuracy: 0.5,
                inference: vec![InferenceOption {
                    accuracy_factor: 1.0,
                    share: Share::WHOLE,
                }],
                retraining: vec![RetrainingOption {
                    end_accuracy: 0.9,
                    gpu_seconds: 10.0,
                }],
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
        let spoilt: [Spoil; 9] = [
            |p| p.quantum = Share::ZERO,
            |p| p.min_accuracy = f64::NAN,
            |p| p.streams[0].accuracy = 1.1,
            |p| p.streams[0].device = 1,
            |p| p.streams[0].inference[0].accuracy_factor = -0.1,
            |p| p.streams[0].retraining[0].end_accuracy = f64::NAN,
            |p| p.streams[0].retraining[0].gpu_seconds = f64::INFINITY,
            |p| p.streams[0].retraining[0].gpu_seconds = -1.0,
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
