//! The published detection networks: the port against the original, damaged files, saved weights.
//!
//! Needs the weights in the folder that `EKYA_DATA` names; says so and passes when it is not set.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use ekya_models::{
    BBox, FastestDet, Image, ModelError, Placement, Student, Teacher, YoloxTeacher, coco_names,
};
use tract_onnx::prelude::*;

const WEIGHTS: &str = "FastestDet_AP05_0.253.safetensors";

/// The folder of models, or `None` after saying that the test is skipped.
fn models() -> Option<PathBuf> {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        eprintln!("skipped: EKYA_DATA does not name the folder of real data");
        return None;
    };
    Some(Path::new(&data).join("models"))
}

fn load(path: &Path) -> Result<FastestDet, ModelError> {
    FastestDet::load(path, &coco_names(), Placement::Cpu)
}

/// A picture of smooth colours, without randomness.
fn picture(width: usize, height: usize) -> Image {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            rgb.extend([
                (x * 255 / width) as u8,
                (y * 255 / height) as u8,
                ((x * y) % 251) as u8,
            ]);
        }
    }
    Image::new(width, height, rgb).unwrap()
}

fn pseudo_random(count: usize) -> Vec<f32> {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn the_port_agrees_with_the_original() {
    let Some(models) = models() else { return };
    let student = load(&models.join(WEIGHTS)).unwrap();
    let original = onnx()
        .model_for_path(models.join("FastestDet.onnx"))
        .unwrap()
        .into_optimized()
        .unwrap()
        .into_runnable()
        .unwrap();
    let input = pseudo_random(3 * 352 * 352);
    let ours = student.raw(&input, 352).unwrap();
    let tensor = Tensor::from_shape(&[1, 3, 352, 352], &input).unwrap();
    let theirs = original.run(tvec!(tensor.into())).unwrap();
    let theirs = theirs[0].as_slice::<f32>().unwrap();
    assert_eq!(ours.len(), theirs.len());
    let worst = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    eprintln!("largest difference {worst:.1e}");
    assert!(worst < 1e-4, "differs by {worst}");
}

#[test]
fn wrong_input_is_refused() {
    let Some(models) = models() else { return };
    let student = load(&models.join(WEIGHTS)).unwrap();
    let empty = Image::new(0, 0, Vec::new()).unwrap();
    assert!(matches!(
        student.infer(&empty, &[], 1.0),
        Err(ModelError::BadInput(_))
    ));
    assert!(matches!(
        student.infer(&picture(40, 30), &[], 0.0),
        Err(ModelError::BadInput(_))
    ));
    assert!(matches!(
        student.raw(&[0.0; 3], 352),
        Err(ModelError::BadInput(_))
    ));
    let unknown = FastestDet::load(
        &models.join(WEIGHTS),
        &["unicorn".to_owned()],
        Placement::Cpu,
    );
    assert!(matches!(unknown, Err(ModelError::BadInput(_))));
}

#[test]
fn every_resolution_answers_in_the_picture() {
    let Some(models) = models() else { return };
    let student = load(&models.join(WEIGHTS)).unwrap();
    for resolution in [1.0, 0.7, 0.5, 0.1] {
        for object in student.infer(&picture(300, 200), &[], resolution).unwrap() {
            let BBox { x1, y1, x2, y2 } = object.bbox;
            assert!(0.0 <= x1 && x1 < x2 && x2 <= 300.0 && 0.0 <= y1 && y1 < y2 && y2 <= 200.0);
            assert!(object.class < 80 && object.score <= 1.0);
        }
    }
}

#[test]
fn saved_weights_load_and_answer_the_same() {
    let Some(models) = models() else { return };
    let folder = tempfile::tempdir().unwrap();
    let student = load(&models.join(WEIGHTS)).unwrap();
    let path = folder.path().join("copy.safetensors");
    student.fork().unwrap().save(&path).unwrap();
    let files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    assert_eq!(files, std::slice::from_ref(&path));
    let loaded = load(&path).unwrap();
    let input = pseudo_random(3 * 64 * 64);
    assert_eq!(
        loaded.raw(&input, 64).unwrap(),
        student.raw(&input, 64).unwrap()
    );
}

#[test]
fn a_flipped_bit_in_saved_weights_is_noticed() {
    let Some(models) = models() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    let student = load(&models.join(WEIGHTS)).unwrap();
    student.save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("digest"), "{error}");
}

#[test]
fn saving_where_nothing_can_be_written_leaves_nothing() {
    let Some(models) = models() else { return };
    let folder = tempfile::tempdir().unwrap();
    let student = load(&models.join(WEIGHTS)).unwrap();
    let path = folder.path().join("absent").join("student.safetensors");
    assert!(student.save(&path).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn damaged_student_files_are_refused() {
    let Some(models) = models() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(models.join(WEIGHTS)).unwrap();
    let path = folder.path().join("damaged.safetensors");
    let refusal = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = load(&path).unwrap_err();
        assert!(matches!(error, ModelError::BadFile { .. }), "{error}");
        error.to_string()
    };
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        refusal(&bytes[..length]);
    }
    // A tensor by another name is a missing tensor, and the error names it.
    let error = refusal(&replace(
        &bytes,
        b"SPP.output.0.weight",
        b"SPP.output.0.wXight",
    ));
    assert!(error.contains("SPP.output.0.weight"), "{error}");
    // The last value of the file belongs to a tensor that is used.
    let mut infinite = bytes.clone();
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let error = refusal(&infinite);
    assert!(error.contains("not finite"), "{error}");
    refusal(&std::fs::read(models.join("shufflenetv2_backbone.safetensors")).unwrap());
    let absent = load(&folder.path().join("absent.safetensors"));
    assert!(matches!(absent, Err(ModelError::Io { .. })));
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn damaged_teacher_files_are_refused() {
    let Some(models) = models() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(models.join("yolox_nano.onnx")).unwrap();
    let path = folder.path().join("damaged.onnx");
    for length in [0, 10, 1000, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = YoloxTeacher::load(&path, &coco_names()).unwrap_err();
        assert!(
            matches!(error, ModelError::BadFile { .. }),
            "{length} bytes: {error}"
        );
    }
    let absent = YoloxTeacher::load(&folder.path().join("absent.onnx"), &coco_names());
    assert!(matches!(absent, Err(ModelError::Io { .. })));
}

#[test]
fn networks_that_are_not_yolox_are_refused() {
    let Some(models) = models() else { return };
    let other = YoloxTeacher::load(&models.join("FastestDet.onnx"), &coco_names()).unwrap_err();
    assert!(matches!(other, ModelError::BadFile { .. }), "{other}");
    let few = coco_names()[..3].to_vec();
    let error = YoloxTeacher::with_names(&models.join("yolox_nano.onnx"), &few, &few).unwrap_err();
    assert!(matches!(error, ModelError::BadFile { .. }), "{error}");
    assert!(error.to_string().contains("output"), "{error}");
}

#[test]
fn the_teacher_can_move_to_another_thread() {
    let Some(models) = models() else { return };
    let teacher: Box<dyn Teacher> =
        Box::new(YoloxTeacher::load(&models.join("yolox_nano.onnx"), &coco_names()).unwrap());
    let image = picture(320, 240);
    let here = teacher.label(&image, &[]).unwrap();
    let there = std::thread::spawn(move || teacher.label(&image, &[]).unwrap())
        .join()
        .unwrap();
    assert_eq!(here, there);
}
