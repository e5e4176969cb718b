//! Which device each job runs on, and how a scheduler of one device plans several.
//!
//! A job runs on one device. Streams whose device is given stay there; the others are placed: the
//! most demanding first, each on the device that is least loaded for its size and has the memory
//! for its student. Then streams are moved, or only their retraining, to the device that is then
//! least loaded, for as long as plans get better by it and at most [`MOVES_MAX`] times, those of the
//! most loaded devices first. Both jobs of a stream stay on one node, where its frames are, unless the
//! stream may travel: then its retraining may move to any node's device, and begins later there by the
//! time that it is on its way.
//!
//! A device is planned as a problem of its own. A stream whose jobs are on two devices takes part
//! in both: on one it is served and not retrained, on the other it is retrained and its inference
//! costs nothing.
//!
//! When retrainings do not fit a device's memory or training slots side by side, those that are
//! worth least wait, and the device is planned again.

mod loads;
mod part;

use crate::plan::Score;
use crate::{DeviceSpec, Plan, Problem, ScheduleError, StreamPlan, StreamSpec, Thief, reason};

use loads::{Loads, homes};
use part::{join, part, pooled, within_limits};

/// Placements tried after the first.
const MOVES_MAX: usize = 64;

/// The streams of one device, planned.
#[derive(Clone)]
pub(crate) struct DevicePlan {
    pub(crate) streams: Vec<StreamPlan>,
    /// No plan of the device reaches a higher sum of weighted accuracies.
    pub(crate) upper_bound: Option<f64>,
}

impl DevicePlan {
    pub(crate) const fn of(streams: Vec<StreamPlan>) -> Self {
        Self {
            streams,
            upper_bound: None,
        }
    }
}

/// A scheduler of one device.
pub(crate) trait DeviceScheduler {
    /// Plans the streams of a problem with one device.
    fn plan_device(&self, problem: &Problem) -> DevicePlan;

    /// A quicker one to judge placements by; itself without.
    fn judge(&self) -> Option<Thief> {
        None
    }

    /// No plan of a problem with one device reaches a higher sum of weighted accuracies, where
    /// that is known; the best known reaches `reached`.
    fn bound_device(&self, _problem: &Problem, _reached: f64) -> Option<f64> {
        None
    }
}

impl<F: Fn(&Problem) -> Vec<StreamPlan>> DeviceScheduler for F {
    fn plan_device(&self, problem: &Problem) -> DevicePlan {
        DevicePlan::of(self(problem))
    }
}

/// Plans a problem with a scheduler of one device.
///
/// # Errors
/// When the problem is not valid.
pub(crate) fn plan_devices(
    problem: &Problem,
    scheduler: &dyn DeviceScheduler,
) -> Result<Plan, ScheduleError> {
    problem.validate()?;
    let mut layout = Layout::new(problem, scheduler);
    let all: Vec<usize> = (0..=problem.devices.len()).collect();
    let movable = problem.devices.len() > 1 && problem.streams.iter().any(is_movable);
    if movable {
        layout.plan(&all, |part| judged(scheduler, part));
        layout.improve();
    }
    if !movable || scheduler.judge().is_some() {
        layout.plan(&all, |part| scheduler.plan_device(part));
    }
    let mut plan = Plan::new(layout.merged(), problem);
    for (plan, spec) in plan.streams.iter_mut().zip(&problem.streams) {
        reason::add_shortage(plan, spec, problem);
    }
    plan.upper_bound = layout.upper_bound(plan.mean_accuracy);
    Ok(plan)
}

/// The plan of a device that placements are judged by.
fn judged(scheduler: &dyn DeviceScheduler, part: &Problem) -> DevicePlan {
    match scheduler.judge() {
        Some(judge) => DevicePlan::of(judge.streams(part)),
        None => scheduler.plan_device(part),
    }
}

/// Where the jobs of a stream run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    inference: Option<usize>,
    training: Option<usize>,
}

