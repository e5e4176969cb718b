//! A trace with the circumstances under which its windows are simulated.

use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::trace::{RecordedWindow, Trace};
use super::window::{WindowOutcome, run_window_with};
use crate::{
    DEFAULT_QUANTUM, DeviceSpec, InferenceOption, Optimal, Problem, RetrainingOption,
    ScheduleError, Scheduler, Segment, Share, StreamSpec, Throughput,
};

/// Circumstances under which a trace's windows are simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario<'a> {
    /// What retrainings give and cost.
    pub trace: &'a Trace,
    /// How many GPUs there are; 0 is possible.
    pub gpus: u32,
    /// Whether jobs may span them.
    pub devices: Devices,
    /// How many streams; more than the trace has repeat it ([`Trace::window`]).
    pub streams: usize,
    /// How many windows; more than the trace has repeat it.
    pub windows: usize,
    /// Length of a window.
    pub window: Duration,
    /// How long labels take at the start of a window.
    pub labelling_delay: Duration,
    /// Inference options of every stream.
    pub inference: Vec<InferenceOption>,
    /// How fast retrainings are under a share.
    pub throughput: Throughput,
    /// Accuracy that no stream should fall below.
    pub min_accuracy: f64,
    /// The step in which shares are moved.
    pub quantum: Share,
    /// What a window starts with.
    pub start: Start,
    /// What the scheduler is told about retrainings.
    pub plan_on: PlanOn,
    /// Relative standard deviation of a normal error on every end accuracy that the scheduler is
    /// told: 0.2 is an error of 20 %.
    pub noise: f64,
    /// Decides the errors.
    pub seed: u64,
}

/// Whether jobs may span GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Devices {
    /// One device with the capacity of all, as in the simulator of the paper.
    #[default]
    Pooled,
    /// A device each; the scheduler places the jobs, none of which spans two.
    Separate,
}

/// What a stream starts a window with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The accuracy that the trace says, whatever was reached before.
    #[default]
    Reset,
    /// The accuracy that it ended the window before with; in the first window, what the trace says.
    Carried,
}

/// What a scheduler is told about the end accuracies of retrainings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanOn {
    /// What they will be.
    #[default]
    True,
    /// What the trace says was predicted.
    Predicted,
}

/// A simulated window, as it stands in `timeline.json`. Times are in seconds from the window's
/// start, shares in GPUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowRecord {
    /// Name of the scheduler.
    pub scheduler: String,
    /// How many GPUs there were.
    pub gpus: u32,
    /// Length of the window.
    pub window_seconds: f64,
    /// Relative error of what was planned on.
    pub noise: f64,
    /// Number of the window, from 0.
    pub window: usize,
    /// Mean over the streams and the window, in 0..=1.
    pub mean_accuracy: f64,
    /// No plan that retrains on these devices reaches a higher mean, whoever makes it and whatever it
    /// knows.
    pub upper_bound: Option<f64>,
    /// How often the scheduler planned.
    pub plans: usize,
    /// By stream.
    pub streams: Vec<StreamRecord>,
}

/// A stream in a simulated window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Name of the stream.
    pub stream: String,
    /// Accuracy of the serving student at the start, when every frame is answered.
    pub start_accuracy: f64,
    /// The same at the end.
    pub end_accuracy: f64,
    /// Configuration that a retraining was started with.
    pub config: Option<String>,
    /// Whether it ended with the most accurate configuration there is, or needed none.
    pub most_accurate: bool,
    /// When the retraining ended; a student that is better serves from then on.
    pub completes_at: Option<f64>,
    /// Mean over the window, in 0..=1.
    pub mean_accuracy: f64,
    /// Shares over the window.
    pub segments: Vec<GpuSegment>,
}

/// A time in which nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GpuSegment {
    /// Start.
    pub from: f64,
    /// End.
    pub to: f64,
    /// GPUs of inference.
    pub inference_gpu: f64,
    /// GPUs of training.
    pub training_gpu: f64,
}

/// Why a scenario cannot be simulated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// The scheduler cannot plan a window.
    #[error("{scheduler} cannot plan window {window}")]
    Schedule {
        /// Name of the scheduler.
        scheduler: String,
        /// Number of the window, from 0.
        window: usize,
        /// Why.
        source: Box<ScheduleError>,
    },
    /// Predictions are to be planned on and the trace has none.
    #[error("the trace predicts nothing for {config:?} of stream {stream:?}: plan on true values")]
    NoPrediction {
        /// Name of the stream.
        stream: String,
        /// Name of the configuration.
        config: String,
    },
}

