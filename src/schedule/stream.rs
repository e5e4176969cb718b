//! What the scheduler knows about one stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ekya_profiler::inference::{InferenceProfile, Measurement, profiles};
use ekya_profiler::{Departure, Estimate, Progress, Watch};
use ekya_sched::{RetrainingOption, StreamSpec};
use parking_lot::Mutex;

use super::event::Found;
use crate::learn::{Labelled, Prepared};
use crate::planning::{Ahead, Place};
use crate::stream::Sample;
use crate::throughput::Curves;

/// Inference may be late by a minibatch of training now and then: where there is training, an
/// inference configuration is only chosen when its share covers its cost with this much to spare.
const HEADROOM_BESIDE_TRAINING: f64 = 1.5;
/// The same where there is none.
const HEADROOM: f64 = 1.15;

/// How much of an old measurement of an inference configuration is kept when a new one comes: a
/// burst of a dozen frames is a small sample.
const KEEP: f64 = 0.5;

/// How far learning is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// Nothing to do: too few new labels, no retraining wanted, or all done.
    Idle,
    /// The trainer evaluates and profiles.
    Preparing,
    /// May be retrained, with these options (index into the configurations, option).
    Ready(Vec<(usize, RetrainingOption)>),
    /// Is being retrained.
    Training(Running),
}

/// A retraining in progress.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Running {
    /// Index into the configurations.
    pub(super) configuration: usize,
    /// Accuracy of the stream that plans expect of its end, gate included.
    end_accuracy: f64,
    /// Accuracy that it starts from.
    start_accuracy: f64,
    watch: Watch,
    /// Where it runs, when that is another node.
    pub(super) place: Option<Place>,
}

impl Running {
    /// One that has just begun with that option, from that accuracy.
    pub(super) fn new(
        configuration: usize,
        option: &RetrainingOption,
        start_accuracy: f64,
    ) -> Self {
        let (low, high) = option
            .interval
            .unwrap_or((option.end_accuracy, option.end_accuracy));
        let retrained = Estimate::of_interval(low, high);
        Self {
            configuration,
            end_accuracy: option.end_accuracy,
            start_accuracy,
            watch: Watch::new(start_accuracy, retrained, option.gpu_seconds),
            place: None,
        }
    }

    /// The same on another node's device.
    pub(super) fn on(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    /// Accuracy of the stream that plans expect of its end.
    pub(super) const fn end_accuracy(&self) -> f64 {
        self.end_accuracy
    }

    /// The part of its device time that is behind it.
    pub(super) fn progress(&self) -> f64 {
        (1.0 - self.watch.remaining() / self.watch.gpu_seconds()).clamp(0.0, 1.0)
    }

    /// What is left of it.
    fn remaining(&self) -> RetrainingOption {
        RetrainingOption::new(self.end_accuracy, self.watch.remaining())
    }

    /// Takes note of a minibatch; says what has left the bounds of what the plan assumed, which is
    /// then set right.
    pub(super) fn observe(&mut self, mut progress: Progress) -> Option<Departure> {
        if let Some(gain) = &mut progress.accuracy {
            gain.mean = (gain.mean + self.start_accuracy).clamp(0.0, 1.0);
        }
        let before = self.watch.end_accuracy().mean;
        let departure = self.watch.observe(&progress);
        let moved = self.watch.end_accuracy().mean - before;
        // The gate keeps the stream from becoming worse than it is.
        let end = (self.end_accuracy + moved).clamp(0.0, 1.0);
        self.end_accuracy = end.max(self.start_accuracy.min(self.end_accuracy));
        departure
    }
}

/// The way of a stream's samples to labels.
#[derive(Debug, Default)]
pub(super) struct Labels {
    /// Samples that the teacher has not been given yet, oldest first.
    pub(super) waiting: Vec<Sample>,
    /// The time of the first of the samples that the teacher is at work on.
    pub(super) in_progress: Option<f64>,
    /// Labelled frames that the trainer has not been given to train on yet; its gate looks at them.
    pub(super) fresh: Arc<Mutex<Vec<Labelled>>>,
}

impl Labels {
    /// Whether every sample so far is labelled.
    pub(super) fn complete(&self) -> bool {
        self.complete_until(f64::INFINITY)
    }

