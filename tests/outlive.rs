//! A node that is killed continues where it was: real processes on one state folder.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ekya::keep::StreamFolder;
use ekya_models::CheckpointStore;

/// A student that begins with random weights, so that every retraining has something to gain.
const SCENE: &str = r#"
[run]
windows = 20
window_seconds = 1.5
scheduler = "uniform:0.5:0"
state = "state"
checkpoints = 2

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

fn ekya(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ekya"))
        .args(arguments)
        .output()
        .unwrap()
}

fn site(folder: &Path) -> String {
    let path = folder.join("site.toml");
    std::fs::write(&path, SCENE).unwrap();
    path.display().to_string()
}

/// Starts a node and waits until the log has said `text` so many times.
fn run_until(config: &str, more: &[&str], text: &str, times: usize) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ekya"))
        .args(["run", "--config", config])
        .args(more)
        .env("EKYA_LOG", "ekya=info")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let said = lines.by_ref().filter(|line| line.contains(text));
    assert_eq!(said.take(times).count(), times, "the node says '{text}'");
    // Somebody must go on listening, or its log has nowhere to go.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Number of the newest checkpoint.
fn newest(folder: &StreamFolder) -> u64 {
    let store = CheckpointStore::open(&folder.checkpoints, 2).unwrap();
    store.newest().unwrap().0.unwrap().manifest.sequence
}

/// Frames of which picture and labels are there.
fn frames(folder: &StreamFolder) -> BTreeSet<PathBuf> {
    let files = std::fs::read_dir(&folder.frames).unwrap();
    let labels = files.map(|file| file.unwrap().path());
    labels
        .filter(|path| path.extension().unwrap() == "json")
        .collect()
}

fn record(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap()
}

#[test]
fn a_killed_node_continues_and_what_it_keeps_can_be_erased() {
    let folder = tempfile::tempdir().unwrap();
    let config = site(folder.path());
    let state = folder.path().join("state");
    let state_argument = state.display().to_string();
    let of = StreamFolder::of(&state, "gate");

    let mut node = run_until(&config, &[], "kept a checkpoint", 2);
    let holder = format!("in use by the process {}", node.id());
    let second = complaint(&ekya(&["run", "--config", &config]));
    assert!(second.contains(&holder), "{second}");
    let erasing = ["erase", "--state", &state_argument, "--stream", "gate"];
    let refused = complaint(&ekya(&erasing));
    assert!(refused.contains(&holder), "{refused}");
    node.kill().unwrap();
    node.wait().unwrap();
    let (left, remembered) = (newest(&of), frames(&of));
    assert!(
        left >= 2 && !remembered.is_empty(),
        "{left}, {remembered:?}"
    );

    let out = folder.path().join("out");
    let out_argument = out.display().to_string();
    let again = ekya(&[
        "run",
        "--config",
        &config,
        "--windows",
        "1",
        "--out",
        &out_argument,
    ]);
    assert!(again.status.success(), "{again:?}");
    let stream = &record(&out)["streams"][0];
    assert_eq!(stream["continued_from"], left);
    assert_eq!(stream["not_kept"], 0);
    // What a node has not taken into its memory it removes.
    let now = frames(&of);
    assert!(now.is_superset(&remembered), "{now:?}\n{remembered:?}");

    let table = stdout(&ekya(&["checkpoints", "--state", &state_argument]));
    assert!(table.contains("gate") && table.contains("whole"), "{table}");
    let early = [&erasing[..], &["--before", "2001-01-01"]].concat();
    let text = stdout(&ekya(&early));
    assert!(
        text.contains("0 frames erased") && text.contains("no checkpoint"),
        "{text}"
    );
    assert_eq!(frames(&of), now);
    let all = [&erasing[..], &["--checkpoints"]].concat();
    let text = stdout(&ekya(&all));
    let expected = format!("{} frames erased", now.len());
    assert!(
        text.contains(&expected) && text.contains("removed too"),
        "{text}"
    );
    assert!(frames(&of).is_empty());
    let table = stdout(&ekya(&["checkpoints", "--state", &state_argument]));
    assert!(!table.contains("gate"), "{table}");
}

/// In less than a minute, with a configuration that is too long for any retraining to be worth it:
/// only the end can have kept them.
#[test]
fn a_node_that_ends_in_good_order_has_kept_the_newest_frames() {
    let folder = tempfile::tempdir().unwrap();
    let config = site(folder.path());
    let endless = format!("{SCENE}\n[[learning.configuration]]\nepochs = 1000000\n");
    std::fs::write(&config, endless.replace("uniform:0.5:0", "ekya")).unwrap();
    let out = folder.path().join("out");
    let out_argument = out.display().to_string();
    let more = ["--windows", "2", "--out", &out_argument];
    let run = ekya(&[&["run", "--config", &config][..], &more].concat());
    assert!(run.status.success(), "{run:?}");
    for window in record(&out)["windows"].as_array().unwrap() {
        assert_eq!(window["streams"][0]["retrainings"], serde_json::json!([]));
    }
    let of = StreamFolder::of(&folder.path().join("state"), "gate");
    assert!(!frames(&of).is_empty());
}

#[test]
fn a_disk_that_fails_never_stops_serving() {
    let folder = tempfile::tempdir().unwrap();
    let config = site(folder.path());
    let out = folder.path().join("out");
    let out_argument = out.display().to_string();
    let more = ["--windows", "4", "--out", &out_argument];
    let mut node = run_until(&config, &more, "kept a checkpoint", 1);
    let checkpoints = StreamFolder::of(&folder.path().join("state"), "gate").checkpoints;
    std::fs::rename(&checkpoints, folder.path().join("aside")).unwrap();
    std::fs::write(&checkpoints, b"in the way").unwrap();
    assert!(node.wait().unwrap().success());
    let record = record(&out);
    assert_eq!(record["complete"], true);
    let stream = &record["streams"][0];
    assert!(stream["not_kept"].as_u64().unwrap() > 0, "{stream}");
    assert!(stream["frames"]["answered"].as_u64().unwrap() > 0);
}

#[test]
fn a_state_folder_that_cannot_be_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), b"a file").unwrap();
    let text = complaint(&ekya(&["run", "--config", &site(folder.path())]));
    assert!(text.contains("state: cannot make it"), "{text}");
    let absent = folder.path().join("absent").display().to_string();
    for command in [
        vec!["checkpoints", "--state", &absent],
        vec!["erase", "--state", &absent, "--stream", "gate"],
    ] {
        let text = complaint(&ekya(&command));
        assert!(text.contains("absent: no state folder"), "{text}");
        assert!(!Path::new(&absent).exists());
    }
}

#[test]
fn without_a_state_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.toml");
    std::fs::write(&path, SCENE.replace("state = \"state\"\n", "")).unwrap();
    let run = ekya(&[
        "run",
        "--config",
        &path.display().to_string(),
        "--windows",
        "1",
    ]);
    assert!(run.status.success(), "{run:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
