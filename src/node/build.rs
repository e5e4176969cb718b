//! Builds everything that a run needs: devices with their jobs, streams with their actors.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ekya_actors::worker::Program;
use ekya_actors::{Device, Ref, System};
use ekya_models::{ModelError, Placement, Student};
use ekya_profiler::History;
use parking_lot::Mutex;

use super::beginning::Beginning;
use super::feed::feed;
use super::gpu;
use super::measured::kind;
use super::models::{Opened, builtin_history, load_student, load_teacher, metric, open_source};
use super::networks::take_over;
use super::options::Brought;
use super::roster::Command;
use super::run::NodeError;
use crate::cluster::{Cluster, LentDevice};
use crate::config::{
    Config, DeviceConfig, DeviceKind, Isolation, LearningConfig, StreamConfig, StudentConfig,
    TeacherConfig,
};
use crate::keep::StateFolder;
use crate::learn::{self, Experience, Golden, LabellerActor, Learner, TrainerActor, Turn};
use crate::record::StreamRecord;
use crate::schedule::{
    DeviceActor, Event, Guests, Journal, Load, Policy, Retraining, SchedulerActor, Setup,
    StreamSetup, Travel, inference_job, training_job,
};
use crate::serve::{Face, Live, Port, Server};
use crate::sink::{LabelledLine, LineSink, Outlets};
use crate::source::StopFlag;
use crate::source::health::SourceHealth;
use crate::stream::{InferenceServer, Intake, SharedStudent, StreamLog};
use crate::throughput::{Curves, Key, Store, describe};
use crate::worker::{self, Host, HostedStudent, HostedTeacher, Hosting};

/// Messages that may wait for the scheduler: results of all streams, and progress at ten a second.
const SCHEDULER_MAILBOX: usize = 1024;
/// Messages that may wait for any other actor: orders come a few a window.
const MAILBOX: usize = 64;

/// A device of the node.
pub(super) struct NodeDevice {
    pub(super) device: Device,
    actor: Ref<DeviceActor>,
    placement: Placement,
    /// What its workers have in common, where there are any.
    pub(super) hosting: Option<Arc<Hosting>>,
    /// Threads of a minibatch.
    pub(super) threads: usize,
    /// Minibatches that run side by side.
    pub(super) depth: usize,
    /// Whether plans count with measured throughput.
    pub(super) measure_throughput: bool,
    /// What was measured, or found to be known, so far.
    pub(super) measured: Vec<(Key, Curves)>,
    /// Keeps the labelling jobs and their actors.
    labellers: Vec<Labeller>,
    /// Answers the frames of its streams.
    pub(super) inference: InferenceServer,
    students: Vec<Configured>,
}

/// A student that streams of a device begin with, as it is configured.
struct Configured {
    config: StudentConfig,
    classes: Vec<String>,
    student: Arc<SharedStudent>,
}

/// Labels for the streams of a device that have this teacher and these classes.
struct Labeller {
    teacher: TeacherConfig,
    classes: Vec<String>,
    actor: Ref<LabellerActor>,
    job: ekya_actors::JobId,
}

/// A stream of the node.
pub(super) struct NodeStream {
    pub(super) name: String,
    pub(super) classes: Vec<String>,
    pub(super) slowdown: f64,
    pub(super) intake: Arc<Intake>,
    /// Index of its device.
    pub(super) device: usize,
    opened: Option<Opened>,
    pub(super) setup: Option<StreamSetup>,
    threads: Vec<JoinHandle<()>>,
    /// Ends its source.
    stop: StopFlag,
    /// How long it has run before, on this node or another: its source goes on from there.
    pub(super) age: Duration,
    /// Names of its actors.
    pub(super) actors: [String; 2],
    pub(super) trainer: Ref<TrainerActor>,
    /// It is not this node's any more.
    pub(super) gone: bool,
    /// How often it has come to this node before.
    pub(super) times: usize,
    /// Why the source failed.
    pub(super) failure: Arc<Mutex<Option<String>>>,
    /// How its camera is doing, where it has one that may be lost and found.
    health: Option<Arc<SourceHealth>>,
    /// The checkpoint that it continues from.
    pub(super) continued_from: Option<u64>,
    /// Counts what could not be kept in the state folder.
    pub(super) not_kept: Arc<AtomicU64>,
}

