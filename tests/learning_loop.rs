//! The whole loop on small scenes: real students, real training, real shares.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use ekya::config::{LearningConfig, Method, SchedulerConfig, ValidConfig};
use ekya::node::{self, NodeError, RunOptions};
use ekya::record::RunRecord;
use ekya_models::Sampling;

/// Two drifting scenes whose labels are the truth, two windows of three seconds.
const TWO_SCENES: &str = r#"
[run]
windows = 3
window_seconds = 3.0

[[device]]
name = "cpu0"
kind = "cpu"
cores = 1

[learning]
samples = 24
burst = 6

[[stream]]
name = "gate"
teacher = "labels"
source = { scene = { fps = 15.0, seed = 11, preset = "nightfall", drift_seconds = 3.0 } }
student = { classifier = { weights = "scene" } }

[[stream]]
name = "harbour"
teacher = "labels"
source = { scene = { fps = 15.0, seed = 12, preset = "storm", drift_seconds = 3.0 } }
student = { classifier = { weights = "scene" } }
"#;

fn run(config: &ValidConfig, out: Option<&Path>) -> Result<RunRecord, NodeError> {
    let mut options = RunOptions::new();
    if let Some(out) = out {
        options = options.out(out);
    }
    node::run(config, options)
}

fn with_scheduler(scheduler: &str) -> ValidConfig {
    let scheduler: SchedulerConfig = scheduler.parse().unwrap();
    let config = ValidConfig::parse(TWO_SCENES).unwrap();
    config
        .with(|config| config.run.scheduler = scheduler)
        .unwrap()
}

/// What must hold of every record, whoever scheduled.
fn check(record: &RunRecord) {
    assert!(record.complete);
    assert_eq!(record.windows.len(), 3);
    for stream in &record.streams {
        let frames = stream.frames;
        assert_eq!(
            frames.arrived,
            frames.answered + frames.skipped + frames.dropped,
            "{frames:?}"
        );
        // Nine seconds at fifteen frames a second, less the moment of winding up.
        assert!((120..=136).contains(&frames.arrived), "{frames:?}");
        assert!(
            stream
                .true_accuracy
                .is_some_and(|accuracy| (0.0..=1.0).contains(&accuracy))
        );
    }
    for (stream, entry) in record
        .windows
        .iter()
        .flat_map(|window| window.streams.iter().enumerate())
    {
        for segment in &entry.segments {
            let granted = segment.inference_granted.as_f64() + segment.training_granted.as_f64();
            assert!(granted <= 1.0 + 1e-6, "stream {stream}: {segment:?}");
        }
    }
}

#[test]
fn icarl_learns_in_small_steps_from_a_small_memory() {
    let config = with_scheduler("uniform:0.5:1").with(|config| {
        config.learning.method = Method::Icarl;
        config.learning.sampling = Sampling::Balanced;
        config.learning.step_seconds = 1e-6;
        config.learning.memory = 20;
    });
    let record = run(&config.unwrap(), None).unwrap();
    check(&record);
    let windows = record.windows.iter();
    let mut retrained = windows
        .flat_map(|window| &window.streams)
        .flat_map(|entry| &entry.retrainings);
    assert!(retrained.next().is_some());
}

#[test]
fn ekya_profiles_retrains_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let record = run(&with_scheduler("ekya"), Some(folder.path())).unwrap();
    check(&record);
    let entries: Vec<_> = record.windows[1..]
        .iter()
        .flat_map(|window| &window.streams)
        .collect();
    for stream in 0..record.streams.len() {
        let mut windows = record.windows[1..].iter();
        assert!(
            windows.any(|window| !window.streams[stream].profiles.is_empty()),
            "every stream is profiled"
        );
    }
    assert!(
        entries
            .iter()
            .all(|entry| entry.predicted_accuracy.is_some())
    );
    assert!(
        entries.iter().all(|entry| !entry.decisions.is_empty()),
        "every decision has a reason"
    );
    let retrained: Vec<_> = entries
        .iter()
        .flat_map(|entry| &entry.retrainings)
        .collect();
    assert!(
        !retrained.is_empty(),
        "night and storm make a student of the noon worth retraining"
    );
    let confidence = LearningConfig::default().confidence;
    for retraining in retrained.iter().filter(|retraining| !retraining.cut_off) {
        assert!(retraining.gpu_seconds > 0.0 && retraining.examples > 0);
        let compared = retraining
            .retrained_accuracy
            .zip(retraining.serving_accuracy);
        let proven = retraining.chance.is_some_and(|chance| chance >= confidence);
        // A class may have been lost, which the decision says.
        assert!(
            !retraining.promoted || compared.is_some() && proven,
            "{retraining:?}"
        );
    }

    let json = std::fs::read(folder.path().join("run.json")).unwrap();
    assert_eq!(
        serde_json::from_slice::<RunRecord>(&json)
            .unwrap()
            .windows
            .len(),
        3
    );
    let lines = std::fs::read_to_string(folder.path().join("results.jsonl")).unwrap();
    let arrived: u64 = record
        .streams
        .iter()
        .map(|stream| stream.frames.arrived)
        .sum();
    assert_eq!(lines.lines().count() as u64, arrived, "one line a frame");
    for line in lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["stream"].is_string() && value["detections"].is_array());
    }
}

