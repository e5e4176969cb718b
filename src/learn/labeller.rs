//! The labelling actor: the teacher on a compute thread of its own.
//!
//! A teacher may fail on a sample, panic, name classes that the stream does not have, or take its
//! time: such a sample is left out and counted, and nobody but the next sample waits.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ekya_actors::{Actor, Compute, ComputeError, Ctx, Handler, Message, guarded};
use ekya_models::{ModelError, Object, Teacher};
use parking_lot::Mutex;

use super::evaluate::{LearnError, Work};
use super::split::Labelled;
use super::turn::Turn;
use crate::stream::Sample;

/// How long the end of a run waits for a teacher of the program's own to come back. It uses neither
/// the device nor a model, so it may be left behind.
const OWN_TEACHER_MAX: Duration = Duration::from_millis(100);

/// Label these samples, then hand them to `done`.
pub struct Label {
    /// What to label, in order of time.
    pub samples: Vec<Sample>,
    /// Set to stop early; `done` then gets what is labelled so far.
    pub cancelled: Arc<AtomicBool>,
    /// Gets what came of it; runs on the compute thread.
    pub done: Box<dyn FnOnce(Labelling) + Send>,
}

impl Message for Label {
    type Reply = ();
}

/// What came of samples.
#[derive(Debug, Default)]
pub struct Labelling {
    /// The labelled frames.
    pub labelled: Vec<Labelled>,
    /// Samples that have no labels because the teacher failed on them.
    pub left_out: u64,
    /// Device seconds spent.
    pub gpu_seconds: f64,
}

/// Where labels come from.
pub enum Golden {
    /// The source's own truth.
    Truth,
    /// A network, which computes on the device.
    Model(Box<dyn Teacher>),
    /// A teacher of the program that runs the node: whatever it waits for, it is not the device.
    Own(Box<dyn Teacher>),
}

/// Labels samples for every stream that shares its teacher.
pub struct LabellerActor {
    compute: Compute,
    desk: Arc<Mutex<Desk>>,
    own: bool,
    turn: Arc<Turn>,
}

impl LabellerActor {
    /// Labels streams of so many classes; a network does so in this turn.
    ///
    /// # Errors
    /// When the compute thread cannot be started.
    pub fn start(
        golden: Golden,
        classes: usize,
        turn: Arc<Turn>,
        threads: usize,
        streams: usize,
    ) -> std::io::Result<Self> {
        let compute = Compute::start("labels", streams.max(1) * 2)?;
        // An empty queue takes its first task.
        let _ = compute.submit(move || ekya_models::set_compute_threads(threads));
        Ok(Self {
            compute,
            own: matches!(golden, Golden::Own(_)),
            desk: Arc::new(Mutex::new(Desk {
                golden,
                classes,
                failures: 0,
            })),
            turn,
        })
    }
}

impl Actor for LabellerActor {
    fn stopping(&mut self) {
        if self.own {
            self.compute.stop(OWN_TEACHER_MAX);
        }
    }
}

impl Handler<Label> for LabellerActor {
    fn handle(&mut self, label: Label, _: &mut Ctx<Self>) {
        let (turn, cancelled) = (self.turn.clone(), label.cancelled);
        let desk = self.desk.clone();
        let task = move || {
            let mut work = Work::new(turn, cancelled);
            desk.lock().label_all(label.samples, &mut work)
        };
        let done = move |result: Result<Labelling, ComputeError>| {
            let labelling = result.unwrap_or_else(|error| {
                tracing::error!(%error, "labelling failed");
                Labelling::default()
            });
            (label.done)(labelling);
        };
        if self.compute.run(task, done).is_err() {
            tracing::warn!("the labeller is overloaded; a window's samples stay unlabelled");
        }
    }
}

/// The teacher at work; only the compute thread takes its lock.
struct Desk {
    golden: Golden,
    /// Classes of the streams.
    classes: usize,
    /// Samples without labels since the start.
    failures: u64,
}

impl Desk {
    fn label_all(&mut self, samples: Vec<Sample>, work: &mut Work) -> Labelling {
        let mut labelling = Labelling::default();
        for sample in samples {
            match self.label(&sample, work) {
                Ok(labels) => labelling.labelled.push(Labelled::new(sample, labels)),
                Err(LearnError::Cancelled) => break,
                Err(error) => {
                    labelling.left_out += 1;
                    self.failed(&error);
                }
            }
        }
        labelling.gpu_seconds = work.spent();
        labelling
    }

