//! The best plan that can be found in bounded time, with a bound on what any plan could reach.
//!
//! As long as training scales linearly with its share, retrainings of a device are best served one
//! after another: whatever several would get side by side, the one that ends first can have it
//! first, and none ends later. What is left to decide is which streams are retrained, with which
//! option, in which order; the shares of a given sequence are then found exactly (`pool`). A local
//! search looks for the sequence (`search`), beginning with nothing, with what the thief does, and
//! with what streams decide at prices for device-seconds; the same prices bound what any plan could
//! reach (`bound`).
//!
//! Where training does not scale linearly, has a largest useful share or a start-up, several
//! retrainings side by side may do more in sum. Then sequences in which two, three or more share
//! equally what inference leaves are searched as well.
//!
//! One sequence of `n` jobs and `V` streams is evaluated in O(n · V) ladder look-ups. How many are
//! is limited by a count, so that equal problems give equal plans on any machine.

mod bound;
mod fill;
mod ladder;
mod pool;
mod search;

use crate::placement::{DevicePlan, DeviceScheduler, plan_devices};
use crate::plan::{Score, weighted_mean};
use crate::simulate::{StreamOutcome, run_window};
use crate::timeline::push;
use crate::{
    Plan, Problem, ScheduleError, Scheduler, Segment, Share, StreamPlan, StreamSpec, Thief, reason,
};

use bound::bound;
use pool::{Job, Planned, Pool, Sequence};
use search::{Effort, Found, improve};

/// Ladders that a search looks at, at most; half of them before the prices are known.
const EFFORT: u64 = 4_000_000;
/// With more streams than this on a device, the thief is not run to the end of the window but
/// asked once.
const THIEF_RUN_MAX: usize = 64;
/// Retrainings side by side that are tried where one after another need not be best.
const SIDE_BY_SIDE: [usize; 5] = [2, 3, 4, 6, 8];

/// Looks for the best plan, and states how far from the best it can be at most
/// ([`Plan::upper_bound`], [`Plan::gap`]).
///
/// Each device is planned by itself. On one with up to 64 streams no plan is worse than what the
/// [`Thief`] makes of the window, re-planning included; on larger ones, than the thief's plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Optimal;

impl Scheduler for Optimal {
    fn name(&self) -> String {
        "optimal".into()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        plan_devices(problem, self)
    }
}

impl DeviceScheduler for Optimal {
    fn plan_device(&self, problem: &Problem) -> DevicePlan {
        let pool = Pool::new(problem);
        let thief = thief(problem);
        let solution = Solution::of(&pool, &order_of(&thief, &pool));
        let own = solution.plans(&pool, problem);
        let better = match own {
            Some(own) if !Score::of(&thief, problem).beats(&Score::of(&own, problem)) => own,
            _ => thief,
        };
        let reached = weighted_mean(&better, problem) * problem.weight();
        DevicePlan {
            streams: better,
            upper_bound: Some(solution.upper_bound.max(reached)),
        }
    }

    fn judge(&self) -> Option<Thief> {
        Some(Thief::default())
    }

    fn bound_device(&self, problem: &Problem, reached: f64) -> Option<f64> {
        let pool = Pool::new(problem);
        let mut nothing = Found::nothing(&pool);
        nothing.worth = nothing.worth.max(reached * pool.length);
        Some(bound(&pool, nothing, &mut Effort(0)).worth / pool.length)
    }
}

/// What the thief makes of the window.
fn thief(problem: &Problem) -> Vec<StreamPlan> {
    let thief = Thief::default();
    if problem.streams.len() > THIEF_RUN_MAX {
        return thief.streams(problem);
    }
    match run_window(&thief, problem) {
        Ok(outcome) => {
            let streams = outcome.streams.into_iter().zip(&problem.streams);
            let plan = |(outcome, spec)| plan_of_outcome(outcome, spec, problem);
            streams.map(plan).collect()
        }
        // The problem was found valid before.
        Err(_) => thief.streams(problem),
    }
}

fn plan_of_outcome(outcome: StreamOutcome, spec: &StreamSpec, problem: &Problem) -> StreamPlan {
    let retraining = outcome.retraining;
    let mut plan = StreamPlan::new(outcome.segments);
    plan.retraining = retraining;
    plan.starts_at = outcome.started_at;
    plan.completes_at = outcome.completed_at;
    plan.reason = reason::verdict(&plan, spec, problem);
    plan
}