/// Everything that runs.
pub(super) struct Node {
    pub(super) config: Arc<Config>,
    pub(super) system: System,
    pub(super) devices: Vec<NodeDevice>,
    pub(super) streams: Vec<NodeStream>,
    /// The streams of the configuration that runs, as they were read last.
    pub(super) configured: Vec<StreamConfig>,
    /// Those that have gone and come again, as they were before.
    pub(super) departed: Vec<StreamRecord>,
    /// The run's second 0, and the scheduler, once it has begun.
    pub(super) running: Option<(Instant, Ref<SchedulerActor>)>,
    /// What retrainings have shown, one for each kind of student.
    histories: Vec<(StudentConfig, Arc<Experience>)>,
    /// What outlives the process.
    state: Option<StateFolder>,
    /// Who decides.
    pub(super) policy: Policy,
    /// What the program brings along.
    brought: Brought,
    /// Where the results of frames go.
    pub(super) outlets: Outlets,
    /// Where labelled frames are written down.
    labelled: Option<LineSink<LabelledLine>>,
    /// The other nodes of the site.
    pub(super) cluster: Option<Cluster>,
    /// Where the node is shown, until it is.
    port: Option<Port>,
    /// What shows it.
    pub(super) server: Option<Server>,
}

impl Node {
    /// Opens and loads everything; nothing runs yet but idle actors.
    pub(super) fn build(
        mut config: Config,
        outlets: Outlets,
        labelled: Option<LineSink<LabelledLine>>,
        mut brought: Brought,
    ) -> Result<Self, NodeError> {
        // Nothing that is loaded or copied here is worth threads; those that compute say how many
        // they want.
        ekya_models::set_compute_threads(1);
        let policy = match brought.scheduler.take() {
            Some(scheduler) => Policy::own(scheduler),
            None => Policy::new(config.run.scheduler),
        };
        // First of what may fail: whether another process has it is soon known, and loading models
        // takes long.
        let state = config.run.state.as_deref().map(StateFolder::make);
        let state = state.transpose()?;
        let port = config.serve.as_ref().map(Port::open).transpose()?;
        let placed = config
            .devices
            .iter()
            .map(place)
            .collect::<Result<Vec<_>, _>>()?;
        let cluster = match (&config.cluster, &state) {
            (Some(cluster), Some(state)) => {
                let devices = placed.iter().map(|placed| placed.device.clone());
                let scheduler = Arc::clone(&policy.scheduler);
                let devices = devices.collect();
                let configured = &config.streams;
                let cluster =
                    Cluster::start(cluster, configured, state.path(), devices, scheduler)?;
                Some(cluster)
            }
            _ => None,
        };
        if let Some(cluster) = &cluster {
            config.streams.clone_from(&cluster.streams);
        }
        let config = Arc::new(config);
        let system = match &cluster {
            Some(cluster) => cluster.system().clone(),
            None => System::start().map_err(|error| NodeError::Start {
                reason: error.to_string(),
            })?,
        };
        let (devices, count) = (config.devices.iter(), config.devices.len());
        let devices = devices
            .zip(placed)
            .map(|(device, placed)| build_device(&system, device, placed, count))
            .collect::<Result<_, _>>()?;
        let mut node = Self {
            config: config.clone(),
            system,
            devices,
            streams: Vec::new(),
            configured: config.streams.clone(),
            departed: Vec::new(),
            running: None,
            histories: Vec::new(),
            state,
            policy,
            brought,
            outlets,
            labelled,
            cluster,
            port,
            server: None,
        };
        for (index, stream) in config.streams.iter().enumerate() {
            let mut built = node.build_stream(index, stream, 0)?;
            if let Some(cluster) = &node.cluster {
                built.age = cluster.age_of(&stream.name);
            }
            node.streams.push(built);
        }
        finish_loading()?;
        Ok(node)
    }

