//! Classifiers in a configuration: as students, and as teachers from ONNX files.

use std::path::PathBuf;

use ekya_models::{Architecture, IMAGENET};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A classifier student.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The network, when it starts from random weights or a pretrained backbone: `small` (four
    /// convolutions, trains in seconds on a CPU core), `teacher` (more than ten times as expensive),
    /// `shufflenetv2` (also `shufflenetv2:0.5`, `:1.5`, `:2.0`), `mobilenetv2` (also with a width, from
    /// `mobilenetv2:0.1` to `:2.0`), `resnet18`, `resnet101` or `resnext101`.
    #[serde(default)]
    pub architecture: Architecture,
    /// A checkpoint; `scene` names the student that is built in for the procedural scene; absent
    /// means random weights, which the first window's labels train. One that knows fewer classes
    /// than the stream has learns the others, which come last.
    #[schemars(extend("format" = "path"))]
    pub weights: Option<PathBuf>,
    /// Published weights of the network (safetensors) to begin with, under a new head; not together
    /// with `weights`.
    #[schemars(extend("format" = "path"))]
    pub backbone: Option<PathBuf>,
    /// Side of its crops in pixels, up to 1024, and at least 16 for `small`, 8 for `teacher`, 64 for the
    /// others; that of the network where it is absent. A checkpoint knows its own.
    pub input_side: Option<usize>,
}

/// A classifier in an ONNX file as teacher: it takes one picture 1 × 3 × S × S (R G B).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnnxTeacherConfig {
    /// The file.
    #[schemars(extend("format" = "path"))]
    pub model: PathBuf,
    /// Names of its outputs in their order, all of the stream's classes among them. Outputs of one
    /// name are taken together; those that are named as no class of the stream are ignored.
    pub classes: Vec<String>,
    /// What is taken off red, green and blue, each 0 to 1; ImageNet's mean by default.
    #[serde(default = "imagenet_mean")]
    pub mean: [f32; 3],
    /// What red, green and blue are divided by after that, above 0; ImageNet's deviation by default.
    #[serde(default = "imagenet_deviation")]
    pub deviation: [f32; 3],
    /// Whether its outputs are logits, which become chances by softmax; if not, they are chances.
    #[serde(default = "yes")]
    pub softmax: bool,
}

fn imagenet_mean() -> [f32; 3] {
    IMAGENET.mean
}

fn imagenet_deviation() -> [f32; 3] {
    IMAGENET.deviation
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use crate::config::{StudentConfig, ValidConfig};

    fn refusal(text: &str) -> String {
        ValidConfig::parse(text)
            .expect_err("must be refused")
            .to_string()
    }

    /// A file whose stream is a labelled folder, with these models.
    fn folder(student: &str, teacher: &str) -> String {
        format!(
            "[[stream]]\nname = \"a\"\nsource = {{ folder = {{ path = \"m.csv\" }} }}\nstudent = {{ classifier = {{ {student} }} }}\nteacher = {teacher}\n"
        )
    }

    #[test]
    fn every_network_can_be_named() {
        for name in [
            "small",
            "resnet18",
            "mobilenetv2:0.5",
            "shufflenetv2:1.0",
            "resnext101",
        ] {
            let student = format!("architecture = \"{name}\", input_side = 96");
            let config = ValidConfig::parse(&folder(&student, "\"labels\"")).unwrap();
            let StudentConfig::Classifier(student) = &config.streams[0].student else {
                panic!("{config:?}")
            };
            assert_eq!(student.architecture.to_string(), name);
        }
    }

    #[test]
    fn models_that_make_no_sense_name_line_and_key() {
        let onnx = |rest: &str| {
            format!("{{ onnx = {{ model = \"t.onnx\", classes = [\"car\"]{rest} }} }}")
        };
        let cases = [
            (
                "architecture = \"resnet50\"",
                "\"labels\"",
                "no network 'resnet50'",
            ),
            (
                "architecture = \"mobilenetv2:9\"",
                "\"labels\"",
                "no width '9'",
            ),
            (
                "input_side = 8",
                "\"labels\"",
                "line 4: stream[0].student.classifier.input_side",
            ),
            (
                "weights = \"w\", input_side = 64",
                "\"labels\"",
                "line 4: stream[0].student.classifier.input_side",
            ),
            (
                "weights = \"w\", backbone = \"b\"",
                "\"labels\"",
                "line 4: stream[0].student.classifier.backbone",
            ),
            (
                "",
                "{ onnx = { model = \"t.onnx\", classes = [] } }",
                "line 5: stream[0].teacher.onnx.classes",
            ),
            (
                "",
                &onnx(", deviation = [1.0, 0.0, 1.0]"),
                "line 5: stream[0].teacher.onnx.deviation",
            ),
            (
                "",
                &onnx(", mean = [nan, 0.0, 1.0]"),
                "line 5: stream[0].teacher.onnx.mean",
            ),
        ];
        for (student, teacher, expected) in cases {
            let error = refusal(&folder(student, teacher));
            assert!(error.contains(expected), "{error}\nexpected {expected}");
        }
    }

    #[test]
    fn classifiers_and_onnx_files_label_scenes_and_folders() {
        for teacher in [
            "{ classifier = { weights = \"t\" } }",
            "{ onnx = { model = \"t.onnx\", classes = [\"car\"] } }",
        ] {
            let folder = folder("", teacher);
            ValidConfig::parse(&folder).unwrap();
            let scene = folder.replace("folder = { path = \"m.csv\" }", "scene = {}");
            ValidConfig::parse(&scene).unwrap();
            let video = folder.replace("folder = { path", "video = { input");
            assert!(refusal(&video).contains("line 4: stream[0].student"));
        }
    }
}
