//! One window under a scheduler: plan, carry out to the first completion, re-plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::timeline::{MOMENT, mean_accuracy, push};
use crate::{
    Plan, Problem, RetrainingOption, ScheduleError, Scheduler, Segment, StreamPlan, StreamSpec,
};

/// What happened in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowOutcome {
    /// By stream, in the problem's order.
    pub streams: Vec<StreamOutcome>,
    /// Mean over the streams, by their weights, in 0..=1.
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
    /// Index of the retraining option that ran.
    pub retraining: Option<usize>,
    /// When that retraining was started, in seconds from the window's start.
    pub started_at: Option<f64>,
    /// When the retraining ended, in seconds from the window's start.
    pub completed_at: Option<f64>,
    /// Shares over the window.
    pub segments: Vec<Segment>,
}

/// Runs a window in which everything comes as the problem says.
///
/// A retraining that ends below the serving student's accuracy is not promoted. One that has been
/// started is never exchanged for another, but the scheduler may leave it without a share.
///
/// # Errors
/// When the scheduler cannot plan the problem, or makes a plan that cannot be carried out.
pub fn run_window(
    scheduler: &dyn Scheduler,
    problem: &Problem,
) -> Result<WindowOutcome, ScheduleError> {
    run_window_with(scheduler, problem, &|stream, option| {
        problem.streams[stream].retraining[option].end_accuracy
    })
}

/// Runs a window in which retrainings take what the problem says but end with other accuracies
/// than it predicts: `end_accuracy` says which, by stream and option.
///
/// # Errors
/// When the scheduler cannot plan the problem, or makes a plan that cannot be carried out.
pub fn run_window_with(
    scheduler: &dyn Scheduler,
    problem: &Problem,
    end_accuracy: &dyn Fn(usize, usize) -> f64,
) -> Result<WindowOutcome, ScheduleError> {
    let mut window = Window::new(problem, end_accuracy);
    // Every round but the last ends a retraining, and every stream has one at most.
    for _ in 0..=problem.streams.len() {
        let plan = scheduler.plan(&window.left)?;
        plan.check(&window.left)
            .map_err(|error| ScheduleError::Plan {
                scheduler: scheduler.name(),
                error: Box::new(error),
            })?;
        window.advance(&plan);
        if window.left.remaining == Duration::ZERO {
            break;
        }
    }
    Ok(window.into_outcome(problem))
}

struct Window<'a> {
    length: f64,
    now: f64,
    /// The rest of the window, as the scheduler is to see it.
    left: Problem,
    end_accuracy: &'a dyn Fn(usize, usize) -> f64,
    streams: Vec<StreamOutcome>,
    plans: usize,
}

impl<'a> Window<'a> {
    fn new(problem: &Problem, end_accuracy: &'a dyn Fn(usize, usize) -> f64) -> Self {
        let unstarted = |spec: &StreamSpec| StreamOutcome {
            mean_accuracy: 0.0,
            end_accuracy: spec.accuracy,
            retraining: spec.training_running.then_some(0),
            started_at: spec.training_running.then_some(0.0),
            completed_at: None,
            segments: Vec::new(),
        };
        Self {
            length: problem.remaining.as_secs_f64(),
            now: 0.0,
            left: problem.clone(),
            end_accuracy,
            streams: problem.streams.iter().map(unstarted).collect(),
            plans: 0,
        }
    }

    /// Carries a plan out until the first retraining or the window ends.
    fn advance(&mut self, plan: &Plan) {
        self.plans += 1;
        let rest = (self.length - self.now).max(0.0);
        let step = plan
            .first_completion()
            .map_or(rest, |first| first.min(rest));
        for (stream, plan) in plan.streams.iter().enumerate() {
            self.serve(stream, plan, step);
            self.train(stream, plan, step);
        }
        self.now += step;
        let rest = if step < rest {
            self.length - self.now
        } else {
            0.0
        };
        self.left.remaining = seconds(rest);
        let delay = self.left.labelling_delay;
        self.left.labelling_delay = delay.saturating_sub(seconds(step));
    }

    /// Notes what a stream was served with in the time that the plan was in force.
    fn serve(&mut self, stream: usize, plan: &StreamPlan, step: f64) {
        let spec = &mut self.left.streams[stream];
        // Placed for the rest of the window.
        spec.device = spec.device.or(plan.device);
        spec.training_device = spec.training_device.or(plan.training_device);
        if let Some(student) = plan.reused {
            spec.accuracy = spec.cached[student].accuracy;
            spec.cached.clear();
            self.streams[stream].end_accuracy = spec.accuracy;
        }
        for segment in plan
            .timeline
            .iter()
            .filter(|s| s.from < step || s.from == 0.0)
        {
            let passed = Segment {
                from: self.now + segment.from,
                to: self.now + segment.to.min(step),
                accuracy: spec.accuracy * spec.factor_of(segment.inference),
                ..*segment
            };
            push(&mut self.streams[stream].segments, passed);
        }
    }

    /// Trains as the plan says for so long.
    fn train(&mut self, stream: usize, plan: &StreamPlan, step: f64) {
        let spec = &mut self.left.streams[stream];
        let outcome = &mut self.streams[stream];
        let started = plan.starts_at.is_some_and(|start| start < step);
        let ended = plan.completes_at.is_some_and(|end| end <= step + MOMENT);
        let Some(option) = plan.retraining.filter(|_| started || ended) else {
            return;
        };
        if !spec.training_running {
            outcome.retraining = Some(option);
            outcome.started_at = plan.starts_at.map(|start| self.now + start);
            spec.retraining = vec![spec.retraining[option]];
            spec.training_running = true;
        }
        if ended {
            let chosen = outcome.retraining.unwrap_or(option);
            spec.accuracy = spec.accuracy.max((self.end_accuracy)(stream, chosen));
            spec.retraining.clear();
            spec.training_running = false;
            outcome.completed_at = Some(self.now + step);
            outcome.end_accuracy = spec.accuracy;
        } else {
            let left = left_to_do(spec, plan, step);
            spec.retraining[0] = left;
        }
    }

    fn into_outcome(self, problem: &Problem) -> WindowOutcome {
        let mut streams = self.streams;
        for stream in &mut streams {
            stream.mean_accuracy = mean_accuracy(&stream.segments);
        }
        let means = streams.iter().map(|stream| stream.mean_accuracy);
        WindowOutcome {
            mean_accuracy: problem.weighted_mean(means),
            streams,
            plans: self.plans,
        }
    }
}

/// What is left of a retraining after so many seconds of a plan.
fn left_to_do(spec: &StreamSpec, plan: &StreamPlan, step: f64) -> RetrainingOption {
    let mut option = spec.retraining[0];
    let since = plan.starts_at.map_or(0.0, |start| start.min(step));
    let loading = option.startup_seconds.min(step - since);
    option.startup_seconds -= loading;
    if plan.in_cloud {
        // All its work is the way there and back.
        option.gpu_seconds = 0.0;
        option.startup_seconds = plan.completes_at.map_or(0.0, |end| (end - step).max(0.0));
        return option;
    }
    let computes_from = since + loading;
    let done = |segment: &Segment| {
        let seconds = (segment.to.min(step) - segment.from.max(computes_from)).max(0.0);
        spec.throughput.speed(segment.training_share) * seconds
    };
    let done: f64 = plan.timeline.iter().map(done).sum();
    if option.gpu_seconds > 0.0 {
        option.progress = (option.progress + done / option.gpu_seconds).min(1.0);
    }
    option
}

/// A non-negative number of seconds that fits, as everything inside a window does.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
}
