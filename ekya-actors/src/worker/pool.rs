//! Workers started in advance.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};

use super::error::WorkerError;
use super::limits::{Limits, Means};
use super::process::Worker;
use super::serve::is_worker;

/// How long a worker may take from its start to its hello. Loading libtorch for CUDA takes seconds.
const GREET_WITHIN: Duration = Duration::from_secs(60);

/// What is started as a worker.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables on top of the environment of this process, such as `OMP_NUM_THREADS`.
    pub envs: Vec<(OsString, OsString)>,
    /// Which build it must be: a worker that [serves](super::serve) another is refused.
    pub version: String,
}

impl Program {
    /// This same program, also when its file has been replaced since it was started.
    #[must_use]
    pub fn this(version: impl Into<String>) -> Self {
        Self {
            // `current_exe` names the file, which is gone or another build after an upgrade.
            path: "/proc/self/exe".into(),
            args: Vec::new(),
            envs: Vec::new(),
            version: version.into(),
        }
    }
}

/// Starts workers, some of them in advance. Dropping it ends those that nobody has taken; the others
/// go on.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    program: Program,
    means: Means,
    spare: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Worker>,
    /// Why the last start failed, until somebody has been told. None is started meanwhile: a
    /// program that cannot be a worker is started once for everybody who asks.
    failed: Option<WorkerError>,
    /// How many threads wait for a worker.
    waiting: usize,
    /// The socket of the worker whose hello is waited for.
    starting: Option<UnixStream>,
    /// Whether one is being started.
    busy: bool,
    closed: bool,
}

impl Pool {
    /// Begins to start workers, so that `spare` of them are ready at any time.
    ///
    /// # Errors
    /// [`WorkerError::Inside`] in a worker; [`WorkerError::System`] when the operating system
    /// refuses a thread.
    pub fn start(program: Program, limits: Limits, spare: usize) -> Result<Self, WorkerError> {
        if is_worker() {
            return Err(WorkerError::Inside);
        }
        Self::with(program, Means::find(limits), spare)
    }