impl<'a> Scenario<'a> {
    /// Every window and stream of a trace once, in windows of 200 s on one GPU, planned on true
    /// values.
    #[must_use]
    pub fn new(trace: &'a Trace, inference: Vec<InferenceOption>) -> Self {
        Self {
            trace,
            gpus: 1,
            devices: Devices::Pooled,
            streams: trace.streams(),
            windows: trace.windows(),
            window: Duration::from_secs(200),
            labelling_delay: Duration::ZERO,
            inference,
            throughput: Throughput::default(),
            min_accuracy: 0.0,
            quantum: DEFAULT_QUANTUM,
            start: Start::Reset,
            plan_on: PlanOn::True,
            noise: 0.0,
            seed: 0,
        }
    }

    /// Simulates all windows, one after another.
    ///
    /// # Errors
    /// When one cannot be simulated.
    pub fn run(&self, scheduler: &dyn Scheduler) -> Result<Vec<WindowRecord>, SimulateError> {
        let mut records: Vec<WindowRecord> = Vec::with_capacity(self.windows);
        for window in 0..self.windows {
            let accuracies = match (self.start, records.last()) {
                (Start::Carried, Some(last)) => Some(ends(last)),
                _ => None,
            };
            records.push(self.run_window(scheduler, window, accuracies.as_deref())?);
        }
        Ok(records)
    }

    /// Simulates one window, which starts with these accuracies, or with the trace's.
    ///
    /// # Errors
    /// When the scheduler cannot plan it, or is to plan on predictions that the trace lacks.
    pub fn run_window(
        &self,
        scheduler: &dyn Scheduler,
        window: usize,
        accuracies: Option<&[f64]>,
    ) -> Result<WindowRecord, SimulateError> {
        let truth = self.problem(window, accuracies);
        let told = self.as_told(&truth, window)?;
        let end_accuracy = |stream: usize, option: usize| {
            let options = &truth.streams[stream].retraining;
            options
                .get(option)
                .map_or(0.0, |option| option.end_accuracy)
        };
        let outcome = run_window_with(scheduler, &told, &end_accuracy).map_err(|source| {
            SimulateError::Schedule {
                scheduler: scheduler.name(),
                window,
                source: Box::new(source),
            }
        })?;
        Ok(self.record(scheduler, window, &truth, outcome))
    }

    /// What no plan of a window exceeds that retrains on these devices; it starts with these
    /// accuracies, or with the trace's.
    #[must_use]
    pub fn upper_bound(&self, window: usize, accuracies: Option<&[f64]>) -> Option<f64> {
        let problem = Problem {
            min_accuracy: 0.0,
            ..self.problem(window, accuracies)
        };
        Optimal.plan(&problem).ok()?.upper_bound
    }

    /// The problem of a window, with what retrainings will really give.
    #[must_use]
    pub fn problem(&self, window: usize, accuracies: Option<&[f64]>) -> Problem {
        let stream = |index: usize| {
            let (name, recorded) = self.trace.window(index, window);
            let option = |option: &super::trace::RecordedOption| RetrainingOption {
                startup_seconds: option.startup_seconds,
                ..RetrainingOption::new(option.end_accuracy, option.gpu_seconds)
            };
            StreamSpec {
                name,
                accuracy: accuracies
                    .and_then(|all| all.get(index).copied())
                    .unwrap_or(recorded.start_accuracy),
                inference: self.inference.clone(),
                retraining: recorded.options.iter().map(option).collect(),
                throughput: self.throughput.clone(),
                scene: Some(recorded.scene.clone()),
                cached: recorded.cached.clone(),
                ..StreamSpec::default()
            }
        };
        let whole = |gpus: u32| DeviceSpec::new(Share::from_micro(gpus.saturating_mul(1_000_000)));
        let devices = match self.devices {
            _ if self.gpus == 0 => Vec::new(),
            Devices::Pooled => vec![whole(self.gpus)],
            Devices::Separate => vec![whole(1); self.gpus as usize],
        };
        Problem {
            labelling_delay: self.labelling_delay,
            quantum: self.quantum,
            min_accuracy: self.min_accuracy,
            devices,
            streams: (0..self.streams).map(stream).collect(),
            ..Problem::new(self.window)
        }
    }

