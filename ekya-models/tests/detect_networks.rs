//! TinyYOLOv3 and SSDLite from random weights: learning, freezing, growing, files.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod detect_support;

use std::path::Path;

use detect_support::{changed, classes, config, f1, picture, pictures, trained};
use ekya_models::{
    DetectorKind, DetectorWeights, Example, Image, ModelError, Picture, Placement, SsdLite,
    Student, Teacher, TinyYoloV3, set_compute_threads,
};

/// A new student for inputs of 96 × 96 pixels.
fn student(kind: DetectorKind) -> Box<dyn Student> {
    set_compute_threads(1);
    kind.open(
        DetectorWeights::New(5),
        &classes(),
        Some(96),
        Placement::Cpu,
    )
    .unwrap()
}

/// Whether training makes something of nothing.
fn overfits(kind: DetectorKind, epochs: usize) {
    let student = student(kind);
    let examples = pictures(4);
    let before = f1(student.as_ref(), &examples);
    let (losses, retrained) = trained(student.as_ref(), &examples, &config(epochs, 0));
    let after = f1(retrained.as_ref(), &examples);
    let last = losses[losses.len() - 1];
    eprintln!(
        "{}: F1 {before:.2} → {after:.2}, loss {:.2} → {last:.2}",
        kind.name(),
        losses[0]
    );
    assert!(after >= 0.9 && before < 0.5, "F1 {before:.2} → {after:.2}");
    answers_together_as_alone(retrained.as_ref(), &examples);
}

/// Pictures of several sizes and resolutions, in one pass and one by one.
fn answers_together_as_alone(student: &dyn Student, examples: &[Example]) {
    let grey = Image::new(64, 40, vec![110; 64 * 40 * 3]).unwrap();
    let mut images: Vec<&Image> = examples.iter().map(|example| &*example.image).collect();
    images.insert(1, &grey);
    let picture = |image| Picture {
        image,
        regions: &[],
    };
    let pictures: Vec<_> = images.into_iter().map(picture).collect();
    for resolution in [1.0, 0.7] {
        let together = student.infer_all(&pictures, resolution).unwrap();
        assert_eq!(together.len(), pictures.len());
        for (picture, together) in pictures.iter().zip(together) {
            let alone = student.infer(picture.image, &[], resolution).unwrap();
            assert_eq!(together.len(), alone.len());
            for (together, alone) in together.iter().zip(&alone) {
                assert_eq!(together.class, alone.class);
                assert!((together.score - alone.score).abs() < 1e-4);
                assert!(together.bbox.iou(&alone.bbox) > 0.999);
            }
        }
    }
    assert!(student.infer_all(&[], 1.0).unwrap().is_empty());
}

#[test]
fn tinyyolo_learns_pictures_by_heart() {
    overfits(DetectorKind::TinyYoloV3, 40);
}

#[test]
fn ssdlite_learns_pictures_by_heart() {
    overfits(DetectorKind::SsdLite, 60);
}

#[test]
fn frozen_blocks_keep_weights_and_statistics() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, frozen, still, moves) in [
        (
            DetectorKind::TinyYoloV3,
            2,
            ["layer0.", "layer2."],
            "layer4.",
        ),
        (
            DetectorKind::SsdLite,
            2,
            ["features.0.", "features.1."],
            "features.2.",
        ),
        (
            DetectorKind::FastestDet,
            2,
            ["backbone.first_conv.", "backbone.stage2."],
            "backbone.stage3.",
        ),
    ] {
        let student = student(kind);
        let (_, retrained) = trained(student.as_ref(), &pictures(4), &config(1, frozen));
        let changed = changed(student.as_ref(), retrained.as_ref(), folder.path());
        let stands = |name: &String| still.iter().any(|prefix| name.starts_with(prefix));
        assert!(!changed.iter().any(stands), "{changed:?}");
        assert!(changed.iter().any(|name| name.starts_with(moves)));
        // FastestDet's statistics stay everywhere, those of the others move where layers train.
        let statistics = changed
            .iter()
            .any(|name| name.starts_with(moves) && name.contains("running_"));
        assert_eq!(statistics, kind != DetectorKind::FastestDet, "{changed:?}");
    }
}