    /// Loads all that a stream needs, which has come `times` times before.
    pub(super) fn build_stream(
        &mut self,
        index: usize,
        stream: &StreamConfig,
        times: usize,
    ) -> Result<NodeStream, NodeError> {
        let source_error = |error| NodeError::Source {
            stream: stream.name.clone(),
            source: error,
        };
        let model_error = |error| NodeError::Model {
            stream: stream.name.clone(),
            source: error,
        };
        let stop = StopFlag::default();
        let opened = open_source(stream, &self.brought, &stop).map_err(source_error)?;
        let device = self.device_of(index, stream);
        let seed = self.config.run.seed.wrapping_add(index as u64);
        let placement = self.devices[device].placement;
        let configured = load_student(stream, &opened.classes, &self.brought, placement, seed);
        let (configured, known_classes) = configured.map_err(model_error)?;
        let Beginning {
            student,
            kept,
            keeper,
            continued_from,
            failures,
        } = Beginning::new(
            self.state.as_ref(),
            &self.config,
            stream,
            &opened.classes,
            configured,
            &self.brought,
            placement,
        )?;
        let store = self.throughput_store();
        let curves = self.devices[device].curves(&*student, stream, &store, &self.config.learning);
        let batches = self.config.learning.configurations.iter();
        let batch = batches.map(|one| one.batch_size).max().unwrap_or(1);
        let training_bytes = self.devices[device].training_bytes(&*student, batch);
        let (labeller, labelling_job) = self.labeller(device, stream, &opened.classes)?;

        let on = &self.devices[device];
        let job = Arc::new(on.device.job(inference_job(&stream.name)));
        let inference_id = job.id();
        let outlets = self.outlets.of_stream(&stream.name, &opened.classes);
        let log = StreamLog::new(&stream.name, metric(stream), Some(outlets));
        let deadline = Duration::from_secs_f64(stream.inference.deadline_seconds);
        let intake = Arc::new(Intake::new(log, job, deadline));
        let job = on.device.job(training_job(&stream.name));
        let training_id = job.id();
        let turn = Arc::new(Turn::new(Arc::new(job)));
        let host = on.host_of(&stream.student, &turn, &self.config.learning);
        let twin = twin(host.as_ref(), &*student, &stream.student);
        let twin = twin.map_err(model_error)?;
        let kind = kind(&*student, &stream.student);
        let travel = self.travel(stream, &*student, host, placement);
        let on = &self.devices[device];
        let drawn = known_classes < opened.classes.len();
        let student = if drawn || continued_from.is_some() {
            on.inference.share(student)
        } else {
            self.devices[device].configured(stream, &opened.classes, student)
        };
        let student = student.map_err(model_error)?;
        let inference = self.devices[device]
            .inference
            .serve(intake.clone(), student);
        let history = self.history(&stream.student)?;
        let on = &self.devices[device];
        let (learning, inference_config) = (self.learning(), stream.inference.clone());
        let mut learner = Learner::new(
            learn::Beginning {
                stream: stream.name.clone(),
                student: twin,
                known_classes,
                kept,
            },
            metric(stream),
            learning,
            inference_config,
            history,
            seed,
        );
        if let Some(keeper) = keeper {
            learner = learner.kept_by(keeper);
        }
        let trainer =
            TrainerActor::start(&stream.name, learner, turn, on.threads).map_err(start_error)?;
        let suffix = match times {
            0 => String::new(),
            // Those of before may not have ended yet.
            times => format!("#{times}"),
        };
        let actors = ["infer", "train"].map(|what| format!("{what}/{}{suffix}", stream.name));
        let trainer = self.spawn(&actors[1], trainer)?;
        let setup = StreamSetup {
            name: stream.name.clone(),
            classes: opened.classes.clone(),
            device,
            rate: opened.rate,
            curves,
            training_bytes,
            intake: intake.clone(),
            inference: self.spawn(&actors[0], inference)?,
            inference_job: inference_id,
            labeller,
            labels_cost: stream.teacher.costs_device_time(),
            labelling_job,
            trainer: trainer.clone(),
            training_job: training_id,
            weight: stream.weight,
            kind,
            travel,
        };
        Ok(NodeStream {
            name: stream.name.clone(),
            classes: opened.classes.clone(),
            slowdown: opened.slowdown,
            intake,
            device,
            health: opened.source.health(),
            opened: Some(opened),
            setup: Some(setup),
            threads: Vec::new(),
            stop,
            age: Duration::ZERO,
            actors,
            trainer,
            gone: false,
            times,
            failure: Arc::default(),
            continued_from,
            not_kept: failures,
        })
    }