    /// The same problem with the end accuracies that the scheduler is told.
    fn as_told(&self, truth: &Problem, window: usize) -> Result<Problem, SimulateError> {
        let mut told = truth.clone();
        for (index, spec) in told.streams.iter_mut().enumerate() {
            let (_, recorded) = self.trace.window(index, window);
            let mut errors = self.errors(index, window);
            for (option, recorded) in spec.retraining.iter_mut().zip(&recorded.options) {
                let expected = match (self.plan_on, recorded.predicted_accuracy) {
                    (PlanOn::True, _) => option.end_accuracy,
                    (PlanOn::Predicted, Some(predicted)) => predicted,
                    (PlanOn::Predicted, None) => {
                        return Err(SimulateError::NoPrediction {
                            stream: spec.name.clone(),
                            config: recorded.config.clone(),
                        });
                    }
                };
                option.end_accuracy = (expected * (1.0 + errors())).clamp(0.0, 1.0);
            }
        }
        Ok(told)
    }

    /// Relative errors of what the scheduler is told about a stream in a window: the same for all
    /// schedulers, whatever else is simulated.
    fn errors(&self, stream: usize, window: usize) -> impl FnMut() -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(((stream as u64) << 32) | window as u64);
        let noise = self.noise;
        move || {
            let error: f64 = StandardNormal.sample(&mut rng);
            noise * error
        }
    }

    fn record(
        &self,
        scheduler: &dyn Scheduler,
        window: usize,
        truth: &Problem,
        outcome: WindowOutcome,
    ) -> WindowRecord {
        let streams = outcome.streams.into_iter().zip(&truth.streams).enumerate();
        let stream = |(index, (outcome, spec)): (usize, (super::StreamOutcome, &StreamSpec))| {
            let (_, recorded) = self.trace.window(index, window);
            let config = |option: usize| recorded.options[option].config.clone();
            let ended = outcome
                .retraining
                .filter(|_| outcome.completed_at.is_some());
            StreamRecord {
                stream: spec.name.clone(),
                start_accuracy: spec.accuracy,
                end_accuracy: outcome.end_accuracy,
                config: outcome.retraining.map(config),
                most_accurate: is_most_accurate(spec.accuracy, recorded, ended),
                completes_at: outcome.completed_at,
                mean_accuracy: outcome.mean_accuracy,
                segments: gpu_segments(&outcome.segments),
            }
        };
        WindowRecord {
            scheduler: scheduler.name(),
            gpus: self.gpus,
            window_seconds: self.window.as_secs_f64(),
            noise: self.noise,
            window,
            mean_accuracy: outcome.mean_accuracy,
            upper_bound: None,
            plans: outcome.plans,
            streams: streams.map(stream).collect(),
        }
    }
}

/// The accuracies that the streams of a window end with.
#[must_use]
pub fn ends(record: &WindowRecord) -> Vec<f64> {
    record
        .streams
        .iter()
        .map(|stream| stream.end_accuracy)
        .collect()
}

/// Whether a stream that starts at this accuracy got the best there is for it.
fn is_most_accurate(accuracy: f64, recorded: &RecordedWindow, option: Option<usize>) -> bool {
    let accuracies = recorded.options.iter().map(|option| option.end_accuracy);
    let best = accuracies.fold(accuracy, f64::max);
    option.map_or(accuracy, |option| recorded.options[option].end_accuracy) >= best
}

/// Without the inference options, which the shares imply; equal neighbours are joined.
fn gpu_segments(segments: &[Segment]) -> Vec<GpuSegment> {
    let mut joined: Vec<GpuSegment> = Vec::new();
    for segment in segments {
        let next = GpuSegment {
            from: segment.from,
            to: segment.to,
            inference_gpu: segment.inference_share.as_f64(),
            training_gpu: segment.training_share.as_f64(),
        };
        match joined.last_mut() {
            Some(last)
                if (last.inference_gpu, last.training_gpu)
                    == (next.inference_gpu, next.training_gpu) =>
            {
                last.to = next.to;
            }
            _ => joined.push(next),
        }
    }
    joined
}
