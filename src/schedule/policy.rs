//! Which scheduler a run uses, and what it needs to know.

use std::sync::Arc;

use ekya_sched::{
    Fixed, NoRetraining, Optimal, Plan, Problem, ScheduleError, Scheduler, Stealing, Thief, Uniform,
};

use crate::config::SchedulerConfig;

/// A scheduler and what has to be done before it can plan.
#[derive(Clone)]
pub struct Policy {
    /// What it is called in records.
    pub name: String,
    /// Turns what is known into shares and retrainings.
    pub scheduler: Arc<dyn Scheduler + Send + Sync>,
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
        let (scheduler, retraining): (Arc<dyn Scheduler + Send + Sync>, _) = match config {
            SchedulerConfig::Ekya => {
                let stealing = Stealing::Exhaustive;
                (Arc::new(Thief { stealing }), Retraining::Profiled)
            }
            SchedulerConfig::EkyaOptimal => (Arc::new(Optimal), Retraining::Profiled),
            SchedulerConfig::None => (Arc::new(NoRetraining), Retraining::Never),
            SchedulerConfig::Uniform {
                inference: inference_fraction,
                configuration,
            } => {
                // The problem then holds the one configuration only: index 0.
                let retraining = Fixed::Option(0);
                let uniform = Uniform {
                    inference_fraction,
                    retraining,
                };
                (Arc::new(uniform), Retraining::Fixed(configuration))
            }
        };
        Self {
            name: config.to_string(),
            scheduler,
            retraining,
        }
    }

    /// That of a scheduler of the program that runs the node.
    #[must_use]
    pub fn own(scheduler: Arc<dyn Scheduler + Send + Sync>) -> Self {
        Self {
            name: scheduler.name(),
            scheduler: Arc::new(Checked(scheduler)),
            retraining: Retraining::Profiled,
        }
    }
}

/// A scheduler of the program, none of whose plans is carried out that cannot be: it may ask for devices and
/// options that do not exist.
struct Checked(Arc<dyn Scheduler + Send + Sync>);

impl Scheduler for Checked {
    fn name(&self) -> String {
        self.0.name()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        let plan = self.0.plan(problem)?;
        let checked = plan.check(problem).map_err(|error| ScheduleError::Plan {
            scheduler: self.name(),
            error: Box::new(error),
        });
        checked.map(|()| plan)
    }
}
