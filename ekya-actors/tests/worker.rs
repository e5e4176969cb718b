//! Worker processes: real ones, each of which is this test program started again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ekya_actors::LeaseError;
use ekya_actors::worker::{
    self, Exchange, Limits, Overrun, Patience, Pool, Program, Worker, WorkerError,
};
use nix::sys::signal::{Signal, raise};
use parking_lot::{Mutex, MutexGuard};

/// Long enough for anything on a busy machine, and never waited out by a test that passes.
const LONG: Duration = Duration::from_secs(60);

const PATIENT: Patience = Patience {
    slice: LONG,
    at_most: LONG,
};

const VERSION: &str = "1.2.3";

const LIMITS: Limits = Limits {
    memory: Some(256 << 20),
    cores: Some(2.0),
};

// What the workers run. These are no tests: they do nothing unless this program was started as one.

#[test]
fn worker_main() {
    if worker::is_worker() {
        worker::serve(VERSION, work);
    }
}

fn work(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let (what, argument) = text.split_once(' ').unwrap_or((&text, ""));
    match what {
        "abort" => process::abort(),
        // Once is not enough: Rust's handler looks for an overflow of the stack, and returns.
        "crash" => loop {
            raise(Signal::SIGSEGV).expect("a signal");
        },
        "kill" => raise(Signal::SIGKILL).expect("a signal"),
        "exit" => process::exit(argument.parse().expect("a status")),
        "panic" => panic!("as it was told to"),
        "hang" => loop {
            std::hint::spin_loop();
        },
        "grow" => drop((0..4096).map(|_| vec![1_u8; 1 << 20]).collect::<Vec<_>>()),
        "until" => {
            while !Path::new(argument).exists() {
                std::hint::spin_loop();
            }
        }
        "read" => return fs::read(argument).expect("the file"),
        "pool" => {
            let refused = Pool::start(program(), Limits::default(), 1).expect_err("refused");
            return refused.to_string().into();
        }
        "long" => return vec![7; 5 << 20],
        _ => {}
    }
    request.to_ascii_uppercase()
}

/// A worker that breaks the protocol, which is written down here as other builds know it.
#[test]
fn rogue_main() {
    if !worker::is_worker() {
        return;
    }
    let stdin = std::io::stdin();
    let socket = stdin.as_fd().try_clone_to_owned().expect("a socket");
    let mut socket = UnixStream::from(socket);
    let rogue = std::env::var("ROGUE").expect("a kind of mischief");
    let protocol: u32 = if rogue == "protocol" { 999 } else { 1 };
    let mut hello = b"ekyawork".to_vec();
    hello.extend(protocol.to_le_bytes());
    hello.extend(process::id().to_le_bytes());
    hello.extend(VERSION.as_bytes());
    let frame = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
    match &*rogue {
        "greeting" => socket.write_all(&frame(b"good morning")),
        _ => socket.write_all(&frame(&hello)),
    }
    .expect("room in the socket");
    // The request: a length, and a byte.
    socket.read_exact(&mut [0; 5]).expect("a request");
    let answer = match &*rogue {
        "text" => b"Segmentation fault, perhaps\n".to_vec(),
        "long" => ((256_u32 << 20) + 1).to_le_bytes().to_vec(),
        "two" => [frame(b"one"), frame(b"two")].concat(),
        "cut" => frame(b"cut off")[..6].to_vec(),
        _ => Vec::new(),
    };
    // The other side may have hung up in the middle.
    let _ = socket.write_all(&answer);
    if rogue == "cut" {
        process::exit(3);
    }
    let _ = socket.shutdown(std::net::Shutdown::Both);
    loop {
        thread::park();
    }
}