    /// How a stream is retrained on other nodes, if it may be.
    fn travel(
        &self,
        stream: &StreamConfig,
        student: &dyn Student,
        host: Option<Arc<Host>>,
        placement: Placement,
    ) -> Option<Travel> {
        let (cluster, config) = (self.cluster.as_ref()?, self.config.cluster.as_ref()?);
        if stream.stay || matches!(stream.student, StudentConfig::Own(_)) {
            return None;
        }
        let kind = stream.student.clone();
        let load = move |path: &Path| {
            let loaded = take_over(&kind, path, placement)?;
            match &host {
                Some(host) => twin(Some(host), &*loaded, &kind),
                None => Ok(loaded),
            }
        };
        let load: Load = Arc::new(load);
        let borrower = cluster.borrower(&stream.name, &stream.student, Arc::clone(&load));
        Some(Travel {
            load,
            elsewhere: Box::new(move |place| borrower.elsewhere(place)),
            weights: bytes_of(student).unwrap_or(0),
            link: config.link_megabits * 1e6 / 8.0,
        })
    }

    /// How streams are retrained. A fixed configuration is taken on trust, as in the paper: whatever its
    /// retraining gives serves if it measures better at all.
    fn learning(&self) -> LearningConfig {
        let mut learning = self.config.learning.clone();
        if let Retraining::Fixed(_) = self.policy.retraining {
            (learning.confidence, learning.class_margin) = (0.5, 1.0);
        }
        learning
    }

    /// Where measured throughput is kept: with the rest of what outlives the process, or for the user.
    fn throughput_store(&self) -> Store {
        let state = self.state.as_ref();
        state.map_or_else(Store::of_user, |state| Store::in_folder(state.path()))
    }

    fn spawn<A: ekya_actors::Actor>(&self, name: &str, actor: A) -> Result<Ref<A>, NodeError> {
        self.system
            .spawn(name, actor, MAILBOX)
            .map_err(|error| NodeError::Start {
                reason: error.to_string(),
            })
    }

    /// The device a stream names, else the one with its turn.
    fn device_of(&self, index: usize, stream: &StreamConfig) -> usize {
        let named = |name: &String| {
            self.config
                .devices
                .iter()
                .position(|device| device.name == *name)
        };
        stream
            .device
            .as_ref()
            .and_then(named)
            .unwrap_or(index % self.devices.len())
    }

    /// The history of a stream: streams with equal students learn from each other.
    fn history(&mut self, student: &StudentConfig) -> Result<Arc<Experience>, NodeError> {
        let known = self.histories.iter().find(|(of, _)| of == student);
        if let Some((_, history)) = known {
            return Ok(history.clone());
        }
        let history = if student.is_built_in() {
            builtin_history().map_err(|error| NodeError::Start {
                reason: format!("the built-in history: {error}"),
            })?
        } else {
            History::default()
        };
        let history = Arc::new(Experience::new(history));
        self.histories.push((student.clone(), history.clone()));
        Ok(history)
    }

    /// The labeller of a stream: streams of a device with equal teachers and classes share one.
    fn labeller(
        &mut self,
        device: usize,
        stream: &StreamConfig,
        classes: &[String],
    ) -> Result<(Ref<LabellerActor>, ekya_actors::JobId), NodeError> {
        let known = self.devices[device]
            .labellers
            .iter()
            .find(|known| known.teacher == stream.teacher && known.classes == classes);
        if let Some(known) = known {
            return Ok((known.actor.clone(), known.job));
        }
        let on = &self.devices[device];
        let name = format!("labelling/{}", on.labellers.len());
        let job = on.device.job(name.clone());
        let id = job.id();
        let turn = Arc::new(Turn::new(Arc::new(job)));
        let golden = on.golden(
            &stream.teacher,
            classes,
            &self.brought,
            &turn,
            &self.config.learning,
        );
        let golden = golden.map_err(|source| NodeError::Model {
            stream: stream.name.clone(),
            source,
        })?;
        let streams = self.config.streams.len();
        let labeller = LabellerActor::start(golden, classes.len(), turn, on.threads, streams)
            .map_err(start_error)?;
        let labeller = self.spawn(&format!("{name}@{}", on.device.name()), labeller)?;
        self.devices[device].labellers.push(Labeller {
            teacher: stream.teacher.clone(),
            classes: classes.to_vec(),
            actor: labeller.clone(),
            job: id,
        });
        Ok((labeller, id))
    }

