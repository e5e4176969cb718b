//! Problems of one device made of a problem of several, and the plans of several put together.

use super::{DevicePlan, Home, Role};
use crate::check::over_limit;
use crate::timeline::{self, push};
use crate::{
    DeviceSpec, InferenceOption, PlanError, Problem, Segment, Share, StreamPlan, StreamSpec,
};

/// All devices as one.
pub(super) fn pooled(problem: &Problem) -> Problem {
    let devices = &problem.devices;
    let capacity = devices
        .iter()
        .map(|d| d.capacity)
        .fold(Share::ZERO, Share::saturating_add);
    let largest = devices.iter().map(|d| d.capacity).max().unwrap_or_default();
    let mut pooled = problem.clone();
    // A lowest accuracy that one of the devices cannot give is no constraint there.
    pooled.min_accuracy = 0.0;
    pooled.devices = vec![DeviceSpec::new(capacity)];
    for stream in &mut pooled.streams {
        stream.device = None;
        stream.training_device = None;
        stream.throughput = stream.throughput.cut_to(largest);
        let fastest = stream.fastest();
        stream.scale(fastest, fastest);
        (stream.speeds, stream.transfer_seconds) = (Vec::new(), None);
    }
    pooled
}

/// One device with what its streams do on it, under this placement.
pub(super) fn part(
    problem: &Problem,
    device: DeviceSpec,
    members: &[(usize, Role)],
    homes: &[Home],
) -> Problem {
    let spec = |&(stream, role): &(usize, Role)| {
        let home = homes[stream];
        let placed = problem.streams[stream].placed(home.inference, home.training, problem);
        let mut spec = placed.into_owned();
        (spec.device, spec.training_device) = (None, None);
        (spec.speeds, spec.transfer_seconds) = (Vec::new(), None);
        match role {
            Role::Both => {}
            Role::Serves => {
                spec.retraining.clear();
                spec.training_running = false;
            }
            Role::Trains => {
                let factors = spec.inference.iter().map(|option| option.accuracy_factor);
                spec.inference = vec![InferenceOption {
                    accuracy_factor: factors.fold(0.0, f64::max),
                    share: Share::ZERO,
                }];
                spec.memory = 0;
            }
        }
        spec
    };
    Problem {
        devices: vec![device],
        streams: members.iter().map(spec).collect(),
        ..*problem
    }
}

/// Plans a device; retrainings that do not fit beside the others wait.
pub(super) fn within_limits(
    mut part: Problem,
    plan_device: &impl Fn(&Problem) -> DevicePlan,
) -> DevicePlan {
    let mut waiting: Vec<(usize, String)> = Vec::new();
    let mut upper_bound = None;
    loop {
        let mut plan = plan_device(&part);
        for stream in &mut plan.streams {
            (stream.device, stream.training_device) = (Some(0), Some(0));
        }
        upper_bound = upper_bound.or(plan.upper_bound);
        let limited = match over_limit(&plan.streams, &part) {
            Some(PlanError::OverLimit { limited, .. }) => limited,
            _ => {
                plan.upper_bound = upper_bound;
                for (stream, why) in waiting {
                    plan.streams[stream].reason = why;
                }
                return plan;
            }
        };
        let Some(stream) = worth_least(&plan.streams, &part) else {
            return plan;
        };
        part.streams[stream].retraining.clear();
        part.streams[stream].training_running = false;
        waiting.push((
            stream,
            format!("waits: the device has no more free {limited}"),
        ));
    }
}

/// The retraining that is worth least; one that runs only if all do.
fn worth_least(plans: &[StreamPlan], problem: &Problem) -> Option<usize> {
    let worth = |stream: usize| {
        let spec = &problem.streams[stream];
        let option = plans[stream]
            .retraining
            .map(|option| spec.retraining[option])?;
        let gain = (option.end_accuracy - spec.accuracy) * spec.weight;
        Some((stream, spec.training_running, gain))
    };
    let all = (0..plans.len()).filter_map(worth);
    let least = all.min_by(|a, b| a.1.cmp(&b.1).then(a.2.total_cmp(&b.2)));
    least.map(|(stream, _, _)| stream)
}

/// The plan of a stream that is served on one device and retrained on another.
pub(super) fn join(serving: &StreamPlan, training: &StreamPlan, spec: &StreamSpec) -> StreamPlan {
    let mut times: Vec<f64> = serving
        .timeline
        .iter()
        .chain(&training.timeline)
        .flat_map(|segment| [segment.from, segment.to])
        .collect();
    times.sort_by(f64::total_cmp);
    let retrained = training.retraining.map_or(spec.accuracy, |option| {
        spec.retraining[option].end_accuracy.max(spec.accuracy)
    });
    let completes_at = training.completes_at.unwrap_or(f64::INFINITY);
    let mut joined = Vec::new();
    for pair in times.windows(2) {
        let &[from, to] = pair else { continue };
        let (Some(served), Some(trained)) = (
            timeline::at(&serving.timeline, from),
            timeline::at(&training.timeline, from),
        ) else {
            continue;
        };
        let accuracy = if completes_at <= from {
            retrained
        } else {
            spec.accuracy
        };
        let segment = Segment {
            from,
            to,
            training_share: trained.training_share,
            accuracy: accuracy * spec.factor_of(served.inference),
            ..*served
        };
        push(&mut joined, segment);
    }
    let mut plan = StreamPlan::new(joined);
    plan.retraining = training.retraining;
    plan.starts_at = training.starts_at;
    plan.in_cloud = training.in_cloud;
    plan.completes_at = training.completes_at;
    plan.reason.clone_from(&training.reason);
    plan
}
