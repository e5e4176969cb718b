//! Schedulers to compare with: no retraining, and the paper's uniform baseline.

use crate::pick::{Picker, pickers};
use crate::thief::equal_parts;
use crate::{Plan, Problem, ScheduleError, Scheduler, Share, StreamPlan, StreamSpec};

/// Never retrains: every device is divided evenly over the inference of its streams, and what one
/// cannot use goes to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoRetraining;

impl Scheduler for NoRetraining {
    fn name(&self) -> String {
        "none".into()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        problem.validate()?;
        let pickers = pickers(problem);
        let mut shares = vec![Share::ZERO; problem.streams.len()];
        for (device, spec) in problem.devices.iter().enumerate() {
            let streams = problem.streams_on(device);
            let useful = streams.iter().map(|&s| pickers[s].most_useful()).collect();
            for (stream, share) in streams.iter().zip(divide(spec.capacity, useful)) {
                shares[*stream] = share;
            }
        }
        let streams = problem.streams.iter().zip(&pickers).zip(shares);
        Ok(Plan::of(
            streams
                .map(|((spec, picker), share)| {
                    let pick = picker.serve(share);
                    pick.into_plan(spec, problem, share, Share::ZERO)
                })
                .collect(),
        ))
    }
}

/// A fixed retraining configuration and a fixed split between inference and retraining, both
/// divided evenly over the streams of a device. The share of a retraining that has ended is
/// divided equally over the jobs that still run, inference included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uniform {
    /// Part of every device that is for inference, in 0..=1.
    pub inference_fraction: f64,
    /// Index into [`StreamSpec::retraining`], the same for every stream.
    pub retraining: usize,
}

impl Scheduler for Uniform {
    fn name(&self) -> String {
        format!("uniform:{}:{}", self.inference_fraction, self.retraining)
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        problem.validate()?;
        if !(0.0..=1.0).contains(&self.inference_fraction) {
            let value = self.inference_fraction;
            return Err(ScheduleError::InferenceFraction { value });
        }
        let options = problem
            .streams
            .iter()
            .map(|spec| self.option_of(spec))
            .collect::<Result<Vec<_>, _>>()?;
        let mut shares = vec![(Share::ZERO, Share::ZERO); problem.streams.len()];
        for (device, spec) in problem.devices.iter().enumerate() {
            let streams = problem.streams_on(device);
            let trains: Vec<bool> = streams.iter().map(|&s| options[s].is_some()).collect();
            for (stream, pair) in streams.iter().zip(self.split(spec.capacity, &trains)) {
                shares[*stream] = pair;
            }
        }
        let streams = problem.streams.iter().zip(options).zip(shares);
        Ok(Plan::of(
            streams
                .map(|((spec, option), shares)| stream_plan(problem, spec, option, shares))
                .collect(),
        ))
    }
}

impl Uniform {
    /// The option that a stream retrains with: the one left when it runs, none when it has ended.
    fn option_of(&self, spec: &StreamSpec) -> Result<Option<usize>, ScheduleError> {
        match spec.retraining.len() {
            0 => Ok(None),
            _ if spec.training_running => Ok(Some(0)),
            options if self.retraining < options => Ok(Some(self.retraining)),
            options => Err(ScheduleError::NoSuchOption {
                stream: spec.name.clone(),
                option: self.retraining,
                options,
            }),
        }
    }

    /// Shares of inference and training, by stream of a device.
    fn split(&self, capacity: Share, trains: &[bool]) -> Vec<(Share, Share)> {
        // At most the capacity, which is a u32.
        let for_inference = f64::from(capacity.micro()) * self.inference_fraction;
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
}

fn stream_plan(
    problem: &Problem,
    spec: &StreamSpec,
    option: Option<usize>,
    (inference, training): (Share, Share),
) -> StreamPlan {
    let picker = Picker::new(spec, problem);
    let pick = match option {
        Some(option) => picker.with_fixed(spec, option, inference, training),
        None => picker.serve(inference),
    };
    pick.into_plan(spec, problem, inference, training)
}

/// Divides a capacity evenly, but gives nobody more than is useful to it as long as another can
/// use it; what nobody can use is divided evenly again, as reserve.
fn divide(capacity: Share, useful: Vec<Share>) -> Vec<Share> {
    let mut order: Vec<usize> = (0..useful.len()).collect();
    order.sort_by_key(|&i| useful[i]);
    let mut shares = vec![Share::ZERO; useful.len()];
    let mut left = capacity;
    for (done, &i) in order.iter().enumerate() {
        let even = equal_parts(left, useful.len() - done).next();
        shares[i] = even.unwrap_or_default().min(useful[i]);
        left = left.saturating_sub(shares[i]);
    }
    for (share, part) in shares.iter_mut().zip(equal_parts(left, useful.len())) {
        *share = share.saturating_add(part);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_cannot_use_goes_to_the_others() {
        let share = Share::from_micro;
        let shares = divide(share(100), vec![share(10), share(90), share(90)]);
        assert_eq!(shares, [share(10), share(45), share(45)]);
    }

    #[test]
    fn what_nobody_can_use_is_kept_in_reserve() {
        let share = Share::from_micro;
        let shares = divide(share(100), vec![share(10), share(20)]);
        assert_eq!(shares, [share(45), share(55)]);
    }

    #[test]
    fn the_share_of_an_ended_retraining_is_divided_over_all_that_run() {
        let uniform = Uniform {
            inference_fraction: 0.5,
            retraining: 0,
        };
        let whole = Share::from_micro(3_000_000);
        let quarter = Share::from_micro(750_000);
        assert_eq!(
            uniform.split(whole, &[true, true]),
            [(quarter, quarter), (quarter, quarter)]
        );
        let one = Share::WHOLE;
        assert_eq!(
            uniform.split(whole, &[true, false]),
            [(one, one), (one, Share::ZERO)]
        );
    }
}
