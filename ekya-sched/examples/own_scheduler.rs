//! A scheduler of one's own: implement [`Scheduler`], and everything that runs schedulers runs it.
//!
//! This one answers every frame, and trains one student at a time with what is left of the device:
//! the one that gains most per GPU-second. It is checked, simulated, and compared with the thief.
//!
//! ```text
//! cargo run -p ekya-sched --example own_scheduler
//! ```

use std::time::Duration;

use ekya_sched::simulate::run_window;
use ekya_sched::{
    DeviceSpec, InferenceOption, Plan, Problem, RetrainingOption, ScheduleError, Scheduler,
    Segment, Share, StreamPlan, StreamSpec, Thief,
};

/// One retraining at a time, the most rewarding first.
struct MostRewarding;

impl Scheduler for MostRewarding {
    fn name(&self) -> String {
        "most-rewarding".into()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        problem.validate()?;
        let mut left = problem
            .devices
            .first()
            .map_or(Share::ZERO, |device| device.capacity);
        let served: Vec<Option<usize>> = problem
            .streams
            .iter()
            .map(|stream| {
                let option = most_accurate(stream).filter(|&o| stream.inference[o].share <= left);
                let share = option.map_or(Share::ZERO, |o| stream.inference[o].share);
                left = left.saturating_sub(share);
                option
            })
            .collect();
        let next = next_retraining(problem, left);
        let streams = problem.streams.iter().zip(served).enumerate();
        let plan = |(index, (stream, inference)): (usize, (&StreamSpec, Option<usize>))| {
            let option = next.filter(|next| next.0 == index).map(|next| next.1);
            plan_of(stream, inference, option, left, problem)
        };
        // The next plan is asked for when this retraining has ended.
        Ok(Plan::new(streams.map(plan).collect(), problem))
    }
}

fn most_accurate(stream: &StreamSpec) -> Option<usize> {
    let factor = |option: usize| stream.inference[option].accuracy_factor;
    (0..stream.inference.len()).max_by(|&a, &b| factor(a).total_cmp(&factor(b)))
}

/// Stream and option with the highest gain per GPU-second of those that end in the window; one
/// that runs already goes on.
fn next_retraining(problem: &Problem, share: Share) -> Option<(usize, usize)> {
    let mut best = None;
    for (index, stream) in problem.streams.iter().enumerate() {
        for (option, spec) in stream.retraining.iter().enumerate() {
            let seconds = spec.gpu_seconds_left() / share.as_f64();
            if stream.training_running {
                return Some((index, option));
            }
            let reward = (spec.end_accuracy - stream.accuracy) / spec.gpu_seconds_left();
            let better = best.is_none_or(|(most, _)| reward > most);
            if seconds <= problem.remaining.as_secs_f64() && reward > 0.0 && better {
                best = Some((reward, (index, option)));
            }
        }
    }
    best.map(|(_, choice)| choice)
}

fn plan_of(
    stream: &StreamSpec,
    inference: Option<usize>,
    retraining: Option<usize>,
    training_share: Share,
    problem: &Problem,
) -> StreamPlan {
    let length = problem.remaining.as_secs_f64();
    let factor = inference.map_or(0.0, |option| stream.inference[option].accuracy_factor);
    let segment = |from, to, accuracy: f64, training_share| Segment {
        from,
        to,
        inference,
        inference_share: inference.map_or(Share::ZERO, |option| stream.inference[option].share),
        training_share,
        accuracy: accuracy * factor,
    };
    let device = Some(0).filter(|_| !problem.devices.is_empty());
    let timeline = match retraining {
        None => vec![segment(0.0, length, stream.accuracy, Share::ZERO)],
        Some(option) => {
            let option = &stream.retraining[option];
            let end = (option.gpu_seconds_left() / training_share.as_f64()).min(length);
            let retrained = option.end_accuracy.max(stream.accuracy);
            vec![
                segment(0.0, end, stream.accuracy, training_share),
                segment(end, length, retrained, Share::ZERO),
            ]
        }
    };
    StreamPlan {
        device,
        training_device: device,
        retraining,
        starts_at: retraining.map(|_| 0.0),
        completes_at: retraining.map(|_| timeline[0].to),
        reason: "the most rewarding retraining first".into(),
        ..StreamPlan::new(timeline)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stream = |name: &str, accuracy, options: &[(f64, f64)]| StreamSpec {
        name: name.into(),
        accuracy,
        inference: vec![InferenceOption {
            accuracy_factor: 1.0,
            share: Share::from_micro(250_000),
        }],
        retraining: options
            .iter()
            .map(|&(end_accuracy, gpu_seconds)| RetrainingOption::new(end_accuracy, gpu_seconds))
            .collect(),
        ..StreamSpec::default()
    };
    let problem = Problem {
        devices: vec![DeviceSpec::new(Share::WHOLE)],
        streams: vec![
            stream("crossing", 0.6, &[(0.8, 15.0), (0.9, 45.0)]),
            stream("yard", 0.7, &[(0.75, 5.0), (0.8, 30.0)]),
        ],
        ..Problem::new(Duration::from_secs(200))
    };
    MostRewarding.plan(&problem)?.check(&problem)?;
    for scheduler in [&MostRewarding as &dyn Scheduler, &Thief::default()] {
        let outcome = run_window(scheduler, &problem)?;
        println!(
            "{:<15} {:.1} %",
            scheduler.name(),
            outcome.mean_accuracy * 100.0
        );
    }
    Ok(())
}
