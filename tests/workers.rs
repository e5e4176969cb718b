//! Students in worker processes: they answer and learn as in this process, and whatever becomes of a
//! process costs a retraining and no frame.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::ffi::OsStr;
mod processes;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ekya::config::{ClassifierConfig, StudentConfig};
use ekya::learn::{LearnError, Turn, Work};
use ekya::worker::{Host, HostedStudent, Hosting};
use ekya_actors::Device;
use ekya_actors::worker::Program;
use ekya_models::{
    Architecture, BBox, Classifier, Example, Image, ModelError, Object, Placement, Student,
};
use ekya_sched::{RetrainingConfig, Share};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use processes::children;

const CLASSES: usize = 3;
const REGION: BBox = BBox {
    x1: 4.0,
    y1: 4.0,
    x2: 44.0,
    y2: 44.0,
};

/// A worker of the `ekya` program, on a device of its own.
fn host() -> Arc<Host> {
    let device = Device::new("cpu", 1);
    hosting().host(turn(&device), Duration::from_millis(50))
}

fn hosting() -> Arc<Hosting> {
    let program = Program {
        path: env!("CARGO_BIN_EXE_ekya").into(),
        ..Program::this(env!("CARGO_PKG_VERSION"))
    };
    Hosting::start_program(program, Placement::Cpu, 1, None).unwrap()
}

/// The turn of a job that has the device for itself.
fn turn(device: &Device) -> Arc<Turn> {
    let job = device.job_with("training", Share::WHOLE).unwrap();
    Arc::new(Turn::new(Arc::new(job)))
}

fn student() -> Classifier {
    Classifier::new(Architecture::Small, CLASSES, 16, Placement::Cpu, 7).unwrap()
}

fn hosted(host: &Arc<Host>, student: &Classifier) -> HostedStudent {
    let config = StudentConfig::Classifier(ClassifierConfig {
        architecture: Architecture::Small,
        ..ClassifierConfig::default()
    });
    HostedStudent::new(host, &config, student).unwrap()
}

/// Pictures of one colour each, which is their class.
fn examples() -> Vec<Example> {
    let picture = |index: usize| {
        let mut rgb = vec![20; 48 * 48 * 3];
        rgb.iter_mut()
            .skip(index % 3)
            .step_by(3)
            .for_each(|value| *value = 200);
        Example {
            image: Arc::new(Image::new(48, 48, rgb).unwrap()),
            objects: vec![Object {
                class: index % CLASSES,
                score: 1.0,
                bbox: REGION,
            }],
        }
    };
    (0..12).map(picture).collect()
}

fn answers(student: &dyn Student) -> Vec<Object> {
    let answer = |example: &Example| student.infer(&example.image, &[REGION], 1.0).unwrap();
    examples().iter().flat_map(answer).collect()
}

/// Trains to the end.
fn trained(student: &dyn Student) -> Result<Box<dyn Student>, ModelError> {
    let mut training = student.train(&examples(), &config(), 5)?;
    for _ in 0..training.steps() {
        training.step()?;
    }
    training.student()
}

fn config() -> RetrainingConfig {
    RetrainingConfig {
        epochs: 3,
        batch_size: 8,
        data_fraction: 1.0,
        layers_frozen: 0,
        ..RetrainingConfig::default()
    }
}

