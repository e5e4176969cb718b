//! Whether a plan can be carried out, and predicts what it would give.

use std::fmt;

use thiserror::Error;

use crate::plan::weighted_mean;
use crate::timeline::{MOMENT, mean_accuracy};
use crate::{Plan, Problem, RetrainingOption, Segment, Share, StreamPlan, StreamSpec};

/// Accuracies and relative amounts of work closer than this are the same.
const TOLERANCE: f64 = 1e-6;

/// A plan that does not fit its problem.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Another number of streams.
    #[error("the plan has {plan} streams, the problem {problem}")]
    StreamCount {
        /// Streams of the plan.
        plan: usize,
        /// Streams of the problem.
        problem: usize,
    },
    /// The jobs on a device need more of something than it has, at some instant.
    #[error("device {device}: {used} of {limit} {limited} in use at some instant")]
    OverLimit {
        /// Index of the device.
        device: usize,
        /// What there is too little of.
        limited: Limited,
        /// The most that is in use at an instant.
        used: u64,
        /// What the device has.
        limit: u64,
    },
    /// Something is wrong with what one stream gets.
    #[error("stream {stream:?}: {fault}")]
    Stream {
        /// Name of the stream.
        stream: String,
        /// What is wrong.
        fault: Fault,
    },
    /// The mean is not the mean of the streams', or above the bound that the plan states.
    #[error("predicted mean accuracy {value} is not the mean of the streams', or above the bound")]
    MeanAccuracy {
        /// What the plan says.
        value: f64,
    },
}

/// What a device has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Capacity, in micro-GPU.
    Capacity,
    /// Memory, in bytes.
    Memory,
    /// Retrainings at a time.
    TrainingSlots,
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capacity => "micro-GPU",
            Self::Memory => "bytes",
            Self::TrainingSlots => "training slots",
        })
    }
}

/// What is wrong with the plan of one stream.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// A share of a device that does not exist, is not the stream's own, or is on another node
    /// than its other job.
    #[error("device {device:?} for inference, {training_device:?} for training: not as asked")]
    Device {
        /// Of inference.
        device: Option<usize>,
        /// Of training.
        training_device: Option<usize>,
    },
    /// Segments that do not follow each other from 0 to the end of the window.
    #[error("its segments do not cover the {remaining} s left without gap or overlap")]
    Timeline {
        /// What is left of the window, in seconds.
        remaining: f64,
    },
    /// An option that the problem does not have.
    #[error("no {kind} option {option}, there are {options}")]
    NoSuchOption {
        /// "inference", "retraining" or "cached student".
        kind: &'static str,
        /// The index in the plan.
        option: usize,
        /// How many options the problem has.
        options: usize,
    },
    /// The inference option needs more than it gets.
    #[error("inference option {option} needs {needed} of the device, gets {share}")]
    InferenceShare {
        /// The option.
        option: usize,
        /// What it needs.
        needed: Share,
        /// What it gets.
        share: Share,
    },
    /// A share of training without a retraining, in the cloud, before the labels are there, or
    /// after it has ended.
    #[error("a training share of {share} from {from} s on, where there is nothing to train")]
    TrainingShare {
        /// The share.
        share: Share,
        /// Start of its segment, in seconds.
        from: f64,
    },
    /// A start without a retraining, a retraining without a start, or one that runs already and
    /// does not start now.
    #[error("starts at {starts_at:?} s")]
    Start {
        /// What the plan says, in seconds.
        starts_at: Option<f64>,
    },
    /// A completion that its shares do not give, or outside of the window.
    #[error("completes at {completes_at} s, having done {done} of {work} GPU-seconds")]
    Completion {
        /// What the plan says, in seconds.
        completes_at: f64,
        /// GPU-seconds that its shares give until then.
        done: f64,
        /// GPU-seconds that are left to do.
        work: f64,
    },
    /// An accuracy that its options do not give.
    #[error("predicted accuracy {value} where its options give {expected}")]
    Accuracy {
        /// What the plan says.
        value: f64,
        /// What follows from its options and shares.
        expected: f64,
    },
}

impl Plan {
    /// Whether the plan can be carried out and predicts what it would give: no device over its
    /// capacity, memory or training slots at any instant, devices and options that exist,
    /// inference with the share that its option needs (or none named: best effort), retrainings
    /// that end when their shares have done their work, and accuracies that follow from all that.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self, problem: &Problem) -> Result<(), PlanError> {
        if self.streams.len() != problem.streams.len() {
            return Err(PlanError::StreamCount {
                plan: self.streams.len(),
                problem: problem.streams.len(),
            });
        }
        for (plan, spec) in self.streams.iter().zip(&problem.streams) {
            plan.check(spec, problem)
                .map_err(|fault| PlanError::Stream {
                    stream: spec.name.clone(),
                    fault,
                })?;
        }
        over_limit(&self.streams, problem).map_or(Ok(()), Err)?;
        let value = self.mean_accuracy;
        let expected = weighted_mean(&self.streams, problem);
        let below_bound = self
            .upper_bound
            .is_none_or(|bound| value <= bound + TOLERANCE);
        if (value - expected).abs() < TOLERANCE && below_bound {
            Ok(())
        } else {
            Err(PlanError::MeanAccuracy { value })
        }
    }
}

