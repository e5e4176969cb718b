//! The trainer actor of a stream: evaluates, profiles and retrains on a compute thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ekya_actors::{Actor, Compute, ComputeError, Ctx, Handler, Message};
use ekya_models::Student;
use ekya_profiler::Progress;
use ekya_profiler::comparison::Verdict;
use ekya_profiler::inference::Measurement;
use parking_lot::Mutex;

use super::elsewhere::Elsewhere;
use super::evaluate::{LearnError, Work};
use super::learner::Learner;
use super::retrain::Outcome;
use super::split::Labelled;
use super::turn::Turn;

/// Progress is reported at most this often: the scheduler needs the pace, not every minibatch.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How often the disk follows the memory and what is too old is forgotten, besides after every
/// retraining. Not after preparing one: it would have to wait for the disk.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// What a trainer is asked to do.
pub enum Order {
    /// Take in new labels, and measure what a plan needs.
    Prepare(Prepare),
    /// Retrain on the labels and the memory.
    Retrain {
        /// Index into the configurations.
        configuration: usize,
        /// Labels that have come since the last [`Order::Prepare`], and go on coming: the gate looks
        /// at them when training is over.
        newest: Arc<Mutex<Vec<Labelled>>>,
        /// Seed of order, augmentation and new weights.
        seed: u64,
        /// Trains it, where that is to be on another node's device.
        elsewhere: Option<Elsewhere>,
    },
}

/// What to measure before a plan.
pub struct Prepare {
    /// The newly labelled frames.
    pub labelled: Vec<Labelled>,
    /// Measure the serving student's accuracy on them.
    pub evaluate: bool,
    /// Profile the retraining configurations, with so many GPU-seconds for those that retrainings
    /// have shown before.
    pub profile: Option<f64>,
    /// Measure the inference configurations.
    pub measure_inference: bool,
    /// Seed of the profiles.
    pub seed: u64,
}

/// An order and where its results go.
pub struct TrainerOrder {
    /// What to do.
    pub order: Order,
    /// Set to end it: at the next minibatch, or where one has taken too long.
    pub cancelled: Arc<AtomicBool>,
    /// Gets the results, on the compute thread.
    pub report: Box<dyn Fn(Report) + Send>,
}

impl Message for TrainerOrder {
    type Reply = ();
}

/// What a trainer reports.
pub enum Report {
    /// The answer to [`Order::Prepare`].
    Prepared(Result<Prepared, LearnError>),
    /// A retraining goes on.
    Progressed(Progress),
    /// The answer to [`Order::Retrain`].
    Finished(Result<Outcome, LearnError>),
}

/// What is known about a stream before its retraining is planned.
#[derive(Default)]
pub struct Prepared {
    /// The student that served before, when the new labels show that it is better than the one
    /// promoted after it.
    pub rolled_back: Option<RolledBack>,
    /// Accuracy of that student on the labels that came after the promotion, when it is not put back.
    pub previous_accuracy: Option<f64>,
    /// Accuracy of the serving student on the new labels; `None` when not asked for, or when
    /// nothing could be scored.
    pub accuracy: Option<f64>,
    /// Inference configurations, when asked for.
    pub inference: Vec<Measurement>,
    /// What each retraining configuration would give and cost, when asked for: index into the
    /// configurations, and the option.
    pub options: Vec<(usize, ekya_sched::RetrainingOption)>,
    /// Bytes of what a retraining would train on, about, as they travel to another node.
    pub sample_bytes: u64,
    /// Device seconds spent.
    pub gpu_seconds: f64,
    /// Those of them that `options` took; the rest would be spent without profiles, too.
    pub profile_gpu_seconds: f64,
}

/// A promotion that is taken back.
pub struct RolledBack {
    /// The student to serve again.
    pub student: Box<dyn Student>,
    /// How the serving one did against it, on labels that came after its promotion.
    pub verdict: Verdict,
    /// Inference configurations measured on the student to serve again.
    pub inference: Vec<Measurement>,
}

/// Trains the student of one stream.
pub struct TrainerActor {
    compute: Compute,
    learner: Arc<Mutex<Learner>>,
    turn: Arc<Turn>,
    /// Tidying is queued: a long retraining must not find the queue full of it.
    tidying: Arc<AtomicBool>,
}

