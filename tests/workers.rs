//! Students in worker processes: they answer and learn as in this process, and whatever becomes of a
//! process costs a retraining and no frame.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ekya::config::{ClassifierConfig, StudentConfig};
use ekya::learn::Turn;
use ekya::worker::{Host, HostedStudent, Hosting};
use ekya_actors::worker::Program;
use ekya_actors::{Device, Grant};
use ekya_models::{
    Architecture, BBox, Classifier, Example, Image, ModelError, Object, Placement, Student,
};
use ekya_sched::{RetrainingConfig, Share};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CLASSES: usize = 3;
const REGION: BBox = BBox {
    x1: 4.0,
    y1: 4.0,
    x2: 44.0,
    y2: 44.0,
};

/// A worker of the `ekya` program, on a device of its own.
fn host() -> Arc<Host> {
    let program = Program {
        path: env!("CARGO_BIN_EXE_ekya").into(),
        ..Program::this(env!("CARGO_PKG_VERSION"))
    };
    let device = Device::new("cpu", 1);
    let job = device.job("training");
    let grant = Grant {
        job: job.id(),
        share: Share::WHOLE,
        term: 0,
        sequence: 1,
        expires: None,
    };
    device.grant(grant).unwrap();
    let hosting = Hosting::start_program(program, Placement::Cpu, 1).unwrap();
    hosting.host(
        Arc::new(Turn::new(Arc::new(job))),
        Duration::from_millis(50),
    )
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

/// Processes that this one has started and that are not waited for yet.
fn children(of: u32) -> Vec<Pid> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{of}/task")) else {
        return Vec::new();
    };
    let tasks = tasks.filter_map(Result::ok);
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let text: Vec<String> = lists.collect();
    let pids = text.iter().flat_map(|list| list.split_whitespace());
    pids.filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

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
