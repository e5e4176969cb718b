//! The paper's uniform baseline.

use std::fmt;

use crate::pick::{Picker, pickers};
use crate::placement::plan_devices;
use crate::share::equal_parts;
use crate::{Plan, Problem, ScheduleError, Scheduler, Share, StreamPlan, StreamSpec};

/// A fixed retraining configuration and a fixed split between inference and retraining, both
/// divided evenly over the streams of a device. The share of a retraining that has ended is
/// divided equally over the jobs that still run, inference included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uniform {
    /// Part of every device that is for inference, in 0..=1.
    pub inference_fraction: f64,
    /// The configuration.
    pub retraining: Fixed,
}

/// A retraining configuration that is not weighed against others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    /// That of an index into [`StreamSpec::retraining`], the same for every stream.
    Option(usize),
    /// The one that promises the highest end accuracy, stream by stream.
    MostAccurate,
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(option) => write!(f, "{option}"),
            Self::MostAccurate => f.write_str("best"),
        }
    }
}

impl Scheduler for Uniform {
    fn name(&self) -> String {
        format!("uniform:{}:{}", self.inference_fraction, self.retraining)
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        problem.validate()?;
        check_fraction(self.inference_fraction)?;
        for spec in &problem.streams {
            self.option_of(spec)?;
        }
        plan_devices(problem, &|part: &Problem| self.streams(part))
    }
}

impl Uniform {
    fn streams(&self, problem: &Problem) -> Vec<StreamPlan> {
        let option = |spec: &StreamSpec| self.option_of(spec).unwrap_or(None);
        let options: Vec<_> = problem.streams.iter().map(option).collect();
        let trains: Vec<bool> = options.iter().map(Option::is_some).collect();
        let shares = split(problem.capacity(), self.inference_fraction, &trains);
        let pickers = pickers(problem);
        let streams = problem.streams.iter().zip(&pickers);
        let decided = streams.zip(options.into_iter().zip(shares));
        let plan = |((spec, picker), (option, shares)): Decided<'_>| {
            let pick = match option {
                Some(option) => picker.with_fixed(spec, option, shares.0, shares.1),
                None => picker.serve(shares.0),
            };
            picker.plan(&pick, spec, problem, shares)
        };
        decided.map(plan).collect()
    }

    /// The option that a stream retrains with: the one left when it runs, none when it has ended.
    fn option_of(&self, spec: &StreamSpec) -> Result<Option<usize>, ScheduleError> {
        let options = spec.retraining.len();
        match self.retraining {
            _ if options == 0 => Ok(None),
            _ if spec.training_running => Ok(Some(0)),
            Fixed::Option(option) if option < options => Ok(Some(option)),
            Fixed::Option(option) => Err(no_such_option(spec, option)),
            Fixed::MostAccurate => Ok(most_accurate(spec)),
        }
    }
}

/// A stream, its picker, its option and its shares.
type Decided<'a> = (
    (&'a StreamSpec, &'a Picker<'a>),
    (Option<usize>, (Share, Share)),
);

/// The refusal of a fixed option that a stream does not have.
pub(super) fn no_such_option(spec: &StreamSpec, option: usize) -> ScheduleError {
    ScheduleError::NoSuchOption {
        stream: spec.name.clone(),
        option,
        options: spec.retraining.len(),
    }
}

/// The option with the highest end accuracy, the first of equals.
pub(super) fn most_accurate(spec: &StreamSpec) -> Option<usize> {
    let accuracy = |option: usize| spec.retraining[option].end_accuracy;
    let options = 0..spec.retraining.len();
    options.max_by(|&a, &b| accuracy(a).total_cmp(&accuracy(b)).then(b.cmp(&a)))
}

/// Shares of inference and training, by stream of a device: both parts evenly, and what those have
/// for training that are not retrained evenly over all jobs that run.
pub(super) fn split(
    capacity: Share,
    inference_fraction: f64,
    trains: &[bool],
) -> Vec<(Share, Share)> {
    // At most the capacity, which is a u32.
    let for_inference = f64::from(capacity.micro()) * inference_fraction;
    let for_inference = Share::from_micro(for_inference.round() as u32).min(capacity);
    let for_training = capacity.saturating_sub(for_inference);
    let mut shares: Vec<(Share, Share)> = equal_parts(for_inference, trains.len())
        .zip(equal_parts(for_training, trains.len()))
        .collect();
    let mut freed = Share::ZERO;
    for ((_, training), _) in shares
        .iter_mut()
        .zip(trains)
        .filter(|(_, trains)| !**trains)
    {
        freed = freed.saturating_add(std::mem::take(training));
    }
    let running = trains.len() + trains.iter().filter(|&&trains| trains).count();
    let mut parts = equal_parts(freed, running);
    for ((inference, training), &trains) in shares.iter_mut().zip(trains) {
        *inference = inference.saturating_add(parts.next().unwrap_or_default());
        if trains {
            *training = training.saturating_add(parts.next().unwrap_or_default());
        }
    }
    shares
}

/// Whether a fixed split is one.
pub(super) fn check_fraction(value: f64) -> Result<(), ScheduleError> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(ScheduleError::InferenceFraction { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_an_ended_retraining_is_divided_over_all_that_run() {
        let whole = Share::from_micro(3_000_000);
        let quarter = Share::from_micro(750_000);
        assert_eq!(
            split(whole, 0.5, &[true, true]),
            [(quarter, quarter), (quarter, quarter)]
        );
        let one = Share::WHOLE;
        assert_eq!(
            split(whole, 0.5, &[true, false]),
            [(one, one), (one, Share::ZERO)]
        );
    }
}