    /// Whether every sample from before `time` is labelled.
    pub(super) fn complete_until(&self, time: f64) -> bool {
        let first_waiting = self.waiting.first().map(|sample| sample.at);
        let later = |at: f64| at >= time;
        self.in_progress.is_none_or(later) && first_waiting.is_none_or(later)
    }

    /// How many labels the trainer has not been given yet: of spread samples, and of bursts.
    pub(super) fn counts(&self) -> (usize, usize) {
        let fresh = self.fresh.lock();
        let burst = fresh.iter().filter(|one| one.burst).count();
        (fresh.len() - burst, burst)
    }

    /// Lets `samples` wait for the teacher, at most `bound` in all: the oldest go first. Returns
    /// how many went.
    pub(super) fn wait(&mut self, samples: Vec<Sample>, bound: usize) -> usize {
        self.waiting.extend(samples);
        let surplus = self.waiting.len().saturating_sub(bound);
        self.waiting.drain(..surplus);
        surplus
    }
}

/// One stream as the scheduler knows it.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) name: String,
    pub(super) device: usize,
    /// Frames a second that arrive.
    pub(super) rate: f64,
    /// How fast its kind of student is under shares.
    curves: Curves,
    /// Bytes that its retraining takes.
    training_bytes: u64,
    weight: f64,
    /// Bytes of what it would be trained on, as they travel.
    pub(super) sample_bytes: u64,
    /// Accuracy of the serving student when every frame is answered.
    pub(super) accuracy: f64,
    /// Inference configurations as measured, accuracies relative to the best.
    measurements: Vec<Measurement>,
    /// Those worth choosing from, cheapest first.
    pub(super) inference: Vec<InferenceProfile>,
    pub(super) labels: Labels,
    /// The window's one retraining of a fixed configuration is still to come.
    pub(super) due: bool,
    pub(super) stage: Stage,
    /// When that began, in seconds of the run.
    pub(super) stage_began: f64,
    /// Changes with the options and with what is in progress, so that decisions about others are known
    /// to be out of date.
    pub(super) version: u64,
    /// Number of the last order that the trainer was given.
    pub(super) order: u64,
    /// Set to end that order.
    cancelled: Arc<AtomicBool>,
    /// The options of the present stage were weighed, and the verdict was written down.
    pub(super) weighed: bool,
    /// How often in a row nothing was begun when it was weighed.
    pub(super) passed_over: u32,
    headroom: f64,
    pub(super) ended: bool,
    /// It is not this node's any more.
    pub(super) gone: bool,
    /// What another node's student has learnt, to be compared when there are labels to compare on.
    pub(super) found: Option<Box<Found>>,
    /// The window in which it came.
    pub(super) since: usize,
    /// Accuracy that the plan in force expects over its horizon.
    pub(super) expected: Option<f64>,
    /// What the plan in force intends, in seconds of the run.
    pub(super) ahead: Vec<Ahead>,
}

impl StreamState {
    /// A stream about which nothing has been measured yet; `trains` says whether students may be
    /// retrained beside it.
    pub(super) fn new(name: &str, device: usize, rate: f64, trains: bool) -> Self {
        Self {
            name: name.to_owned(),
            device,
            rate,
            curves: Curves::default(),
            training_bytes: 0,
            weight: 1.0,
            sample_bytes: 0,
            // Until the first labels: better than chance, not perfect.
            accuracy: 0.5,
            measurements: Vec::new(),
            inference: Vec::new(),
            labels: Labels::default(),
            due: false,
            stage: Stage::Idle,
            stage_began: 0.0,
            version: 0,
            order: 0,
            cancelled: Arc::default(),
            weighed: false,
            passed_over: 0,
            headroom: if trains {
                HEADROOM_BESIDE_TRAINING
            } else {
                HEADROOM
            },
            ended: false,
            gone: false,
            found: None,
            since: 0,
            expected: None,
            ahead: Vec::new(),
        }
    }

