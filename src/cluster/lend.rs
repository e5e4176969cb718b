//! Retrains students of other nodes on this node's devices.
//!
//! A guest is a job of its own, with the share that whoever leads has decided. Its pictures are in memory
//! only, in that of the node and of the worker, and go when the retraining ends; a line in `lent.jsonl` of
//! the state folder says so.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ekya_actors::{Ctx, Device, Items, JobHandle, Node, Payload, Streams};
use ekya_models::{Placement, Student, TrainingOptions};
use ekya_sched::RetrainingConfig;
use serde::{Deserialize, Serialize};

use super::actor::ClusterActor;
use super::bundle::BUNDLE_MAX;
use super::means::Means;
use super::messages::{Lent, Train};
use crate::clock::unix_seconds;
use crate::config::StudentConfig;
use crate::learn::{LearnError, Pace, Turn, Work, unpack_sample};
use crate::node::take_over;
use crate::schedule::{Event, Guests};
use crate::worker::{HostedStudent, Hosting};

/// Guests of a device at a time.
const GUESTS_MAX: usize = 4;
/// Time for weights and sample to arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(120);
/// A retrained student is kept to be fetched for so long.
const FETCH_WITHIN: Duration = Duration::from_secs(120);

/// A device that may be lent.
pub(crate) struct LentDevice {
    pub(crate) device: Device,
    pub(crate) hosting: Option<Arc<Hosting>>,
    pub(crate) placement: Placement,
    /// Threads of a minibatch.
    pub(crate) threads: usize,
    /// What a training step may take.
    pub(crate) step: Duration,
}

/// What a node lends.
#[derive(Default)]
pub(super) struct Lending {
    pub(super) devices: Vec<Arc<LentDevice>>,
    /// As the scheduler grants them shares.
    pub(super) guests: Guests,
    present: BTreeMap<(String, String), Present>,
}

/// A guest that is here.
struct Present {
    job: Arc<JobHandle>,
    device: usize,
    items: Arc<Items<Train>>,
    cancelled: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What a retraining elsewhere needs, beside bytes; as JSON, which later versions may add to.
#[derive(Serialize, Deserialize)]
pub(super) struct Terms {
    pub(super) student: StudentConfig,
    pub(super) config: RetrainingConfig,
    pub(super) options: TrainingOptions,
    pub(super) seed: u64,
}

impl Lending {
    pub(super) fn new(devices: Vec<Arc<LentDevice>>, guests: Guests) -> Self {
        Self {
            devices,
            guests,
            present: BTreeMap::new(),
        }
    }

    /// Lets those go that are done, and ends those that nobody waits for any more.
    pub(super) fn look_after_guests(&mut self) {
        let guests = &self.guests;
        self.present.retain(|key, guest| {
            let is_here = !guest.thread.is_finished();
            if !is_here {
                guests.lock().remove(key);
            }
            is_here
        });
        let unwanted = self
            .present
            .values()
            .filter(|guest| !guest.items.is_wanted());
        for guest in unwanted {
            guest.cancelled.store(true, Ordering::Relaxed);
            // It may wait for a share that it will never get.
            guest.job.stop();
        }
    }
}

impl Streams<Train> for ClusterActor {
    fn stream(&mut self, train: Train, items: Items<Train>, _: &mut Ctx<Self>) {
        let items = Arc::new(items);
        if let Err(why) = self.take_guest(train, &items) {
            tracing::warn!(why, "a retraining for another node is refused");
            // Whoever does not wait does not mind.
            let _ = items.try_send(Lent::Failed(why));
        }
    }
}

impl ClusterActor {
    fn take_guest(&mut self, train: Train, items: &Arc<Items<Train>>) -> Result<(), String> {
        let terms: Terms = serde_json::from_str(&train.terms).map_err(|error| error.to_string())?;
        let of = self.sender(items.peer().as_deref());
        let Means { node, state, .. } = self.means();
        let lending = &mut self.lending;
        let mut devices = lending.devices.iter();
        let index = devices.position(|lent| *lent.device.name() == *train.device);
        let index = index.ok_or_else(|| format!("no device '{}' is lent here", train.device))?;
        let beside = lending
            .present
            .values()
            .filter(|guest| guest.device == index);
        if beside.count() >= GUESTS_MAX {
            return Err(format!(
                "'{}' has {GUESTS_MAX} guests already",
                train.device
            ));
        }
        let key = (of.clone(), train.stream.clone());
        if lending.present.contains_key(&key) {
            return Err("it is being retrained here already".to_owned());
        }
        let lent = Arc::clone(&lending.devices[index]);
        let job = lent.device.job(format!("{}@{of}/training", train.stream));
        let job = Arc::new(job);
        let cancelled = Arc::<AtomicBool>::default();
        let visit = Visit {
            node,
            state,
            of: of.clone(),
            stream: train.stream.clone(),
            terms,
            lent,
            turn: Arc::new(Turn::new(Arc::clone(&job))),
            items: Arc::clone(items),
            cancelled: Arc::clone(&cancelled),
        };
        let thread = std::thread::Builder::new().name("guest".to_owned());
        let thread = thread.spawn(move || visit.run(&train.weights, &train.sample));
        let guest = Present {
            device: index,
            items: Arc::clone(items),
            cancelled,
            thread: thread.map_err(|error| error.to_string())?,
            job: Arc::clone(&job),
        };
        lending.guests.lock().insert(key.clone(), (index, job.id()));
        lending.present.insert(key.clone(), guest);
        let (of, stream) = key;
        self.tell_scheduler(Event::GuestCame { of, stream });
        Ok(())
    }
}

/// One retraining for another node.
struct Visit {
    node: Node,
    state: PathBuf,
    of: String,
    stream: String,
    terms: Terms,
    lent: Arc<LentDevice>,
    turn: Arc<Turn>,
    items: Arc<Items<Train>>,
    cancelled: Arc<AtomicBool>,
}

impl Visit {
    /// Retrains, says how it goes, and what has come of it.
    fn run(&self, weights: &Payload, sample: &Payload) {
        ekya_models::set_compute_threads(self.lent.threads);
        let (of, stream) = (&self.of, &self.stream);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let last = match runtime {
            Ok(runtime) => {
                let last = self.retrain(weights, sample, &runtime);
                let last = last.unwrap_or_else(Lent::Failed);
                // Whoever does not wait does not mind.
                let _ = runtime.block_on(self.items.send(last.clone()));
                last
            }
            Err(error) => Lent::Failed(error.to_string()),
        };
        if let Lent::Failed(why) = last {
            tracing::warn!(of, stream, why, "a retraining for another node has failed");
        }
    }

