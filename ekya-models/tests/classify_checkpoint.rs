//! Checkpoints of classifiers come back whole or not at all.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ekya_models::{Architecture, Classifier, ModelError, Placement, Student};
use proptest::prelude::*;

use classify_support::{CLASSES, answers, fresh, squares};

mod classify_support;

fn load(bytes: &[u8]) -> Result<Classifier, ModelError> {
    Classifier::from_bytes(bytes, "a file of the test", Placement::Cpu)
}

fn saved(architecture: Architecture) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    fresh(architecture).save(&path).unwrap();
    std::fs::read(path).unwrap()
}

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| saved(Architecture::Small));

/// Where the tensors' bytes begin.
fn header_end() -> usize {
    let mut length = [0; 8];
    length.copy_from_slice(&SMALL[..8]);
    8 + u64::from_le_bytes(length) as usize
}

#[track_caller]
fn assert_refused(bytes: &[u8], what: &str) {
    match load(bytes) {
        Err(ModelError::BadFile { reason, .. }) => assert!(!reason.is_empty()),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_checkpoint_answers_as_what_was_saved() {
    let examples = squares(4, 1);
    for name in [
        "small",
        "resnet18",
        "teacher",
        "mobilenetv2:0.35",
        "shufflenetv2:0.5",
    ] {
        let architecture = name.parse().unwrap();
        let loaded = load(&saved(architecture)).unwrap();
        assert_eq!(
            (loaded.architecture(), loaded.classes()),
            (architecture, CLASSES)
        );
        assert_eq!(
            answers(&loaded, &examples, 1.0),
            answers(&fresh(architecture), &examples, 1.0)
        );
    }
}

#[test]
fn a_checkpoint_knows_the_side_of_its_crops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    let student = fresh(Architecture::Small).with_input_side(48).unwrap();
    student.save(&path).unwrap();
    let loaded = Classifier::load(&path, Placement::Cpu).unwrap();
    assert_eq!(loaded.input_side(), 48);
    let examples = squares(4, 1);
    let expected = answers(&student, &examples, 1.0);
    assert_eq!(answers(&loaded, &examples, 1.0), expected);
    assert_ne!(
        answers(&fresh(Architecture::Small), &examples, 1.0),
        expected
    );
}

/// The file of a student that was handed over, in a folder of its own.
fn handed_over(architecture: Architecture) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student");
    fresh(architecture).hand_over(&path).unwrap();
    (folder, path)
}

#[test]
fn a_student_that_is_handed_over_answers_as_before() {
    let examples = squares(4, 1);
    for name in ["small", "resnet18", "mobilenetv2:0.35"] {
        let architecture = name.parse().unwrap();
        let (_folder, path) = handed_over(architecture);
        let taken = Classifier::take_over(&path, Placement::Cpu).unwrap();
        let expected = answers(&fresh(architecture), &examples, 1.0);
        assert_eq!(answers(&taken, &examples, 1.0), expected);
    }
}