impl TrainerActor {
    /// A trainer around `learner`, computing in this turn.
    ///
    /// # Errors
    /// When the compute thread cannot be started.
    pub fn start(
        stream: &str,
        learner: Learner,
        turn: Arc<Turn>,
        threads: usize,
    ) -> std::io::Result<Self> {
        // A round's orders: prepare, retrain, and the ones before them that are ending.
        let compute = Compute::start(&format!("train-{stream}"), 8)?;
        // An empty queue takes its first task.
        let _ = compute.submit(move || ekya_models::set_compute_threads(threads));
        Ok(Self {
            compute,
            learner: Arc::new(Mutex::new(learner)),
            turn,
            tidying: Arc::default(),
        })
    }

    /// Has the disk follow the learner, and what is too old forgotten.
    fn tidy(&self) {
        if self.tidying.swap(true, Ordering::Relaxed) {
            return;
        }
        let (learner, tidying) = (self.learner.clone(), self.tidying.clone());
        let task = move || {
            tidying.store(false, Ordering::Relaxed);
            learner.lock().keep();
        };
        if let Err(error) = self.compute.submit(task) {
            self.tidying.store(false, Ordering::Relaxed);
            tracing::debug!(%error, "tidied later");
        }
    }
}

/// Have the disk follow what was learnt, and say so; not before the order that is being carried out is.
pub struct KeepNow(pub Box<dyn FnOnce(()) + Send>);

impl Message for KeepNow {
    type Reply = ();
}

impl Handler<KeepNow> for TrainerActor {
    fn handle(&mut self, KeepNow(done): KeepNow, _: &mut Ctx<Self>) {
        let learner = self.learner.clone();
        let task = move || {
            learner.lock().keep();
            done(());
        };
        if let Err(error) = self.compute.submit(task) {
            tracing::debug!(%error, "kept later");
        }
    }
}

/// It is time to look through the frames.
struct Tidy;

impl Message for Tidy {
    type Reply = ();
}

impl Actor for TrainerActor {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        self.handle(Tidy, ctx);
    }

    /// What has come since the disk last followed is kept, too.
    fn stopping(&mut self) {
        self.tidy();
    }
}

impl Handler<Tidy> for TrainerActor {
    fn handle(&mut self, Tidy: Tidy, ctx: &mut Ctx<Self>) {
        self.tidy();
        if let Err(error) = ctx.after(TIDY_EVERY, Tidy) {
            tracing::error!(%error, "no timer; frames are forgotten when new ones come only");
        }
    }
}

impl Handler<TrainerOrder> for TrainerActor {
    fn handle(&mut self, order: TrainerOrder, _: &mut Ctx<Self>) {
        let TrainerOrder {
            order,
            cancelled,
            report,
        } = order;
        let turn = self.turn.clone();
        let learner = self.learner.clone();
        let submitted = match order {
            Order::Prepare(prepare) => {
                // There, not here: an order that is refused must not end another's work.
                let task = move || {
                    let mut work = Work::new(turn, cancelled);
                    learner.lock().prepare(prepare, &mut work)
                };
                self.compute.run(task, move |result| {
                    report(Report::Prepared(flatten(result)))
                })
            }
            Order::Retrain {
                configuration,
                newest,
                seed,
                elsewhere,
            } => {
                let report = Arc::new(Mutex::new(report));
                let progress = throttled(report.clone());
                let kept = learner.clone();
                let task = move || {
                    let mut work = Work::new(turn, cancelled);
                    let mut learner = learner.lock();
                    let elsewhere = elsewhere.as_ref();
                    learner.retrain(configuration, &newest, seed, elsewhere, &mut work, progress)
                };
                self.compute.run(task, move |result| {
                    // First, so that nothing waits for the disk; the lease is given back, too.
                    report.lock()(Report::Finished(flatten(result)));
                    kept.lock().keep();
                })
            }
        };
        if let Err(error) = submitted {
            tracing::warn!(%error, "the trainer is overloaded; the order is dropped");
        }
    }
}

/// Where reports go, shared by the task and its end.
type Reporter = Arc<Mutex<Box<dyn Fn(Report) + Send>>>;

/// Reports progress at most every [`REPORT_EVERY`].
fn throttled(report: Reporter) -> impl FnMut(Progress) + Send {
    let mut reported = Instant::now();
    move |progress| {
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            report.lock()(Report::Progressed(progress));
        }
    }
}

/// A task that panicked has failed like one that returned an error.
fn flatten<R>(result: Result<Result<R, LearnError>, ComputeError>) -> Result<R, LearnError> {
    result.unwrap_or_else(|error| Err(LearnError::Panicked(error.to_string())))
}