#[test]
fn no_retraining_retrains_nothing() {
    let record = run(&with_scheduler("none"), None).unwrap();
    check(&record);
    let entries = record.windows.iter().flat_map(|window| &window.streams);
    assert!(
        entries
            .clone()
            .all(|entry| entry.retrainings.is_empty() && entry.profiles.is_empty())
    );
}

#[test]
fn uniform_retrains_every_stream_with_its_one_configuration() {
    let config = with_scheduler("uniform:0.5:1");
    let record = run(&config, None).unwrap();
    check(&record);
    for entry in record.windows[1..]
        .iter()
        .flat_map(|window| &window.streams)
    {
        let [retraining] = &entry.retrainings[..] else {
            panic!("every stream is retrained once in every window: {entry:?}")
        };
        assert_eq!(retraining.config, config.learning.configurations[1]);
        assert!(
            entry
                .profiles
                .iter()
                .all(|profile| profile.config == retraining.config)
        );
    }
}

#[test]
fn two_devices_of_one_core_each() {
    let text = TWO_SCENES.replace(
        "[learning]",
        "[[device]]\nname = \"cpu1\"\nkind = \"cpu\"\ncores = 1\n\n[learning]",
    );
    let record = run(&ValidConfig::parse(&text).unwrap(), None).unwrap();
    check(&record);
    assert_eq!(record.devices.len(), 2);
    for (device, stream) in record.devices.iter().zip(["gate", "harbour"]) {
        let job = format!("{stream}/inference");
        let busy = device.busy_seconds.iter().find(|(name, _)| *name == job);
        assert!(
            busy.is_some_and(|(_, seconds)| *seconds > 0.0),
            "{device:?}"
        );
    }
}

#[test]
fn a_source_that_ends_leaves_the_other_stream_running() {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::RgbImage::from_pixel(40, 40, image::Rgb([200, 30, 30]));
    for i in 0..10 {
        picture
            .save(folder.path().join(format!("{i}.png")))
            .unwrap();
    }
    let rows: String = (0..10).map(|i| format!("{i},{i}.png,car\n")).collect();
    std::fs::write(
        folder.path().join("manifest.csv"),
        format!("time,image,label\n{rows}"),
    )
    .unwrap();
    let text = format!(
        "{TWO_SCENES}\n[[stream]]\nname = \"folder\"\nteacher = \"labels\"\nsource = {{ folder = {{ path = {:?}, fps = 10.0 }} }}\nstudent = {{ classifier = {{}} }}\n",
        folder.path()
    );
    let config = ValidConfig::parse(&text).unwrap();
    let record = run(&config.with(|config| config.run.windows = 1).unwrap(), None).unwrap();
    assert!(record.complete);
    assert!(record.streams[0].frames.arrived > record.streams[2].frames.arrived);
}

#[test]
fn the_last_window_is_measured_after_inference_has_ended() {
    let config = ValidConfig::parse(&TWO_SCENES.replace("\"labels\"", "\"scene\"")).unwrap();
    let config = config.with(|config| config.run.windows = 1).unwrap();
    let record = run(&config, None).unwrap();
    for stream in &record.windows[0].streams {
        assert!(stream.measured_accuracy.is_some() && stream.labelled_frames > 0);
    }
}

/// How often a thread has given up its core to wait.
fn waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("voluntary_ctxt_switches"));
    line.unwrap()
        .split_whitespace()
        .last()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn the_thread_that_runs_a_node_sleeps_until_there_is_something_to_do() {
    let config = with_scheduler("none");
    let config = config.with(|config| (config.run.windows, config.run.window_seconds) = (3, 1.0));
    let before = waits();
    run(&config.unwrap(), None).unwrap();
    // It looks at its stop flag twenty times a second.
    assert!(waits() - before > 20, "{} times", waits() - before);
}