#[test]
fn a_student_that_is_handed_over_is_no_checkpoint() {
    let (_folder, path) = handed_over(Architecture::Small);
    match Classifier::load(&path, Placement::Cpu) {
        Err(ModelError::BadFile { reason, .. }) => assert!(reason.contains("digest"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_handed_over_in_place_of_a_file() {
    let (_folder, path) = handed_over(Architecture::Small);
    let whole = std::fs::read(&path).unwrap();
    let refused = fresh(Architecture::Teacher).hand_over(&path).unwrap_err();
    assert!(matches!(refused, ModelError::Io { .. }), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn the_same_weights_give_the_same_file() {
    let again = load(&SMALL).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.safetensors");
    again.save(&path).unwrap();
    let (first, second) = (SMALL.as_slice(), std::fs::read(path).unwrap());
    // The metadata may be in another order, the tensors not.
    assert_eq!(first[header_end()..], second[header_end()..]);
}

#[test]
fn every_byte_of_the_header_counts() {
    for at in 0..header_end() {
        let mut bytes = SMALL.clone();
        bytes[at] ^= 1 << (at % 8);
        assert_refused(&bytes, &format!("bit {} of byte {at} flipped", at % 8));
    }
}

#[test]
fn files_that_are_no_checkpoints_say_why() {
    assert_refused(b"", "empty");
    assert_refused(b"network: small\nclasses: 4\n", "text");
    assert_refused(&[0xff; 1000], "all ones");
    assert_refused(&[0; 1000], "all zeros");
    assert_refused(br#"  {"__metadata__":{}}"#, "no length");
}

#[test]
fn a_file_without_our_metadata_is_refused() {
    let values = [0u8; 16];
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![4], &values).unwrap();
    let foreign = safetensors::serialize([("weight", view)], &None).unwrap();
    let Err(ModelError::BadFile { path, reason }) = load(&foreign) else {
        panic!("loaded")
    };
    assert_eq!(path, Path::new("a file of the test"));
    assert!(reason.contains("not written by ekya"), "{reason}");
}

#[test]
fn a_missing_file_is_an_error_of_reading() {
    let error = Classifier::load(Path::new("/no/such/file"), Placement::Cpu).unwrap_err();
    assert!(matches!(error, ModelError::Io { .. }) && error.to_string().contains("/no/such/file"));
}

#[test]
fn a_save_that_fails_leaves_nothing_and_spoils_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let student = fresh(Architecture::Small);
    // A folder with something in it stands where the file should be: the rename fails.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("inside"), "kept").unwrap();
    assert!(matches!(student.save(&taken), Err(ModelError::Io { .. })));
    assert!(matches!(
        student.save(&folder.path().join("absent/student")),
        Err(ModelError::Io { .. })
    ));
    assert_eq!(
        std::fs::read_to_string(taken.join("inside")).unwrap(),
        "kept"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_save_replaces_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    std::fs::write(&path, "an older file").unwrap();
    fresh(Architecture::Small).save(&path).unwrap();
    assert!(Classifier::load(&path, Placement::Cpu).is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// What can happen to a file.
#[derive(Debug, Clone)]
enum Damage {
    FlipBit(usize, u8),
    Truncate(usize),
    Append(Vec<u8>),
    Overwrite(usize, Vec<u8>),
    Remove(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || 0..SMALL.len();
    let bytes = || prop::collection::vec(any::<u8>(), 1..64);
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Damage::FlipBit(at, bit)),
        at().prop_map(Damage::Truncate),
        bytes().prop_map(Damage::Append),
        (at(), bytes()).prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        (at(), 1..4096usize).prop_map(|(at, count)| Damage::Remove(at, count)),
    ]
}

fn damaged(whole: &[u8], damage: &Damage) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    match damage {
        Damage::FlipBit(at, bit) => {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        Damage::Truncate(length) => bytes.truncate(*length),
        Damage::Append(more) => bytes.extend(more),
        Damage::Overwrite(at, with) => bytes
            .iter_mut()
            .skip(*at)
            .zip(with)
            .for_each(|(old, new)| *old = *new),
        Damage::Remove(at, count) => {
            let at = (*at).min(bytes.len());
            drop(bytes.drain(at..(at + count).min(bytes.len())));
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_refused(damage in damage()) {
        let bytes = damaged(&SMALL, &damage);
        prop_assume!(bytes != *SMALL);
        let refused = matches!(load(&bytes), Err(ModelError::BadFile { .. }));
        prop_assert!(refused);
    }

    /// Only other values in its place are not noticed.
    #[test]
    fn what_is_handed_over_is_whole_or_refused(damage in damage()) {
        let (_folder, path) = handed_over(Architecture::Small);
        let whole = std::fs::read(&path).unwrap();
        let bytes = damaged(&whole, &damage);
        std::fs::write(&path, &bytes).unwrap();
        match Classifier::take_over(&path, Placement::Cpu) {
            Ok(_) => prop_assert_eq!(bytes.len(), whole.len()),
            Err(ModelError::BadFile { .. }) => {}
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }
}
