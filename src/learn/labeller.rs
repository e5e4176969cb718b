//! The labelling actor: the teacher on a compute thread of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ekya_actors::{Actor, Compute, ComputeError, Ctx, Handler, JobHandle, Message};
use ekya_models::Teacher;
use parking_lot::Mutex;

use super::evaluate::{LearnError, Work};
use super::split::Labelled;
use crate::stream::Sample;

/// Label these samples, then hand them to `done`.
pub struct Label {
    /// What to label, in order of time.
    pub samples: Vec<Sample>,
    /// Set to stop early; `done` then gets what is labelled so far.
    pub cancelled: Arc<AtomicBool>,
    /// Gets the labelled frames and the device seconds they took; runs on the compute thread.
    pub done: Box<dyn FnOnce(Vec<Labelled>, f64) + Send>,
}

impl Message for Label {
    type Reply = ();
}

/// Labels samples for every stream that shares its teacher.
pub struct LabellerActor {
    compute: Compute,
    teacher: Golden,
    job: Arc<JobHandle>,
}

/// Where labels come from.
#[derive(Clone)]
enum Golden {
    /// A network.
    Model(Arc<Mutex<Box<dyn Teacher>>>),
    /// The source's own truth, which costs nothing.
    Truth,
}

impl LabellerActor {
    /// Labels with `teacher`, or with the source's own truth when there is none, in leases of `job`.
    ///
    /// # Errors
    /// When the compute thread cannot be started.
    pub fn start(
        teacher: Option<Box<dyn Teacher>>,
        job: Arc<JobHandle>,
        threads: usize,
        streams: usize,
    ) -> std::io::Result<Self> {
        let compute = Compute::start("labels", streams.max(1) * 2)?;
        // An empty queue takes its first task.
        let _ = compute.submit(move || ekya_models::set_compute_threads(threads));
        let teacher = teacher.map_or(Golden::Truth, |teacher| {
            Golden::Model(Arc::new(Mutex::new(teacher)))
        });
        Ok(Self {
            compute,
            teacher,
            job,
        })
    }
}

impl Actor for LabellerActor {}

impl Handler<Label> for LabellerActor {
    fn handle(&mut self, label: Label, _: &mut Ctx<Self>) {
        let mut work = Work::new(self.job.clone(), label.cancelled);
        let teacher = self.teacher.clone();
        let task = move || {
            let labelled = label_all(&teacher, label.samples, &mut work);
            (labelled, work.spent())
        };
        let done = move |result: Result<(Vec<Labelled>, f64), ComputeError>| {
            // A teacher that panicked has labelled nothing; its stream goes on without.
            let (labelled, spent) = result.unwrap_or_else(|error| {
                tracing::error!(%error, "labelling failed");
                (Vec::new(), 0.0)
            });
            (label.done)(labelled, spent);
        };
        if self.compute.run(task, done).is_err() {
            tracing::warn!("the labeller is overloaded; a window's samples stay unlabelled");
        }
    }
}

fn label_all(teacher: &Golden, samples: Vec<Sample>, work: &mut Work) -> Vec<Labelled> {
    let mut labelled = Vec::with_capacity(samples.len());
    for sample in samples {
        let labels = match teacher {
            Golden::Truth => Ok(sample.frame.truth.clone().unwrap_or_default()),
            Golden::Model(teacher) => {
                let teacher = teacher.lock();
                work.minibatch(|| teacher.label(&sample.frame.image, &sample.frame.regions))
            }
        };
        match labels {
            Ok(labels) => labelled.push(Labelled::new(sample, labels)),
            Err(LearnError::Cancelled) => break,
            Err(error) => tracing::warn!(%error, "a sample could not be labelled and is left out"),
        }
    }
    labelled
}
