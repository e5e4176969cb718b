//! What a scheduler answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Problem, Share, StreamSpec};

/// Configurations and shares of every stream, valid until the next retraining ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// One entry a stream, in the problem's order.
    pub streams: Vec<StreamPlan>,
    /// Predicted mean over the streams and over the remaining window, in 0..=1; 0 without streams.
    pub mean_accuracy: f64,
    /// No plan that keeps to the problem reaches a higher mean; `None` when the scheduler does not
    /// say.
    #[serde(default)]
    pub upper_bound: Option<f64>,
}

/// What one stream gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPlan {
    /// Index into [`StreamSpec::inference`]; `None` when the share is below the cheapest option:
    /// answer what the share allows (best effort). Its accuracy is predicted as 0.
    pub inference: Option<usize>,
    /// Share of inference; may be more than the option needs when nobody else can use it.
    pub inference_share: Share,
    /// Index into [`StreamSpec::retraining`].
    pub retraining: Option<usize>,
    /// Share of training; zero exactly when `retraining` is `None`.
    pub training_share: Share,
    /// When the retraining ends under this share; `None` when it does not in this window.
    pub completes_in: Option<Duration>,
    /// Predicted accuracy over the remaining window, in 0..=1.
    pub mean_accuracy: f64,
    /// Why, for people.
    pub reason: String,
}

/// A plan that does not fit its problem.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Another number of streams.
    #[error("the plan has {plan} streams, the problem {problem}")]
    StreamCount {
        /// Streams of the plan.
        plan: usize,
        /// Streams of the problem.
        problem: usize,
    },
    /// The shares on a device sum to more than it has.
    #[error("device {device}: {used} micro-GPU are granted of {capacity}")]
    OverCapacity {
        /// Index of the device.
        device: usize,
        /// Sum of the shares, in micro-GPU.
        used: u64,
        /// Capacity, in micro-GPU.
        capacity: u64,
    },
    /// A share is granted to a stream whose device does not exist.
    #[error("stream {stream:?}: a share of device {device}, which does not exist")]
    NoSuchDevice {
        /// Name of the stream.
        stream: String,
        /// Index of the device.
        device: usize,
    },
    /// An option that the problem does not have.
    #[error("stream {stream:?}: no {kind} option {option}, there are {options}")]
    NoSuchOption {
        /// Name of the stream.
        stream: String,
        /// "inference" or "retraining".
        kind: &'static str,
        /// The index in the plan.
        option: usize,
        /// How many options the problem has.
        options: usize,
    },
    /// The inference option needs more than it gets.
    #[error(
        "stream {stream:?}: inference option {option} needs {needed} of the device, gets {share}"
    )]
    InferenceShare {
        /// Name of the stream.
        stream: String,
        /// Index of the option.
        option: usize,
        /// What it needs.
        needed: Share,
        /// What it gets.
        share: Share,
    },
    /// A retraining without a share, or a share without a retraining.
    #[error("stream {stream:?}: retraining {retraining:?} with a share of {share}")]
    TrainingShare {
        /// Name of the stream.
        stream: String,
        /// The chosen option.
        retraining: Option<usize>,
        /// Its share.
        share: Share,
    },
    /// A completion that the share does not give, or after the window.
    #[error("stream {stream:?}: completion in {completes_in:?} with {remaining:?} left")]
    Completion {
        /// Name of the stream.
        stream: String,
        /// What the plan says.
        completes_in: Duration,
        /// What is left of the window.
        remaining: Duration,
    },
    /// A predicted accuracy outside 0..=1, or a mean that is not the mean.
    #[error("predicted accuracy {value} is not one, or not the mean of the streams'")]
    Accuracy {
        /// What the plan says.
        value: f64,
    },
}

impl Plan {
    /// Puts the streams' plans together.
    pub(crate) fn of(streams: Vec<StreamPlan>) -> Self {
        let mean_accuracy = mean(streams.iter().map(|stream| stream.mean_accuracy));
        Self {
            streams,
            mean_accuracy,
            upper_bound: None,
        }
    }