/// A node with three workers: one works, one is stopped, one waits.
#[test]
fn node_main() {
    if std::env::var_os("NODE").is_none() {
        return;
    }
    let _exchange = Exchange::new().expect("a folder");
    let pool = Pool::start(program(), LIMITS, 1).expect("a pool");
    let mut working = pool.take(LONG).expect("a worker");
    let mut stopped = pool.take(LONG).expect("a worker");
    let _waiting = pool.take(LONG).expect("a worker");
    thread::spawn(move || working.call(b"hang", PATIENT, &mut || Ok(())));
    let impatient = Patience {
        slice: Duration::ZERO,
        ..PATIENT
    };
    let mut hold = || {
        println!("\nready");
        loop {
            thread::park();
        }
    };
    drop(stopped.call(b"hang", impatient, &mut hold));
}

fn started_as(name: &str) -> Program {
    let mut program = Program::this(VERSION);
    program.args = ["--exact", name, "--nocapture"].map(Into::into).into();
    program
}

fn program() -> Program {
    started_as("worker_main")
}

fn rogue(kind: &str) -> Program {
    let mut program = started_as("rogue_main");
    program.envs = vec![("ROGUE".into(), kind.into())];
    program
}

/// Has nothing to give back.
fn go_on() -> Result<(), LeaseError> {
    Ok(())
}

fn ask(worker: &mut Worker, request: &str) -> Result<Vec<u8>, WorkerError> {
    worker.call(request.as_bytes(), PATIENT, &mut go_on)
}

/// What this process has: children, descriptors, folders, cgroups.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    children: BTreeSet<u32>,
    descriptors: usize,
    folders: Vec<String>,
    cgroups: Vec<String>,
}

fn holdings_of(pid: u32) -> Holdings {
    let descriptors = fs::read_dir("/proc/self/fd")
        .expect("it is mounted")
        .count();
    let mut cgroups = Vec::new();
    find(
        Path::new("/sys/fs/cgroup"),
        &format!("ekya-worker-{pid}-"),
        &mut cgroups,
    );
    let mut folders = Vec::new();
    find(
        Path::new("/dev/shm"),
        &format!("ekya-exchange-{pid}-"),
        &mut folders,
    );
    Holdings {
        children: children(pid),
        descriptors,
        folders,
        cgroups,
    }
}

fn children(of: u32) -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
    // The parent comes after the name, which is in parentheses, and the state.
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.split(' ').nth(1)?.parse().ok()
    };
    pids.filter(|pid| parent(pid) == Some(of)).collect()
}

fn find(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            found.push(name);
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), prefix, found);
        }
    }
}

/// A test that has the process for itself, and leaves nothing behind.
struct Alone {
    before: Holdings,
    _lock: MutexGuard<'static, ()>,
}

fn alone() -> Alone {
    static LOCK: Mutex<()> = Mutex::new(());
    let lock = LOCK.lock();
    Alone {
        before: holdings_of(process::id()),
        _lock: lock,
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(holdings_of(process::id()), self.before);
        }
    }
}

#[test]
fn a_worker_answers() {
    let _alone = alone();
    let pool = Pool::start(program(), Limits::default(), 1).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    for request in ["text", "", "more"] {
        let answer = ask(&mut worker, request).unwrap();
        assert_eq!(answer, request.to_ascii_uppercase().into_bytes());
    }
    assert_eq!(ask(&mut worker, "long").unwrap(), vec![7; 5 << 20]);
    let long = "x".repeat(5 << 20);
    assert_eq!(ask(&mut worker, &long).unwrap().len(), long.len());
    assert!(worker.cpu_time() > Some(Duration::ZERO));
}

#[test]
fn workers_outlive_their_pool() {
    let _alone = alone();
    let pool = Pool::start(program(), LIMITS, 2).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    drop(pool);
    assert_eq!(children(process::id()), [worker.pid()].into());
    assert_eq!(ask(&mut worker, "text").unwrap(), b"TEXT");
}