    /// Starts the sources and the scheduler; `start` is the run's second 0.
    pub(super) fn begin(
        &mut self,
        start: Instant,
        done: Sender<Journal>,
        commands: Sender<Command>,
        on_window: Box<dyn Fn(usize) + Send>,
    ) -> Result<Ref<SchedulerActor>, NodeError> {
        let streams_on = |device: usize| {
            let setups = self.streams.iter().filter_map(|one| one.setup.as_ref());
            setups.filter(|setup| setup.device == device).count()
        };
        let memory = |(index, on): (usize, &NodeDevice)| on.bytes_for_trainings(streams_on(index));
        let device_memory = self.devices.iter().enumerate().map(memory).collect();
        let guests = Guests::default();
        let setup = Setup {
            config: self.config.clone(),
            policy: self.policy.clone(),
            device_memory,
            devices: self
                .devices
                .iter()
                .map(|on| (on.device.clone(), on.actor.clone()))
                .collect(),
            streams: self
                .streams
                .iter_mut()
                .filter_map(|stream| stream.setup.take())
                .collect(),
            start,
            done,
            labelled: self.labelled.clone(),
            on_window,
            ask: self.cluster.as_ref().map(Cluster::ask),
            guests: guests.clone(),
            lends: self
                .config
                .cluster
                .as_ref()
                .is_some_and(|cluster| cluster.lend),
            speeds: self.devices.iter().map(NodeDevice::speeds).collect(),
        };
        let scheduler = self
            .system
            .spawn("scheduler", SchedulerActor::new(setup), SCHEDULER_MAILBOX)
            .map_err(|error| NodeError::Start {
                reason: error.to_string(),
            })?;
        if let Some(cluster) = &self.cluster {
            let lends = self
                .config
                .cluster
                .as_ref()
                .is_some_and(|cluster| cluster.lend);
            let step = Duration::from_secs_f64(self.config.learning.step_seconds);
            let lent = self
                .devices
                .iter()
                .filter(|_| lends)
                .map(|on| on.lent(step));
            cluster.begin(scheduler.clone(), commands, lent.collect(), guests);
        }
        tell(&scheduler, Event::Begin)?;
        for (index, stream) in self.streams.iter_mut().enumerate() {
            stream.start_source(index, start, &scheduler)?;
        }
        self.running = Some((start, scheduler.clone()));
        if let Some(port) = self.port.take() {
            self.server = Some(port.show(self.live(start, &scheduler))?);
        }
        Ok(scheduler)
    }

    /// What is shown of it.
    fn live(&self, start: Instant, scheduler: &Ref<SchedulerActor>) -> Live {
        Live {
            scheduler_name: self.policy.name.clone(),
            window_seconds: self.config.run.window_seconds,
            start,
            system: self.system.clone(),
            devices: self.devices.iter().map(|on| on.device.clone()).collect(),
            streams: Mutex::new(self.faces()),
            scheduler: scheduler.clone(),
            cluster: self.cluster.as_ref().map(Cluster::inside),
            outputs: self.outlets.tallies(),
        }
    }

    /// What is shown of its streams.
    fn faces(&self) -> Vec<Face> {
        let here = self.streams.iter().filter(|stream| !stream.gone);
        let face = |stream: &NodeStream| Face {
            name: stream.name.clone(),
            classes: stream.classes.clone(),
            device: self.devices[stream.device].device.name().to_owned(),
            intake: Arc::clone(&stream.intake),
            failure: Arc::clone(&stream.failure),
            health: stream.health.clone(),
            continued_from: stream.continued_from,
            not_kept: Arc::clone(&stream.not_kept),
        };
        here.map(face).collect()
    }

    /// Has what is shown follow the streams that have come and gone.
    pub(super) fn show_streams(&self) {
        if let Some(server) = &self.server {
            server.set_streams(self.faces());
        }
    }
}

