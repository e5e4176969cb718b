//! Which scheduler a run uses, and what it needs to know.

use ekya_sched::{Fixed, NoRetraining, Optimal, Scheduler, Stealing, Thief, Uniform};

use crate::config::SchedulerConfig;

/// A scheduler and what has to be done before it can plan.
pub struct Policy {
    /// Turns what is known into shares and retrainings.
    pub scheduler: Box<dyn Scheduler + Send>,
    /// What a student may be retrained with.
    pub retraining: Retraining,
}

/// Which retraining configurations a policy considers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retraining {
    /// None at all.
    Never,
    /// The one of that index, for every stream, without profiling.
    Fixed(usize),
    /// Those that the micro-profiler recommends, stream by stream.
    Profiled,
}

impl Policy {
    /// The policy that a configuration names.
    #[must_use]
    pub fn new(config: SchedulerConfig) -> Self {
        match config {
            SchedulerConfig::Ekya => Self {
                scheduler: Box::new(Thief {
                    stealing: Stealing::Exhaustive,
                }),
                retraining: Retraining::Profiled,
            },
            SchedulerConfig::EkyaOptimal => Self {
                scheduler: Box::new(Optimal),
                retraining: Retraining::Profiled,
            },
            SchedulerConfig::None => Self {
                scheduler: Box::new(NoRetraining),
                retraining: Retraining::Never,
            },
            // The problem then holds the one configuration only: index 0.
            SchedulerConfig::Uniform {
                inference,
                configuration,
            } => Self {
                scheduler: Box::new(Uniform {
                    inference_fraction: inference,
                    retraining: Fixed::Option(0),
                }),
                retraining: Retraining::Fixed(configuration),
            },
        }
    }
}
