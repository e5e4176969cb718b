//! The reasons of a plan, for people.

use crate::{Problem, RetrainingOption, Share, StreamPlan, StreamSpec};

/// Why a stream of a problem with one device is retrained as it is, or not, in one line.
pub(crate) fn verdict(plan: &StreamPlan, spec: &StreamSpec, problem: &Problem) -> String {
    match plan.retraining {
        Some(option) => retrained(plan, spec, problem, option),
        None => not_retrained(spec, problem),
    }
}

/// Adds to a plan's reason what its inference lacks, where it lacks anything.
pub(crate) fn add_shortage(plan: &mut StreamPlan, spec: &StreamSpec, problem: &Problem) {
    if let Some(shortage) = shortage(plan, spec, problem) {
        plan.reason.push_str("; ");
        plan.reason.push_str(&shortage);
    }
}

fn retrained(plan: &StreamPlan, spec: &StreamSpec, problem: &Problem, option: usize) -> String {
    let place = if plan.in_cloud { " in the cloud" } else { "" };
    let verb = match plan.starts_at {
        _ if spec.training_running => "go on retraining".into(),
        Some(start) if start > problem.delay_of(spec) => {
            format!("from {start:.1} s on retrain")
        }
        _ => "retrain".into(),
    };
    let left = problem.remaining.as_secs_f64();
    let Some(after) = plan.completes_at else {
        return format!("{verb}{place} with option {option}: not done in the {left:.1} s left");
    };
    let chosen = &spec.retraining[option];
    let gain = points(chosen.end_accuracy - spec.accuracy);
    let interval = interval(chosen, spec);
    format!(
        "{verb}{place} with option {option}: {gain:+.1} points{interval} after {after:.1} s of {left:.1} s"
    )
}

/// The gains that are expected, where that is known.
fn interval(option: &RetrainingOption, spec: &StreamSpec) -> String {
    let Some((low, high)) = option.interval else {
        return String::new();
    };
    let gain = |accuracy: f64| points(accuracy - spec.accuracy);
    format!(" ({:+.1} to {:+.1})", gain(low), gain(high))
}

/// Names the option that would be worth most if the whole device trained it.
fn not_retrained(spec: &StreamSpec, problem: &Problem) -> String {
    if spec.retraining.is_empty() {
        return "not retrained: no option".into();
    }
    let capacity = problem.capacity();
    if capacity == Share::ZERO {
        return "not retrained: no device".into();
    }
    let left = problem.remaining.as_secs_f64();
    let delay = problem.delay_of(spec);
    if delay >= left {
        return format!("not retrained: labels come after {delay:.1} s of {left:.1} s");
    }
    let speed = spec.throughput.speed(capacity);
    let seconds = |option: &RetrainingOption| {
        delay + option.startup_seconds + option.gpu_seconds_left() / speed
    };
    let worth = |option, gain: f64| gain * (left - seconds(option)).max(0.0);
    let best = spec
        .retraining
        .iter()
        .map(|option| (option, option.end_accuracy - spec.accuracy))
        .filter(|&(_, gain)| gain > 0.0)
        .max_by(|(a, gain_a), (b, gain_b)| {
            worth(a, *gain_a)
                .total_cmp(&worth(b, *gain_b))
                .then(seconds(b).total_cmp(&seconds(a)))
        });
    match best {
        None => "not retrained: no option is better than the serving student".into(),
        Some((option, gain)) => format!(
            "not retrained: best option gains {:.1} points after {:.1} s of {left:.1} s on the whole device",
            points(gain),
            seconds(option),
        ),
    }
}

/// What inference lacks.
fn shortage(plan: &StreamPlan, spec: &StreamSpec, problem: &Problem) -> Option<String> {
    let now = plan.now()?;
    let Some(option) = now.inference else {
        let share = now.inference_share;
        return Some(format!(
            "inference gets {share} of a device, less than its cheapest option: best effort"
        ));
    };
    let accuracy = spec.accuracy * spec.inference[option].accuracy_factor;
    let lowest = problem.min_accuracy;
    (accuracy < lowest - crate::pick::EPSILON)
        .then(|| format!("accuracy {accuracy:.2} is below the lowest acceptable {lowest:.2}"))
}

/// An accuracy difference in percentage points.
fn points(difference: f64) -> f64 {
    difference * 100.0
}
