//! Retraining in the cloud, over a link.

use super::none::serve;
use super::uniform::most_accurate;
use crate::placement::plan_devices;
use crate::timeline::{mean_accuracy, push};
use crate::{Plan, Problem, ScheduleError, Scheduler, Segment, StreamSpec, reason};

/// Sends every stream's training data over a link to a cloud that retrains at once and at no cost,
/// with the most accurate configuration, and sends the student back. Devices only serve.
///
/// Uploads follow each other, the stream with the most to gain first, and so do downloads; the two
/// directions do not hinder each other. Streams whose student would come back after the window are
/// not sent. The link is planned at the start of a window: what is under way goes on as planned,
/// and nothing is added later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cloud {
    /// Uplink, in megabits a second.
    pub up: f64,
    /// Downlink, in megabits a second.
    pub down: f64,
    /// Training data of a stream, in megabits; the paper's cameras make 160 in a window of 400 s.
    pub upload: f64,
    /// A student, in megabits; the paper's has 398.
    pub download: f64,
}

impl Cloud {
    /// A link with the sizes of the paper.
    #[must_use]
    pub const fn over(up: f64, down: f64) -> Self {
        Self {
            up,
            down,
            upload: 160.0,
            download: 398.0,
        }
    }

    fn check(&self) -> Result<(), ScheduleError> {
        let rates = [self.up, self.down]
            .into_iter()
            .all(|rate| rate.is_finite() && rate > 0.0);
        let sizes = [self.upload, self.download]
            .into_iter()
            .all(|size| size.is_finite() && size >= 0.0);
        if rates && sizes {
            Ok(())
        } else {
            Err(ScheduleError::Link { link: *self })
        }
    }

    /// When each stream's student is back, in seconds from now, with the option; infinite for
    /// those that are not sent.
    fn returns(&self, problem: &Problem) -> Vec<(f64, usize)> {
        let mut returns = vec![(f64::INFINITY, 0); problem.streams.len()];
        let best = |spec: &StreamSpec| {
            let option = most_accurate(spec)?;
            let gain = spec.retraining[option].end_accuracy - spec.accuracy;
            (gain > 0.0).then_some((gain * spec.weight, option))
        };
        let mut waiting = Vec::new();
        let mut under_way = false;
        for (stream, spec) in problem.streams.iter().enumerate() {
            if spec.training_running {
                under_way = true;
                // Under way it has no work left: all that is to come is the way back.
                let option = &spec.retraining[0];
                returns[stream] = (option.startup_seconds + option.gpu_seconds_left(), 0);
            } else if let Some((gain, option)) = best(spec) {
                waiting.push((gain, stream, option));
            }
        }
        if under_way {
            return returns;
        }
        waiting.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut sent = problem.labelling_delay.as_secs_f64();
        let mut back = sent;
        for (_, stream, option) in waiting {
            sent += self.upload / self.up;
            back = f64::max(back, sent) + self.download / self.down;
            returns[stream] = (back, option);
        }
        returns
    }
}

impl Scheduler for Cloud {
    fn name(&self) -> String {
        let Self { up, down, .. } = self;
        if *self == Self::over(*up, *down) {
            return format!("cloud:{up}:{down}");
        }
        format!("cloud:{up}:{down}:{}:{}", self.upload, self.download)
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        problem.validate()?;
        self.check()?;
        let returns = self.returns(problem);
        let mut plan = plan_devices(problem, &serve)?;
        let remaining = problem.remaining.as_secs_f64();
        let streams = plan.streams.iter_mut().zip(&problem.streams).zip(returns);
        for ((plan, spec), (back, option)) in streams {
            if back <= remaining {
                plan.retraining = Some(option);
                plan.starts_at = Some(0.0);
                plan.in_cloud = true;
                plan.completes_at = Some(back);
                plan.timeline = switched(&plan.timeline, spec, option, back);
                plan.mean_accuracy = mean_accuracy(&plan.timeline);
            }
            plan.reason = reason::verdict(plan, spec, problem);
            reason::add_shortage(plan, spec, problem);
        }
        Ok(Plan::new(plan.streams, problem))
    }
}

/// The same shares with the retrained student from `back` on.
fn switched(timeline: &[Segment], spec: &StreamSpec, option: usize, back: f64) -> Vec<Segment> {
    let retrained = spec.retraining[option].end_accuracy.max(spec.accuracy);
    let mut switched = Vec::new();
    for segment in timeline {
        let middle = back.clamp(segment.from, segment.to);
        push(
            &mut switched,
            Segment {
                to: middle,
                ..*segment
            },
        );
        let accuracy = retrained * spec.factor_of(segment.inference);
        push(
            &mut switched,
            Segment {
                from: middle,
                accuracy,
                ..*segment
            },
        );
    }
    switched
}
