//! The inference actor of a stream and its compute thread.
//!
//! The actor takes orders (a new student, another inference configuration); the thread does nothing
//! but take a frame, wait for its lease on the device, answer, and hand the answer back. A new
//! student is taken up between two frames.

use std::sync::Arc;
use std::thread::JoinHandle;

use ekya_actors::{Actor, Ctx, Handler, JobHandle, Lease, Message};
use ekya_models::Student;
use parking_lot::Mutex;

use super::intake::{Answer, Intake};

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

/// Serves one stream.
pub struct InferenceActor {
    intake: Arc<Intake>,
    orders: Arc<Mutex<Orders>>,
    /// Kept when the thread has ended: the job stays known to the device, with its counters.
    _job: Arc<JobHandle>,
}

/// What the thread looks at before each frame.
struct Orders {
    next_student: Option<Box<dyn Student>>,
    resolution: f64,
}

impl InferenceActor {
    /// Starts answering the frames of `intake` with `student`, in leases of `job`. The thread ends
    /// when the intake is closed.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        stream: &str,
        intake: Arc<Intake>,
        student: Box<dyn Student>,
        job: Arc<JobHandle>,
        threads: usize,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let orders = Arc::new(Mutex::new(Orders {
            next_student: None,
            resolution: 1.0,
        }));
        let thread = {
            let (intake, orders, job) = (intake.clone(), orders.clone(), job.clone());
            std::thread::Builder::new()
                .name(format!("infer-{stream}"))
                .spawn(move || {
                    ekya_models::set_compute_threads(threads);
                    serve(&intake, &orders, student, &job);
                })?
        };
        Ok((
            Self {
                intake,
                orders,
                _job: job,
            },
            thread,
        ))
    }
}

impl Actor for InferenceActor {}

impl Handler<Serve> for InferenceActor {
    fn handle(&mut self, Serve(student): Serve, _: &mut Ctx<Self>) {
        self.orders.lock().next_student = Some(student);
    }
}

impl Handler<SetInference> for InferenceActor {
    fn handle(&mut self, order: SetInference, _: &mut Ctx<Self>) {
        self.intake.set_sample_every(order.sample_every);
        self.orders.lock().resolution = order.resolution;
    }
}

fn serve(intake: &Intake, orders: &Mutex<Orders>, mut student: Box<dyn Student>, job: &JobHandle) {
    let mut served = 0;
    let mut failures = 0u64;
    let mut kept: Option<Lease> = None;
    while let Some((frame, arrived)) = intake.next_frame() {
        let resolution = {
            let mut orders = orders.lock();
            if let Some(next) = orders.next_student.take() {
                student = next;
                served += 1;
            }
            orders.resolution
        };
        let lease = kept.take().map_or_else(|| job.lease(), Lease::renew);
        let Ok(lease) = lease else {
            // The device is closed: the run is ending.
            intake.answer(frame.index, None);
            continue;
        };
        let result = student.infer(&frame.image, &frame.regions, resolution);
        // With a frame waiting the lease is renewed, which keeps the job's place in the queue.
        kept = intake.is_waiting().then_some(lease);
        let answer = match result {
            Ok(objects) => Some(Answer {
                objects,
                student: served,
                latency: arrived.elapsed(),
            }),
            Err(error) => {
                failures += 1;
                // Once is news; a student that fails on every frame must not fill the log.
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "inference failed; the frame keeps the last answer");
                }
                None
            }
        };
        intake.answer(frame.index, answer);
    }
}
