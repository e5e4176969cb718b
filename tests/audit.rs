//! `ekya audit`, from a run to accuracies: the scene's truth stands in for people.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use ekya::audit::{HumanLabels, LabelledStream, Run, audit, draw};
use ekya::config::{SourceConfig, ValidConfig};
use ekya::node::{self, RunOptions};
use ekya::source::Source;
use ekya::source::scene::SceneSource;
use ekya_models::{BBox, Image, ModelError, Object, Teacher, matched_accuracy};

const SCENE: &str = r#"
[run]
windows = 2
window_seconds = 3.0
scheduler = "none"

[[device]]
name = "cpu0"
kind = "cpu"
cores = 1

[learning]
samples = 40
burst = 4
measure = true

[[stream]]
name = "gate"
teacher = { own = "wrong" }
source = { scene = { fps = 20.0, pace = 10.0 } }
student = { classifier = { weights = "scene" } }
"#;

/// Takes everything for the first class.
struct Wrong;

impl Teacher for Wrong {
    fn label(&self, _: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        let object = |bbox: &BBox| Object {
            class: 0,
            score: 1.0,
            bbox: *bbox,
        };
        Ok(regions.iter().map(object).collect())
    }
}

fn run_into(folder: &Path) -> ValidConfig {
    let config = ValidConfig::parse(SCENE).unwrap();
    let options = RunOptions::new()
        .out(folder)
        .teacher("wrong", |_| Ok(Box::new(Wrong)));
    node::run(&config, options).unwrap();
    config
}

/// What is in the frames of the stream, by number.
fn truth(config: &ValidConfig) -> BTreeMap<u64, Vec<Object>> {
    let SourceConfig::Scene(scene) = &config.streams[0].source else {
        panic!("not a scene")
    };
    let mut source = SceneSource::new(scene.clone()).unwrap();
    // Seven seconds of the run's six.
    let frames = (0..140).map(|_| source.next_frame().unwrap().unwrap());
    frames
        .map(|frame| (frame.index, frame.truth.unwrap()))
        .collect()
}

/// A file of people's labels for every `step`-th labelled frame.
fn by_people(stream: &LabelledStream, truth: &BTreeMap<u64, Vec<Object>>, step: usize) -> String {
    let mut text = "stream,frame,class,x1,y1,x2,y2\n".to_owned();
    for frame in stream.frames.keys().step_by(step) {
        for Object { class, bbox, .. } in &truth[frame] {
            let BBox { x1, y1, x2, y2 } = bbox;
            let class = &stream.classes[*class];
            text += &format!("gate,{frame},{class},{x1},{y1},{x2},{y2}\n");
        }
    }
    text
}

fn ekya_audit(run: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ekya"));
    command.arg("audit").arg("--run").arg(run).args(arguments);
    command.output().unwrap()
}

