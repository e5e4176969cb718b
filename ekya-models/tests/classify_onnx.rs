//! Classification teachers from ONNX files.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};

use ekya_models::{BBox, Image, ModelError, Normalisation, OnnxOptions, OnnxTeacher, Teacher};

use onnx_file::mean_of_channels;

mod onnx_file;

const NAMES: [&str; 3] = ["red", "green", "blue"];
const REGION: BBox = BBox {
    x1: 2.0,
    y1: 2.0,
    x2: 12.0,
    y2: 12.0,
};
/// Pixels as they are, in 0..=1.
const PLAIN: OnnxOptions = OnnxOptions {
    pixels: Normalisation {
        mean: [0.0; 3],
        deviation: [1.0; 3],
    },
    softmax: false,
};

/// A network whose three outputs are the means of red, green and blue.
fn file(folder: &Path, side: i64, batch: Option<i64>) -> PathBuf {
    let path = folder.join("means.onnx");
    std::fs::write(&path, mean_of_channels(side, batch)).unwrap();
    path
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn load(
    names_of: &[&str],
    classes: &[&str],
    options: OnnxOptions,
) -> Result<OnnxTeacher, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 8, Some(1));
    OnnxTeacher::load(&path, &names(names_of), &names(classes), options)
}

/// The class and score of a picture of one colour.
fn label(teacher: &OnnxTeacher, colour: [u8; 3]) -> (usize, f32) {
    let image = Image::new(16, 16, colour.repeat(256)).unwrap();
    let labels = teacher.label(&image, &[REGION]).unwrap();
    assert_eq!((labels.len(), labels[0].bbox), (1, REGION));
    (labels[0].class, labels[0].score)
}

#[track_caller]
fn assert_near(found: (usize, f32), expected: (usize, f32)) {
    assert!(
        found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-4,
        "{found:?}, expected {expected:?}"
    );
}

#[test]
fn outputs_are_classes_by_their_names() {
    let teacher = load(&NAMES, &["blue", "red"], PLAIN).unwrap();
    assert_near(label(&teacher, [204, 0, 51]), (1, 0.8));
    assert_near(label(&teacher, [51, 0, 204]), (0, 0.8));
    // Green is no class of the stream: the likeliest of the others is named.
    assert_near(label(&teacher, [51, 255, 102]), (0, 0.4));
}

#[test]
fn outputs_of_one_name_are_taken_together() {
    let teacher = load(&["warm", "warm", "cold"], &["cold", "warm"], PLAIN).unwrap();
    assert_near(label(&teacher, [102, 51, 127]), (1, 0.6));
}

#[test]
fn logits_become_chances() {
    let options = OnnxOptions {
        softmax: true,
        ..PLAIN
    };
    let teacher = load(&NAMES, &NAMES, options).unwrap();
    let e = std::f32::consts::E;
    assert_near(label(&teacher, [0, 255, 0]), (1, e / (e + 2.0)));
}

#[test]
fn pixels_are_brought_to_the_scale_of_the_network() {
    let pixels = Normalisation {
        mean: [0.2, 0.4, 0.6],
        deviation: [0.5, 0.25, 0.125],
    };
    let teacher = load(&NAMES, &NAMES, OnnxOptions { pixels, ..PLAIN }).unwrap();
    // 0.8, 0.2 and 0.6 become 1.2, −0.8 and 0.
    assert_near(label(&teacher, [204, 51, 153]), (0, 1.2));
    assert_near(label(&teacher, [51, 51, 204]), (2, 1.6));
}

#[test]
fn a_network_for_any_number_of_pictures_answers_about_each_region() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 8, None);
    let teacher = OnnxTeacher::load(&path, &names(&NAMES), &names(&NAMES), PLAIN).unwrap();
    let image = Image::new(16, 16, [0, 255, 0].repeat(256)).unwrap();
    let labels = teacher.label(&image, &[REGION; 3]).unwrap();
    assert_eq!(
        labels.iter().map(|label| label.class).collect::<Vec<_>>(),
        [1; 3]
    );
    assert_eq!(teacher.label(&image, &[]).unwrap(), []);
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let bad = |error: ModelError| match error {
        ModelError::BadInput(reason) | ModelError::BadFile { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let reason = bad(load(&NAMES, &["yellow"], PLAIN).unwrap_err());
    assert_eq!(reason, "no output of the teacher is named 'yellow'");
    let reason = bad(load(&["red", "green"], &["red"], PLAIN).unwrap_err());
    assert!(reason.contains("[1, 3], not 1 × 2"), "{reason}");
    let mut options = PLAIN;
    options.pixels.deviation[1] = 0.0;
    let reason = bad(load(&NAMES, &NAMES, options).unwrap_err());
    assert!(reason.contains("deviations above 0"), "{reason}");
}

#[test]
fn files_that_are_no_classifiers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.onnx");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let loaded = OnnxTeacher::load(&path, &names(&NAMES), &names(&NAMES), PLAIN);
        matches!(loaded, Err(ModelError::BadFile { .. }))
    };
    let good = mean_of_channels(8, Some(1));
    assert!(!refused(&good));
    assert!(refused(b""));
    assert!(refused(b"no network"));
    for end in 1..good.len() {
        assert!(
            refused(&good[..end]),
            "cut after {end} of {} bytes",
            good.len()
        );
    }
    let absent = OnnxTeacher::load(Path::new("/no/such"), &names(&NAMES), &names(&NAMES), PLAIN);
    assert!(matches!(absent, Err(ModelError::Io { .. })));
}

#[test]
fn a_detector_is_no_classifier() {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        eprintln!("skipped: EKYA_DATA is not set");
        return;
    };
    let path = Path::new(&data).join("models/FastestDet.onnx");
    let error = OnnxTeacher::load(&path, &names(&NAMES), &names(&NAMES), PLAIN).unwrap_err();
    assert!(matches!(error, ModelError::BadFile { .. }), "{error}");
    assert!(error.to_string().contains("its output is"), "{error}");
}
