//! The node's side of a worker: starts the process when it is first needed, and again when it died.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ekya_actors::LeaseError;
use ekya_actors::codec::{self, CodecError};
use ekya_actors::worker::{
    Exchange, Limits, Parcel, Patience, Pool, Program, Worker, WorkerError, cpu_time,
};
use ekya_models::{Image, ModelError, Placement};
use parking_lot::{Mutex, MutexGuard};

use super::pictures::Shown;
use super::request::{Answer, Id, Picture, Request};
use super::serve::{CUDA, THREADS};
use crate::learn::{TURNS_A_STEP, Turn};

/// Workers that wait, started, for somebody to need one.
const SPARE: usize = 1;
/// Time for a worker to be ready where none waits: loading libtorch on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(30);
/// What a request may take of the device altogether, far beyond any minibatch or model.
const RUNNING_MAX: Duration = Duration::from_secs(60);
/// The same in training steps' time.
const RUNNING_STEPS: u32 = 10;
/// Turns for which a thread of a minibatch waits for the others before it sleeps. With the default,
/// 300,000, threads wait busily for one that has no core, hundreds of times a minibatch: on two cores
/// beside compilers, training steps of ResNet18 took one to four seconds in place of a tenth. With
/// 20,000 they did not, but a small student's steps took a third longer on an idle machine, where
/// 60,000 are as good as the default.
const SPINS: &str = "60000";
/// What the C library of a worker keeps of memory that was freed, in bytes, and up to which size it takes
/// memory from there. By default it gives memory back to the system in every training step and takes it
/// anew, page by page: a sixth of the time of a small student's step. What is kept goes back when a
/// training is over.
const KEPT: &str = "268435456";
const KEPT_UP_TO: &str = "33554432";
/// Bytes of pictures in one file: shared memory may be small.
const FILE_MAX: usize = 16 << 20;

/// What the workers of a device have in common.
pub struct Hosting {
    pool: Pool,
    /// The one that has shown that workers start, until somebody needs it.
    first: Mutex<Option<Worker>>,
    exchange: Exchange,
    placement: Placement,
}

impl Hosting {
    /// Starts workers in advance: this program again, whose models live at `placement` and whose
    /// minibatches take so many threads. Each may have so many bytes of `memory`, or half of the
    /// machine's.
    ///
    /// # Errors
    /// [`WorkerError`] when none starts.
    pub fn start(
        placement: Placement,
        threads: usize,
        memory: Option<u64>,
    ) -> Result<Arc<Self>, WorkerError> {
        let program = Program::this(env!("CARGO_PKG_VERSION"));
        Self::start_program(program, placement, threads, memory)
    }

    /// The same with another program that serves as a worker, of this version.
    ///
    /// # Errors
    /// [`WorkerError`] when none starts.
    pub fn start_program(
        mut program: Program,
        placement: Placement,
        threads: usize,
        memory: Option<u64>,
    ) -> Result<Arc<Self>, WorkerError> {
        let count = threads.to_string();
        for (name, value) in [
            (THREADS, &*count),
            ("OMP_NUM_THREADS", &*count),
            ("GOMP_SPINCOUNT", SPINS),
            ("MALLOC_TRIM_THRESHOLD_", KEPT),
            ("MALLOC_MMAP_THRESHOLD_", KEPT_UP_TO),
        ] {
            program.envs.push((name.into(), value.into()));
        }
        if placement != Placement::Cpu {
            program.envs.push((CUDA.into(), "1".into()));
        }
        let limits = Limits {
            memory: memory.or_else(half_of_memory),
            // A safety net above what leases allow: a worker that it holds back wastes its lease.
            cores: Some(threads as f64 + 0.5),
        };
        let pool = Pool::start(program, limits, SPARE)?;
        // Whether workers start at all is known at once.
        let first = pool.take(START_WITHIN)?;
        Ok(Arc::new(Self {
            pool,
            first: Mutex::new(Some(first)),
            exchange: Exchange::new()?,
            placement,
        }))
    }

    /// Ends all waiting for a worker, now and later. Those that somebody has go on.
    pub fn close(&self) {
        self.pool.close();
        drop(self.first.lock().take());
    }

    fn take(&self) -> Result<Worker, WorkerError> {
        let first = self.first.lock().take();
        first.map_or_else(|| self.pool.take(START_WITHIN), Ok)
    }