#[test]
fn with_every_block_frozen_only_the_heads_train() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, heads) in [
        (
            DetectorKind::TinyYoloV3,
            ["layer14", "layer15", "layer18", "layer21", "layer22"].as_slice(),
        ),
        (DetectorKind::SsdLite, &["heads."]),
    ] {
        let student = student(kind);
        let (_, retrained) = trained(student.as_ref(), &pictures(4), &config(1, usize::MAX));
        let changed = changed(student.as_ref(), retrained.as_ref(), folder.path());
        assert!(!changed.is_empty());
        let of_heads = |name: &String| heads.iter().any(|head| name.starts_with(head));
        assert!(changed.iter().all(of_heads), "{changed:?}");
    }
}

#[test]
fn a_seed_repeats_exactly() {
    for kind in [DetectorKind::TinyYoloV3, DetectorKind::SsdLite] {
        let losses = || trained(student(kind).as_ref(), &pictures(5), &config(1, 1)).0;
        assert_eq!(losses(), losses());
    }
}

#[test]
fn single_and_empty_pictures_can_be_trained_on() {
    for kind in [DetectorKind::TinyYoloV3, DetectorKind::SsdLite] {
        let mut empty = picture(0);
        empty.objects.clear();
        let (losses, _) = trained(student(kind).as_ref(), &[empty], &config(1, 0));
        assert!(losses[0].is_finite() && losses[0] > 0.0);
    }
}

#[test]
fn students_that_are_handed_over_are_the_same() {
    for kind in DetectorKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let [given, before, after] =
            ["given", "before", "after"].map(|name| folder.path().join(name));
        let student = student(kind);
        student.hand_over(&given).unwrap();
        let taken = DetectorWeights::File(&given);
        let taken = kind.open(taken, &classes(), None, Placement::Cpu).unwrap();
        student.save(&before).unwrap();
        taken.save(&after).unwrap();
        assert_eq!(digest(&before), digest(&after));
    }
}

#[test]
fn saved_students_know_their_classes_and_side() {
    let folder = tempfile::tempdir().unwrap();
    for kind in DetectorKind::ALL {
        let student = student(kind);
        let path = folder.path().join(kind.name());
        student.save(&path).unwrap();
        let open = |classes: &[String]| {
            kind.open(DetectorWeights::File(&path), classes, None, Placement::Cpu)
        };
        let again = folder.path().join("again");
        open(&classes()).unwrap().save(&again).unwrap();
        assert_eq!(digest(&path), digest(&again));
        assert!(matches!(
            open(&["green".to_owned()]),
            Err(ModelError::BadInput(_))
        ));
    }
    let other = SsdLite::load(
        &folder.path().join("tinyyolov3"),
        &classes(),
        Placement::Cpu,
    );
    let error = other.unwrap_err().to_string();
    assert!(
        error.contains("holds a tinyyolov3, not a ssdlite"),
        "{error}"
    );
}

/// The digest that a file carries, of its weights and of what it says about them.
fn digest(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()["sha256"].clone()
}

#[test]
fn new_classes_leave_known_answers_alone() {
    let examples = pictures(4);
    let student = TinyYoloV3::new(&classes(), Placement::Cpu, 5)
        .unwrap()
        .with_input_side(96)
        .unwrap();
    let (_, knows) = trained(&student, &examples, &config(40, 0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    knows.save(&path).unwrap();
    let knows = TinyYoloV3::load(&path, &classes(), Placement::Cpu).unwrap();
    // The stream lists a new class first.
    let more = ["green", "blue", "red"].map(str::to_owned);
    let grown = knows.with_classes(&more, 7).unwrap();
    let mut found = 0;
    for example in &examples {
        let before = knows.infer(&example.image, &[], 1.0).unwrap();
        let after = grown.infer(&example.image, &[], 1.0).unwrap();
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.class, [usize::MAX, 1, 0][after.class]);
            assert!((before.score - after.score).abs() < 1e-5);
            assert!(before.bbox.iou(&after.bbox) > 0.999);
        }
        found += before.len();
    }
    assert!(
        found >= examples.len(),
        "{found} objects are too few to compare"
    );
}