fn send(host: &Host, signal: Signal) {
    let pid = i32::try_from(host.pid().unwrap()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn a_hosted_student_answers_and_learns_as_one_in_this_process() {
    ekya_models::set_compute_threads(1);
    let (host, local) = (host(), student());
    let hosted = hosted(&host, &local);
    assert_eq!(hosted.network(), local.network());
    assert_eq!(answers(&hosted), answers(&local));
    let example = examples().remove(0);
    let features = |student: &dyn Student| student.features(&example.image, &[REGION]).unwrap();
    assert_eq!(features(&hosted), features(&local));

    let (there, here) = (trained(&hosted).unwrap(), trained(&local).unwrap());
    assert_eq!(answers(&*there), answers(&*here));
    assert_ne!(answers(&*there), answers(&local), "it has learnt nothing");
    let brought = there.fork().unwrap();
    drop((there, hosted, host));
    assert_eq!(
        answers(&*brought),
        answers(&*here),
        "the copy needs its worker"
    );
}

#[test]
fn errors_of_a_model_come_back_as_they_are() {
    let (host, local) = (host(), student());
    let hosted = hosted(&host, &local);
    let nothing = hosted.train(&[], &config(), 1).err().unwrap();
    assert!(matches!(nothing, ModelError::NoExamples), "{nothing:?}");
    let wrong = RetrainingConfig {
        epochs: 0,
        ..config()
    };
    let refused = |student: &dyn Student| {
        let refused = student.train(&examples(), &wrong, 1).err().unwrap();
        assert!(matches!(refused, ModelError::BadInput(_)), "{refused:?}");
        refused.to_string()
    };
    assert_eq!(refused(&hosted), refused(&local));
    assert_eq!(answers(&hosted), answers(&local), "it goes on after errors");
}

#[test]
fn a_student_survives_its_process_and_a_training_does_not() {
    let (host, local) = (host(), student());
    let hosted = hosted(&host, &local);
    // (SIGSEGV from outside is not among them: Rust's handler takes the first for a false alarm.)
    for signal in [
        Signal::SIGKILL,
        Signal::SIGABRT,
        Signal::SIGILL,
        Signal::SIGTERM,
    ] {
        let mut training = hosted.train(&examples(), &config(), 5).unwrap();
        training.step().unwrap();
        let taken = training.student().unwrap();
        let before = host.pid().unwrap();
        send(&host, signal);
        let lost = training.step().unwrap_err();
        assert!(matches!(lost, ModelError::Process(_)), "{lost:?}");
        assert!(lost.to_string().contains(signal.as_str()), "{lost}");
        assert_eq!(answers(&hosted), answers(&local));
        assert_ne!(host.pid().unwrap(), before);
        // They were never outside of that process.
        let example = examples().remove(0);
        let gone = taken.infer(&example.image, &[REGION], 1.0).unwrap_err();
        assert!(matches!(gone, ModelError::Process(_)), "{gone:?}");
        assert!(matches!(training.step(), Err(ModelError::Process(_))));
    }
}

#[test]
fn what_a_hosted_student_saves_is_a_checkpoint() {
    let (host, local) = (host(), student());
    let hosted = hosted(&host, &local);
    let there = trained(&hosted).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, student) in [("given", &hosted as &dyn Student), ("trained", &*there)] {
        let path = folder.path().join(name);
        student.save(&path).unwrap();
        let loaded = Classifier::load(&path, Placement::Cpu).unwrap();
        assert_eq!(answers(&loaded), answers(student));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// The files that this process and its workers exchange in shared memory.
fn exchanged() -> Vec<PathBuf> {
    let inside = |folder: PathBuf| {
        let files = std::fs::read_dir(folder).into_iter().flatten();
        files.map(|file| file.unwrap().path())
    };
    let prefix = format!("ekya-exchange-{}-", std::process::id());
    inside("/dev/shm".into())
        .filter(|folder| folder.to_string_lossy().contains(&prefix))
        .flat_map(inside)
        .collect()
}

#[test]
fn nothing_is_left_of_weights_in_whose_midst_a_worker_died() {
    let host = host();
    let local = Classifier::new(Architecture::ResNet101, CLASSES, 16, Placement::Cpu, 7).unwrap();
    let config = StudentConfig::Classifier(ClassifierConfig {
        architecture: Architecture::ResNet101,
        ..ClassifierConfig::default()
    });
    let hosted = HostedStudent::new(&host, &config, &local).unwrap();
    let training = hosted.train(&examples(), &RetrainingConfig::default(), 1);
    let taken = training.unwrap().student().unwrap();
    // What they exchange lies where the weights that were put in do; other tests have folders of their own.
    let is_large = |file: &PathBuf| file.metadata().is_ok_and(|file| file.len() > 100 << 20);
    let put_in = exchanged().into_iter().find(is_large).unwrap();
    let exchanged = || -> Vec<PathBuf> {
        let here = |file: &PathBuf| file.parent() == put_in.parent();
        exchanged().into_iter().filter(here).collect()
    };
    let before = exchanged();
    let lost = std::thread::scope(|threads| {
        let pid = host.pid().unwrap();
        let bringing = threads.spawn(move || taken.fork().err());
        // As soon as there is something of the file, which takes long to be whole.
        while exchanged().iter().all(|file| before.contains(file)) {
            std::hint::spin_loop();
        }
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        bringing.join().unwrap()
    });
    assert!(matches!(lost, Some(ModelError::Process(_))), "{lost:?}");
    let left = exchanged();
    assert!(left.iter().all(|file| before.contains(file)), "{left:?}");
}

/// Megabytes of memory that belong to the worker alone.
fn own_memory(host: &Host) -> u64 {
    let path = format!("/proc/{}/status", host.pid().unwrap());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with("RssAnon:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() >> 10
}

#[test]
fn pictures_leave_the_worker_when_they_are_to_be_forgotten() {
    let (host, local) = (host(), student());
    let hosted = hosted(&host, &local);
    hosted.load().unwrap();
    let side = 1 << 12;
    // 48 MB, and as many of every byte.
    let picture = Image::new(side, side, vec![7; 3 * side * side]).unwrap();
    let answer = || hosted.infer(&picture, &[REGION], 1.0).unwrap();
    let answered = answer();
    let with = own_memory(&host);
    hosted.forget_pictures();
    let without = own_memory(&host);
    assert!(without + 40 < with, "{with} MB, {without} MB without it");
    assert_eq!(answer(), answered);
}

#[test]
fn what_nobody_wants_any_more_ends_in_the_middle_of_a_request() {
    let (hosting, local) = (hosting(), student());
    for the_run_ends in [false, true] {
        let device = Device::new("cpu", 1);
        let turn = turn(&device);
        let host = hosting.host(turn.clone(), Duration::from_millis(1));
        let hosted = hosted(&host, &local);
        hosted.load().unwrap();
        let cancelled = Arc::<AtomicBool>::default();
        let mut work = Work::new(turn, cancelled.clone());
        let picture = &examples()[0].image;
        let ended = work.minibatch(|| {
            if the_run_ends {
                device.close();
            } else {
                cancelled.store(true, Ordering::Relaxed);
            }
            // Many times as long as a turn.
            hosted.infer(picture, &vec![REGION; 20_000], 1.0)
        });
        assert!(matches!(ended, Err(LearnError::Cancelled)), "{ended:?}");
    }
}

#[test]
fn who_waits_for_a_worker_at_the_end_of_a_run_is_let_go() {
    let hosting = hosting();
    hosting.close();
    let host = hosting.host(turn(&Device::new("cpu", 1)), Duration::from_millis(50));
    let refused = hosted(&host, &student()).load().unwrap_err();
    assert!(matches!(refused, ModelError::Process(_)), "{refused:?}");
    assert!(refused.to_string().contains("closed"), "{refused}");
}

/// No test by itself: what the next one runs where shared memory has hardly any room.
#[test]
fn in_little_shared_memory() {
    let Some(elsewhere) = std::env::var_os("LITTLE_SHARED_MEMORY") else {
        return;
    };
    let (host, local) = (host(), student());
    let hosted = hosted(&host, &local);
    assert_eq!(answers(&hosted), answers(&local));
    let brought = trained(&hosted).unwrap().fork().unwrap();
    assert_ne!(answers(&*brought), answers(&local), "it has learnt nothing");
    assert!(exchanged().is_empty());
    let folder = std::fs::read_dir(elsewhere).unwrap().next();
    let files = std::fs::read_dir(folder.unwrap().unwrap().path()).unwrap();
    assert_eq!(files.count(), 1, "the weights of the student that lives");
}

#[test]
fn weights_go_through_files_where_shared_memory_has_no_room() {
    // Another /dev/shm, which only that process sees.
    let unshare = |arguments: &[&OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg("mount -t tmpfs -o size=128k tmpfs /dev/shm && exec \"$@\"");
        command.arg("sh").args(arguments).stdout(Stdio::null());
        command
    };
    if !unshare(&["true".as_ref()])
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("not tested: this system lets nobody mount anything");
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let only = ["--exact", "in_little_shared_memory"].map(OsStr::new);
    let passed = unshare(&[&[me.as_os_str()], &only[..]].concat())
        .env("LITTLE_SHARED_MEMORY", elsewhere.path())
        .env("TMPDIR", elsewhere.path())
        .status();
    assert!(passed.unwrap().success());
}

/// A scene whose student begins with random weights, so that every retraining has something to gain.
const SITE: &str = r#"
[run]
windows = 5
window_seconds = 2.0
scheduler = "uniform:0.5:0"

[[device]]
name = "cpu0"
kind = "cpu"
cores = 1

[learning]
samples = 16
burst = 4

[[stream]]
name = "gate"
teacher = "labels"
source = { scene = { fps = 15.0, seed = 11 } }
student = { classifier = {} }
"#;

fn record(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap()
}

#[test]
fn a_node_whose_workers_are_killed_all_the_time_goes_on_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("site.toml");
    std::fs::write(&config, SITE).unwrap();
    let out = folder.path().join("out");
    let mut node = Command::new(env!("CARGO_BIN_EXE_ekya"))
        .args(["run", "--config"])
        .arg(&config)
        .arg("--out")
        .arg(&out)
        .env("EKYA_LOG", "ekya=info")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let log = BufReader::new(node.stderr.take().unwrap()).lines();
    let mut killed = Vec::new();
    for line in log.map_while(Result::ok) {
        // Spare ones, too; the last windows are left in peace.
        if line.contains("window over") && killed.len() < 6 {
            for (worker, signal) in children(node.id())
                .into_iter()
                .zip([Signal::SIGKILL, Signal::SIGABRT])
            {
                // It may have ended by itself meanwhile.
                if kill(worker, signal).is_ok() {
                    killed.push(worker);
                }
            }
        }
    }
    assert!(node.wait().unwrap().success());
    assert!(killed.len() >= 4, "{killed:?}");
    let record = record(&out);
    assert_eq!(record["complete"], true);
    let frames = &record["streams"][0]["frames"];
    let count = |name: &str| frames[name].as_u64().unwrap();
    assert_eq!(
        count("arrived"),
        count("answered") + count("skipped") + count("dropped"),
        "{frames}"
    );
    let decisions = record["windows"].to_string();
    assert!(decisions.contains("promoted"), "{decisions}");
    let exchange = format!("ekya-exchange-{}-", node.id());
    let left = std::fs::read_dir("/dev/shm").unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with(&exchange)).count(), 0);
    for worker in killed {
        assert!(kill(worker, None).is_err(), "{worker} is left");
    }
}
