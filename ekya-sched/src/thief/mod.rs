//! The thief scheduler (the paper's Algorithm 1).
//!
//! ```text
//! best = fair allocation over the jobs;  score = PickConfigs(best)
//! for thief in jobs:
//!   for victim in jobs, victim ≠ thief:
//!     steal from the victim for as long as PickConfigs says that the mean accuracy rises
//! ```
//!
//! Four things differ from the paper, each measured to help on the released Cityscapes profiles
//! and none in [`Stealing::Literal`]:
//! - any amount may be stolen, among them exactly what an inference option needs, since its share
//!   is seldom a multiple of δ;
//! - what no job uses can be stolen too;
//! - trading starts a second time from all shares at inference, where it ends higher when a device
//!   is so crowded that a fair share runs nothing well; the better end is kept;
//! - all that is done again, knowing what the shares that retrainings hand back when they end are
//!   worth to the inference of others: without that, a retraining that would end early and make
//!   room for everybody looks no better than one that drags on beside others.
//!
//! The plan is never below what the fair allocation gives.
//!
//! PickConfigs takes the share of a retraining that has ended to go to the inference of the same
//! stream, and what that cannot use to those of others. What really becomes of it is decided when
//! the caller re-plans.
//!
//! The score is compared in two steps: first how far streams are below a_MIN, which is a
//! constraint in the paper, then the mean accuracy. A stream that cannot reach a_MIN with the
//! whole device has no such constraint.
//!
//! A steal changes the shares of two jobs, so only their one or two streams are evaluated again:
//! one pass costs O(jobs² · (capacity/δ + |Λ|) · (|Γ| + log |Λ|)) per device, and no more than
//! proportional to the jobs beyond 128 of them, when only the victims that lose least are tried.

mod market;

use crate::pick::pickers;
use crate::placement::plan_devices;
use crate::{Plan, Problem, ScheduleError, Scheduler, StreamPlan};

use market::Market;

/// How much a thief takes from a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stealing {
    /// Algorithm 1 to the letter: one quantum after another, until one does not help; a single
    /// pass. It makes no move when a fair share is below the quantum. Kept to compare with.
    Literal,
    /// Whatever helps most of: all that the victim has or the thief can use, what brings the thief up
    /// or the victim down to just what an inference option needs, and between two retrainings every
    /// multiple of the quantum. At most three passes, until nothing helps.
    #[default]
    Exhaustive,
}

/// The thief scheduler. The jobs of each device steal from each other, from a fair start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thief {
    /// How much is stolen at a time.
    pub stealing: Stealing,
}

impl Scheduler for Thief {
    fn name(&self) -> String {
        match self.stealing {
            Stealing::Literal => "thief:literal".into(),
            Stealing::Exhaustive => "thief".into(),
        }
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        plan_devices(problem, &|part: &Problem| self.streams(part))
    }
}

impl Thief {
    /// The streams of the only device of a problem.
    pub(crate) fn streams(self, problem: &Problem) -> Vec<StreamPlan> {
        let pickers = pickers(problem);
        let fair = Market::fair(&pickers, problem.capacity());
        let market = fair.trade(self.stealing, problem.quantum);
        let streams = problem.streams.iter().zip(&pickers).enumerate();
        let plans = streams.map(|(place, (spec, picker))| {
            let shares = market.shares_of(place);
            picker.plan(&market.pick_of(place), spec, problem, shares)
        });
        plans.collect()
    }
}