impl StreamPlan {
    fn check(&self, spec: &StreamSpec, problem: &Problem) -> Result<(), Fault> {
        self.check_devices(spec, problem)?;
        let spec = &*spec.placed(self.device, self.training_device, problem);
        self.check_timeline(problem.remaining.as_secs_f64())?;
        let option = match self.retraining {
            Some(option) => Some(spec.retraining.get(option).ok_or(Fault::NoSuchOption {
                kind: "retraining",
                option,
                options: spec.retraining.len(),
            })?),
            None => None,
        };
        self.check_training(spec, option, problem)?;
        let now = self.accuracy_now(spec)?;
        let retrained = option.map_or(now, |option| option.end_accuracy.max(now));
        self.check_inference(spec, now, retrained)
    }

    fn check_devices(&self, spec: &StreamSpec, problem: &Problem) -> Result<(), Fault> {
        let fault = Fault::Device {
            device: self.device,
            training_device: self.training_device,
        };
        let as_asked = |asked: Option<usize>, got: Option<usize>| match (asked, got) {
            (_, None) => true,
            (Some(asked), Some(got)) if asked != got => false,
            (_, Some(got)) => got < problem.devices.len(),
        };
        let own = spec.device.filter(|_| !spec.may_travel());
        let training_asked = spec.training_device.or(own);
        if !as_asked(spec.device, self.device) || !as_asked(training_asked, self.training_device) {
            return Err(fault);
        }
        let node = |device: Option<usize>| device.map(|device| problem.devices[device].node);
        let given_apart = spec.device.is_some() && spec.training_device.is_some();
        if let (Some(a), Some(b)) = (node(self.device), node(self.training_device))
            && a != b
            && !given_apart
            && !spec.may_travel()
        {
            return Err(fault);
        }
        if let (Some(device), None) = (self.training_device, spec.training_device)
            && node(self.device).is_some_and(|home| home != problem.devices[device].node)
            && !problem.devices[device].lends
        {
            return Err(fault);
        }
        let used =
            |share: fn(&Segment) -> Share| self.timeline.iter().any(|s| share(s) > Share::ZERO);
        let has_devices = (self.device.is_some() || !used(|s| s.inference_share))
            && (self.training_device.is_some() || !used(|s| s.training_share));
        if has_devices { Ok(()) } else { Err(fault) }
    }

    fn check_timeline(&self, remaining: f64) -> Result<(), Fault> {
        let starts = self.timeline.first().is_some_and(|first| first.from == 0.0);
        let last = self.timeline.last();
        let ends = last.is_some_and(|last| (last.to - remaining).abs() < TOLERANCE);
        let forwards = self
            .timeline
            .iter()
            .all(|segment| segment.from <= segment.to);
        let follow = self
            .timeline
            .windows(2)
            .all(|pair| pair[0].to == pair[1].from);
        if starts && ends && forwards && follow {
            Ok(())
        } else {
            Err(Fault::Timeline { remaining })
        }
    }

    /// Accuracy of the student that serves from now on.
    fn accuracy_now(&self, spec: &StreamSpec) -> Result<f64, Fault> {
        let Some(option) = self.reused else {
            return Ok(spec.accuracy);
        };
        let student = spec.cached.get(option).ok_or(Fault::NoSuchOption {
            kind: "cached student",
            option,
            options: spec.cached.len(),
        })?;
        Ok(student.accuracy)
    }

    fn check_inference(&self, spec: &StreamSpec, now: f64, retrained: f64) -> Result<(), Fault> {
        let completes_at = self.completes_at.unwrap_or(f64::INFINITY);
        for segment in &self.timeline {
            let done = completes_at <= segment.from + moment_of(segment.from, segment.to);
            let accuracy = if done { retrained } else { now };
            let expected = accuracy * factor(spec, segment)?;
            let value = segment.accuracy;
            if (value - expected).abs() > TOLERANCE {
                return Err(Fault::Accuracy { value, expected });
            }
        }
        let value = self.mean_accuracy;
        let expected = mean_accuracy(&self.timeline);
        if (value - expected).abs() < TOLERANCE && (0.0..=1.0).contains(&value) {
            Ok(())
        } else {
            Err(Fault::Accuracy { value, expected })
        }
    }

