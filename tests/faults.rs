//! Every way in which a worker can die, while it trains and while weights are taken out of it, beside
//! inference: the work fails with an error that says so, the next goes on in another worker, inference
//! goes on all the time, and at the end nothing is left.
//!
//! `EKYA_FAULTS` says how often each is tried, 5 times where it is not set; `cargo xtask soak faults` tries
//! each a hundred times.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod processes;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ekya::config::{ClassifierConfig, StudentConfig};
use ekya::learn::Turn;
use ekya::worker::{Host, HostedStudent, Hosting};
use ekya_actors::worker::{Program, is_worker};
use ekya_actors::{Device, JobHandle};
use ekya_models::{
    Architecture, BBox, Classifier, Example, Image, ModelError, Object, Placement, Student,
    Training,
};
use ekya_sched::{RetrainingConfig, Share};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use processes::children;

/// Names the folder of the pipes through which workers are told to die.
const PIPES: &str = "EKYA_FAULTS_PIPES";
/// Of a worker, in bytes.
const MEMORY: u64 = 768 << 20;
/// A request that takes longer is taken for one that hangs.
const HUNG: Duration = Duration::from_secs(3);

/// How a worker dies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Abort,
    Crash,
    Kill,
    OutOfMemory,
    Hang,
    Garbage,
}

const FAULTS: [Fault; 6] = [
    Fault::Abort,
    Fault::Crash,
    Fault::Kill,
    Fault::OutOfMemory,
    Fault::Hang,
    Fault::Garbage,
];

/// No test: what the workers of this one run. A thread waits to be told how to die.
#[test]
fn worker_main() {
    if is_worker() {
        let node = io::stdin().as_fd().try_clone_to_owned().unwrap();
        let pipe = PathBuf::from(std::env::var_os(PIPES).unwrap()).join(process::id().to_string());
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        thread::spawn(move || {
            let mut fault = String::new();
            // Waits until somebody writes.
            File::open(pipe)
                .unwrap()
                .read_to_string(&mut fault)
                .unwrap();
            match &*fault {
                "Abort" => process::abort(),
                // Once is not enough: Rust's handler looks for an overflow of the stack, and returns.
                "Crash" => loop {
                    raise(Signal::SIGSEGV).unwrap();
                },
                "OutOfMemory" => drop(
                    (0..1 << 20)
                        .map(|_| vec![1_u8; 1 << 20])
                        .collect::<Vec<_>>(),
                ),
                "Garbage" => {
                    drop(std::os::unix::net::UnixStream::from(node).write_all(&[0xff; 64]))
                }
                other => panic!("no fault: {other}"),
            }
        });
        ekya::worker::serve_if_asked();
    }
}

impl Fault {
    /// Makes it happen to a worker.
    fn strike(self, worker: u32, pipes: &Path, stop: &AtomicBool) {
        let pid = Pid::from_raw(worker.cast_signed());
        match self {
            Self::Kill => kill(pid, Signal::SIGKILL).unwrap(),
            // It is woken for each of its turns, and gets nowhere.
            Self::Hang => {
                while !stop.load(Ordering::Relaxed) && kill(pid, Signal::SIGSTOP).is_ok() {
                    thread::yield_now();
                }
            }
            _ => {
                let mut pipe = OpenOptions::new();
                pipe.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
                // Nobody reads before it is ready, nor when it has been told already.
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(mut pipe) = pipe.open(pipes.join(worker.to_string())) {
                        return write!(pipe, "{self:?}").unwrap();
                    }
                    thread::yield_now();
                }
            }
        }
    }

    /// What the error says then.
    fn is_told(self, error: &str) -> bool {
        let words: &[&str] = match self {
            Self::Abort => &["SIGABRT"],
            Self::Crash => &["SIGSEGV"],
            Self::Kill => &["SIGKILL"],
            // Without a cgroup, an allocation fails.
            Self::OutOfMemory => &["out of memory", "SIGABRT", "exit status"],
            Self::Hang => &["had not answered"],
            Self::Garbage => &["broke the protocol"],
        };
        words.iter().any(|word| error.contains(word))
    }
}

const CLASSES: usize = 3;
const REGION: BBox = BBox {
    x1: 4.0,
    y1: 4.0,
    x2: 44.0,
    y2: 44.0,
};

fn example(class: usize) -> Example {
    let shade = u8::try_from(60 * class + 40).unwrap();
    Example {
        image: Arc::new(Image::new(48, 48, vec![shade; 48 * 48 * 3]).unwrap()),
        objects: vec![Object {
            class,
            score: 1.0,
            bbox: REGION,
        }],
    }
}

fn student(architecture: Architecture) -> Classifier {
    Classifier::new(architecture, CLASSES, 16, Placement::Cpu, 7).unwrap()
}

fn answer(student: &dyn Student) -> Vec<Object> {
    let example = example(1);
    student.infer(&example.image, &[REGION], 1.0).unwrap()
}

/// Two jobs of a device: one trains in workers, the other infers in this process.
struct Bed {
    device: Device,
    host: Arc<Host>,
    pipes: tempfile::TempDir,
}

