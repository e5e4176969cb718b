//! The paper's two ablations: configurations chosen under fixed shares, and shares chosen for a
//! fixed configuration.

use super::uniform::{check_fraction, no_such_option, split};
use crate::pick::{Picker, pickers};
use crate::placement::plan_devices;
use crate::{Plan, Problem, RetrainingOption, ScheduleError, Scheduler, StreamSpec, Thief};

/// Ekya-FixedRes: a fixed split between inference and retraining, both divided evenly over the
/// streams of a device as [`crate::Uniform`] does; under these shares each stream's best
/// configurations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedRes {
    /// Part of every device that is for inference, in 0..=1; a half in the paper.
    pub inference_fraction: f64,
}

impl Scheduler for FixedRes {
    fn name(&self) -> String {
        format!("fixed-res:{}", self.inference_fraction)
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        problem.validate()?;
        check_fraction(self.inference_fraction)?;
        plan_devices(problem, &|part: &Problem| {
            let pickers = pickers(part);
            let trains: Vec<bool> = pickers.iter().map(Picker::may_train).collect();
            let shares = split(part.capacity(), self.inference_fraction, &trains);
            let streams = part.streams.iter().zip(&pickers).zip(shares);
            let plans = streams.map(|((spec, picker), shares)| {
                picker.plan(&picker.pick(shares.0, shares.1, 0.0), spec, part, shares)
            });
            plans.collect::<Vec<_>>()
        })
    }
}

/// Ekya-FixedConfig: one retraining configuration for every stream; the shares are chosen by the
/// [`Thief`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedConfig {
    /// Index into [`StreamSpec::retraining`], the same for every stream.
    pub retraining: usize,
}

impl Scheduler for FixedConfig {
    fn name(&self) -> String {
        format!("fixed-config:{}", self.retraining)
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        problem.validate()?;
        let mut fixed = problem.clone();
        for spec in &mut fixed.streams {
            if may_start(spec) {
                spec.retraining = vec![self.option_of(spec)?];
            }
        }
        let mut plan = Thief::default().plan(&fixed)?;
        for (plan, spec) in plan.streams.iter_mut().zip(&problem.streams) {
            if may_start(spec) {
                plan.retraining = plan.retraining.map(|_| self.retraining);
            }
        }
        Ok(plan)
    }
}

impl FixedConfig {
    fn option_of(self, spec: &StreamSpec) -> Result<RetrainingOption, ScheduleError> {
        let option = spec.retraining.get(self.retraining).copied();
        option.ok_or_else(|| no_such_option(spec, self.retraining))
    }
}

const fn may_start(spec: &StreamSpec) -> bool {
    !spec.training_running && !spec.retraining.is_empty()
}
