//! The reasons of a plan, for people.

use crate::{Problem, Share, StreamPlan, StreamSpec};

/// Why a stream gets what it gets, in one line.
pub(crate) fn of(plan: &StreamPlan, spec: &StreamSpec, problem: &Problem) -> String {
    let mut text = match plan.retraining {
        Some(option) => retrained(plan, spec, problem, option),
        None => not_retrained(spec, problem),
    };
    if let Some(shortage) = shortage(plan, spec, problem) {
        text.push_str("; ");
        text.push_str(&shortage);
    }
    text
}

fn retrained(plan: &StreamPlan, spec: &StreamSpec, problem: &Problem, option: usize) -> String {
    let verb = if spec.training_running {
        "go on retraining"
    } else {
        "retrain"
    };
    let left = problem.remaining.as_secs_f64();
    let Some(completes_in) = plan.completes_in else {
        return format!("{verb} with option {option}: not done in the {left:.1} s left");
    };
    let end_accuracy = spec.retraining[option].end_accuracy;
    let gain = points(end_accuracy - spec.accuracy);
    let after = completes_in.as_secs_f64();
    format!("{verb} with option {option}: {gain:+.1} points after {after:.1} s of {left:.1} s")
}

/// Names the option that would be worth most if the whole device trained it.
fn not_retrained(spec: &StreamSpec, problem: &Problem) -> String {
    if spec.retraining.is_empty() {
        return "not retrained: no option".into();
    }
    let capacity = problem.capacity_of(spec);
    if capacity == Share::ZERO {
        return "not retrained: no device".into();
    }
    let left = problem.remaining.as_secs_f64();
    let seconds = |gpu_seconds: f64| gpu_seconds / capacity.as_f64();
    let worth = |gpu_seconds, gain: f64| gain * (left - seconds(gpu_seconds)).max(0.0);
    let best = spec
        .retraining
        .iter()
        .map(|option| (option, option.end_accuracy - spec.accuracy))
        .filter(|&(_, gain)| gain > 0.0)
        .max_by(|(a, gain_a), (b, gain_b)| {
            worth(a.gpu_seconds, *gain_a)
                .total_cmp(&worth(b.gpu_seconds, *gain_b))
                .then(b.gpu_seconds.total_cmp(&a.gpu_seconds))
        });
    match best {
        None => "not retrained: no option is better than the serving student".into(),
        Some((option, gain)) => format!(
            "not retrained: best option gains {:.1} points after {:.1} s of {left:.1} s on the whole device",
            points(gain),
            seconds(option.gpu_seconds),
        ),
    }
}

/// What inference lacks.
fn shortage(plan: &StreamPlan, spec: &StreamSpec, problem: &Problem) -> Option<String> {
    let Some(option) = plan.inference else {
        let share = plan.inference_share;
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