#[test]
fn people_set_a_wrong_teacher_right() {
    let folder = tempfile::tempdir().unwrap();
    let config = run_into(folder.path());
    let run = Run::read(folder.path()).unwrap();
    let stream = &run.streams[0];
    assert!(stream.frames.len() > 40, "{}", stream.frames.len());

    let truth = truth(&config);
    let scores = stream.frames.iter().map(|(number, frame)| {
        // A scene always has an object in view.
        matched_accuracy(&truth[number], &frame.answer).unwrap()
    });
    let real = scores.sum::<f64>() / stream.frames.len() as f64;
    let path = folder.path().join("human.csv");
    std::fs::write(&path, by_people(stream, &truth, 2)).unwrap();
    let audited = &audit(&run, &HumanLabels::read(&path, &run).unwrap())[0];
    assert_eq!(audited.by_people, stream.frames.len().div_ceil(2));
    let by_teacher = audited.by_teacher.unwrap();
    assert!(real - by_teacher.mean > 0.2, "{real} {by_teacher:?}");
    let corrected = audited.corrected.unwrap();
    let off = (corrected.mean - real).abs();
    assert!(
        off < 0.15 && off < 3.0 * corrected.sd,
        "{real} {corrected:?}"
    );

    let output = ekya_audit(folder.path(), &["--human", path.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let corrected = format!("{:.1} (", corrected.mean * 100.0);
    let line = text.lines().nth(1).unwrap();
    assert!(
        line.starts_with("gate ") && line.contains(&corrected),
        "{text}"
    );
}

/// A run of one stream of a classifier, with one frame of two cars and one of a van.
fn made_up_run(folder: &Path) {
    let stream = r#"{"name": "gate", "classes": ["car", "van"], "frames": {"arrived": 0, "answered": 0, "skipped": 0, "dropped": 0},
        "accuracy_over_time": [], "slowdown": 1.0, "true_accuracy": null, "measured_accuracy": null, "failure": null}"#;
    let record = format!(
        r#"{{"version": 3, "scheduler": "none", "seed": 1, "window_seconds": 1.0, "devices": [], "streams": [{stream}], "windows": [], "complete": true}}"#
    );
    std::fs::write(folder.join("run.json"), record).unwrap();
    let object = |class: &str, x1: u32| {
        let x2 = x1 + 8;
        format!(
            r#"{{"class": "{class}", "score": 1.0, "bbox": {{"x1": {x1}, "y1": 0, "x2": {x2}, "y2": 8}}}}"#
        )
    };
    let line = |frame: u64, burst: bool, objects: &str| {
        format!(
            r#"{{"stream": "gate", "frame": {frame}, "time": {frame}.0, "window": 0, "burst": {burst}, "metric": "accuracy", "student": 0, "answer": [], "labels": [{objects}], "score": 0.0}}"#
        ) + "\n"
    };
    let two = format!("{}, {}", object("car", 0), object("car", 20));
    let lines = line(3, false, &two) + &line(4, true, &two) + &line(7, false, &object("van", 0));
    std::fs::write(folder.join("labelled.jsonl"), lines).unwrap();
}

#[test]
fn what_is_wrong_with_a_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    made_up_run(folder.path());
    let run = Run::read(folder.path()).unwrap();
    let path = folder.path().join("human.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        HumanLabels::read(&path, &run)
    };
    let header = "stream,frame,class,x1,y1,x2,y2\ngate,7,van,0,0,8,8\n";
    let cases = [
        ("gat,7,van,,,,", "no stream 'gat'; the run has gate"),
        (
            "gate,7,bus,,,,",
            "no class 'bus'; stream 'gate' has car, van",
        ),
        ("gate,8,van,,,,", "has not labelled a frame 8"),
        ("gate,4,van,,,,", "burst"),
        ("gate,x,van,,,,", "invalid digit"),
        ("gate,7,?,,,,", "still '?'"),
        ("gate,3,van,,,,", "which of the frame's 2 objects"),
        ("gate,3,van,0,0,8,", "a box has all of"),
        ("gate,3,van,8,0,0,8", "not a box"),
        ("gate,3", "found record with 2 fields"),
    ];
    for (line, expected) in cases {
        let error = read(&format!("{header}{line}\n")).unwrap_err().to_string();
        let named = error.contains("human.csv: line 3: ") && error.contains(expected);
        assert!(named, "{line}: {error}");
    }
    let error = read("stream,class\ngate,van\n").unwrap_err().to_string();
    assert!(error.contains("missing field `frame`"), "{error}");
}

#[test]
fn a_file_needs_boxes_only_where_there_are_several_objects() {
    let folder = tempfile::tempdir().unwrap();
    made_up_run(folder.path());
    let run = Run::read(folder.path()).unwrap();
    let path = folder.path().join("human.csv");
    std::fs::write(&path, "frame, stream, class\n7, gate, van\n3, gate,\n").unwrap();
    let labels = HumanLabels::read(&path, &run).unwrap();
    let van = labels.of(0, 7).unwrap();
    assert_eq!((van.len(), van[0].class, van[0].bbox.x2), (1, 1, 8.0));
    assert_eq!(labels.of(0, 3), Some(&[][..]));
    assert_eq!(labels.of(0, 4), None);
}

#[test]
fn what_is_drawn_can_be_filled_in_and_read() {
    let folder = tempfile::tempdir().unwrap();
    made_up_run(folder.path());
    let output = ekya_audit(folder.path(), &["--draw", "5"]);
    assert!(output.status.success(), "{output:?}");
    let template = String::from_utf8(output.stdout).unwrap();
    let expected = "stream,frame,time,class,x1,y1,x2,y2\n\
        gate,3,3.00,?,0,0,8,8\ngate,3,3.00,?,20,0,28,8\ngate,7,7.00,?,0,0,8,8\n";
    assert_eq!(template, expected);
    let path = folder.path().join("human.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        ekya_audit(folder.path(), &["--human", path.to_str().unwrap()])
    };
    let refused = read(&template);
    assert_eq!(refused.status.code(), Some(1));
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(complaint.contains("line 2: "), "{complaint}");
    assert!(read(&template.replace('?', "car")).status.success());
    // Neither what to do, nor both.
    assert_eq!(ekya_audit(folder.path(), &[]).status.code(), Some(2));
}

#[test]
fn drawing_depends_on_the_seed_alone() {
    let folder = tempfile::tempdir().unwrap();
    made_up_run(folder.path());
    let run = Run::read(folder.path()).unwrap();
    let drawn = |seed| {
        let mut out = Vec::new();
        draw(&run, 1, seed, &mut out).unwrap();
        out
    };
    assert_eq!(drawn(1), drawn(1));
    assert!((2..20).any(|seed| drawn(seed) != drawn(1)));
}

#[test]
fn a_folder_that_holds_no_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = |folder: &Path| Run::read(folder).unwrap_err().to_string();
    assert!(text(folder.path()).contains("run.json: No such file"));
    made_up_run(folder.path());
    let newer = std::fs::read_to_string(folder.path().join("run.json")).unwrap();
    let newer = newer.replace("\"version\": 3", "\"version\": 999");
    std::fs::write(folder.path().join("run.json"), newer).unwrap();
    assert!(text(folder.path()).contains("version 999"));
}