/// The retrainings of plans, by their ends.
fn order_of(plans: &[StreamPlan], pool: &Pool<'_>) -> Vec<Job> {
    let mut ends: Vec<(f64, Job)> = Vec::new();
    for (stream, plan) in plans.iter().enumerate() {
        let choices = &pool.streams[stream].choices;
        let choice = choices
            .iter()
            .position(|choice| Some(choice.option) == plan.retraining);
        if let (Some(end), Some(choice)) = (plan.completes_at, choice) {
            ends.push((end, Job { stream, choice }));
        }
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    ends.into_iter().map(|(_, job)| job).collect()
}

/// What was found for one device.
struct Solution {
    found: Found,
    /// Accuracy summed over the streams by their weights, averaged over the window.
    upper_bound: f64,
}

impl Solution {
    /// Searches from nothing, from a sequence that is known, and from what prices lead to.
    fn of(pool: &Pool<'_>, known: &[Job]) -> Self {
        let sequence = |jobs: &[Job], side_by_side| Sequence {
            jobs: jobs.to_vec(),
            side_by_side,
        };
        let mut effort = Effort(EFFORT / 2);
        let mut found = improve(pool, Found::nothing(pool), &mut effort);
        if let Some(known) = Found::of(pool, sequence(known, 1)) {
            found = found.or_better(improve(pool, known, &mut effort));
        }
        let bound = bound(pool, found, &mut Effort(EFFORT));
        let mut effort = Effort(EFFORT / 2);
        let mut found = improve(pool, bound.found, &mut effort);
        if !pool.is_linear {
            for side_by_side in SIDE_BY_SIDE.into_iter().filter(|&side| side <= pool.slots) {
                let jobs = &found.sequence.jobs;
                let starts = [
                    Found::of(pool, sequence(jobs, side_by_side)),
                    Found::of(pool, sequence(known, side_by_side)),
                ];
                for start in starts.into_iter().flatten() {
                    found = found.or_better(improve(pool, start, &mut effort));
                }
            }
        }
        Self {
            upper_bound: bound.worth.max(found.worth) / pool.length,
            found,
        }
    }

    /// The streams' plans.
    fn plans(&self, pool: &Pool<'_>, problem: &Problem) -> Option<Vec<StreamPlan>> {
        let sequence = &self.found.sequence;
        let mut phases = pool.timeline(sequence)?;
        if let Some(last) = phases.last_mut() {
            // Of a window that is over, nothing is left.
            last.to = problem.remaining.as_secs_f64();
        }
        let plans = problem.streams.iter().enumerate().map(|(stream, spec)| {
            let job = sequence.jobs.iter().find(|job| job.stream == stream);
            let option = job.map(|&job| pool.choice(job).option);
            plan_of_phases(&phases, stream, spec, option, problem)
        });
        Some(plans.collect())
    }
}

/// What one stream gets in the phases of a sequence, in which it may be retrained with an option.
fn plan_of_phases(
    phases: &[Planned],
    stream: usize,
    spec: &StreamSpec,
    option: Option<usize>,
    problem: &Problem,
) -> StreamPlan {
    let mut turns = phases
        .iter()
        .filter(|phase| phase.training_share(stream) > Share::ZERO);
    let computes_from = turns.next().map(|phase| (phase.from, phase.to));
    let completes_at = turns
        .next_back()
        .map(|phase| phase.to)
        .or(computes_from.map(|(_, to)| to));
    let retrained = option.map_or(spec.accuracy, |option| spec.retraining[option].end_accuracy);
    let mut timeline = Vec::new();
    for phase in phases {
        let done = completes_at.is_some_and(|end| end <= phase.from);
        let accuracy = if done { retrained } else { spec.accuracy };
        let rung = phase.rungs[stream];
        let segment = Segment {
            from: phase.from,
            to: phase.to,
            inference: rung.option,
            inference_share: rung.share,
            training_share: phase.training_share(stream),
            accuracy: accuracy * spec.factor_of(rung.option),
        };
        push(&mut timeline, segment);
    }
    let mut plan = StreamPlan::new(timeline);
    if let (Some(option), Some((computes_from, _))) = (option, computes_from) {
        // One that runs already has been loading since before.
        let startup = spec.retraining[option].startup_seconds;
        let starts = if spec.training_running {
            0.0
        } else {
            computes_from - startup
        };
        plan.retraining = Some(option);
        plan.starts_at = Some(starts.max(0.0));
        plan.completes_at = completes_at;
    }
    plan.reason = reason::verdict(&plan, spec, problem);
    plan
}
