//! What becomes of each frame: answered, skipped or dropped.
//!
//! Frames enter in order and leave settled, in order. A frame is *skipped* when the inference
//! configuration leaves it out, and *dropped* when newer frames overtake it while inference is
//! late; either inherits the last answer before it. So `arrived = answered + skipped + dropped`
//! once everything has settled, and every arriving frame is scored.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekya_models::Object;
use parking_lot::{Condvar, Mutex};

use super::log::{Settled, StreamLog};
use super::sampler::{Sample, SampleSchedule};
use crate::record::FrameCounts;
use crate::source::Frame;

/// Frames that may wait for inference. Two hide the time between two minibatches; more would only
/// make answers older.
const WAITING_MAX: usize = 2;

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

/// What became of a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Answered by the student.
    Answered,
    /// Left out by the inference configuration.
    Skipped,
    /// Overtaken by newer frames.
    Dropped,
}

/// The frames of one stream between source and result. All methods may be called from any thread.
#[derive(Debug)]
pub struct Intake {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug)]
struct State {
    /// Arrived and not settled, in order. At most `WAITING_MAX` wait, one is with the student, and
    /// between those lie at most `sample_every` skipped ones each.
    pending: VecDeque<Pending>,
    sample_every: u32,
    counts: FrameCounts,
    last_answer: Option<Arc<Answer>>,
    closed: bool,
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
    WithStudent,
    Done(Fate, Option<Arc<Answer>>),
}

impl Intake {
    /// An empty intake that answers every frame.
    #[must_use]
    pub fn new(log: StreamLog) -> Self {
        Self {
            state: Mutex::new(State {
                pending: VecDeque::new(),
                sample_every: 1,
                counts: FrameCounts::default(),
                last_answer: None,
                closed: false,
                log,
            }),
            ready: Condvar::new(),
        }
    }

    /// Takes a frame that arrived `at` seconds from the start of the run.
    pub fn push(&self, frame: Frame, at: f64) {
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
            arrived: Instant::now(),
            state: fate,
        });
        if !skipped {
            state.drop_overtaken();
        }
        state.settle();
        drop(state);
        self.ready.notify_one();
    }

    /// The oldest waiting frame and when it came; blocks until there is one. `None` once closed and
    /// empty.
    pub fn next_frame(&self) -> Option<(Frame, Instant)> {
        let mut state = self.state.lock();
        loop {
            let waiting = state
                .pending
                .iter_mut()
                .find(|one| matches!(one.state, PendingState::Waiting));
            if let Some(pending) = waiting {
                pending.state = PendingState::WithStudent;
                return Some((pending.frame.clone(), pending.arrived));
            }
            if state.closed {
                return None;
            }
            self.ready.wait(&mut state);
        }
    }

    /// Whether a frame waits, so that [`Intake::next_frame`] would not block.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let state = self.state.lock();
        state
            .pending
            .iter()
            .any(|one| matches!(one.state, PendingState::Waiting))
    }

    /// Settles the frame that [`Intake::next_frame`] gave: with its answer, or dropped when the
    /// student failed.
    pub fn answer(&self, index: u64, answer: Option<Answer>) {
        let mut state = self.state.lock();
        let pending = state
            .pending
            .iter_mut()
            .find(|one| one.frame.index == index);
        if let Some(pending) = pending {
            pending.state = match answer {
                Some(answer) => PendingState::Done(Fate::Answered, Some(Arc::new(answer))),
                None => PendingState::Done(Fate::Dropped, None),
            };
        }
        state.settle();
    }

    /// From the next frame on, answers every `n`-th (0 counts as 1).
    pub fn set_sample_every(&self, n: u32) {
        self.state.lock().sample_every = n.max(1);
    }

    /// Takes no more frames; what waits is dropped and settled, and [`Intake::next_frame`] ends.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for pending in &mut state.pending {
            if matches!(pending.state, PendingState::Waiting) {
                pending.state = PendingState::Done(Fate::Dropped, None);
            }
        }
        state.settle();
        drop(state);
        self.ready.notify_all();
    }

    /// Counts so far; the frames not yet settled are in `arrived` only.
    #[must_use]
    pub fn counts(&self) -> FrameCounts {
        self.state.lock().counts
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
    fn drop_overtaken(&mut self) {
        let waiting = self
            .pending
            .iter()
            .filter(|one| matches!(one.state, PendingState::Waiting))
            .count();
        if waiting > WAITING_MAX {
            let oldest = self
                .pending
                .iter_mut()
                .find(|one| matches!(one.state, PendingState::Waiting));
            if let Some(oldest) = oldest {
                oldest.state = PendingState::Done(Fate::Dropped, None);
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
            }
            if answer.is_some() {
                self.last_answer = answer;
            }
            let answer = self.last_answer.clone();
            self.log.record(Settled {
                frame: pending.frame,
                at: pending.at,
                fate,
                answer,
            });
        }
    }
}