    /// The same for one that comes in the window of that index.
    pub(super) fn since(mut self, window: usize) -> Self {
        self.since = window;
        self
    }

    /// The same with what was measured of its kind of student.
    pub(super) fn with_curves(mut self, curves: Curves) -> Self {
        self.curves = curves;
        self
    }

    /// The same with what its retraining takes of the device's memory.
    pub(super) fn with_training_bytes(mut self, bytes: u64) -> Self {
        self.training_bytes = bytes;
        self
    }

    /// The same for one that counts so much beside others.
    pub(super) fn with_weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Takes over what preparation found by now.
    pub(super) fn prepared(&mut self, prepared: &Prepared, now: f64) {
        self.accuracy = prepared.accuracy.unwrap_or(self.accuracy);
        self.measured(&prepared.inference);
        self.sample_bytes = prepared.sample_bytes;
        self.stage = Stage::Ready(prepared.options.clone());
        self.stage_began = now;
        self.version += 1;
        self.weighed = false;
    }

    /// Takes over measurements of the inference configurations.
    pub(super) fn measured(&mut self, measurements: &[Measurement]) {
        let best = measurements
            .iter()
            .map(|one| one.accuracy)
            .fold(0.0, f64::max);
        if best <= 0.0 {
            // A student that got nothing right says nothing about what skipping costs; but what an answer
            // takes must be known, or the stream could not be planned for, and would never be retrained.
            if self.inference.is_empty() {
                self.version += 1;
                self.inference = self.inference_profiles(measurements);
            }
            return;
        }
        let relative = |one: &Measurement| Measurement {
            accuracy: one.accuracy / best,
            ..*one
        };
        let smooth =
            |now: Measurement| match self.measurements.iter().find(|was| {
                was.sample_every == now.sample_every && was.resolution == now.resolution
            }) {
                Some(was) => Measurement {
                    accuracy: KEEP * was.accuracy + (1.0 - KEEP) * now.accuracy,
                    seconds_per_answer: KEEP * was.seconds_per_answer
                        + (1.0 - KEEP) * now.seconds_per_answer,
                    ..now
                },
                None => now,
            };
        self.version += 1;
        self.measurements = measurements.iter().map(relative).map(smooth).collect();
        self.inference = self.inference_profiles(&self.measurements);
    }

    fn inference_profiles(&self, measurements: &[Measurement]) -> Vec<InferenceProfile> {
        let curve = &self.curves.inference;
        profiles(measurements, self.rate, self.headroom, curve)
    }

    /// Whether it may be prepared for another retraining: what it could be retrained with now, if anything,
    /// has been weighed.
    pub(super) fn may_prepare(&self) -> bool {
        match &self.stage {
            Stage::Idle => true,
            Stage::Ready(options) => options.is_empty() || self.weighed,
            Stage::Preparing | Stage::Training(_) => false,
        }
    }

    /// A new order to the trainer: its number, and what ends it when set.
    pub(super) fn begin_order(&mut self) -> (u64, Arc<AtomicBool>) {
        self.order += 1;
        self.version += 1;
        self.cancelled = Arc::default();
        (self.order, self.cancelled.clone())
    }

    /// Ends what the trainer is at; what still comes from it is not listened to.
    pub(super) fn cut_off(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.stage = Stage::Idle;
        self.order += 1;
        self.version += 1;
    }

    /// Where its retraining runs, when that is another node.
    pub(super) fn trained_on(&self) -> Option<&Place> {
        match &self.stage {
            Stage::Training(running) => running.place.as_ref(),
            _ => None,
        }
    }