    fn label(&self, sample: &Sample, work: &mut Work) -> Result<Vec<Object>, LearnError> {
        let frame = &sample.frame;
        let ask = |teacher: &dyn Teacher| teacher.label(&frame.image, &frame.regions);
        let labels = match &self.golden {
            Golden::Truth => frame.truth.clone().ok_or_else(|| {
                LearnError::Labels("the source does not say what is there".to_owned())
            })?,
            Golden::Model(teacher) => work.minibatch(|| caught(|| ask(&**teacher)))?,
            Golden::Own(teacher) => {
                work.go_on()?;
                caught(|| ask(&**teacher))?
            }
        };
        check(&labels, self.classes)?;
        Ok(labels)
    }

    /// Counts a failure; a teacher that fails on every sample must not fill the log.
    fn failed(&mut self, error: &LearnError) {
        self.failures += 1;
        if self.failures.is_power_of_two() {
            let so_far = self.failures;
            tracing::warn!(so_far, %error, "a sample could not be labelled and is left out");
        }
    }
}

/// A panic costs the sample, not those after it.
fn caught(
    label: impl FnOnce() -> Result<Vec<Object>, ModelError>,
) -> Result<Vec<Object>, LearnError> {
    let labels = guarded(label)
        .map_err(|panic| LearnError::Panicked(format!("the teacher panicked: {panic}")))?;
    Ok(labels?)
}

