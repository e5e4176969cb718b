//! What all schedulers have in common.

use thiserror::Error;

use crate::{Plan, Problem, ProblemError};

/// Turns a problem into a plan. Equal problems give equal plans.
pub trait Scheduler {
    /// Name for tables and records, with its parameters ("thief", "uniform:0.5:3").
    fn name(&self) -> String;

    /// Plans what is left of a window.
    ///
    /// # Errors
    /// When the problem is not valid, or cannot be planned by this scheduler. A problem that
    /// merely has no good plan (no device, too many streams, a lowest accuracy out of reach) is
    /// planned as well as it goes, and the reasons say so.
    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError>;
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The problem makes no sense.
    #[error("the problem to schedule is not valid")]
    Problem(#[from] ProblemError),
    /// A fixed retraining option that a stream does not have.
    #[error("stream {stream:?} has no retraining option {option}, only {options}")]
    NoSuchOption {
        /// Name of the stream.
        stream: String,
        /// The index asked for.
        option: usize,
        /// How many options the stream has.
        options: usize,
    },
    /// A plan that cannot be carried out: the scheduler is wrong.
    #[error("{scheduler} made a plan that cannot be carried out")]
    Plan {
        /// Name of the scheduler.
        scheduler: String,
        /// What is wrong with its plan.
        #[source]
        error: Box<crate::PlanError>,
    },
    /// A link without speed, or with sizes that are none.
    #[error("{link:?} is no link: rates have to be above zero, sizes at least zero")]
    Link {
        /// What was given.
        link: crate::Cloud,
    },
    /// A fixed split that is none.
    #[error("an inference fraction of {value}; it has to be in 0..=1")]
    InferenceFraction {
        /// What was given.
        value: f64,
    },
}