    fn check_training(
        &self,
        spec: &StreamSpec,
        option: Option<&RetrainingOption>,
        problem: &Problem,
    ) -> Result<(), Fault> {
        let starts_at = self.starts_at.unwrap_or(0.0);
        let from = starts_at.max(problem.delay_of(spec)) - MOMENT;
        let as_asked = self.starts_at.is_some() == option.is_some() && starts_at >= 0.0;
        if !as_asked || (spec.training_running && option.is_some() && starts_at > 0.0) {
            return Err(Fault::Start {
                starts_at: self.starts_at,
            });
        }
        let to = self.completes_at.unwrap_or(f64::INFINITY) + MOMENT;
        let local = option.filter(|_| !self.in_cloud);
        for segment in &self.timeline {
            let inside = local.is_some() && from <= segment.from && segment.to <= to;
            if segment.training_share > Share::ZERO && !inside {
                return Err(Fault::TrainingShare {
                    share: segment.training_share,
                    from: segment.from,
                });
            }
        }
        let Some(completes_at) = self.completes_at else {
            return Ok(());
        };
        let work = local.map_or(0.0, RetrainingOption::gpu_seconds_left);
        let done = local.map_or(0.0, |option| self.work_done(spec, option));
        let startup = local.map_or(0.0, |option| option.startup_seconds);
        let ends =
            (from + startup..=problem.remaining.as_secs_f64() + TOLERANCE).contains(&completes_at);
        if option.is_some() && ends && (done - work).abs() <= TOLERANCE * (1.0 + work) {
            return Ok(());
        }
        Err(Fault::Completion {
            completes_at,
            done,
            work,
        })
    }

    /// GPU-seconds of a whole device that the shares give after the start-up.
    fn work_done(&self, spec: &StreamSpec, option: &RetrainingOption) -> f64 {
        let computes_from = self.starts_at.unwrap_or(0.0) + option.startup_seconds;
        let work = |segment: &Segment| {
            let seconds = (segment.to - segment.from.max(computes_from)).max(0.0);
            spec.throughput.speed(segment.training_share) * seconds
        };
        self.timeline.iter().map(work).sum()
    }
}

/// Accuracy factor of a segment's inference.
fn factor(spec: &StreamSpec, segment: &Segment) -> Result<f64, Fault> {
    let Some(option) = segment.inference else {
        return Ok(0.0);
    };
    let options = spec.inference.len();
    let chosen = spec.inference.get(option).ok_or(Fault::NoSuchOption {
        kind: "inference",
        option,
        options,
    })?;
    if chosen.share > segment.inference_share {
        return Err(Fault::InferenceShare {
            option,
            needed: chosen.share,
            share: segment.inference_share,
        });
    }
    Ok(chosen.accuracy_factor)
}

/// The first limit that is exceeded at some instant.
pub(crate) fn over_limit(streams: &[StreamPlan], problem: &Problem) -> Option<PlanError> {
    let mut uses: Vec<[Uses; 3]> = Vec::new();
    uses.resize_with(problem.devices.len(), Default::default);
    for (plan, spec) in streams.iter().zip(&problem.streams) {
        plan.list_uses(spec, &mut uses);
    }
    let all = uses.into_iter().zip(&problem.devices).enumerate();
    for (device, ([capacity, memory, slots], spec)) in all {
        let limits = [
            (
                Limited::Capacity,
                capacity,
                Some(u64::from(spec.capacity.micro())),
            ),
            (Limited::Memory, memory, spec.memory),
            (
                Limited::TrainingSlots,
                slots,
                spec.training_slots.map(|slots| slots as u64),
            ),
        ];
        for (limited, uses, limit) in limits {
            let used = uses.peak();
            if let Some(limit) = limit
                && used > limit
            {
                return Some(PlanError::OverLimit {
                    device,
                    limited,
                    used,
                    limit,
                });
            }
        }
    }
    None
}

impl StreamPlan {
    /// Adds what it uses of capacity, memory and training slots, by device.
    fn list_uses(&self, spec: &StreamSpec, uses: &mut [[Uses; 3]]) {
        for segment in &self.timeline {
            let (from, to) = (segment.from, segment.to);
            if let Some(device) = self.device {
                let micro = u64::from(segment.inference_share.micro());
                uses[device][0].add(from, to, micro);
                uses[device][1].add(from, to, spec.memory);
            }
            if let Some(device) = self.training_device
                && segment.training_share > Share::ZERO
                && let Some(option) = self.retraining
            {
                uses[device][0].add(from, to, u64::from(segment.training_share.micro()));
                uses[device][1].add(from, to, spec.retraining[option].memory);
                uses[device][2].add(from, to, 1);
            }
        }
    }
}

/// A moment, or half of a time that is shorter than two.
fn moment_of(from: f64, to: f64) -> f64 {
    MOMENT.min((to - from) / 2.0)
}

/// Uses of one thing over time.
#[derive(Default)]
struct Uses(Vec<(f64, i128)>);

impl Uses {
    fn add(&mut self, from: f64, to: f64, amount: u64) {
        if amount > 0 {
            self.0.push((from, i128::from(amount)));
            // Ends a moment early, so that what follows may begin; never before it starts.
            self.0.push((to - moment_of(from, to), -i128::from(amount)));
        }
    }

    /// The most in use at an instant.
    fn peak(mut self) -> u64 {
        self.0
            .sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (mut used, mut peak) = (0, 0);
        for (_, amount) in self.0 {
            used += amount;
            peak = peak.max(used);
        }
        u64::try_from(peak).unwrap_or(u64::MAX)
    }
}
