//! What becomes of each frame: answered, skipped or dropped.
//!
//! Frames enter in order and leave settled, in order. A frame is *skipped* when the inference
//! configuration leaves it out, and *dropped* when newer frames overtake it while inference is
//! late, when it has waited longer than its deadline, or when the student fails on it; either inherits
//! the last answer before it. So `arrived = answered + skipped + dropped` once everything has settled,
//! and every arriving frame is scored.
//!
//! While a frame waits, the stream's job has asked its device for a turn. Whoever has that turn
//! [takes](Intake::take) the frame.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekya_actors::JobHandle;
use ekya_models::Object;
use parking_lot::Mutex;

use super::log::{Settled, StreamLog};
use super::sampler::{Sample, SampleSchedule};
use crate::clock::unix_time;
use crate::record::FrameCounts;
use crate::source::Frame;

/// Frames that may wait for inference. Two hide the time between two minibatches; more would only
/// make answers older.
const WAITING_MAX: usize = 2;
/// Timings that are kept until somebody takes them: a second's of a fast camera. Later ones are left out.
const TIMINGS_MAX: usize = 256;
/// A stream keeps its newest frame for so long after somebody has asked for one.
const SHOWN_FOR: Duration = Duration::from_secs(10);

/// A student's answer to one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it found.
    pub objects: Vec<Object>,
    /// Counts the students that have served the stream, from 0.
    pub student: u64,
    /// From arrival to answer.
    pub latency: Duration,
}

/// How long a frame took that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From its arrival until the student had it.
    pub queued: Duration,
    /// From then to the answer.
    pub computed: Duration,
}

/// A frame to look at, with the answer in force at its time.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The frame.
    pub frame: Frame,
    /// When it was settled, in Unix seconds.
    pub at: f64,
    /// The answer.
    pub answer: Option<Arc<Answer>>,
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fate {
    /// Answered by the student.
    Answered,
    /// Left out by the inference configuration.
    Skipped,
    /// Overtaken by newer frames.
    Dropped,
    /// Dropped because it had waited longer than its deadline when its turn came.
    Late,
    /// Dropped because the student failed on it.
    Failed,
}

/// The frames of one stream between source and result. All methods may be called from any thread.
#[derive(Debug)]
pub struct Intake {
    state: Mutex<State>,
    /// That of the stream's inference.
    job: Arc<JobHandle>,
    /// How long a frame may wait.
    deadline: Duration,
}

#[derive(Debug)]
struct State {
    /// Arrived and not settled, in order. At most `WAITING_MAX` wait, as many are with the student as
    /// the device is deep, or as a pass answers, and between those lie at most `sample_every` skipped
    /// ones each.
    pending: VecDeque<Pending>,
    sample_every: u32,
    counts: FrameCounts,
    last_answer: Option<Arc<Answer>>,
    closed: bool,
    timings: Vec<Timing>,
    /// When somebody asked last for a frame to look at.
    looked: Option<Instant>,
    shown: Option<Shown>,
    log: StreamLog,
}

#[derive(Debug)]
struct Pending {
    frame: Frame,
    at: f64,
    arrived: Instant,
    state: PendingState,
}

#[derive(Debug)]
enum PendingState {
    Waiting,
    WithStudent(Instant),
    Done(Fate, Option<Arc<Answer>>),
}

