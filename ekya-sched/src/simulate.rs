//! One window under a scheduler: plan, advance to the first completion, re-plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::mean;
use crate::{Plan, Problem, ScheduleError, Scheduler, Share, StreamPlan, StreamSpec};

/// Retrainings whose rest is below this many GPU-seconds have ended; absorbs rounding.
const DONE_GPU_SECONDS: f64 = 1e-9;

/// What happened in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowOutcome {
    /// By stream, in the problem's order.
    pub streams: Vec<StreamOutcome>,
    /// Mean over the streams, in 0..=1.
    pub mean_accuracy: f64,
    /// How often the scheduler was asked.
    pub plans: usize,
}

/// What happened to one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamOutcome {
    /// Mean over the window, in 0..=1.
    pub mean_accuracy: f64,
    /// Accuracy of the serving student at the end of the window.
    pub end_accuracy: f64,
    /// Index of the retraining option that was started.
    pub retraining: Option<usize>,
    /// When the retraining ended, from the window's start.
    pub completed_at: Option<Duration>,
    /// Shares over the window.
    pub segments: Vec<Segment>,
}

/// Shares between two plans.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Seconds from the window's start.
    pub from: f64,
    /// Seconds from the window's start.
    pub to: f64,
    /// Share of inference.
    pub inference_share: Share,
    /// Share of training.
    pub training_share: Share,
    /// Accuracy in this time.
    pub accuracy: f64,
}

/// Runs a window in which everything comes as the problem says.
///
/// A retraining that ends below the serving student's accuracy is not promoted. One that has been
/// started is never exchanged for another, but the scheduler may leave it without a share.
///
/// # Errors
/// When the scheduler cannot plan the problem.
pub fn run_window(
    scheduler: &dyn Scheduler,
    problem: &Problem,
) -> Result<WindowOutcome, ScheduleError> {
    let mut window = Window::new(problem);
    // Every round but the last ends a retraining, and every stream has one at most.
    for _ in 0..=problem.streams.len() {
        let plan = scheduler.plan(&window.left)?;
        window.advance(&plan);
        if window.left.remaining == Duration::ZERO {
            break;
        }
    }
    Ok(window.into_outcome())
}

struct Window {
    length: f64,
    now: f64,
    /// The rest of the window, as the scheduler is to see it.
    left: Problem,
    streams: Vec<StreamOutcome>,
    plans: usize,
}

impl Window {
    fn new(problem: &Problem) -> Self {
        let unstarted = |spec: &StreamSpec| StreamOutcome {
            mean_accuracy: 0.0,
            end_accuracy: spec.accuracy,
            retraining: None,
            completed_at: None,
            segments: Vec::new(),
        };
        Self {
            length: problem.remaining.as_secs_f64(),
            now: 0.0,
            left: problem.clone(),
            streams: problem.streams.iter().map(unstarted).collect(),
            plans: 0,
        }
    }

    /// Carries a plan out until the first retraining or the window ends.
    fn advance(&mut self, plan: &Plan) {
        self.plans += 1;
        let rest = (self.length - self.now).max(0.0);
        let ends = plan
            .streams
            .iter()
            .zip(&self.left.streams)
            .filter_map(seconds_to_do);
        let step = ends.fold(rest, f64::min);
        let to = self.now + step;
        for (stream, plan) in plan.streams.iter().enumerate() {
            self.serve(stream, plan, to);
            self.train(stream, plan, step, to);
        }
        self.now = to;
        let rest = if step < rest { self.length - to } else { 0.0 };
        self.left.remaining = seconds(rest);
    }

    fn serve(&mut self, stream: usize, plan: &StreamPlan, to: f64) {
        let spec = &self.left.streams[stream];
        let factor = plan
            .inference
            .map_or(0.0, |option| spec.inference[option].accuracy_factor);
        let segment = Segment {
            from: self.now,
            to,
            inference_share: plan.inference_share,
            training_share: plan.training_share,
            accuracy: spec.accuracy * factor,
        };
        self.streams[stream].segments.push(segment);
    }

    fn train(&mut self, stream: usize, plan: &StreamPlan, step: f64, to: f64) {
        let Some(option) = plan.retraining else {
            return;
        };
        let spec = &mut self.left.streams[stream];
        let outcome = &mut self.streams[stream];
        if !spec.training_running {
            outcome.retraining = Some(option);
            spec.retraining = vec![spec.retraining[option]];
            spec.training_running = true;
        }
        let job = &mut spec.retraining[0];
        job.gpu_seconds = (job.gpu_seconds - plan.training_share.as_f64() * step).max(0.0);
        if job.gpu_seconds < DONE_GPU_SECONDS {
            spec.accuracy = spec.accuracy.max(job.end_accuracy);
            spec.retraining.clear();
            spec.training_running = false;
            outcome.completed_at = Some(seconds(to));
            outcome.end_accuracy = spec.accuracy;
        }
    }

    fn into_outcome(self) -> WindowOutcome {
        let length = self.length;
        let mut streams = self.streams;
        for stream in &mut streams {
            stream.mean_accuracy = mean_over(&stream.segments, length);
        }
        WindowOutcome {
            mean_accuracy: mean(streams.iter().map(|stream| stream.mean_accuracy)),
            streams,
            plans: self.plans,
        }
    }
}

/// When the retraining of a stream ends under its plan.
fn seconds_to_do((plan, spec): (&StreamPlan, &StreamSpec)) -> Option<f64> {
    let option = &spec.retraining[plan.retraining?];
    Some(option.gpu_seconds / plan.training_share.as_f64())
}

/// Mean accuracy over segments that fill a window; of an empty window, that of its one segment.
fn mean_over(segments: &[Segment], length: f64) -> f64 {
    if length > 0.0 {
        let area = |segment: &Segment| segment.accuracy * (segment.to - segment.from);
        return segments.iter().map(area).sum::<f64>() / length;
    }
    segments.last().map_or(0.0, |segment| segment.accuracy)
}

/// A non-negative number of seconds that fits, as everything inside a window does.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
}