#[test]
fn any_student_can_teach() {
    let student = student(DetectorKind::FastestDet);
    let image = picture(1).image;
    let expected = student.infer(&image, &[], 1.0).unwrap();
    let teacher: Box<dyn Teacher> = Box::new(student);
    assert_eq!(teacher.label(&image, &[]).unwrap(), expected);
}

#[test]
fn what_no_input_can_be_is_refused() {
    let student = || SsdLite::new(&classes(), Placement::Cpu, 1).unwrap();
    for side in [0, 100, 8192] {
        let refused = student().with_input_side(side);
        assert!(matches!(refused, Err(ModelError::BadInput(_))), "{side}");
    }
    let backbone = DetectorWeights::Backbone(Path::new("absent"), 1);
    let refused = DetectorKind::TinyYoloV3.open(backbone, &classes(), None, Placement::Cpu);
    assert!(matches!(refused, Err(ModelError::BadInput(_))));
}

#[test]
fn darknets_files_are_read_and_their_order_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made-up.weights");
    let count = 8_858_734 - (512 + 256 + 2) * 3 * 78;
    let mut bytes: Vec<u8> = [0i32, 2, 0, 77, 0]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    bytes.extend((0..count).flat_map(|i| (i as f32 * 1e-7).to_le_bytes()));
    std::fs::write(&path, &bytes).unwrap();
    let load = |path: &Path| TinyYoloV3::load_darknet(path, &classes(), &classes(), Placement::Cpu);
    let saved = folder.path().join("saved.safetensors");
    load(&path).unwrap().save(&saved).unwrap();
    let tensors = tch::Tensor::read_safetensors(&saved).unwrap();
    assert_eq!(written(&tensors), bytes[20..]);
    std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    assert!(matches!(load(&path), Err(ModelError::BadFile { .. })));
}

/// The numbers of TinyYOLOv3's tensors as darknet writes them.
fn written(tensors: &[(String, tch::Tensor)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut write = |name: String| {
        let (_, tensor) = tensors.iter().find(|(other, _)| *other == name).unwrap();
        let values = Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    for layer in [0, 2, 4, 6, 8, 10, 12, 13, 14, 15, 18, 21, 22] {
        if matches!(layer, 15 | 22) {
            write(format!("layer{layer}.conv.bias"));
        } else {
            for part in ["bias", "weight", "running_mean", "running_var"] {
                write(format!("layer{layer}.bn.{part}"));
            }
        }
        write(format!("layer{layer}.conv.weight"));
    }
    bytes
}

#[test]
fn a_published_backbone_fits_to_the_last_tensor() {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        eprintln!("skipped: EKYA_DATA does not name the folder of real data");
        return;
    };
    let path = Path::new(&data).join("models/mobilenetv2_bottleneck.safetensors");
    let student = SsdLite::on_backbone(&path, &classes(), Placement::Cpu, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("student.safetensors");
    student.save(&saved).unwrap();
    let ours = tch::Tensor::read_safetensors(&saved).unwrap();
    let published = tch::Tensor::read_safetensors(&path).unwrap();
    // Names differ by release, so tensors are compared by what they hold.
    let ours: Vec<_> = ours
        .iter()
        .filter(|(name, _)| name.starts_with("features."))
        .collect();
    let taken = |(_, tensor): &&(String, tch::Tensor)| ours.iter().any(|(_, own)| own == tensor);
    let (taken, left): (Vec<_>, Vec<_>) = published.iter().partition(taken);
    assert_eq!((ours.len(), taken.len()), (52 * 5, 52 * 5));
    assert!(
        left.iter()
            .all(|(name, _)| name.ends_with("num_batches_tracked"))
    );
}