#[test]
fn large_data_goes_through_files() {
    let _alone = alone();
    let exchange = Exchange::new().unwrap();
    let pool = Pool::start(program(), LIMITS, 0).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    let parcel = exchange.place(3 << 20).unwrap();
    let weights = vec![9; 3 << 20];
    fs::write(&parcel, &weights).unwrap();
    let request = format!("read {}", parcel.display());
    assert!(ask(&mut worker, &request).unwrap() == weights);
}

/// Run with a shared memory of one megabyte.
#[test]
fn small_main() {
    if std::env::var_os("SMALL").is_none() {
        return;
    }
    let exchange = Exchange::new().expect("a folder");
    let (small, large) = (1 << 10, 2 << 20);
    assert!(exchange.place(small).unwrap().starts_with("/dev/shm"));
    let instead = exchange.place(large).unwrap();
    assert!(instead.starts_with(std::env::temp_dir()));
    fs::write(instead, vec![1; 2 << 20]).unwrap();
    // Others take the room while it is written.
    let parcel = exchange.place(small).unwrap();
    let full = fs::write(&parcel, vec![1; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert!(!exchange.place(small).unwrap().starts_with("/dev/shm"));
    drop(parcel);
    assert!(exchange.place(small).unwrap().starts_with("/dev/shm"));
    println!("done");
}

#[test]
fn data_that_has_no_room_in_shared_memory_goes_elsewhere() {
    let _alone = alone();
    let program = std::env::current_exe().unwrap();
    let script = r#"mount -t tmpfs -o size=1m none /dev/shm || exit 42
        exec "$0" --exact small_main --nocapture"#;
    let small = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(program)
        .env("SMALL", "")
        .output();
    match small {
        Ok(small) if small.status.success() => {
            assert!(String::from_utf8_lossy(&small.stdout).contains("done"));
        }
        Ok(small) if small.status.code() == Some(101) => {
            panic!("{}", String::from_utf8_lossy(&small.stderr));
        }
        other => eprintln!("not tested: this system lets nobody mount anything: {other:?}"),
    }
}

/// Every death is an error that says which, and the next worker is a fresh one.
#[test]
fn however_a_worker_dies_the_next_one_answers() {
    let _alone = alone();
    let pool = Pool::start(program(), LIMITS, 1).unwrap();
    let deaths = [
        ("abort", "killed by signal 6 (SIGABRT)"),
        ("crash", "killed by signal 11 (SIGSEGV)"),
        ("kill", "killed by signal 9 (SIGKILL)"),
        ("panic", "exit status 101"),
        ("exit 0", "exit status 0"),
        ("exit 7", "exit status 7"),
    ];
    for (request, expected) in deaths {
        let mut worker = pool.take(LONG).unwrap();
        match ask(&mut worker, request) {
            Err(WorkerError::Died { how }) => assert_eq!(how, expected),
            other => panic!("{request}: {other:?}"),
        }
        let again = ask(&mut worker, "text");
        assert!(matches!(again, Err(WorkerError::Died { .. })), "{again:?}");
        assert_eq!(worker.cpu_time(), None);
        let mut next = pool.take(LONG).unwrap();
        assert_ne!(next.pid(), worker.pid());
        assert_eq!(ask(&mut next, "text").unwrap(), b"TEXT");
    }
}

#[test]
fn memory_is_bounded() {
    let _alone = alone();
    let pool = Pool::start(program(), LIMITS, 0).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    let error = ask(&mut worker, "grow").unwrap_err();
    match error {
        WorkerError::OutOfMemory { limit } => assert_eq!(Some(limit), LIMITS.memory),
        // Where there is no cgroup, an allocation fails.
        WorkerError::Died { how } => assert_eq!(how, "killed by signal 6 (SIGABRT)"),
        other => panic!("{other}"),
    }
    let mut next = pool.take(LONG).unwrap();
    assert_eq!(ask(&mut next, "text").unwrap(), b"TEXT");
}

#[test]
fn a_worker_that_hangs_gives_others_their_turns_and_is_killed() {
    let _alone = alone();
    let pool = Pool::start(program(), LIMITS, 0).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    let patience = Patience {
        slice: Duration::from_millis(10),
        at_most: Duration::from_secs(1),
    };
    let mut turns = 0;
    let mut overrun = || {
        turns += 1;
        Ok(())
    };
    let error = worker.call(b"hang", patience, &mut overrun).unwrap_err();
    assert!(matches!(error, WorkerError::Hung(after) if after == patience.at_most));
    assert!(turns > 0);
    assert!(children(process::id()).is_empty());
}

#[test]
fn a_worker_without_a_further_turn_is_killed() {
    let _alone = alone();
    let pool = Pool::start(program(), LIMITS, 0).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    let patience = Patience {
        slice: Duration::from_millis(1),
        ..PATIENT
    };
    let mut overrun = || Err(LeaseError::Closed);
    let error = worker.call(b"hang", patience, &mut overrun).unwrap_err();
    assert!(matches!(error, WorkerError::Stopped(LeaseError::Closed)));
    assert!(children(process::id()).is_empty());
}

#[test]
fn between_its_turns_a_worker_does_not_run() {
    let _alone = alone();
    let exchange = Exchange::new().unwrap();
    let pool = Pool::start(program(), LIMITS, 0).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    let mut other = pool.take(LONG).unwrap();
    let done = exchange.place(0).unwrap();
    let request = format!("until {}", done.display());
    let stat = format!("/proc/{}/stat", worker.pid());
    let clock = nix::time::ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(
        worker.pid().cast_signed(),
    ))
    .unwrap();
    let patience = Patience {
        slice: Duration::from_millis(5),
        ..PATIENT
    };
    let turns = AtomicU32::new(0);
    let mut overrun = || {
        let stands = || fs::read_to_string(&stat).unwrap().contains(") T ");
        assert!(stands());
        let before = clock.now().unwrap();
        // Time for it to run, if it could.
        ask(&mut other, "long").unwrap();
        assert!(stands());
        assert_eq!(clock.now().unwrap(), before);
        if turns.fetch_add(1, Ordering::SeqCst) == 3 {
            fs::write(&done, b"").unwrap();
        }
        Ok(())
    };
    let answer = worker.call(request.as_bytes(), patience, &mut overrun);
    assert_eq!(answer.unwrap(), request.to_ascii_uppercase().into_bytes());
    assert!(turns.into_inner() >= 4);
    // It runs on as before.
    assert_eq!(ask(&mut worker, "text").unwrap(), b"TEXT");
}

/// Whose process runs on until it has done so a few times.
struct Unrivalled<'a> {
    turns: u32,
    stat: &'a str,
    done: &'a Path,
}

