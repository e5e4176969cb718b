//! The configuration of a node: typed, read from TOML, refused with line and key when wrong.
//!
//! [`ValidConfig`] can only be had through [`ValidConfig::parse`] or [`ValidConfig::new`], so
//! whoever holds one need not check again.

mod locate;
mod paths;
mod validate;

use std::path::{Path, PathBuf};

use ekya_models::DetectorKind;
use ekya_sched::{RetrainingConfig, Share};
use serde::Deserialize;
use thiserror::Error;

use crate::source::folder::FolderConfig;
use crate::source::input::strip_user_info;
use crate::source::scene::SceneConfig;
use crate::source::video::VideoConfig;

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What to run and for how long.
    #[serde(default)]
    pub run: RunConfig,
    /// Devices of this node; one CPU device when none is named.
    #[serde(default = "default_devices", rename = "device")]
    pub devices: Vec<DeviceConfig>,
    /// How students are retrained.
    #[serde(default)]
    pub learning: LearningConfig,
    /// The cameras.
    #[serde(default, rename = "stream")]
    pub streams: Vec<StreamConfig>,
}

/// What to run and for how long.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Retraining windows until the run ends by itself; 0 runs until stopped or until every stream
    /// has ended.
    pub windows: usize,
    /// Length of a retraining window in seconds, at least 1.
    pub window_seconds: f64,
    /// Who decides.
    pub scheduler: SchedulerConfig,
    /// Seed of everything random: samples, profiles, trainings. Scenes have their own.
    pub seed: u64,
    /// a_MIN: accuracy below which a stream's inference is not planned, 0..=1.
    pub min_accuracy: f64,
    /// δ: the step in which the scheduler moves shares.
    pub quantum: Share,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            windows: 0,
            window_seconds: 60.0,
            scheduler: SchedulerConfig::Ekya,
            seed: 1,
            min_accuracy: 0.0,
            quantum: Share::from_micro(100_000),
        }
    }
}

/// Who decides about shares and retrainings: `ekya`, `ekya:optimal`, `none`, or `uniform:F:C` with the
/// fraction F of every device for inference and the C-th retraining configuration (from 0) for every stream.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub enum SchedulerConfig {
    /// Thief scheduler on micro-profiles.
    Ekya,
    /// The best plan found on micro-profiles, retrainings mostly one after another.
    EkyaOptimal,
    /// No retraining.
    None,
    /// Fixed split and fixed configuration.
    Uniform {
        /// Fraction of every device that inference gets, in (0, 1).
        inference: f64,
        /// Index into `learning.configurations`.
        configuration: usize,
    },
}

impl TryFrom<String> for SchedulerConfig {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "unknown scheduler '{text}': use ekya, ekya:optimal, none or uniform:F:C (as in uniform:0.5:0)"
            )
        };
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("ekya"), None, ..) => Ok(Self::Ekya),
            (Some("ekya"), Some("optimal"), None, _) => Ok(Self::EkyaOptimal),
            (Some("none"), None, ..) => Ok(Self::None),
            (Some("uniform"), Some(fraction), Some(index), None) => {
                let inference: f64 = fraction.parse().map_err(|_| wrong())?;
                let configuration = index.parse().map_err(|_| wrong())?;
                if !(inference > 0.0 && inference < 1.0) {
                    return Err(format!(
                        "in '{text}' the inference fraction must lie between 0 and 1, both excluded"
                    ));
                }
                Ok(Self::Uniform {
                    inference,
                    configuration,
                })
            }
            _ => Err(wrong()),
        }
    }
}

impl std::str::FromStr for SchedulerConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl std::fmt::Display for SchedulerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ekya => write!(f, "ekya"),
            Self::EkyaOptimal => write!(f, "ekya:optimal"),
            Self::None => write!(f, "none"),
            Self::Uniform {
                inference,
                configuration,
            } => write!(f, "uniform:{inference}:{configuration}"),
        }
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Name in grants, logs and metrics.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: DeviceKind,
    /// Threads that one minibatch may use, CPU only; 0 means all cores.
    #[serde(default)]
    pub cores: usize,
}

/// Kinds of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// CUDA where libtorch sees a GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA GPU; an error where there is none.
    Cuda,
}

fn default_devices() -> Vec<DeviceConfig> {
    vec![DeviceConfig {
        name: "device0".to_owned(),
        kind: DeviceKind::Auto,
        cores: 0,
    }]
}