impl NodeStream {
    pub(super) fn start_source(
        &mut self,
        index: usize,
        start: Instant,
        scheduler: &Ref<SchedulerActor>,
    ) -> Result<(), NodeError> {
        let Some(mut opened) = self.opened.take() else {
            return Ok(());
        };
        let (intake, scheduler, stop) = (self.intake.clone(), scheduler.clone(), self.stop.clone());
        let (failure, name) = (self.failure.clone(), self.name.clone());
        let age = self.age;
        let task = move || {
            let source = &mut *opened.source;
            let failed = feed(source, opened.slowdown, &intake, start, age, &stop);
            if let Some(reason) = &failed {
                tracing::warn!(
                    stream = name,
                    reason,
                    "the source failed; the other streams go on"
                );
            }
            failure.lock().clone_from(&failed);
            // Once the run is over nobody listens.
            let _ = scheduler.tell(Event::SourceEnded {
                stream: index,
                failure: failed,
            });
        };
        let thread = std::thread::Builder::new()
            .name(format!("source-{}", self.name))
            .spawn(task);
        self.threads.push(thread.map_err(start_error)?);
        Ok(())
    }

    /// Asks the source to end soon.
    pub(super) fn stop_source(&self) {
        self.stop.set();
        self.intake.close();
    }

    /// Ends the source and waits for its thread.
    pub(super) fn end_source(&mut self) {
        self.stop_source();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(stream = self.name, "a thread of the stream panicked");
            }
        }
    }
}

/// Tells the scheduler something that must arrive.
pub(super) fn tell(scheduler: &Ref<SchedulerActor>, event: Event) -> Result<(), NodeError> {
    scheduler.tell(event).map_err(|error| NodeError::Start {
        reason: format!("the scheduler: {error}"),
    })
}

/// Waits for what this thread has loaded: others read it, in streams of their own.
pub(super) fn finish_loading() -> Result<(), NodeError> {
    let loaded = ekya_models::gpu::finish_all();
    loaded.map_err(|error| NodeError::Start {
        reason: error.to_string(),
    })
}

/// A copy of a student, in the worker of `host` if there is one.
fn twin(
    host: Option<&Arc<Host>>,
    student: &dyn Student,
    config: &StudentConfig,
) -> Result<Box<dyn Student>, ModelError> {
    match host {
        None => student.fork(),
        Some(host) => Ok(Box::new(HostedStudent::new(host, config, student)?)),
    }
}

/// Bytes of a student that is handed over.
fn bytes_of(student: &dyn Student) -> Option<u64> {
    let folder = tempfile::tempdir().ok()?;
    let file = folder.path().join("student");
    student.hand_over(&file).ok()?;
    Some(file.metadata().ok()?.len())
}

fn start_error(error: std::io::Error) -> NodeError {
    NodeError::Start {
        reason: format!("no thread: {error}"),
    }
}

/// A device that nothing runs on yet.
struct Placed {
    device: Device,
    placement: Placement,
}

fn place(config: &DeviceConfig) -> Result<Placed, NodeError> {
    let placement = match config.kind {
        DeviceKind::Cpu => Placement::Cpu,
        DeviceKind::Auto => Placement::best(),
        DeviceKind::Cuda if Placement::best() == Placement::Cpu => {
            let reason =
                "libtorch sees no CUDA GPU; use kind = \"cpu\", or point LIBTORCH at a CUDA build"
                    .to_owned();
            return Err(NodeError::Device {
                device: config.name.clone(),
                reason,
            });
        }
        DeviceKind::Cuda => Placement::best(),
    };
    let usual = if placement == Placement::Cpu { 1 } else { 2 };
    let depth = config.depth.unwrap_or(usual);
    let device = Device::new(config.name.clone(), depth);
    Ok(Placed { device, placement })
}

fn build_device(
    system: &System,
    config: &DeviceConfig,
    Placed { device, placement }: Placed,
    devices: usize,
) -> Result<NodeDevice, NodeError> {
    let depth = device.depth();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.cores > 0 {
        config.cores
    } else {
        (cores / devices).max(1)
    };
    let inference = InferenceServer::start(&device, threads).map_err(start_error)?;
    let actor = system
        .spawn(
            &format!("device/{}", config.name),
            DeviceActor(device.clone()),
            MAILBOX,
        )
        .map_err(|error| NodeError::Start {
            reason: error.to_string(),
        })?;
    Ok(NodeDevice {
        device,
        actor,
        placement,
        hosting: hosting(config, placement, threads),
        threads,
        depth,
        measure_throughput: config.measure_throughput.unwrap_or(depth > 1),
        measured: Vec::new(),
        labellers: Vec::new(),
        inference,
        students: Vec::new(),
    })
}