impl Overrun for Unrivalled<'_> {
    fn go_on(&mut self) -> bool {
        assert!(
            !fs::read_to_string(self.stat)
                .expect("its state")
                .contains(") T ")
        );
        self.turns += 1;
        if self.turns == 3 {
            fs::write(self.done, b"").expect("room");
        }
        true
    }

    fn next_turn(&mut self) -> Result<(), LeaseError> {
        panic!("nobody else waits");
    }
}

#[test]
fn a_worker_runs_on_where_nobody_else_waits() {
    let _alone = alone();
    let exchange = Exchange::new().unwrap();
    let pool = Pool::start(program(), LIMITS, 0).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    let done = exchange.place(0).unwrap();
    let request = format!("until {}", done.display());
    let patience = Patience {
        slice: Duration::from_millis(1),
        ..PATIENT
    };
    let mut overrun = Unrivalled {
        turns: 0,
        stat: &format!("/proc/{}/stat", worker.pid()),
        done: &done,
    };
    worker
        .call(request.as_bytes(), patience, &mut overrun)
        .unwrap();
    assert!(overrun.turns >= 3);
}

#[test]
fn what_is_no_answer_is_an_error() {
    let _alone = alone();
    for kind in ["text", "long", "two"] {
        let pool = Pool::start(rogue(kind), LIMITS, 0).unwrap();
        let mut worker = pool.take(LONG).unwrap();
        let error = ask(&mut worker, "x").unwrap_err();
        assert!(matches!(error, WorkerError::Garbage(_)), "{kind}: {error}");
        assert!(children(process::id()).is_empty());
    }
}

