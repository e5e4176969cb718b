//! The best plan that can be found in bounded time, with a bound on what any plan could reach.
//!
//! As long as training scales linearly with its share, retrainings of a device are best served one
//! after another: whatever several would get side by side, the one that ends first can have it
//! first, and none ends later. What is left to decide is which streams are retrained, with which
//! option, in which order; the shares of a given sequence are then found exactly (`pool`). A local
//! search looks for the sequence (`search`), beginning with nothing and with what streams decide
//! at prices for device-seconds; the same prices bound what any plan could reach (`bound`).
//!
//! One sequence of `n` jobs and `V` streams is evaluated in O(n · V) ladder look-ups.

mod bound;
mod ladder;
mod pool;
mod search;

use crate::pick::{Picker, pickers};
use crate::{Plan, Problem, ScheduleError, Scheduler, Share, StreamPlan};

use bound::bound;
use pool::Pool;
use search::{Effort, Found, improve};

/// Ladders that a search looks at, at most.
const EFFORT: u64 = 4_000_000;

/// Serves retrainings one after another, in the best order found, and states how far from the best
/// it can be at most ([`Plan::upper_bound`]).
///
/// The plan holds until the first retraining ends; those whose turn comes later are not retrained
/// yet, and say so. Each device is planned by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Optimal;

impl Scheduler for Optimal {
    fn name(&self) -> String {
        "optimal".into()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        problem.validate()?;
        let pickers = pickers(problem);
        let streams = problem.streams.iter().zip(&pickers);
        let mut plans: Vec<StreamPlan> = streams
            .map(|(spec, picker)| {
                let nothing = picker.serve(Share::ZERO);
                nothing.into_plan(spec, problem, Share::ZERO, Share::ZERO)
            })
            .collect();
        let mut upper_bound = 0.0;
        for device in 0..problem.devices.len() {
            let streams = problem.streams_on(device);
            let pool = Pool::new(problem, device, &streams);
            let solution = Solution::of(&pool);
            upper_bound += solution.upper_bound;
            solution.write(&pool, problem, &pickers, &streams, &mut plans);
        }
        let streams = plans.len().max(1) as f64;
        let mut plan = Plan::of(plans);
        let upper_bound = (upper_bound / streams).clamp(plan.mean_accuracy, 1.0);
        plan.upper_bound = Some(upper_bound);
        Ok(plan)
    }
}

/// What was found for one device.
struct Solution {
    found: Found,
    /// Accuracy summed over the streams, averaged over the window.
    upper_bound: f64,
}

impl Solution {
    fn of(pool: &Pool) -> Self {
        let nothing = Found {
            worth: pool.worth(&[]).unwrap_or(0.0),
            jobs: Vec::new(),
        };
        let found = improve(pool, nothing, &mut Effort(EFFORT / 2));
        let bound = bound(pool, found);
        let found = improve(pool, bound.found, &mut Effort(EFFORT / 2));
        Self {
            upper_bound: bound.worth.max(found.worth) / pool.length,
            found,
        }
    }

    /// Puts the plans of the device's streams in their places.
    fn write(
        &self,
        pool: &Pool,
        problem: &Problem,
        pickers: &[Picker],
        streams: &[usize],
        plans: &mut [StreamPlan],
    ) {
        let jobs = &self.found.jobs;
        // What was found has a timeline; without one nobody is served, as the plans say already.
        let Some(timeline) = pool.timeline(jobs) else {
            return;
        };
        let first = &timeline[0];
        let inference: u32 = first.rungs.iter().map(|rung| rung.share.micro()).sum();
        let rest = pool.share.saturating_sub(Share::from_micro(inference));
        for (place, &stream) in streams.iter().enumerate() {
            let spec = &problem.streams[stream];
            let share = first.rungs[place].share;
            let mut pick = pickers[stream].serve(share);
            pick.mean = pool::mean_over(&timeline, place);
            let turn = jobs.iter().position(|job| job.stream == place);
            let option = turn.map(|turn| pool.choice(jobs[turn]).option);
            let mut training = Share::ZERO;
            if turn == Some(0) {
                pick.retraining = option;
                pick.ends_in = first.seconds;
                training = rest;
            }
            let mut plan = pick.into_plan(spec, problem, share, training);
            if let (Some(turn @ 1..), Some(option)) = (turn, option) {
                let start: f64 = timeline[..turn].iter().map(|span| span.seconds).sum();
                plan.reason = format!("waits: option {option} is to start after {start:.1} s");
            }
            plans[stream] = plan;
        }
    }
}