    /// The stream as a scheduler is asked about it.
    pub(super) fn spec(&self) -> StreamSpec {
        let (mut retraining, training_running): (Vec<RetrainingOption>, _) = match &self.stage {
            Stage::Ready(options) => (options.iter().map(|(_, option)| *option).collect(), false),
            Stage::Training(running) => (vec![running.remaining()], true),
            Stage::Idle | Stage::Preparing => (Vec::new(), false),
        };
        for option in &mut retraining {
            option.memory = self.training_bytes;
        }
        StreamSpec {
            name: self.name.clone(),
            device: Some(self.device),
            accuracy: self.accuracy.clamp(0.0, 1.0),
            inference: self
                .inference
                .iter()
                .map(|profile| profile.option)
                .collect(),
            retraining,
            training_running,
            weight: self.weight,
            throughput: self.curves.training.clone(),
            ..StreamSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ekya_sched::{DeviceSpec, Problem, Scheduler as _, Share, Thief, Throughput};

    use super::*;

    fn measurement(sample_every: u32, accuracy: f64) -> Measurement {
        Measurement {
            sample_every,
            resolution: 1.0,
            accuracy,
            seconds_per_answer: 0.004,
        }
    }

    #[test]
    fn samples_that_wait_too_long_make_room_for_newer_ones() {
        let sample = |index| Sample {
            frame: crate::source::Frame {
                index,
                at: Duration::ZERO,
                image: Arc::new(ekya_models::Image::new(1, 1, vec![0; 3]).unwrap()),
                regions: vec![],
                truth: None,
            },
            at: 0.0,
            taken_at: 0,
            answer: None,
            burst: false,
        };
        let mut labels = Labels::default();
        assert!(labels.complete());
        assert_eq!(labels.wait((0..3).map(sample).collect(), 4), 0);
        assert_eq!(labels.wait((3..6).map(sample).collect(), 4), 2);
        let waiting: Vec<u64> = labels.waiting.iter().map(|one| one.frame.index).collect();
        assert_eq!(waiting, [2, 3, 4, 5]);
        assert!(!labels.complete());
    }

    #[test]
    fn sampling_divides_the_share_needed() {
        let mut stream = StreamState::new("a", 0, 25.0, false);
        stream.measured(&[measurement(1, 0.8), measurement(5, 0.6)]);
        let spec = stream.spec();
        assert_eq!(spec.inference[1].accuracy_factor, 1.0);
        assert!((spec.inference[0].accuracy_factor - 0.75).abs() < 1e-9);
        let ratio = spec.inference[1].share.as_f64() / spec.inference[0].share.as_f64();
        assert!((ratio - 5.0).abs() < 1e-3);
    }

    /// Half a device is as fast as a whole one.
    fn bent() -> Throughput {
        let half = Share::from_micro(500_000);
        Throughput::measured(&[(half, 1.0), (Share::WHOLE, 1.0)]).unwrap_or_default()
    }

    /// How many of two equal streams are retrained at once, on a device with so much memory, when a
    /// retraining takes 40 s of it in the next minute.
    fn retrained(
        stream: impl Fn() -> StreamState,
        memory: Option<u64>,
    ) -> Result<usize, ekya_sched::ScheduleError> {
        let spec = |_| {
            let mut stream = stream();
            stream.accuracy = 0.5;
            stream.measured(&[measurement(1, 0.8)]);
            stream.stage = Stage::Ready(vec![(0, RetrainingOption::new(0.9, 40.0))]);
            stream.spec()
        };
        let problem = Problem {
            devices: vec![DeviceSpec {
                memory,
                ..DeviceSpec::new(Share::WHOLE)
            }],
            streams: (0..2).map(spec).collect(),
            ..Problem::new(Duration::from_secs(60))
        };
        let plan = Thief::default().plan(&problem)?;
        let now = plan.streams.iter().filter_map(|stream| stream.now());
        let trains = |segment: &&ekya_sched::Segment| segment.training_share > Share::ZERO;
        Ok(now.filter(trains).count())
    }

    fn stream() -> StreamState {
        StreamState::new("a", 0, 10.0, true)
    }

    fn quick_side_by_side() -> StreamState {
        stream().with_curves(Curves {
            training: bent(),
            ..Curves::default()
        })
    }

    #[test]
    fn plans_count_with_a_measured_curve() -> Result<(), ekya_sched::ScheduleError> {
        assert_eq!(retrained(stream, None)?, 1, "80 s of a minute are too many");
        assert_eq!(retrained(quick_side_by_side, None)?, 2);
        Ok(())
    }

    #[test]
    fn a_retraining_starts_when_memory_has_room_for_it() -> Result<(), ekya_sched::ScheduleError> {
        let with = |memory| {
            let stream = || quick_side_by_side().with_training_bytes(1 << 30);
            retrained(stream, memory)
        };
        assert_eq!(with(Some(2 << 30))?, 2);
        assert_eq!(with(Some((2 << 30) - 1))?, 1);
        assert_eq!(with(Some((1 << 30) - 1))?, 0);
        Ok(())
    }

    #[test]
    fn inference_needs_the_share_that_is_fast_enough() {
        let share = |curves| {
            let mut stream = StreamState::new("a", 0, 10.0, false).with_curves(curves);
            stream.measured(&[measurement(1, 0.8)]);
            stream.spec().inference[0].share.as_f64()
        };
        let bent = Curves {
            inference: bent(),
            ..Curves::default()
        };
        let (straight, bent) = (share(Curves::default()), share(bent));
        assert!((straight - 2.0 * bent).abs() < 1e-5, "{straight} {bent}");
    }

    #[test]
    fn a_student_that_is_never_right_can_be_planned_for() {
        let mut stream = StreamState::new("a", 0, 10.0, false);
        stream.measured(&[measurement(1, 0.0), measurement(5, 0.0)]);
        let factors = |stream: &StreamState| -> Vec<f64> {
            let options = stream.spec().inference;
            options.iter().map(|one| one.accuracy_factor).collect()
        };
        assert_eq!(factors(&stream), [1.0]);
        // Once it is right, it says what skipping costs.
        stream.measured(&[measurement(1, 0.8), measurement(5, 0.4)]);
        assert_eq!(factors(&stream), [0.5, 1.0]);
        stream.measured(&[measurement(1, 0.0), measurement(5, 0.0)]);
        assert_eq!(factors(&stream), [0.5, 1.0]);
    }

    fn running() -> Running {
        let option = RetrainingOption {
            interval: Some((0.7, 0.9)),
            ..RetrainingOption::new(0.8, 10.0)
        };
        Running::new(0, &option, 0.6)
    }

    fn progress(done: usize, gpu_seconds: f64, gain: Option<f64>) -> Progress {
        Progress {
            done,
            steps: 100,
            gpu_seconds,
            accuracy: gain.map(|mean| Estimate { mean, sd: 0.01 }),
        }
    }

    #[test]
    fn a_slow_retraining_asks_for_a_plan() {
        let mut running = running();
        assert_eq!(running.observe(progress(10, 1.0, None)), None);
        let departure = running.observe(progress(20, 3.0, None));
        let Some(Departure::Pace(all)) = departure else {
            panic!("{departure:?}")
        };
        assert!(all > 13.0, "{all}");
        assert!((running.remaining().gpu_seconds - (all - 3.0)).abs() < 1e-9);
    }

    #[test]
    fn one_that_learns_nothing_promises_less_but_no_loss() {
        let mut running = running();
        let before = running.remaining().end_accuracy;
        for done in [25, 50, 75] {
            running.observe(progress(done, done as f64 / 10.0, Some(-0.2)));
        }
        let after = running.remaining().end_accuracy;
        assert!((0.6..before).contains(&after), "{after}");
    }

    #[test]
    fn labels_of_a_window_are_complete_although_newer_samples_wait() {
        let mut labels = Labels {
            in_progress: Some(8.2),
            ..Labels::default()
        };
        assert!(labels.complete_until(8.0) && !labels.complete());
        labels.in_progress = Some(7.9);
        assert!(!labels.complete_until(8.0));
    }
}