#[test]
fn a_worker_that_hangs_up_is_killed() {
    let _alone = alone();
    for (kind, expected) in [
        ("cut", "exit status 3"),
        ("mute", "it closed its socket and ran on"),
    ] {
        let pool = Pool::start(rogue(kind), LIMITS, 0).unwrap();
        let mut worker = pool.take(LONG).unwrap();
        match ask(&mut worker, "x") {
            Err(WorkerError::Died { how }) => assert_eq!(how, expected),
            other => panic!("{kind}: {other:?}"),
        }
    }
}

#[test]
fn another_build_is_refused() {
    let _alone = alone();
    let mut other = program();
    other.version = "1.2.4".to_owned();
    let newer = rogue("protocol");
    for program in [other, newer] {
        let pool = Pool::start(program, LIMITS, 0).unwrap();
        let error = pool.take(LONG).unwrap_err();
        assert!(matches!(error, WorkerError::Version { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("version 1.2.3"), "{text}");
        assert!(
            text.contains("version 1.2.4") || text.contains("protocol 999"),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_worker_is_refused() {
    let _alone = alone();
    let pool = Pool::start(rogue("greeting"), LIMITS, 0).unwrap();
    let error = pool.take(LONG).unwrap_err();
    assert!(matches!(error, WorkerError::Garbage(_)), "{error}");
    let mut nothing = program();
    nothing.path = "/bin/true".into();
    let pool = Pool::start(nothing, LIMITS, 0).unwrap();
    let error = pool.take(LONG).unwrap_err();
    assert!(matches!(error, WorkerError::Died { .. }), "{error}");
}

#[test]
fn a_request_can_be_too_long() {
    let _alone = alone();
    let pool = Pool::start(program(), LIMITS, 0).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    let request = vec![0; 257 << 20];
    let error = worker.call(&request, PATIENT, &mut go_on).unwrap_err();
    assert!(matches!(error, WorkerError::TooLong { .. }), "{error}");
}

#[test]
fn a_worker_starts_no_workers() {
    let _alone = alone();
    let pool = Pool::start(program(), LIMITS, 0).unwrap();
    let mut worker = pool.take(LONG).unwrap();
    let answer = ask(&mut worker, "pool").unwrap();
    assert_eq!(answer, WorkerError::Inside.to_string().into_bytes());
}

/// Working, stopped or waiting: none outlives its node, and the next node tidies up.
#[test]
fn workers_end_with_their_node() {
    let _alone = alone();
    let mut node = Command::new("/proc/self/exe")
        .args(["--exact", "node_main", "--nocapture"])
        .env("NODE", "")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let ready = lines.find(|line| line.as_ref().is_ok_and(|line| line == "ready"));
    assert!(ready.is_some());
    assert!(holdings_of(node.id()).children.len() >= 3);
    assert_eq!(holdings_of(node.id()).folders.len(), 1);
    node.kill().unwrap();
    node.wait().unwrap();
    // Every worker has the other end, until it ends.
    let mut rest = Vec::new();
    node.stderr.take().unwrap().read_to_end(&mut rest).unwrap();
    drop(Exchange::new().unwrap());
    assert!(holdings_of(node.id()).folders.is_empty());
    // They are still on their way out, with the socket closed and the group not yet left.
    let since = Instant::now();
    while !holdings_of(node.id()).cgroups.is_empty() {
        drop(Pool::start(program(), LIMITS, 0).unwrap());
        assert!(since.elapsed() < LONG);
    }
}