/// How students are retrained.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearningConfig {
    /// Frames a stream and window that the teacher labels, at least 4.
    pub samples: usize,
    /// Consecutive frames among them, on which the inference configurations are profiled.
    pub burst: usize,
    /// Fraction of a window's labelled frames, the latest at any time, that retraining does not see
    /// yet; the gate compares students on them. In (0, 1).
    pub holdout: f64,
    /// Labelled frames older than about a window that a stream keeps and replays.
    pub memory: usize,
    /// Share of each device for labelling (half of it, as long as labels are wanted) and profiling
    /// (the other half, while it lasts).
    pub overhead_share: Share,
    /// Fraction of the labelled frames that a micro-profile trains on, in (0, 1].
    pub profile_fraction: f64,
    /// Epochs of a micro-profile, at least 2.
    pub profile_epochs: usize,
    /// Label although nobody retrains, so that accuracy is measured.
    pub measure: bool,
    /// The retraining configurations Γ.
    #[serde(rename = "configuration")]
    pub configurations: Vec<RetrainingConfig>,
}

impl LearningConfig {
    /// Frames labelled in a window, the burst apart: as many count as recent.
    #[must_use]
    pub fn spread(&self) -> usize {
        self.samples.saturating_sub(self.burst)
    }

    /// Frames, the latest of them, that students are compared on.
    #[must_use]
    pub fn held_out(&self) -> usize {
        (self.spread() as f64 * self.holdout).ceil() as usize
    }
}

impl Default for LearningConfig {
    fn default() -> Self {
        let config = |epochs, layers_frozen, learning_rate| RetrainingConfig {
            epochs,
            layers_frozen,
            learning_rate,
            ..RetrainingConfig::default()
        };
        Self {
            samples: 60,
            burst: 10,
            holdout: 0.3,
            memory: 120,
            overhead_share: Share::from_micro(300_000),
            profile_fraction: 0.3,
            profile_epochs: 3,
            measure: false,
            configurations: vec![
                config(10, usize::MAX, 2e-3),
                config(8, 3, 1e-3),
                config(6, 0, 5e-4),
                config(12, 0, 5e-4),
            ],
        }
    }
}

/// One camera and what serves it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Name in results, logs and metrics.
    pub name: String,
    /// Device that serves and retrains it; streams without one are spread evenly.
    pub device: Option<String>,
    /// Where frames come from.
    pub source: SourceConfig,
    /// The model that serves it.
    pub student: StudentConfig,
    /// Who labels samples.
    pub teacher: TeacherConfig,
    /// Inference configurations Λ to choose from.
    #[serde(default)]
    pub inference: InferenceConfig,
}

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceConfig {
    /// The procedural scene.
    Scene(SceneConfig),
    /// A labelled folder.
    Folder(FolderConfig),
    /// A video file or camera.
    Video(VideoConfig),
}

/// The model that serves a stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudentConfig {
    /// Names the class of each region.
    Classifier(ClassifierConfig),
    /// FastestDet, which finds the objects itself.
    FastestDet(DetectorConfig),
    /// TinyYOLOv3, which finds the objects itself.
    TinyYoloV3(DetectorConfig),
    /// SSDLite on MobileNetV2, which finds the objects itself.
    SsdLite(DetectorConfig),
}

impl StudentConfig {
    /// Whether this is the student that is built in for the procedural scene.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        let Self::Classifier(ClassifierConfig {
            weights: Some(weights),
            ..
        }) = self
        else {
            return false;
        };
        weights.as_os_str() == BUILT_IN_WEIGHTS
    }

    /// The network of a student that finds the objects itself, and what is configured of it.
    #[must_use]
    pub fn detector(&self) -> Option<(DetectorKind, &DetectorConfig)> {
        match self {
            Self::Classifier(_) => None,
            Self::FastestDet(config) => Some((DetectorKind::FastestDet, config)),
            Self::TinyYoloV3(config) => Some((DetectorKind::TinyYoloV3, config)),
            Self::SsdLite(config) => Some((DetectorKind::SsdLite, config)),
        }
    }
}

/// A classifier student.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The network, when it starts from random weights.
    #[serde(default)]
    pub architecture: ClassifierArchitecture,
    /// A checkpoint; `scene` names the student that is built in for the procedural scene; absent
    /// means random weights, which the first window's labels train.
    pub weights: Option<PathBuf>,
}

/// Classifier networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassifierArchitecture {
    /// Trains in seconds on a CPU core.
    #[default]
    Small,
    /// ResNet18.
    ResNet18,
}