/// Whether a stream of so many classes can learn from the labels.
fn check(labels: &[Object], classes: usize) -> Result<(), LearnError> {
    for Object { class, bbox, .. } in labels {
        if *class >= classes {
            return Err(LearnError::Labels(format!(
                "class {class}, of {classes} classes counted from 0"
            )));
        }
        let sides = [bbox.x1, bbox.y1, bbox.x2, bbox.y2];
        let is_box = sides.iter().all(|side| side.is_finite());
        if !is_box || bbox.x1 > bbox.x2 || bbox.y1 > bbox.y2 {
            return Err(LearnError::Labels(format!(
                "a box of x1, y1, x2, y2 = {sides:?}, where x1 <= x2 and y1 <= y2 are expected"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    use crossbeam_channel::bounded;
    use ekya_actors::{Device, JobHandle, System};
    use ekya_models::{BBox, Image};
    use ekya_sched::Share;

    use super::*;
    use crate::source::Frame;

    /// Answers the n-th picture, from 0, as `answer` says.
    struct MadeUp<F> {
        asked: Cell<usize>,
        answer: F,
    }

    impl<F: Fn(usize) -> Result<Vec<Object>, ModelError> + Send> Teacher for MadeUp<F> {
        fn label(&self, _: &Image, _: &[BBox]) -> Result<Vec<Object>, ModelError> {
            let n = self.asked.replace(self.asked.get() + 1);
            (self.answer)(n)
        }
    }

    fn made_up(
        answer: impl Fn(usize) -> Result<Vec<Object>, ModelError> + Send + 'static,
    ) -> Box<dyn Teacher> {
        let asked = Cell::new(0);
        Box::new(MadeUp { asked, answer })
    }

    fn object(class: usize, x2: f32) -> Object {
        let bbox = BBox {
            x1: 0.0,
            y1: 0.0,
            x2,
            y2: 1.0,
        };
        Object {
            class,
            score: 1.0,
            bbox,
        }
    }

    fn sample(index: u64) -> Sample {
        Sample {
            frame: Frame {
                index,
                at: Duration::ZERO,
                image: Arc::new(Image::new(1, 1, vec![0; 3]).unwrap()),
                regions: vec![],
                truth: Some(vec![object(index as usize, 1.0)]),
            },
            at: 0.0,
            taken_at: 0,
            answer: None,
            burst: false,
        }
    }

    fn desk(golden: Golden) -> Desk {
        Desk {
            golden,
            classes: 2,
            failures: 0,
        }
    }

    /// A job that has a device for itself.
    fn job(device: &Device) -> Arc<JobHandle> {
        Arc::new(device.job_with("labelling", Share::WHOLE).unwrap())
    }

    /// The frames that are labelled out of six, and how many are left out.
    fn label_six(
        desk: &mut Desk,
        job: &Arc<JobHandle>,
        cancelled: &Arc<AtomicBool>,
    ) -> (Vec<u64>, u64) {
        let mut work = Work::new(Arc::new(Turn::new(job.clone())), cancelled.clone());
        let labelling = desk.label_all((0..6).map(sample).collect(), &mut work);
        let labelled = labelling.labelled.iter().map(|one| one.frame.index);
        (labelled.collect(), labelling.left_out)
    }

    #[test]
    fn a_teacher_that_fails_or_panics_costs_those_samples_only() {
        let answer = |n| match n {
            1 => Err(ModelError::BadInput("the service is down".to_owned())),
            3 => panic!("a bug of the user's"),
            _ => Ok(vec![object(1, 1.0)]),
        };
        let job = job(&Device::new("cpu0", 1));
        for golden in [Golden::Own(made_up(answer)), Golden::Model(made_up(answer))] {
            let mut desk = desk(golden);
            let result = label_six(&mut desk, &job, &Arc::default());
            assert_eq!(result, (vec![0, 2, 4, 5], 2));
            assert_eq!(desk.failures, 2);
        }
    }

    #[test]
    fn labels_that_cannot_be_learnt_from_are_left_out() {
        let answer = |n| {
            Ok(vec![match n {
                0 => object(2, 1.0),
                1 => object(0, f32::NAN),
                2 => object(0, -1.0),
                _ => object(1, 1.0),
            }])
        };
        let job = job(&Device::new("cpu0", 1));
        for golden in [Golden::Own(made_up(answer)), Golden::Model(made_up(answer))] {
            let result = label_six(&mut desk(golden), &job, &Arc::default());
            assert_eq!(result, (vec![3, 4, 5], 3));
        }
        // Frame n holds an object of class n, and there are two classes.
        let result = label_six(&mut desk(Golden::Truth), &job, &Arc::default());
        assert_eq!(result, (vec![0, 1], 4));
    }

    #[test]
    fn a_teacher_of_ones_own_needs_no_lease() {
        let answer = |_| Ok(vec![]);
        let device = Device::new("cpu0", 1);
        let job = job(&device);
        // Gives no more leases.
        device.close();
        let mut own = desk(Golden::Own(made_up(answer)));
        let result = label_six(&mut own, &job, &Arc::default());
        assert_eq!(result, ((0..6).collect(), 0));
        let mut model = desk(Golden::Model(made_up(answer)));
        assert_eq!(label_six(&mut model, &job, &Arc::default()), (vec![], 0));
        assert_eq!(job.usage().busy, Duration::ZERO);
    }

    #[test]
    fn the_end_comes_before_the_next_sample() {
        let cancelled = Arc::<AtomicBool>::default();
        let set = cancelled.clone();
        let answer = move |n| {
            set.store(n == 2, Ordering::Relaxed);
            Ok(vec![])
        };
        let mut desk = desk(Golden::Own(made_up(answer)));
        let job = job(&Device::new("cpu0", 1));
        let result = label_six(&mut desk, &job, &cancelled);
        assert_eq!(result, (vec![0, 1, 2], 0));
    }

    #[test]
    fn a_teacher_that_never_answers_is_left_behind() {
        let (begin, begun) = bounded(1);
        let (release, held) = bounded::<()>(0);
        let answer = move |_| {
            begin.send(()).unwrap();
            // Nothing is ever sent: an error is the release.
            let _ = held.recv();
            Ok(vec![])
        };
        let job = job(&Device::new("cpu0", 1));
        let golden = Golden::Own(made_up(answer));
        let actor = LabellerActor::start(golden, 2, Arc::new(Turn::new(job)), 1, 1).unwrap();
        let system = System::start().unwrap();
        let labeller = system.spawn("labelling", actor, 1).unwrap();
        let label = Label {
            samples: vec![sample(0)],
            cancelled: Arc::default(),
            done: Box::new(|_| {}),
        };
        labeller.tell(label).unwrap();
        begun.recv().unwrap();
        // Other actors on the thread have to come to their ends as well.
        assert_eq!(system.shutdown(OWN_TEACHER_MAX * 10), Ok(()));
        drop(release);
    }
}