impl Intake {
    /// An empty intake that answers every frame in turns of `job`, unless it has waited longer than
    /// `deadline` then.
    #[must_use]
    pub fn new(log: StreamLog, job: Arc<JobHandle>, deadline: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                pending: VecDeque::new(),
                sample_every: 1,
                counts: FrameCounts::default(),
                last_answer: None,
                closed: false,
                timings: Vec::new(),
                looked: None,
                shown: None,
                log,
            }),
            job,
            deadline,
        }
    }

    /// Takes a frame that arrived `at` seconds from the start of the run.
    pub fn push(&self, frame: Frame, at: f64) {
        self.push_at(frame, at, Instant::now());
    }

    pub(super) fn push_at(&self, frame: Frame, at: f64, now: Instant) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.counts.arrived += 1;
        let skipped = !frame.index.is_multiple_of(u64::from(state.sample_every));
        let fate = if skipped {
            PendingState::Done(Fate::Skipped, None)
        } else {
            PendingState::Waiting
        };
        state.pending.push_back(Pending {
            frame,
            at,
            arrived: now,
            state: fate,
        });
        if !skipped {
            state.drop_overtaken();
        }
        state.settle();
        drop(state);
        if !skipped {
            self.job.ask();
        }
    }

    /// The oldest frame that waits and is not late by `now`, and when it came; late ones are dropped.
    /// To be called when the job's turn has come, and before that is over, as the next turn is asked for
    /// here if another frame waits. Give it back by [`Intake::answer`].
    pub fn take(&self, now: Instant) -> Option<(Frame, Instant)> {
        let mut state = self.state.lock();
        state.drop_late(now, self.deadline);
        state.settle();
        let mut waiting = state.waiting();
        let taken = waiting.next().map(|pending| {
            pending.state = PendingState::WithStudent(now);
            (pending.frame.clone(), pending.arrived)
        });
        let more = waiting.next().is_some();
        drop(waiting);
        drop(state);
        if more {
            self.job.ask();
        }
        taken
    }

    /// Settles a frame that [`Intake::take`] gave: with its answer, or dropped when the
    /// student failed.
    pub fn answer(&self, index: u64, answer: Option<Answer>) {
        let mut state = self.state.lock();
        let pending = state
            .pending
            .iter_mut()
            .find(|one| one.frame.index == index);
        let mut timing = None;
        if let Some(pending) = pending {
            if let (PendingState::WithStudent(since), Some(_)) = (&pending.state, &answer) {
                timing = Some(Timing {
                    queued: since.saturating_duration_since(pending.arrived),
                    computed: since.elapsed(),
                });
            }
            pending.state = match answer {
                Some(answer) => PendingState::Done(Fate::Answered, Some(Arc::new(answer))),
                None => PendingState::Done(Fate::Failed, None),
            };
        }
        if state.timings.len() < TIMINGS_MAX {
            state.timings.extend(timing);
        }
        state.settle();
    }

    /// From the next frame on, answers every `n`-th (0 counts as 1).
    pub fn set_sample_every(&self, n: u32) {
        self.state.lock().sample_every = n.max(1);
    }

    /// Takes no more frames; what waits is dropped and settled.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for pending in state.waiting() {
            pending.state = PendingState::Done(Fate::Dropped, None);
        }
        state.settle();
    }

    /// The job in whose turns frames are answered.
    pub(crate) fn job(&self) -> &JobHandle {
        &self.job
    }

    /// Counts so far; the frames not yet settled are in `arrived` only.
    #[must_use]
    pub fn counts(&self) -> FrameCounts {
        self.state.lock().counts
    }

    /// Which student gave the last answer, counted from 0; none before the first answer.
    #[must_use]
    pub fn student(&self) -> Option<u64> {
        let state = self.state.lock();
        state.last_answer.as_ref().map(|answer| answer.student)
    }

    /// How long answers took since this was last called, a few hundred at most.
    #[must_use]
    pub fn take_timings(&self) -> Vec<Timing> {
        std::mem::take(&mut self.state.lock().timings)
    }

    /// The newest frame that was answered, once somebody has asked for one: the first call gets none.
    #[must_use]
    pub fn show(&self) -> Option<Shown> {
        let mut state = self.state.lock();
        state.looked = Some(Instant::now());
        state.shown.clone()
    }

    /// Samples by `schedule` from now on, and returns the samples that were not taken yet.
    pub fn resample(&self, schedule: SampleSchedule) -> Vec<Sample> {
        self.state.lock().log.resample(schedule)
    }

    /// Runs `look` on the log, with the frames stopped meanwhile: keep it short.
    pub fn with_log<R>(&self, look: impl FnOnce(&mut StreamLog) -> R) -> R {
        look(&mut self.state.lock().log)
    }
}

impl State {
    /// The frames that wait, oldest first.
    fn waiting(&mut self) -> impl Iterator<Item = &mut Pending> {
        let pending = self.pending.iter_mut();
        pending.filter(|one| matches!(one.state, PendingState::Waiting))
    }

    /// A picture is some hundred kilobytes, so none is kept unless somebody looks.
    fn keep_to_show(&mut self, frame: &Frame, answer: Option<&Arc<Answer>>) {
        let Some(looked) = self.looked else { return };
        if looked.elapsed() > SHOWN_FOR {
            (self.looked, self.shown) = (None, None);
            return;
        }
        self.shown = Some(Shown {
            frame: frame.clone(),
            at: unix_time(),
            answer: answer.cloned(),
        });
    }

    fn drop_overtaken(&mut self) {
        if self.waiting().count() > WAITING_MAX
            && let Some(oldest) = self.waiting().next()
        {
            oldest.state = PendingState::Done(Fate::Dropped, None);
        }
    }

    fn drop_late(&mut self, now: Instant, deadline: Duration) {
        for pending in self.waiting() {
            if now.saturating_duration_since(pending.arrived) > deadline {
                pending.state = PendingState::Done(Fate::Late, None);
            }
        }
    }

