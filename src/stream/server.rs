//! The threads that answer the frames of all streams of a device: one for each minibatch that runs there
//! side by side.
//!
//! Each stream keeps a job of its own on the device, which asks for a turn while a frame waits, so that
//! whose frame is answered next is decided by the device's queue alone. The thread that has a turn takes
//! the frame and, in the same pass of the network, those of the streams whose turns come next, as long as
//! they are to be answered by the same student at the same resolution. Each job is charged its part: by
//! crops for a classifier, by pictures for a detector.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use ekya_actors::{Device, JobId, Lease};
use ekya_models::{ModelError, Object, Picture, Student};
use parking_lot::RwLock;

use super::inference::{InferenceActor, Served, Work};
use super::intake::Intake;
use super::shared::SharedStudent;

/// The inference threads of one device. Dropping it closes the device, so that they end.
#[derive(Debug)]
pub struct InferenceServer {
    device: Device,
    streams: Streams,
    threads: Vec<JoinHandle<()>>,
}

/// By the job that asks for a stream's turns.
type Streams = Arc<RwLock<BTreeMap<JobId, Arc<Served>>>>;

/// What was found in a frame, or why it is not known.
type Found = Result<Vec<Object>, String>;

impl InferenceServer {
    /// Starts as many threads as `device` runs minibatches side by side; together they compute with so
    /// many `cores`. They end when the device is closed.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(device: &Device, cores: usize) -> std::io::Result<Self> {
        let streams = Streams::default();
        let depth = device.depth();
        let start = |thread: usize| {
            let (device, streams) = (device.clone(), Arc::clone(&streams));
            let name = format!("infer-{}-{thread}", device.name());
            std::thread::Builder::new().name(name).spawn(move || {
                ekya_models::set_compute_threads(cores / depth);
                while let Ok(lease) = device.turn() {
                    serve(&device, lease, &streams, thread);
                }
            })
        };
        let threads = (0..depth).map(start).collect::<Result<_, _>>()?;
        Ok(Self {
            device: device.clone(),
            streams,
            threads,
        })
    }

    /// Makes a student ready to answer for streams of this device.
    ///
    /// # Errors
    /// When it cannot be copied, which a device that runs one minibatch at a time does not need.
    pub fn share(&self, student: Box<dyn Student>) -> Result<Arc<SharedStudent>, ModelError> {
        SharedStudent::new(student, self.device.depth())
    }

    /// Answers the frames that come to `intake`, whose job is one of this device, by `student`, which
    /// [`InferenceServer::share`] has made ready. The actor takes the orders.
    #[must_use]
    pub fn serve(&self, intake: Arc<Intake>, student: Arc<SharedStudent>) -> InferenceActor {
        let job = intake.job().id();
        let stream = Arc::new(Served::new(intake, student));
        self.streams.write().insert(job, Arc::clone(&stream));
        InferenceActor {
            stream,
            threads: self.device.depth(),
        }
    }

    /// Answers no more frames of the stream whose job this is.
    pub fn forget(&self, job: JobId) {
        self.streams.write().remove(&job);
    }

    /// Closes the device and waits for the threads, for what they are answering; false when one has
    /// panicked.
    pub fn end(&mut self) -> bool {
        self.device.close();
        let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ended.iter().all(Result::is_ok)
    }
}

impl Drop for InferenceServer {
    fn drop(&mut self) {
        self.device.close();
    }
}

/// Answers the frame whose turn has come, and with it what can be answered in one pass.
fn serve(device: &Device, mut lease: Lease, streams: &Streams, thread: usize) {
    let stream = |job: JobId| streams.read().get(&job).map(Arc::clone);
    let now = Instant::now();
    let first = lease.job();
    let Some(work) = stream(first).and_then(|stream| stream.take(now)) else {
        // The frame is late, or has been answered with others.
        return;
    };
    lease.set_parts(first, work.parts());
    let mut pass = vec![work];
    while pass.len() < pass[0].student().pass_max()
        && let Some(job) = device.next_asking()
        && let Some(stream) = stream(job).filter(|stream| stream.suits(&pass[0]))
        && lease.take_along(job)
    {
        let work = stream.take(now);
        lease.set_parts(job, work.as_ref().map_or(0, Work::parts));
        pass.extend(work);
    }
    let found = answer(&pass, thread);
    // What is done with the answers costs the device nothing.
    drop(lease);
    for (work, found) in pass.into_iter().zip(found) {
        work.settle(found);
    }
}

/// An answer a frame, in order.
fn answer(pass: &[Work], thread: usize) -> Vec<Found> {
    let mut found = Vec::with_capacity(pass.len());
    // Alike they all are, unless a student was promoted a moment ago.
    for alike in pass.chunk_by(Work::suits) {
        match infer(alike, thread) {
            Ok(answers) => found.extend(answers.into_iter().map(Ok)),
            Err(error) if alike.len() == 1 => found.push(Err(error)),
            // The frame that spoils it must not cost the others their answers.
            Err(_) => found.extend(alike.iter().map(|one| {
                let answers = infer(std::slice::from_ref(one), thread);
                answers.map(|mut answers| answers.pop().unwrap_or_default())
            })),
        }
    }
    found
}

/// Answers frames that are alike, of which there is one at least. A panic is an error: it must not end
/// the thread on which all streams depend.
fn infer(alike: &[Work], thread: usize) -> Result<Vec<Vec<Object>>, String> {
    let frames = alike.iter().map(|work| &work.frame);
    let pictures: Vec<_> = frames
        .map(|frame| Picture {
            image: &frame.image,
            regions: &frame.regions,
        })
        .collect();
    let student = alike[0].student().of_thread(thread);
    let resolution = alike[0].resolution();
    let inferred = catch_unwind(AssertUnwindSafe(|| {
        student.infer_all(&pictures, resolution)
    }));
    let answers = inferred.map_err(|panic| format!("panic: {}", text_of(&*panic)))?;
    let answers = answers.map_err(|error| error.to_string())?;
    if answers.len() == alike.len() {
        Ok(answers)
    } else {
        let (answers, pictures) = (answers.len(), pictures.len());
        Err(format!("{answers} answers about {pictures} pictures"))
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a text")
}

#[cfg(test)]
mod tests;
