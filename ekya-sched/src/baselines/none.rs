//! No retraining at all.

use crate::pick::{Picker, pickers};
use crate::placement::plan_devices;
use crate::share::equal_parts;
use crate::{Plan, Problem, ScheduleError, Scheduler, Share, StreamPlan};

/// Never retrains: every device is divided evenly over the inference of its streams, and what one
/// cannot use goes to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoRetraining;

impl Scheduler for NoRetraining {
    fn name(&self) -> String {
        "none".into()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        plan_devices(problem, &serve)
    }
}

/// The whole of a device for inference.
pub(super) fn serve(part: &Problem) -> Vec<StreamPlan> {
    let pickers = pickers(part);
    let useful = pickers.iter().map(Picker::most_useful).collect();
    let shares = divide(part.capacity(), useful);
    let streams = part.streams.iter().zip(&pickers).zip(shares);
    streams
        .map(|((spec, picker), share)| {
            picker.plan(&picker.serve(share), spec, part, (share, Share::ZERO))
        })
        .collect()
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
}