/// Workers for a device, if there can be any.
fn hosting(config: &DeviceConfig, placement: Placement, threads: usize) -> Option<Arc<Hosting>> {
    // Without libtorch there are no models but the program's own, which no worker knows.
    if config.isolation == Isolation::Inline || cfg!(not(feature = "torch")) {
        return None;
    }
    let device = &config.name;
    if !worker::is_possible() {
        tracing::warn!(
            device,
            "students are retrained in this process, since its `main` does not begin with \
             ekya::worker::serve_if_asked(); isolation = \"inline\" says that this is meant"
        );
        return None;
    }
    let mut program = Program::this(env!("CARGO_PKG_VERSION"));
    program.envs.extend(gpu::variables(config, placement));
    Hosting::start_program(program, placement, threads, config.worker_memory_bytes)
        .inspect_err(|error| {
            tracing::warn!(device, %error, "students are retrained in this process: no workers");
        })
        .ok()
}

impl NodeDevice {
    /// The student of a stream that begins with what is configured: streams whose configuration and
    /// classes are equal begin with the same weights, and share them.
    fn configured(
        &mut self,
        stream: &StreamConfig,
        classes: &[String],
        student: Box<dyn Student>,
    ) -> Result<Arc<SharedStudent>, ModelError> {
        let mut known = self.students.iter();
        let known = known.find(|known| known.config == stream.student && known.classes == classes);
        if let Some(known) = known {
            return Ok(Arc::clone(&known.student));
        }
        let student = self.inference.share(student)?;
        self.students.push(Configured {
            config: stream.student.clone(),
            classes: classes.to_vec(),
            student: Arc::clone(&student),
        });
        Ok(student)
    }

    /// A copy of a student for its trainer, which computes in `turn`.
    pub(super) fn twin(
        &self,
        student: &dyn Student,
        stream: &StreamConfig,
        turn: &Arc<Turn>,
        learning: &LearningConfig,
    ) -> Result<Box<dyn Student>, ModelError> {
        let host = self.host_of(&stream.student, turn, learning);
        twin(host.as_ref(), student, &stream.student)
    }

    /// The device, as other nodes' students are retrained on it in steps of that length.
    fn lent(&self, step: Duration) -> LentDevice {
        LentDevice {
            device: self.device.clone(),
            hosting: self.hosting.clone(),
            placement: self.placement,
            threads: self.threads,
            step,
        }
    }

    /// The teacher of streams of `classes`. The built-in one is no stranger and small.
    fn golden(
        &self,
        teacher: &TeacherConfig,
        classes: &[String],
        brought: &Brought,
        turn: &Arc<Turn>,
        learning: &LearningConfig,
    ) -> Result<Golden, ModelError> {
        let is_file = !matches!(
            teacher,
            TeacherConfig::Labels | TeacherConfig::Own(_) | TeacherConfig::Scene
        );
        match self.host(turn, learning).filter(|_| is_file) {
            Some(host) => {
                let hosted = HostedTeacher::open(&host, teacher, classes)?;
                Ok(Golden::Model(Box::new(hosted)))
            }
            None => load_teacher(teacher, classes, brought, self.placement),
        }
    }

    /// Where such a student is retrained, if in a worker: one that the program brings along is not, since
    /// no other process knows it.
    fn host_of(
        &self,
        student: &StudentConfig,
        turn: &Arc<Turn>,
        learning: &LearningConfig,
    ) -> Option<Arc<Host>> {
        let is_own = matches!(student, StudentConfig::Own(_));
        self.host(turn, learning).filter(|_| !is_own)
    }

    fn host(&self, turn: &Arc<Turn>, learning: &LearningConfig) -> Option<Arc<Host>> {
        let step = Duration::from_secs_f64(learning.step_seconds);
        let hosting = self.hosting.as_ref()?;
        Some(hosting.host(Arc::clone(turn), step))
    }

    /// Its hardware, in words.
    pub(super) fn describe(&self) -> String {
        describe(self.placement, self.threads)
    }

    /// Whether students train in processes of their own.
    pub(super) fn has_workers(&self) -> bool {
        self.hosting.is_some()
    }

    /// Whether minibatches run on the CPU.
    pub(super) fn is_cpu(&self) -> bool {
        self.placement == Placement::Cpu
    }
}