/// A detection network as student.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorConfig {
    /// Its weights: safetensors, or darknet's `.weights` for TinyYOLOv3. Absent means random weights,
    /// which the first window's labels train; FastestDet needs a file.
    pub weights: Option<PathBuf>,
    /// SSDLite without weights of its own: those of the MobileNetV2 that it begins with.
    pub backbone: Option<PathBuf>,
    /// Names of classes to look for, among those that the weights know (COCO's, where the file says
    /// nothing else); the stream's classes, in this order.
    pub classes: Vec<String>,
    /// Side in pixels of its input at full resolution, a multiple of 32; that of the weights if absent.
    pub input_side: Option<usize>,
}

/// Who labels samples.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TeacherConfig {
    /// The built-in teacher of the procedural scene.
    Scene,
    /// The labels of a labelled folder, which cost nothing.
    Labels,
    /// A YOLOX-style ONNX file.
    Yolox {
        /// The file.
        model: PathBuf,
    },
    /// A detection network like a student's, which finds the student's classes.
    Detector(DetectorTeacherConfig),
}

/// A detection network as teacher.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorTeacherConfig {
    /// Which one.
    pub network: DetectorKind,
    /// Its weights, as a student's.
    pub weights: PathBuf,
    /// Side in pixels of its input, a multiple of 32; that of the weights if absent.
    pub input_side: Option<usize>,
}

/// Inference configurations Λ to choose from: every sampling with every resolution.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// Answer every n-th frame; 1 must be among them.
    pub sample_every: Vec<u32>,
    /// Side of the network's input relative to full, in (0, 1]; 1 must be among them.
    pub resolution: Vec<f64>,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self {
            sample_every: vec![1, 2, 3, 5, 8, 13],
            resolution: vec![1.0],
        }
    }
}

/// A configuration that has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidConfig(Config);

impl ValidConfig {
    /// Reads and checks a file. In the paths inside it, `${NAME}` stands for an environment
    /// variable; relative ones are taken relative to the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`] with the line and key of what is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config = Self::parse(&text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        paths::resolve(&mut config.0, folder, |name| std::env::var(name).ok())?;
        Ok(config)
    }

    /// Parses and checks the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`] with the line and key of what is wrong.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        // The error quotes the line, and a camera's URL may carry its password.
        let config: Config = toml::from_str(text)
            .map_err(|error| ConfigError::Syntax(strip_user_info(&error.to_string())))?;
        validate::check(&config).map_err(|flaw| {
            let line = locate::line_of(text, &flaw.key);
            ConfigError::Value {
                line,
                key: locate::spell(&flaw.key),
                message: flaw.message,
            }
        })?;
        Ok(Self(config))
    }

    /// Checks a configuration that a program has put together.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the key of what is wrong.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        validate::check(&config).map_err(|flaw| ConfigError::Value {
            line: None,
            key: locate::spell(&flaw.key),
            message: flaw.message,
        })?;
        Ok(Self(config))
    }
}

impl ValidConfig {
    /// The same with changes, checked again.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the key of what is wrong.
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Result<Self, ConfigError> {
        change(&mut self.0);
        Self::new(self.0)
    }
}

impl std::ops::Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

/// The name that stands for the student built in for the procedural scene.
pub const BUILT_IN_WEIGHTS: &str = "scene";

/// Why a configuration was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path names an environment variable that is not set.
    #[error("{path}: the environment variable {name} is not set")]
    Variable {
        /// The path as written.
        path: String,
        /// The variable.
        name: String,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// A value that makes no sense.
    #[error("{}{key}: {message}", line.map_or_else(String::new, |line| format!("line {line}: ")))]
    Value {
        /// Line of the key, from 1, when the configuration came from a file.
        line: Option<usize>,
        /// The key, as in `stream[1].source.video.fps`.
        key: String,
        /// What was expected.
        message: String,
    },
}

#[cfg(test)]
mod tests {
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
            ("uniform:0.5:1", "uniform:0.5:9", "line 5: run.scheduler"),
            (
                "name = \"gate\"",
                "name = \"gate\"\ndevice = \"gpu7\"",
                "line 14: stream[0].device",
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
    fn zero_overhead_share_is_refused() {
        let error = refusal(&format!("{GOOD}\n[learning]\noverhead_share = 0.0\n"));
        assert!(error.contains("learning.overhead_share"), "{error}");
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
}