    /// Whether the plan can be carried out: no device over its capacity, options that exist,
    /// inference with the share that its option needs (or none named: best effort), retrainings
    /// with a share, completions inside the window.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self, problem: &Problem) -> Result<(), PlanError> {
        if self.streams.len() != problem.streams.len() {
            return Err(PlanError::StreamCount {
                plan: self.streams.len(),
                problem: problem.streams.len(),
            });
        }
        for (plan, spec) in self.streams.iter().zip(&problem.streams) {
            plan.check(spec, problem)?;
        }
        self.check_capacities(problem)?;
        let value = self.mean_accuracy;
        let expected = mean(self.streams.iter().map(|stream| stream.mean_accuracy));
        if (value - expected).abs() < 1e-9 {
            Ok(())
        } else {
            Err(PlanError::Accuracy { value })
        }
    }

    fn check_capacities(&self, problem: &Problem) -> Result<(), PlanError> {
        let mut used = vec![0_u64; problem.devices.len()];
        for (plan, spec) in self.streams.iter().zip(&problem.streams) {
            // Streams without a device have no share: `StreamPlan::check`.
            if let Some(used) = used.get_mut(spec.device) {
                *used += u64::from(plan.inference_share.micro());
                *used += u64::from(plan.training_share.micro());
            }
        }
        for (device, (&used, spec)) in used.iter().zip(&problem.devices).enumerate() {
            let capacity = u64::from(spec.capacity.micro());
            if used > capacity {
                return Err(PlanError::OverCapacity {
                    device,
                    used,
                    capacity,
                });
            }
        }
        Ok(())
    }
}

impl StreamPlan {
    fn check(&self, spec: &StreamSpec, problem: &Problem) -> Result<(), PlanError> {
        let granted = self.inference_share.saturating_add(self.training_share);
        if spec.device >= problem.devices.len() && granted > Share::ZERO {
            return Err(PlanError::NoSuchDevice {
                stream: spec.name.clone(),
                device: spec.device,
            });
        }
        self.check_inference(spec)?;
        self.check_retraining(spec)?;
        self.check_prediction(spec, problem.remaining)
    }

    fn check_inference(&self, spec: &StreamSpec) -> Result<(), PlanError> {
        let Some(option) = self.inference else {
            return Ok(());
        };
        let Some(chosen) = spec.inference.get(option) else {
            return Err(no_such_option(
                spec,
                "inference",
                option,
                spec.inference.len(),
            ));
        };
        if chosen.share <= self.inference_share {
            return Ok(());
        }
        Err(PlanError::InferenceShare {
            stream: spec.name.clone(),
            option,
            needed: chosen.share,
            share: self.inference_share,
        })
    }

    fn check_retraining(&self, spec: &StreamSpec) -> Result<(), PlanError> {
        let options = spec.retraining.len();
        match self.retraining {
            Some(option) if option >= options => {
                Err(no_such_option(spec, "retraining", option, options))
            }
            retraining if retraining.is_some() == (self.training_share > Share::ZERO) => Ok(()),
            retraining => Err(PlanError::TrainingShare {
                stream: spec.name.clone(),
                retraining,
                share: self.training_share,
            }),
        }
    }

    fn check_prediction(&self, spec: &StreamSpec, remaining: Duration) -> Result<(), PlanError> {
        if let Some(completes_in) = self.completes_in
            && (completes_in > remaining || self.retraining.is_none())
        {
            return Err(PlanError::Completion {
                stream: spec.name.clone(),
                completes_in,
                remaining,
            });
        }
        let value = self.mean_accuracy;
        if (0.0..=1.0).contains(&value) {
            Ok(())
        } else {
            Err(PlanError::Accuracy { value })
        }
    }
}

fn no_such_option(
    spec: &StreamSpec,
    kind: &'static str,
    option: usize,
    options: usize,
) -> PlanError {
    PlanError::NoSuchOption {
        stream: spec.name.clone(),
        kind,
        option,
        options,
    }
}

/// Arithmetic mean, 0 of nothing.
pub(crate) fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    match values.len() {
        0 => 0.0,
        n => values.sum::<f64>() / n as f64,
    }
}
