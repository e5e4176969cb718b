//! Pretrained backbones: what a file gives, and what is refused.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};

use ekya_models::{Architecture, Classifier, ModelError, Placement, Student};
use ekya_sched::RetrainingConfig;

use classify_support::{CLASSES, accuracy, fresh, named_bytes, squares, tensors, train};

mod classify_support;

/// The folder of models, or `None` after saying that the test is skipped.
fn models() -> Option<PathBuf> {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        eprintln!("skipped: EKYA_DATA does not name the folder of real data");
        return None;
    };
    Some(Path::new(&data).join("models"))
}

fn other_seed(architecture: Architecture) -> Classifier {
    Classifier::new(architecture, CLASSES, 16, Placement::Cpu, 8).unwrap()
}

/// A checkpoint is a file of weights, too; its head has no place in a backbone.
#[test]
fn a_backbone_from_a_checkpoint_leaves_the_head_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.safetensors");
    let first = fresh("shufflenetv2:0.5".parse().unwrap());
    first.save(&path).unwrap();
    let second = other_seed(first.architecture());
    let (loaded, report) = second.with_backbone(&path).unwrap();
    assert_eq!((report.loaded.len(), report.missing.len()), (280, 0));
    assert_eq!(report.unknown.len(), 4);
    let (first, second) = (tensors(&first), tensors(&second));
    for (name, bytes) in tensors(&loaded) {
        let from = if name.starts_with("head.") {
            &second
        } else {
            &first
        };
        assert!(from[&name] == bytes, "{name}");
    }
}

#[test]
fn weights_of_another_network_are_refused_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet18.safetensors");
    fresh(Architecture::ResNet18).save(&path).unwrap();
    for name in ["small", "mobilenetv2:1.0", "shufflenetv2:1.0"] {
        let student = fresh(name.parse().unwrap());
        let before = tensors(&student);
        let Err(ModelError::Backbone { report, .. }) = student.with_backbone(&path) else {
            panic!("{name} took it")
        };
        assert!(
            report.loaded.is_empty() && report.unknown.len() == 104,
            "{report}"
        );
        assert!(tensors(&student) == before, "{name} has changed");
    }
}

#[test]
fn files_that_are_no_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let student = fresh(Architecture::Small);
    let absent = student.with_backbone(&path).unwrap_err();
    assert!(matches!(absent, ModelError::Io { .. }));
    student.save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    for damaged in [b"no weights", &*bytes, &bytes[..bytes.len() - 4]] {
        std::fs::write(&path, damaged).unwrap();
        let refused = student.with_backbone(&path).unwrap_err();
        assert!(matches!(refused, ModelError::BadFile { .. }), "{refused}");
    }
}

/// The file has the names of the first release, which are not torchvision's.
#[test]
fn published_mobilenet_weights_are_all_loaded() {
    let Some(models) = models() else { return };
    let path = models.join("mobilenetv2_bottleneck.safetensors");
    let student = fresh("mobilenetv2".parse().unwrap());
    let (loaded, report) = student.with_backbone(&path).unwrap();
    assert_eq!(report.to_string(), "260 tensors fit");
    let (file, ours) = (named_bytes(&path), tensors(&loaded));
    for (theirs, own) in [
        ("features.0.0.weight", "features.0.0.weight"),
        ("features.1.conv.0.weight", "features.1.conv.0.0.weight"),
        ("features.1.conv.3.weight", "features.1.conv.1.weight"),
        ("features.1.conv.4.bias", "features.1.conv.2.bias"),
        ("features.14.conv.0.weight", "features.14.conv.0.0.weight"),
        ("features.14.conv.3.weight", "features.14.conv.1.0.weight"),
        (
            "features.14.conv.4.running_var",
            "features.14.conv.1.1.running_var",
        ),
        ("features.17.conv.6.weight", "features.17.conv.2.weight"),
        ("features.17.conv.7.weight", "features.17.conv.3.weight"),
        ("features.18.1.weight", "features.18.1.weight"),
    ] {
        assert!(file[theirs] == ours[own], "{theirs}");
    }
    let config = RetrainingConfig {
        layers_frozen: usize::MAX,
        epochs: 12,
        batch_size: 16,
        ..RetrainingConfig::default()
    };
    let trained = train(&loaded, &squares(60, 1), &config, 3);
    let accuracy = accuracy(&*trained, &squares(30, 2));
    assert!(accuracy >= 0.9, "the head alone learns {accuracy}");
}

/// The file has the names and the order of the first release, and ends before the last convolution.
#[test]
fn published_shufflenet_weights_are_loaded_up_to_the_last_convolution() {
    let Some(models) = models() else { return };
    let path = models.join("shufflenetv2_backbone.safetensors");
    let student = fresh("shufflenetv2:0.5".parse().unwrap());
    let (loaded, report) = student.with_backbone(&path).unwrap();
    assert_eq!(
        report.to_string(),
        "275 tensors fit, 5 are missing (first conv5.0.weight)"
    );
    let (file, ours) = (named_bytes(&path), tensors(&loaded));
    let sorted = |bytes: &[u8]| {
        let (values, _) = bytes.as_chunks::<4>();
        let mut values = values.to_vec();
        values.sort_unstable();
        values
    };
    for (theirs, own) in [
        ("stage2.0.branch_proj.2.weight", "stage2.0.branch1.2.weight"),
        ("stage3.7.branch_main.5.weight", "stage3.7.branch2.5.weight"),
        (
            "stage4.3.branch_main.6.running_mean",
            "stage4.3.branch2.6.running_mean",
        ),
    ] {
        assert_eq!(sorted(&file[theirs]), sorted(&ours[own]), "{theirs}");
    }
    // It was trained on pixels in 0..=1, of which the means are far from 0; ours are about 0.
    let mean = |bytes: &[u8]| {
        let (values, _) = bytes.as_chunks::<4>();
        values
            .iter()
            .map(|value| f32::from_le_bytes(*value).abs())
            .sum::<f32>()
            / values.len() as f32
    };
    let theirs = mean(&file["first_conv.1.running_mean"]);
    let own = mean(&ours["conv1.1.running_mean"]);
    assert!(theirs > 0.1 && own < theirs / 5.0, "{theirs} and {own}");
}

#[test]
fn published_weights_of_another_network_or_width_are_refused() {
    let Some(models) = models() else { return };
    for (name, file, expected) in [
        (
            "mobilenetv2:0.5",
            "mobilenetv2_bottleneck.safetensors",
            "have another shape (first features.0.0.weight: [32, 3, 3, 3], expected [16, 3, 3, 3])",
        ),
        (
            "shufflenetv2:1.0",
            "mobilenetv2_bottleneck.safetensors",
            "280 are missing (first conv1.0.weight)",
        ),
        (
            "mobilenetv2",
            "efficientnet-lite0.safetensors",
            "260 are missing (first features.0.0.weight)",
        ),
    ] {
        let student = fresh(name.parse().unwrap());
        let error = student.with_backbone(&models.join(file)).unwrap_err();
        assert!(matches!(error, ModelError::Backbone { .. }));
        assert!(error.to_string().contains(expected), "{error}");
    }
}