    /// Hands everything that is decided, from the front, to the log.
    fn settle(&mut self) {
        while let Some(pending) = self
            .pending
            .pop_front_if(|front| matches!(front.state, PendingState::Done(..)))
        {
            let PendingState::Done(fate, answer) = pending.state else {
                continue;
            };
            match fate {
                Fate::Answered => self.counts.answered += 1,
                Fate::Skipped => self.counts.skipped += 1,
                Fate::Dropped => self.counts.dropped += 1,
                Fate::Late => {
                    self.counts.dropped += 1;
                    self.counts.late += 1;
                }
                Fate::Failed => {
                    self.counts.dropped += 1;
                    self.counts.failed += 1;
                }
            }
            let answered = fate == Fate::Answered;
            if answer.is_some() {
                self.last_answer = answer;
            }
            let answer = self.last_answer.clone();
            if answered {
                self.keep_to_show(&pending.frame, answer.as_ref());
            }
            self.log.record(Settled {
                frame: pending.frame,
                at: pending.at,
                fate,
                answer,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use ekya_actors::Device;
    use ekya_models::Image;
    use ekya_sched::Share;

    use super::super::score::Metric;
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(5);

    fn intake(device: &Device) -> Intake {
        let job = device.job_with("inference", Share::WHOLE).unwrap();
        let log = StreamLog::new("stream", Metric::Accuracy, None);
        Intake::new(log, Arc::new(job), DEADLINE)
    }

    fn frame(index: u64) -> Frame {
        Frame {
            index,
            at: Duration::ZERO,
            image: Arc::new(Image::new(1, 1, vec![0; 3]).unwrap()),
            regions: Vec::new(),
            truth: None,
        }
    }

    fn taken(intake: &Intake, now: Instant) -> Option<u64> {
        intake.take(now).map(|(frame, _)| frame.index)
    }

    #[test]
    fn frames_past_their_deadline_are_dropped_and_counted() {
        let intake = intake(&Device::new("cpu0", 1));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        intake.push_at(frame(0), 0.0, at(0));
        intake.push_at(frame(1), 2.0, at(2));
        assert_eq!(taken(&intake, at(6)), Some(1), "frame 0 waited 6 s");
        intake.push_at(frame(2), 7.0, at(7));
        assert_eq!(taken(&intake, at(12)), Some(2), "5 s are not too long");
        // With the student no frame gets late.
        assert_eq!(taken(&intake, at(100)), None);
        for index in [1, 2] {
            let answer = Answer {
                objects: Vec::new(),
                student: 0,
                latency: Duration::ZERO,
            };
            intake.answer(index, Some(answer));
        }
        let expected = FrameCounts {
            arrived: 3,
            answered: 2,
            skipped: 0,
            dropped: 1,
            late: 1,
            failed: 0,
        };
        assert_eq!(intake.counts(), expected);
    }

    #[test]
    fn newer_frames_overtake_and_what_waits_at_the_end_is_dropped() {
        let intake = intake(&Device::new("cpu0", 1));
        let now = Instant::now();
        for index in 0..4 {
            intake.push_at(frame(index), 0.0, now);
        }
        assert_eq!(taken(&intake, now), Some(2));
        intake.close();
        intake.push_at(frame(4), 0.0, now);
        assert_eq!(taken(&intake, now), None);
        intake.answer(2, None);
        let counts = intake.counts();
        assert_eq!((counts.arrived, counts.dropped, counts.late), (4, 4, 0));
        assert_eq!(counts.failed, 1, "frame 2, on which the student failed");
    }

    #[test]
    fn a_frame_is_kept_to_be_shown_once_somebody_asks() {
        let intake = intake(&Device::new("cpu0", 1));
        let now = Instant::now();
        let answer = |index| {
            intake.push_at(frame(index), 0.0, now);
            assert_eq!(taken(&intake, now), Some(index));
            let answer = Answer {
                objects: Vec::new(),
                student: 0,
                latency: Duration::ZERO,
            };
            intake.answer(index, Some(answer));
        };
        answer(0);
        assert!(intake.show().is_none());
        answer(1);
        assert_eq!(intake.show().map(|shown| shown.frame.index), Some(1));
        assert_eq!(intake.take_timings().len(), 2);
        assert!(intake.take_timings().is_empty());
    }

    #[test]
    fn a_turn_is_asked_for_while_frames_wait() {
        let device = Device::new("cpu0", 1);
        let intake = intake(&device);
        let now = Instant::now();
        intake.set_sample_every(2);
        for index in 0..4 {
            intake.push_at(frame(index), 0.0, now);
        }
        // Two of them wait.
        let first = device.turn().unwrap();
        assert_eq!(taken(&intake, now), Some(0));
        assert_eq!(device.next_asking(), Some(first.job()), "for the other one");
        drop(first);
        let second = device.turn().unwrap();
        assert_eq!(taken(&intake, now), Some(2));
        drop(second);
        assert_eq!(device.next_asking(), None);
    }
}