impl Bed {
    fn new() -> (Self, JobHandle) {
        let device = Device::new("cpu", 1);
        let job = |name, micro| device.job_with(name, Share::from_micro(micro)).unwrap();
        let (training, inference) = (job("training", 700_000), job("inference", 300_000));
        let pipes = tempfile::tempdir().unwrap();
        let mut program = Program::this(env!("CARGO_PKG_VERSION"));
        program.args = ["--exact", "worker_main", "--nocapture"]
            .map(Into::into)
            .into();
        program.envs.push((PIPES.into(), pipes.path().into()));
        let hosting = Hosting::start_program(program, Placement::Cpu, 1, Some(MEMORY)).unwrap();
        let turn = Arc::new(Turn::new(Arc::new(training)));
        let host = hosting.host_within(turn, Duration::from_millis(50), HUNG);
        let bed = Self {
            device,
            host,
            pipes,
        };
        (bed, inference)
    }

    fn hosted(&self, architecture: Architecture) -> HostedStudent {
        let config = StudentConfig::Classifier(ClassifierConfig {
            architecture,
            ..ClassifierConfig::default()
        });
        HostedStudent::new(&self.host, &config, &student(architecture)).unwrap()
    }

    /// Does some work while a fault strikes the worker.
    fn struck<R>(
        &self,
        fault: Fault,
        work: impl FnOnce() -> Result<R, ModelError>,
    ) -> Result<R, ModelError> {
        let worker = self.host.pid().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| fault.strike(worker, self.pipes.path(), &stop));
            let result = work();
            stop.store(true, Ordering::Relaxed);
            result
        })
    }

    fn while_it_trains(&self, fault: Fault) -> ModelError {
        let hosted = self.hosted(Architecture::Small);
        let mut training = begun(&hosted).unwrap();
        let error = self.struck(fault, || {
            loop {
                training.step()?;
            }
        });
        error
            .map(|never: std::convert::Infallible| never)
            .unwrap_err()
    }

    fn while_weights_are_taken_out(&self, fault: Fault) -> ModelError {
        let hosted = self.hosted(Architecture::ResNet18);
        let training = begun(&hosted).unwrap();
        let error = self.struck(fault, || {
            loop {
                training.student()?.fork()?;
            }
        });
        error
            .map(|never: std::convert::Infallible| never)
            .unwrap_err()
    }
}

/// A training that has made a step.
fn begun(student: &dyn Student) -> Result<Box<dyn Training>, ModelError> {
    let examples: Vec<_> = (0..CLASSES).map(example).collect();
    let config = RetrainingConfig {
        epochs: 1_000_000,
        ..RetrainingConfig::default()
    };
    let mut training = student.train(&examples, &config, 5)?;
    training.step()?;
    Ok(training)
}

/// What this process has and must not keep: processes, descriptors, shared memory, cgroups.
fn left() -> Vec<String> {
    let children = children(process::id()).into_iter();
    let mut left: Vec<_> = children.map(|child| child.to_string()).collect();
    let own = |prefix: &str| format!("{prefix}{}-", process::id());
    let shared = fs::read_dir("/dev/shm").unwrap().filter_map(Result::ok);
    let names = shared.filter_map(|entry| entry.file_name().into_string().ok());
    left.extend(names.filter(|name| name.starts_with(&own("ekya-exchange-"))));
    let sockets = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(Result::ok);
    let targets = sockets.filter_map(|fd| {
        fs::read_link(fd.path())
            .ok()?
            .into_os_string()
            .into_string()
            .ok()
    });
    left.extend(
        targets.filter(|target| target.starts_with("socket:") || target.starts_with("pipe:")),
    );
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())) {
            let name = entry.file_name().into_string().unwrap_or_default();
            left.extend(name.starts_with(&own("ekya-worker-")).then_some(name));
            folders.push(entry.path());
        }
    }
    left.sort();
    left
}

#[test]
fn whatever_a_worker_dies_of_the_next_goes_on_and_inference_all_the_time() {
    if is_worker() {
        return;
    }
    let times = std::env::var("EKYA_FAULTS").map_or(5, |times| times.parse().unwrap());
    let before = left();
    let (bed, inference) = Bed::new();
    let (answered, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let local = student(Architecture::Small);
    let expected = answer(&local);
    let device = bed.device.clone();
    thread::scope(|scope| {
        scope.spawn(|| {
            let local = student(Architecture::Small);
            while !over.load(Ordering::Relaxed) {
                let lease = inference.lease().unwrap();
                assert_eq!(answer(&local), expected);
                drop(lease);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        // It must end, whatever happens here.
        let _over = Over(&over);
        for fault in FAULTS.into_iter().cycle().take(FAULTS.len() * times) {
            let since = Instant::now();
            for error in [
                bed.while_it_trains(fault),
                bed.while_weights_are_taken_out(fault),
            ] {
                assert!(
                    matches!(error, ModelError::Process(_)),
                    "{fault:?}: {error:?}"
                );
                assert!(fault.is_told(&error.to_string()), "{fault:?}: {error}");
            }
            assert_eq!(answer(&bed.hosted(Architecture::Small)), expected);
            eprintln!("{fault:?}: {:.1} s", since.elapsed().as_secs_f64());
            let so_far = answered.load(Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) <= so_far {
                thread::yield_now();
            }
        }
    });
    drop((bed, inference));
    assert_eq!(device.free(), Share::WHOLE);
    assert_eq!(device.usage(), []);
    assert_eq!(left(), before);
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