    /// A worker whose requests are made in `turn`, and which gives that up in the middle of one that
    /// takes long, as measured by the `step` that training may take.
    #[must_use]
    pub fn host(self: &Arc<Self>, turn: Arc<Turn>, step: Duration) -> Arc<Host> {
        self.host_within(turn, step, RUNNING_MAX.max(step * RUNNING_STEPS))
    }

    /// The same, where a request that takes longer than `at_most` counts as hung.
    #[must_use]
    pub fn host_within(
        self: &Arc<Self>,
        turn: Arc<Turn>,
        step: Duration,
        at_most: Duration,
    ) -> Arc<Host> {
        Arc::new(Host {
            hosting: Arc::clone(self),
            turn,
            patience: Patience {
                slice: step / TURNS_A_STEP,
                at_most,
            },
            last_id: AtomicU64::new(0),
            pid: AtomicU32::new(0),
            dropped: Mutex::default(),
            state: Mutex::default(),
        })
    }
}

impl std::fmt::Debug for Hosting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hosting")
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

/// One worker after the other, of one job.
pub struct Host {
    hosting: Arc<Hosting>,
    turn: Arc<Turn>,
    patience: Patience,
    last_id: AtomicU64,
    /// Of the running process, 0 while there is none: read while a request goes on.
    pid: AtomicU32,
    /// What nobody needs any more; the worker hears of it with the next request.
    dropped: Mutex<Vec<Id>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    worker: Option<Worker>,
    /// Processes so far: what lives in one is gone in the next.
    processes: u64,
    shown: Shown,
}

impl Host {
    pub(super) fn placement(&self) -> Placement {
        self.hosting.placement
    }

    /// A name for something that is to live in the worker.
    pub(super) fn new_id(&self) -> Id {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn forget(&self, id: Id) {
        self.dropped.lock().push(id);
    }

    /// The process of the worker, for as long as the caller needs no other to come between. Where
    /// there is none it is started; whoever has its turn on the device waits for that without it.
    ///
    /// # Errors
    /// [`ModelError::Process`].
    pub(super) fn process(&self) -> Result<Process<'_>, ModelError> {
        let mut state = self.state.lock();
        if state.worker.as_ref().is_none_or(Worker::has_ended) {
            let started = self.turn.aside(|| self.hosting.take());
            let worker = started.map_err(cut_off)?.map_err(failed)?;
            self.pid.store(worker.pid(), Ordering::Relaxed);
            *state = State {
                worker: Some(worker),
                processes: state.processes + 1,
                shown: Shown::default(),
            };
            self.dropped.lock().clear();
        }
        Ok(Process { host: self, state })
    }