    fn retrain(
        &self,
        weights: &Payload,
        sample: &Payload,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Lent, String> {
        let fetch = |payload| {
            let fetched = runtime.block_on(self.node.fetch(payload, BUNDLE_MAX, ARRIVE_WITHIN));
            fetched.map_err(|error| error.to_string())
        };
        let from = unix_seconds();
        let examples = unpack_sample(&fetch(sample)?).map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let file = folder.path().join("student");
        std::fs::write(&file, fetch(weights)?).map_err(|error| error.to_string())?;
        let trained = self.train(&examples, &file);
        let pictures = examples.len();
        drop(examples);
        self.audit(pictures, from);
        let gpu_seconds = trained.map_err(|error| error.to_string())?;
        let bytes = std::fs::read(&file).map_err(|error| error.to_string())?;
        let kept = self.node.keep(bytes.into(), FETCH_WITHIN);
        Ok(Lent::Done {
            student: kept.map_err(|error| error.to_string())?,
            gpu_seconds,
        })
    }

    /// Trains the student in `file` and leaves the trained one there; device seconds that it took.
    fn train(&self, examples: &[ekya_models::Example], file: &Path) -> Result<f64, LearnError> {
        let Terms {
            student: kind,
            config,
            options,
            seed,
        } = &self.terms;
        let LentDevice {
            hosting,
            placement,
            step,
            ..
        } = &*self.lent;
        let student = take_over(kind, file, *placement)?;
        let student: Box<dyn Student> = match hosting {
            None => student,
            Some(hosting) => {
                let host = hosting.host(Arc::clone(&self.turn), *step);
                Box::new(HostedStudent::new(&host, kind, &*student)?)
            }
        };
        let mut work = Work::new(Arc::clone(&self.turn), Arc::clone(&self.cancelled));
        let pace = Pace::new(step.as_secs_f64());
        let begun = work.minibatch(|| student.train_with(examples, config, options, *seed))?;
        let mut training = pace.timed(begun);
        let steps = training.training().steps();
        let mut done = 0;
        while done < steps {
            done = training.advance(steps, &mut work)?;
            let gpu_seconds = work.spent();
            let progressed = Lent::Progressed {
                done,
                steps,
                gpu_seconds,
            };
            // Where there is no room, the next one says more.
            let _ = self.items.try_send(progressed);
        }
        let trained = work.minibatch(|| training.training().student())?;
        std::fs::remove_file(file).map_err(|error| LearnError::Elsewhere(error.to_string()))?;
        work.minibatch(|| trained.hand_over(file))?;
        Ok(work.spent())
    }

    /// Writes down that pictures of another node were here, and are not any more.
    fn audit(&self, pictures: usize, from: u64) {
        let line = serde_json::json!({
            "node": self.of,
            "stream": self.stream,
            "pictures": pictures,
            "from": from,
            "erased": unix_seconds(),
        });
        let path = self.state.join("lent.jsonl");
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            tracing::error!(%error, %line, "not written down");
        }
    }
}
