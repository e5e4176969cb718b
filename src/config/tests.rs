//! Files that pass, and those that are refused with line and key.

use super::*;

const GOOD: &str = r#"
[run]
windows = 3
window_seconds = 10.0
scheduler = "uniform:0.5:1"

[[device]]
name = "cpu0"
kind = "cpu"
cores = 1

[[stream]]
name = "gate"
teacher = "scene"
[stream.source.scene]
fps = 20.0
[stream.student.classifier]
weights = "scene"
"#;

fn refusal(text: &str) -> String {
    ValidConfig::parse(text)
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn a_good_file_passes() {
    let config = ValidConfig::parse(GOOD).unwrap();
    assert_eq!(config.run.windows, 3);
    assert_eq!(config.run.scheduler.to_string(), "uniform:0.5:1");
    assert_eq!(config.streams[0].inference, InferenceConfig::default());
}

#[test]
fn unknown_keys_and_wrong_types_name_line_and_key() {
    let error = refusal(&GOOD.replace("window_seconds = 10.0", "window_secs = 10.0"));
    assert!(
        error.contains("line 4") && error.contains("window_secs"),
        "{error}"
    );
    let error = refusal(&GOOD.replace("fps = 20.0", "fps = \"fast\""));
    assert!(error.contains("line 16"), "{error}");
    let error = refusal(&GOOD.replace("uniform:0.5:1", "best"));
    assert!(
        error.contains("line 5") && error.contains("ekya, ekya:optimal, none or uniform"),
        "{error}"
    );
}

#[test]
fn senseless_values_name_line_and_key() {
    let cases = [
        (
            "window_seconds = 10.0",
            "window_seconds = 0.01",
            "line 4: run.window_seconds",
        ),
        (
            "windows = 3",
            "windows = 3\nquantum = 0.0",
            "line 4: run.quantum",
        ),
        (
            "windows = 3",
            "windows = 3\ncheckpoints = 0",
            "line 4: run.checkpoints",
        ),
        ("uniform:0.5:1", "uniform:0.5:9", "line 5: run.scheduler"),
        (
            "cores = 1",
            "cores = 1\ndepth = 0",
            "line 11: device[0].depth",
        ),
        (
            "cores = 1",
            "gpu_memory_fraction = 0.0",
            "line 10: device[0].gpu_memory_fraction",
        ),
        (
            "cores = 1",
            "mps_percentage = 0",
            "line 10: device[0].mps_percentage",
        ),
        (
            "name = \"gate\"",
            "name = \"gate\"\ndevice = \"gpu7\"",
            "line 14: stream[0].device",
        ),
        (
            "weights = \"scene\"",
            "weights = \"scene\"\n[stream.inference]\ndeadline_seconds = 0.0",
            "line 20: stream[0].inference.deadline_seconds: a frame may wait above 0",
        ),
        (
            "teacher = \"scene\"",
            "teacher = { yolox = { model = \"x\" } }",
            "line 14: stream[0].teacher",
        ),
    ];
    for (from, to, expected) in cases {
        let error = refusal(&GOOD.replace(from, to));
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn what_a_worker_may_have_is_enough_for_one() {
    let device = |keys: &str| format!("[[device]]\nname = \"a\"\n{keys}\n{GOOD}");
    let parsed = ValidConfig::parse(&device("worker_memory_bytes = 1000000000")).unwrap();
    assert_eq!(parsed.devices[0].worker_memory_bytes, Some(1_000_000_000));
    let error = refusal(&device("worker_memory_bytes = 2048"));
    assert!(
        error.contains("line 3: device[0].worker_memory_bytes: a worker needs 268435456 bytes"),
        "{error}"
    );
    let error = refusal(&device(
        "isolation = \"inline\"\nworker_memory_bytes = 1000000000",
    ));
    assert!(
        error.contains("line 4") && error.contains("inline"),
        "{error}"
    );
}

/// A file with that student and teacher for a video.
fn detecting(student: &str, teacher: &str) -> String {
    format!(
        "[[stream]]\nname = \"a\"\nsource = {{ video = {{ input = \"a.avi\" }} }}\nstudent = {{ {student} }}\nteacher = {{ {teacher} }}\n"
    )
}

#[test]
fn every_detector_can_be_student_and_teacher() {
    for kind in DetectorKind::ALL {
        let name = kind.name();
        let text = detecting(
            &format!("{name} = {{ weights = \"w\", classes = [\"car\"], input_side = 224 }}"),
            &format!("detector = {{ network = \"{name}\", weights = \"t\" }}"),
        );
        let config = ValidConfig::parse(&text).unwrap();
        let (found, detector) = config.streams[0].student.detector().unwrap();
        assert_eq!((found, detector.input_side), (kind, Some(224)));
    }
}

#[test]
fn senseless_detectors_name_line_and_key() {
    let yolox = "yolox = { model = \"x\" }";
    let teacher = "detector = { network = \"ssdlite\", weights = \"t\", input_side = 100 }";
    for (student, teacher, expected) in [
        (
            "ssdlite = { classes = [] }",
            yolox,
            "line 4: stream[0].student.ssdlite.classes",
        ),
        (
            "tinyyolov3 = { classes = [\"a\"], input_side = 300 }",
            yolox,
            "line 4: stream[0].student.tinyyolov3.input_side",
        ),
        (
            "fastestdet = { classes = [\"car\"] }",
            yolox,
            "line 4: stream[0].student.fastestdet",
        ),
        (
            "tinyyolov3 = { classes = [\"a\"], backbone = \"b\" }",
            yolox,
            "line 4: stream[0].student.tinyyolov3.backbone",
        ),
        (
            "ssdlite = { classes = [\"a\"], backbone = \"b\", weights = \"w\" }",
            yolox,
            "line 4: stream[0].student.ssdlite.backbone",
        ),
        (
            "ssdlite = { classes = [\"a\"] }",
            teacher,
            "line 5: stream[0].teacher.detector.input_side",
        ),
        (
            "ssdlite = { classes = [\"a\"] }",
            "detector = { network = \"yolo9\", weights = \"t\" }",
            "yolo9",
        ),
    ] {
        let error = refusal(&detecting(student, teacher));
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn learning_takes_its_options_and_refuses_what_makes_no_sense() {
    let learning = |line: &str| format!("{GOOD}\n[learning]\n{line}\n");
    let good = "method = \"icarl\"\nsampling = \"balanced\"\nmemory_bytes = 1000";
    let config = ValidConfig::parse(&learning(good)).unwrap();
    let distillation = config.learning.distillation(3);
    assert_eq!(distillation.map(|how| how.classes), Some(3));
    assert_eq!(
        config.learning.distillation(0),
        None,
        "nothing is known yet"
    );
    let plain = LearningConfig::default();
    assert_eq!(
        plain.distillation(3),
        None,
        "fine-tuning learns from labels alone"
    );
    for (line, key) in [
        ("step_seconds = 0.0", "learning.step_seconds"),
        ("step_seconds = 61.0", "learning.step_seconds"),
        ("distillation_weight = -0.1", "learning.distillation_weight"),
        (
            "distillation_temperature = 0.0",
            "learning.distillation_temperature",
        ),
        ("method = \"icarus\"", "did you mean `icarl`?"),
    ] {
        let error = refusal(&learning(line));
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn zero_overhead_share_is_refused() {
    let error = refusal(&format!("{GOOD}\n[learning]\noverhead_share = 0.0\n"));
    assert!(error.contains("learning.overhead_share"), "{error}");
}

#[test]
fn retention_is_counted_back_from_now() {
    let learning = |line: &str| format!("{GOOD}\n[learning]\n{line}\n");
    for hours in ["0.0", "-1.0", "nan", "1e9"] {
        let error = refusal(&learning(&format!("retention_hours = {hours}")));
        assert!(error.contains("learning.retention_hours"), "{error}");
    }
    let half = ValidConfig::parse(&learning("retention_hours = 0.5")).unwrap();
    assert_eq!(half.learning.oldest_kept(2000), 200);
    assert_eq!(half.learning.oldest_kept(200), 0);
    assert_eq!(
        ValidConfig::parse(GOOD).unwrap().learning.oldest_kept(2000),
        0
    );
}

#[test]
fn passwords_are_not_quoted() {
    let camera = "[[stream]]\nname = \"a\"\nsource = { video = { inputt = \"rtsp://user:secret@host/1\" } }\n";
    let error = refusal(camera);
    assert!(
        error.contains("inputt") && !error.contains("secret"),
        "{error}"
    );
}

#[test]
fn two_streams_of_one_name_are_refused() {
    let stream = &GOOD[GOOD.find("[[stream]]").unwrap()..];
    let error = refusal(&format!("{GOOD}{stream}"));
    assert!(
        error.contains("stream[1].name") && error.contains("gate"),
        "{error}"
    );
}

#[test]
fn everything_wrong_is_told_at_once_by_line() {
    let bad = GOOD
        .replace(
            "window_seconds = 10.0",
            "window_seconds = 0.01\nquantum = 2.0",
        )
        .replace("name = \"gate\"", "name = \"gate\"\ndevice = \"cpu1\"");
    let error = ValidConfig::parse(&bad).unwrap_err();
    let lines: Vec<_> = error.problems().iter().map(|one| one.line).collect();
    assert_eq!(lines, [Some(4), Some(5), Some(15)]);
    let text = error.to_string();
    assert!(
        text.starts_with("3 problems\n  line 4: run.window_seconds: "),
        "{text}"
    );
    assert!(
        text.contains("no device 'cpu1'; there are cpu0; did you mean `cpu0`?"),
        "{text}"
    );
}

#[test]
fn what_types_and_toml_refuse_names_line_and_key() {
    let error = refusal(&GOOD.replace("uniform:0.5:1", "best"));
    assert!(
        error.starts_with("line 5: run.scheduler: unknown scheduler 'best': use ekya,"),
        "{error}"
    );
    let error = refusal(&GOOD.replace("cores = 1", "cores = \n"));
    assert!(error.starts_with("line 10: "), "{error}");
    let error = refusal(&GOOD.replace("windows = 3", "quantum = -0.1"));
    assert!(
        error.starts_with("line 3: run.quantum: a share is a number"),
        "{error}"
    );
}

#[test]
fn names_of_streams_hold_no_control_characters() {
    let error = refusal(&GOOD.replace("\"gate\"", "\"ga\\u0000te\""));
    assert!(
        error.starts_with("line 13: stream[0].name: a name stands in logs"),
        "{error}"
    );
}

#[test]
fn names_of_a_program_are_guessed() {
    let own = GOOD.replace("teacher = \"scene\"", "teacher = { own = \"poeple\" }");
    let config = ValidConfig::parse(&own).unwrap();
    let error = config
        .check_own(&Own {
            teachers: vec!["people", "service"],
            ..Own::default()
        })
        .unwrap_err()
        .to_string();
    let expected = "stream[0].teacher.own: this program has no teacher 'poeple'; it has people, service; did you mean `people`?";
    assert_eq!(error, expected);
}