impl Home {
    /// Both jobs on one device, unless the stream says where it is retrained.
    fn at(device: usize, spec: &StreamSpec) -> Self {
        Self {
            inference: Some(device),
            training: spec.training_device.or(Some(device)),
        }
    }
}

/// What a stream does on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Both,
    Serves,
    Trains,
}

/// A placement with the plans of its devices.
struct Layout<'a> {
    problem: &'a Problem,
    scheduler: &'a dyn DeviceScheduler,
    homes: Vec<Home>,
    /// By device, then the streams without one.
    plans: Vec<DevicePlan>,
    /// Streams of those plans, in their order.
    members: Vec<Vec<(usize, Role)>>,
}

impl<'a> Layout<'a> {
    fn new(problem: &'a Problem, scheduler: &'a dyn DeviceScheduler) -> Self {
        let devices = problem.devices.len();
        Self {
            problem,
            scheduler,
            homes: homes(problem),
            plans: vec![DevicePlan::of(Vec::new()); devices + 1],
            members: vec![Vec::new(); devices + 1],
        }
    }

    /// Plans some devices anew; the number of devices stands for having none.
    fn plan(&mut self, devices: &[usize], plan_device: impl Fn(&Problem) -> DevicePlan) {
        for &device in devices {
            let here = Some(device).filter(|&device| device < self.problem.devices.len());
            let role = |(stream, home): (usize, &Home)| {
                let serves = home.inference == here;
                let trains = home.training == here;
                match (serves, trains) {
                    (true, true) => Some((stream, Role::Both)),
                    (true, false) => Some((stream, Role::Serves)),
                    (false, true) if here.is_some() => Some((stream, Role::Trains)),
                    _ => None,
                }
            };
            let members: Vec<_> = self.homes.iter().enumerate().filter_map(role).collect();
            let spec = here.map_or(DeviceSpec::default(), |device| self.problem.devices[device]);
            let part = part(self.problem, spec, &members, &self.homes);
            self.plans[device] = if members.is_empty() {
                DevicePlan::of(Vec::new())
            } else {
                within_limits(part, &plan_device)
            };
            self.members[device] = members;
        }
    }

    /// The streams' plans, put together from those of their devices.
    fn merged(&self) -> Vec<StreamPlan> {
        let mut serving: Vec<Option<&StreamPlan>> = vec![None; self.homes.len()];
        let mut training = serving.clone();
        for (plan, members) in self.plans.iter().zip(&self.members) {
            for (plan, &(stream, role)) in plan.streams.iter().zip(members) {
                match role {
                    Role::Trains => training[stream] = Some(plan),
                    Role::Both | Role::Serves => serving[stream] = Some(plan),
                }
            }
        }
        let streams = self.problem.streams.iter().zip(&self.homes);
        let parts = streams.zip(serving.into_iter().zip(training));
        parts
            .map(|((spec, home), parts)| {
                let mut plan = match parts {
                    (Some(serving), Some(training)) => join(serving, training, spec),
                    (Some(serving), None) => serving.clone(),
                    // Every stream has a home for its inference, if only the one of those without.
                    (None, _) => StreamPlan::new(Vec::new()),
                };
                plan.device = home.inference;
                plan.training_device = home.training;
                plan
            })
            .collect()
    }

    /// Moves streams, or their retrainings, to the least loaded device as long as that helps.
    fn improve(&mut self) {
        let mut best = Score::of(&self.merged(), self.problem);
        let mut tried = 0;
        let loads = Loads::of(self.problem, &self.homes);
        let movable = |&stream: &usize| is_movable(&self.problem.streams[stream]);
        let mut streams: Vec<_> = (0..self.homes.len()).filter(movable).collect();
        let load = |stream: usize| {
            self.homes[stream]
                .training
                .map_or(0.0, |d| loads.relative(d))
        };
        streams.sort_by(|&a, &b| load(b).total_cmp(&load(a)).then(a.cmp(&b)));
        for stream in streams {
            for home in self.moves(stream) {
                if tried == MOVES_MAX {
                    return;
                }
                tried += 1;
                self.try_move(stream, home, &mut best);
            }
        }
    }