    /// The process of that number, if it is still there.
    pub(super) fn process_of(&self, number: u64) -> Option<Process<'_>> {
        let state = self.state.lock();
        let same = state.processes == number && state.worker.is_some();
        same.then_some(Process { host: self, state })
    }

    /// Processor time of the running process, or of the last one until it is waited for; for tests and
    /// tools.
    #[must_use]
    pub fn processor_time(&self) -> Option<Duration> {
        cpu_time(self.pid()?)
    }

    /// The number of the running process, or of the last one; for tests and tools.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|&pid| pid > 0)
    }

    /// A place for a file of so many bytes that goes between worker and node, in shared memory where
    /// there is room.
    ///
    /// # Errors
    /// [`ModelError::Process`] where there is no room anywhere.
    fn place(&self, bytes: u64) -> Result<Parcel, ModelError> {
        self.hosting.exchange.place(bytes).map_err(no_place)
    }

    /// A file of about so many bytes that `write` has written.
    ///
    /// # Errors
    /// What `write` says.
    pub(super) fn put(
        &self,
        bytes: u64,
        write: impl Fn(&Path) -> Result<(), ModelError>,
    ) -> Result<Parcel, ModelError> {
        let place = self.place(bytes)?;
        match write(&place) {
            Err(ModelError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull => {
                drop(place);
                let place = self.hosting.exchange.elsewhere(bytes).map_err(no_place)?;
                write(&place)?;
                Ok(place)
            }
            written => written.map(|()| place),
        }
    }

    /// Has the worker forget all pictures, and what else nobody needs any more, without waiting for
    /// the next request.
    pub(super) fn forget_pictures(&self) {
        let state = self.state.lock();
        Process { host: self, state }.forget_pictures();
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// A running process, held by one caller.
pub(super) struct Process<'a> {
    host: &'a Host,
    state: MutexGuard<'a, State>,
}

impl Process<'_> {
    /// Which process it is: 1 for the first one.
    pub(super) fn number(&self) -> u64 {
        self.state.processes
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the model says; [`ModelError::Process`] when the process is gone.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Answer, ModelError> {
        self.drop_unneeded()?;
        self.call(request)
    }

    fn drop_unneeded(&mut self) -> Result<(), ModelError> {
        let dropped = std::mem::take(&mut *self.host.dropped.lock());
        if !dropped.is_empty() {
            self.call(&Request::Drop(dropped))?;
        }
        Ok(())
    }

    /// Has the process, if there is one, forget all pictures and what else nobody needs any more.
    pub(super) fn forget_pictures(&mut self) {
        let pictures = self.state.shown.all();
        if self.state.worker.is_none() {
            return;
        }
        let forget = || {
            self.drop_unneeded()?;
            if !pictures.is_empty() {
                self.call(&Request::DropPictures(pictures))?;
            }
            Ok(())
        };
        if let Err::<(), ModelError>(error) = forget() {
            // It has died, and with it went what it knew.
            tracing::debug!(%error, "a worker does not forget pictures");
        }
    }

    fn call(&mut self, request: &Request) -> Result<Answer, ModelError> {
        let Host { turn, patience, .. } = self.host;
        // Many requests that are short each come to the same as one that is long.
        turn.yield_after(patience.slice).map_err(cut_off)?;
        let worker = self.state.worker.as_mut();
        let worker = worker.ok_or_else(|| ModelError::Process("it has ended".to_owned()))?;
        let bytes = codec::to_bytes(request).map_err(unspeakable)?;
        let answer = worker
            .call(&bytes, *patience, &mut &**turn)
            .map_err(failed)
            .and_then(|bytes| codec::from_bytes(&bytes).map_err(unspeakable));
        match answer {
            Ok(Answer::Failed(failure)) => Err(failure.into()),
            Ok(answer) => Ok(answer),
            Err(error) => {
                // Whatever it is about, the process is not to be trusted any more.
                self.state.worker = None;
                Err(error)
            }
        }
    }

    /// Shows pictures, as far as the process does not know them.
    ///
    /// # Errors
    /// [`ModelError`].
    pub(super) fn show<'i>(
        &mut self,
        pictures: impl IntoIterator<Item = &'i Image>,
    ) -> Result<(), ModelError> {
        // Before, so that none goes which the next request is about.
        let surplus = self.state.shown.surplus();
        if !surplus.is_empty() {
            self.call(&Request::DropPictures(surplus))?;
        }
        let new = self.state.shown.add(pictures);
        let shown = self.show_new(&new);
        if shown.is_err() {
            // What it knows is not known any more.
            self.state.worker = None;
        }
        shown
    }

    fn show_new(&mut self, new: &[&Image]) -> Result<(), ModelError> {
        let mut rest = new;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().position(|picture| {
                let full = bytes > 0 && bytes + picture.rgb().len() > FILE_MAX;
                bytes += picture.rgb().len();
                full
            });
            let (now, later) = rest.split_at(fit.unwrap_or(rest.len()));
            let bytes: usize = now.iter().map(|picture| picture.rgb().len()).sum();
            let file = self.host.put(bytes as u64, |path| write(now, path))?;
            let picture = |picture: &&Image| Picture {
                id: picture.serial(),
                width: picture.width(),
                height: picture.height(),
            };
            self.call(&Request::Show {
                file: file.to_path_buf(),
                pictures: now.iter().map(picture).collect(),
            })?;
            rest = later;
        }
        Ok(())
    }
}

/// Writes pictures one after the other.
fn write(pictures: &[&Image], path: &Path) -> Result<(), ModelError> {
    let write = || {
        let mut file = File::create_new(path)?;
        let mut pictures = pictures.iter();
        pictures.try_for_each(|picture| file.write_all(picture.rgb()))
    };
    write().map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })
}

/// What is said of a turn that does not come any more: the run is over.
fn cut_off(error: LeaseError) -> ModelError {
    ModelError::Process(error.to_string())
}

fn no_place(error: std::io::Error) -> ModelError {
    ModelError::Process(format!("no place to hand data over: {error}"))
}

/// What one worker may have where nothing else is said. When the machine runs out of memory all the
/// same, workers go first.
fn half_of_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024 / 2)
}

fn unspeakable(error: CodecError) -> ModelError {
    ModelError::Process(error.to_string())
}

fn failed(error: WorkerError) -> ModelError {
    ModelError::Process(error.to_string())
}
