//! How a stream is answered: by which student, at which resolution. The actor takes the orders, and the
//! threads of the device's [`InferenceServer`](super::InferenceServer) look at them before each frame: a
//! new student is taken up between two frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ekya_actors::{Actor, Ctx, Handler, Message};
use ekya_models::{Object, Student};
use parking_lot::Mutex;

use super::intake::{Answer, Intake};
use super::shared::SharedStudent;
use crate::source::Frame;

/// Replace the serving student.
pub struct Serve(pub Box<dyn Student>);

impl Message for Serve {
    type Reply = ();
}

/// Use another inference configuration from the next frame on.
#[derive(Debug, Clone, Copy)]
pub struct SetInference {
    /// Answer every n-th frame.
    pub sample_every: u32,
    /// Side of the network's input relative to full.
    pub resolution: f64,
}

impl Message for SetInference {
    type Reply = ();
}

/// Takes the orders of one stream.
pub struct InferenceActor {
    pub(super) stream: Arc<Served>,
    /// Threads that answer.
    pub(super) threads: usize,
}

impl Actor for InferenceActor {}

impl Handler<Serve> for InferenceActor {
    fn handle(&mut self, Serve(student): Serve, _: &mut Ctx<Self>) {
        match SharedStudent::new(student, self.threads) {
            Ok(student) => self.stream.serve_by(student),
            Err(error) => tracing::error!(%error, "the student before goes on serving"),
        }
    }
}

impl Handler<SetInference> for InferenceActor {
    fn handle(&mut self, order: SetInference, _: &mut Ctx<Self>) {
        self.stream.intake.set_sample_every(order.sample_every);
        self.stream.set_resolution(order.resolution);
    }
}

/// A stream as the threads of its device see it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) intake: Arc<Intake>,
    means: Mutex<Means>,
    /// Frames that a student failed on.
    failures: AtomicU64,
}

/// What a frame is answered with.
#[derive(Debug, Clone)]
struct Means {
    student: Arc<SharedStudent>,
    /// Counts the students that have served the stream, from 0.
    number: u64,
    resolution: f64,
}

/// A frame that is being answered.
#[derive(Debug)]
pub(super) struct Work {
    stream: Arc<Served>,
    pub(super) frame: Frame,
    arrived: Instant,
    means: Means,
}

impl Served {
    pub(super) fn new(intake: Arc<Intake>, student: Arc<SharedStudent>) -> Self {
        Self {
            intake,
            means: Mutex::new(Means {
                student,
                number: 0,
                resolution: 1.0,
            }),
            failures: AtomicU64::new(0),
        }
    }

    pub(super) fn serve_by(&self, student: Arc<SharedStudent>) {
        let mut means = self.means.lock();
        means.student = student;
        means.number += 1;
    }

    pub(super) fn set_resolution(&self, resolution: f64) {
        self.means.lock().resolution = resolution;
    }

    /// The frame whose turn it is, if one waits and is not late.
    pub(super) fn take(self: &Arc<Self>, now: Instant) -> Option<Work> {
        let (frame, arrived) = self.intake.take(now)?;
        Some(Work {
            stream: Arc::clone(self),
            frame,
            arrived,
            means: self.means.lock().clone(),
        })
    }

    /// Whether the stream's next frame can be answered in one pass with another.
    pub(super) fn suits(&self, other: &Work) -> bool {
        self.means.lock().suits(&other.means)
    }
}

impl Means {
    fn suits(&self, other: &Self) -> bool {
        let side = |means: &Self| means.resolution.to_bits();
        Arc::ptr_eq(&self.student, &other.student) && side(self) == side(other)
    }
}

impl Work {
    /// Whether both can be answered in one pass.
    pub(super) fn suits(&self, other: &Self) -> bool {
        self.means.suits(&other.means)
    }

    pub(super) fn student(&self) -> &SharedStudent {
        &self.means.student
    }

    pub(super) fn resolution(&self) -> f64 {
        self.means.resolution
    }

    /// What it counts for in the cost of a pass: its crops, or one picture.
    pub(super) fn parts(&self) -> u32 {
        u32::try_from(self.frame.regions.len().max(1)).unwrap_or(u32::MAX)
    }

    /// Gives the frame back with what was found, or why there is no answer.
    pub(super) fn settle(self, found: Result<Vec<Object>, String>) {
        let answer = match found {
            Ok(objects) => Some(Answer {
                objects,
                student: self.means.number,
                latency: self.arrived.elapsed(),
            }),
            Err(error) => {
                let failures = self.stream.failures.fetch_add(1, Ordering::Relaxed) + 1;
                // Once is news; a student that fails on every frame must not fill the log.
                if failures.is_power_of_two() {
                    let job = self.stream.intake.job().usage().name;
                    tracing::warn!(
                        error,
                        failures,
                        job,
                        "no answer; the frame keeps the last one"
                    );
                }
                None
            }
        };
        self.stream.intake.answer(self.frame.index, answer);
    }
}