    pub(super) fn with(program: Program, means: Means, spare: usize) -> Result<Self, WorkerError> {
        let shared = Arc::new(Shared {
            program,
            means,
            spare,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (life, lives) = bounded(0);
        let keeper = Arc::clone(&shared);
        thread::Builder::new()
            .name("workers".to_owned())
            .spawn(move || keeper.keep(life, &lives))?;
        Ok(Self { shared })
    }

    /// A worker that is ready. Waits for one where there is none.
    ///
    /// # Errors
    /// [`WorkerError::NotReady`] after `within`; before that, what keeps workers from starting, or
    /// [`WorkerError::Closed`].
    pub fn take(&self, within: Duration) -> Result<Worker, WorkerError> {
        let since = Instant::now();
        let mut state = self.shared.state.lock();
        if state.waiting == 0 {
            // Long ago, perhaps: it may succeed now.
            state.failed = None;
        }
        state.waiting += 1;
        self.shared.changed.notify_all();
        let taken = loop {
            if state.closed {
                break Err(WorkerError::Closed);
            }
            if let Some(worker) = state.ready.pop_front() {
                if !worker.has_ended() {
                    break Ok(worker);
                }
                self.shared.changed.notify_all();
                continue;
            }
            if let Some(error) = state.failed.take() {
                break Err(error);
            }
            let left = within.saturating_sub(since.elapsed());
            if left.is_zero() {
                break Err(WorkerError::NotReady(within));
            }
            self.shared.changed.wait_for(&mut state, left);
        };
        state.waiting -= 1;
        self.shared.changed.notify_all();
        taken
    }

    /// Ends all waiting, now and later, with [`WorkerError::Closed`]. Workers that somebody has
    /// taken go on.
    pub fn close(&self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        if let Some(starting) = state.starting.take() {
            // The wait for its hello ends.
            let _ = starting.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
        let mut state = self.shared.state.lock();
        while state.busy {
            self.shared.changed.wait(&mut state);
        }
        state.ready.clear();
    }
}

impl Shared {
    /// The thread of the pool. It lasts as long as any worker it has started: the kernel ends them
    /// with it.
    fn keep(&self, life: Sender<()>, lives: &Receiver<()>) {
        while self.wait_until_wanted() {
            let started = self.start_one(&life);
            self.put(started);
        }
        drop(life);
        // Nobody ever sends: this waits for the last sender to be dropped.
        let _ = lives.recv();
    }

    /// False when no more is wanted ever.
    fn wait_until_wanted(&self) -> bool {
        let mut state = self.state.lock();
        while !state.closed {
            if state.failed.is_none() && state.ready.len() < self.wanted(&state) {
                state.busy = true;
                return true;
            }
            self.changed.wait(&mut state);
        }
        false
    }

    fn wanted(&self, state: &State) -> usize {
        self.spare.max(state.waiting)
    }

    fn start_one(&self, life: &Sender<()>) -> Result<Worker, WorkerError> {
        let start = |source| WorkerError::Start {
            program: self.program.path.clone(),
            source,
        };
        let worker = Worker::spawn(&self.program, &self.means, life.clone());
        let mut worker = worker.map_err(start)?;
        {
            let mut state = self.state.lock();
            if state.closed {
                return Ok(worker);
            }
            state.starting = Some(worker.socket()?);
            self.changed.notify_all();
        }
        worker.greet(&self.program, GREET_WITHIN)?;
        Ok(worker)
    }

    fn put(&self, started: Result<Worker, WorkerError>) {
        let mut state = self.state.lock();
        match started {
            Ok(worker) if !state.closed && state.ready.len() < self.wanted(&state) => {
                state.ready.push_back(worker);
            }
            // Whoever waited has given up. It ends here, before a pool that closes goes on.
            Ok(worker) => drop(worker),
            Err(_) if state.closed => {}
            Err(error) => {
                tracing::warn!(%error, "a worker did not start");
                state.failed = Some(error);
            }
        }
        state.starting = None;
        state.busy = false;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    use nix::unistd::Pid;

    use super::super::{Patience, serve};
    use super::*;

    /// Long enough for anything on a busy machine, and never waited out by a test that passes.
    const LONG: Duration = Duration::from_secs(60);

    const PATIENT: Patience = Patience {
        slice: LONG,
        at_most: LONG,
    };

    const VERSION: &str = "1";

    /// No test: what the workers of these tests run.
    #[test]
    fn worker_main() {
        if is_worker() {
            serve(VERSION, |request| match request {
                b"grow" => vec![1; 2 << 30],
                _ => request.to_vec(),
            });
        }
    }

    fn program() -> Program {
        let mut program = Program::this(VERSION);
        let args = ["--exact", "worker::pool::tests::worker_main", "--nocapture"];
        program.args = args.map(Into::into).into();
        program
    }

    /// Waits until the pool is in some state.
    fn wait_for(pool: &Pool, mut what: impl FnMut(&mut State) -> bool) {
        let mut state = pool.shared.state.lock();
        while !what(&mut state) {
            let late = pool.shared.changed.wait_for(&mut state, LONG);
            assert!(!late.timed_out());
        }
    }

    #[test]
    fn spares_are_started_before_anybody_asks() {
        let pool = Pool::start(program(), Limits::default(), 2).unwrap();
        wait_for(&pool, |state| state.ready.len() == 2);
        // Without any wait.
        let taken = [(); 2].map(|()| pool.take(Duration::ZERO).unwrap());
        wait_for(&pool, |state| state.ready.len() == 2);
        drop(taken);
        let state = pool.shared.state.lock();
        assert!(!state.busy && state.ready.len() == 2);
    }

    #[test]
    fn a_spare_that_died_is_not_handed_out() {
        let pool = Pool::start(program(), Limits::default(), 1).unwrap();
        let mut dead = 0;
        wait_for(&pool, |state| match state.ready.front() {
            Some(spare) => {
                dead = spare.pid();
                let pid = Pid::from_raw(dead.cast_signed());
                kill(pid, Signal::SIGKILL).unwrap();
                let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
                waitid(Id::Pid(pid), ended).unwrap();
                true
            }
            None => false,
        });
        assert_ne!(pool.take(LONG).unwrap().pid(), dead);
    }

    #[test]
    fn a_pool_ends_while_it_waits_for_a_greeting() {
        let mut mute = program();
        mute.path = "/bin/sleep".into();
        mute.args = vec!["1000".into()];
        let pool = Pool::start(mute, Limits::default(), 1).unwrap();
        wait_for(&pool, |state| state.starting.is_some());
        // Would wait for a minute otherwise, and leave the process behind.
        drop(pool);
    }

    #[test]
    fn a_closed_pool_lets_nobody_wait() {
        let mut mute = program();
        mute.path = "/bin/sleep".into();
        mute.args = vec!["1000".into()];
        let pool = Pool::start(mute, Limits::default(), 0).unwrap();
        let refused = |taken: Result<Worker, _>| {
            let error = taken.unwrap_err();
            assert!(matches!(error, WorkerError::Closed), "{error}");
        };
        thread::scope(|threads| {
            let waiting = threads.spawn(|| pool.take(LONG));
            wait_for(&pool, |state| {
                state.waiting == 1 && state.starting.is_some()
            });
            pool.close();
            refused(waiting.join().unwrap());
        });
        refused(pool.take(LONG));
    }

    #[test]
    fn a_spare_of_a_closed_pool_is_not_handed_out() {
        let pool = Pool::start(program(), Limits::default(), 1).unwrap();
        wait_for(&pool, |state| state.ready.len() == 1);
        pool.close();
        let error = pool.take(LONG).unwrap_err();
        assert!(matches!(error, WorkerError::Closed), "{error}");
    }

    #[test]
    fn nobody_is_started_again_and_again_that_cannot_be() {
        let mut missing = program();
        missing.path = "/nowhere".into();
        let pool = Pool::start(missing, Limits::default(), 1).unwrap();
        wait_for(&pool, |state| state.failed.is_some());
        assert!(!pool.shared.state.lock().busy);
        for _ in 0..2 {
            let error = pool.take(LONG).unwrap_err();
            assert!(matches!(error, WorkerError::Start { .. }), "{error}");
        }
    }

    #[test]
    fn without_cgroups_memory_is_bounded_by_the_process_itself() {
        let limits = Limits {
            memory: Some(1 << 30),
            cores: None,
        };
        let pool = Pool::with(program(), Means::without_cgroups(limits), 0).unwrap();
        let worker = pool.take(LONG).unwrap();
        let path = format!("/proc/{}/limits", worker.pid());
        let limits = std::fs::read_to_string(path).unwrap();
        let data = limits
            .lines()
            .find(|line| line.starts_with("Max data size"));
        assert!(data.unwrap().contains(" 1073741824 "), "{limits}");
    }

    #[test]
    fn without_cgroups_a_worker_stands_between_requests() {
        let limits = Limits {
            memory: None,
            cores: Some(0.5),
        };
        let pool = Pool::with(program(), Means::without_cgroups(limits), 0).unwrap();
        let mut worker = pool.take(LONG).unwrap();
        for _ in 0..3 {
            worker.wait_until_stopped().unwrap();
            let answer = worker.call(b"text", PATIENT, &mut || Ok(()));
            assert_eq!(answer.unwrap(), b"text");
        }
    }
}