    /// Homes worth trying for a stream.
    fn moves(&self, stream: usize) -> Vec<Home> {
        let now = self.homes[stream];
        let spec = &self.problem.streams[stream];
        let loads = Loads::of(self.problem, &self.homes);
        let (Some(here), true) = (now.inference, now.training.is_some()) else {
            return Vec::new();
        };
        let mut moves = Vec::new();
        let node = self.problem.devices[here].node;
        let within_reach = |device: usize| {
            let device = self.problem.devices[device];
            device.node == node || (spec.may_travel() && device.lends)
        };
        if spec.training_device.is_none() && !spec.retraining.is_empty() {
            let least = loads.quickest(spec, self.problem, now.training, within_reach);
            moves.extend(least.map(|device| Home {
                training: Some(device),
                ..now
            }));
        }
        if is_free(spec) {
            let fits = |device: usize| loads.may_serve(self.problem, spec, device);
            let least = loads.least(0.0, fits);
            moves.extend(least.map(|device| Home::at(device, spec)));
        }
        moves.retain(|home| *home != now);
        moves
    }

    fn try_move(&mut self, stream: usize, home: Home, best: &mut Score) {
        let before = std::mem::replace(&mut self.homes[stream], home);
        let mut devices: Vec<usize> = [
            before.inference,
            before.training,
            home.inference,
            home.training,
        ]
        .into_iter()
        .flatten()
        .collect();
        devices.sort_unstable();
        devices.dedup();
        let kept: Vec<_> = devices
            .iter()
            .map(|&device| (self.plans[device].clone(), self.members[device].clone()))
            .collect();
        let scheduler = self.scheduler;
        self.plan(&devices, |part| judged(scheduler, part));
        let score = Score::of(&self.merged(), self.problem);
        if score.beats(best) {
            *best = score;
            return;
        }
        self.homes[stream] = before;
        for (&device, (plan, members)) in devices.iter().zip(kept) {
            self.plans[device] = plan;
            self.members[device] = members;
        }
    }

    /// The bound on all devices together; where streams could be placed otherwise, or others turned
    /// away, that of a single device with everybody's capacity, on which no retraining is faster
    /// than on the largest.
    fn upper_bound(&self, reached: f64) -> Option<f64> {
        let weight = self.problem.weight();
        let apart = |&(_, role): &(usize, Role)| role != Role::Both;
        let devices = self.problem.devices.len();
        let free = devices > 1 && self.problem.streams.iter().any(is_movable);
        let turned_away = devices > 0 && self.homes.iter().any(|home| home.inference.is_none());
        let sum = if free || turned_away || self.members.iter().flatten().any(apart) {
            let micros = self
                .problem
                .devices
                .iter()
                .map(|device| u64::from(device.capacity.micro()));
            if micros.sum::<u64>() > u64::from(u32::MAX) {
                // More than a share can say.
                return None;
            }
            let pooled = pooled(self.problem);
            self.scheduler.bound_device(&pooled, reached * weight)?
        } else {
            let bounds = self.plans.iter().filter(|plan| !plan.streams.is_empty());
            bounds.map(|plan| plan.upper_bound).sum::<Option<f64>>()?
        };
        let bound = if weight > 0.0 { sum / weight } else { 0.0 };
        Some(bound.max(reached).min(1.0))
    }
}

/// Whether a stream may be placed.
const fn is_free(spec: &StreamSpec) -> bool {
    spec.device.is_none()
}

/// Whether a stream may be placed, or its retraining.
const fn is_movable(spec: &StreamSpec) -> bool {
    let travels = spec.transfer_seconds.is_some() && spec.training_device.is_none();
    is_free(spec) || (travels && !spec.retraining.is_empty())
}
