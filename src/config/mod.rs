//! The configuration of a node: typed, read from TOML, refused with line and key when wrong.
//!
//! [`ValidConfig`] can only be had through [`ValidConfig::parse`] or [`ValidConfig::new`], so
//! whoever holds one need not check again.

mod classifier;
mod cluster;
mod flaw;
mod learning;
mod locate;
mod misfit;
mod near;
mod output;
mod paths;
mod reference;
mod scheduler;
mod serve;
mod shape;
mod validate;

use std::path::{Path, PathBuf};

use ekya_models::DetectorKind;
use ekya_sched::Share;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::de::DeTable;

pub use classifier::{ClassifierConfig, OnnxTeacherConfig};
pub use cluster::ClusterConfig;
pub use flaw::Problem;
pub use output::{
    BrokerAddress, FileOutputConfig, MQTT_PASSWORD_VARIABLE, MqttOutputConfig, OutputConfig,
    OutputTo, SocketOutputConfig,
};
pub use reference::reference;
pub use scheduler::SchedulerConfig;
pub use serve::{ServeConfig, TOKEN_VARIABLE};
pub use shape::schema;

use flaw::Flaws;
use near::did_you_mean;

use crate::source::folder::FolderConfig;
use crate::source::own::OwnSourceConfig;
use crate::source::scene::SceneConfig;
use crate::source::video::VideoConfig;

pub use learning::{LearningConfig, Method};

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// What to run and for how long.
    #[serde(default)]
    pub run: RunConfig,
    /// The devices of this node; where none is named, one by the name `device0` with every default.
    #[serde(default = "default_devices", rename = "device")]
    pub devices: Vec<DeviceConfig>,
    /// How students are retrained.
    #[serde(default)]
    pub learning: LearningConfig,
    /// The cameras, each with what serves it. At least one, except on a node of a cluster.
    #[serde(default, rename = "stream")]
    pub streams: Vec<StreamConfig>,
    /// The other nodes of the site; absent on a node that is alone.
    #[serde(default)]
    pub cluster: Option<ClusterConfig>,
    /// What is shown over HTTP; absent shows nothing.
    #[serde(default)]
    pub serve: Option<ServeConfig>,
    /// Where the results of frames go, beside the folder of a run.
    #[serde(default, rename = "output")]
    pub outputs: Vec<OutputConfig>,
}

impl Config {
    /// These cameras on one device, everything else as in a file that says no more.
    #[must_use]
    pub fn new(streams: Vec<StreamConfig>) -> Self {
        Self {
            run: RunConfig::default(),
            devices: default_devices(),
            learning: LearningConfig::default(),
            streams,
            cluster: None,
            serve: None,
            outputs: Vec::new(),
        }
    }
}

/// What to run and for how long.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Retraining windows until the run ends by itself; 0 runs until stopped or until every stream
    /// has ended.
    pub windows: usize,
    /// Length of a retraining window in seconds, 1 to 86400.
    pub window_seconds: f64,
    /// Who decides about shares and retrainings: `ekya` (the thief scheduler on micro-profiles),
    /// `ekya:optimal` (the best plan found on them), `none` (no retraining), or `uniform:F:C` with the
    /// fraction F of every device for inference (between 0 and 1) and the C-th retraining configuration
    /// (from 0) for every stream, as in `uniform:0.5:0`.
    pub scheduler: SchedulerConfig,
    /// Seed of everything random: samples, profiles, trainings. Scenes have their own.
    pub seed: u64,
    /// a_MIN: accuracy below which a stream's inference is not planned, 0 to 1.
    pub min_accuracy: f64,
    /// δ: the step in which the scheduler moves shares, above 0 and at most 1.
    pub quantum: Share,
    /// Folder for what outlives the process: checkpoints and training memories, from which streams
    /// continue. Nothing is kept without.
    #[schemars(extend("format" = "path"))]
    pub state: Option<PathBuf>,
    /// Checkpoints of a stream that are kept in the state folder: the newest so many, 1 to 1000.
    pub checkpoints: usize,
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
            state: None,
            checkpoints: 3,
        }
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Name in grants, logs and metrics, unlike any other device's.
    pub name: String,
    /// What the device is.
    #[serde(default)]
    pub kind: DeviceKind,
    /// Threads that one minibatch may use, CPU only; 0 means all cores.
    #[serde(default)]
    pub cores: usize,
    /// Where students are retrained and profiled, and teachers label.
    #[serde(default)]
    pub isolation: Isolation,
    /// Memory in bytes that one worker process may have, 268435456 (256 MiB) or more; half of the
    /// machine's where it is absent. One that needs more ends, and with it the retraining that it is at.
    pub worker_memory_bytes: Option<u64>,
    /// Minibatches that run side by side, 1 to 16; absent is 1 on a CPU, where one uses all cores, and
    /// 2 on a GPU, which small networks do not fill.
    #[serde(default)]
    pub depth: Option<usize>,
    /// Whether the throughput of each kind of student is measured when a node starts for the first
    /// time, some seconds a kind, for plans to count with. Absent is where `depth` is above 1: one
    /// minibatch at a time is as fast as its share says.
    #[serde(default)]
    pub measure_throughput: Option<bool>,
    /// Part of a GPU's memory that one worker may have, above 0 and at most 1. GPUs only.
    #[serde(default = "half")]
    pub gpu_memory_fraction: f64,
    /// Percent of a GPU's multiprocessors that one worker may use, 1 to 100, where NVIDIA's
    /// Multi-Process Service runs (`nvidia-cuda-mps-control -d`): then workers compute side by side
    /// instead of by turns, and a fatal fault of one of them is one of all. Absent is no limit.
    #[serde(default)]
    pub mps_percentage: Option<u32>,
}

/// How far what computes on a device is kept from the node's inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Isolation {
    /// In processes of their own: a crash, a hang or a lack of memory there costs a retraining.
    #[default]
    Worker,
    /// In the node's process: less memory, and whatever fails in C++ ends the node.
    Inline,
}

/// Kinds of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DeviceKind {
    /// CUDA where libtorch sees a GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA GPU; an error where there is none.
    Cuda,
}

impl Default for DeviceConfig {
    /// The device of a configuration that names none.
    fn default() -> Self {
        Self {
            name: "device0".to_owned(),
            kind: DeviceKind::default(),
            cores: 0,
            isolation: Isolation::default(),
            worker_memory_bytes: None,
            depth: None,
            measure_throughput: None,
            gpu_memory_fraction: half(),
            mps_percentage: None,
        }
    }
}

fn default_devices() -> Vec<DeviceConfig> {
    vec![DeviceConfig::default()]
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

/// One camera and what serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StreamConfig {
    /// Name in results, logs and metrics, unlike any other stream's; without control characters.
    pub name: String,
    /// Device that serves and retrains it; streams without one are spread evenly.
    pub device: Option<String>,
    /// Where frames come from.
    pub source: SourceConfig,
    /// The model that serves the stream.
    pub student: StudentConfig,
    /// Who labels samples.
    pub teacher: TeacherConfig,
    /// Inference configurations Λ to choose from.
    #[serde(default)]
    pub inference: InferenceConfig,
    /// How much the stream counts beside others, from a thousandth to a thousand.
    #[serde(default = "one")]
    pub weight: f64,
    /// Whether neither its frames nor its students may leave its node, in a cluster.
    #[serde(default)]
    pub stay: bool,
    /// Names of the nodes that reach its camera, in a cluster where not all do: only these run it.
    #[serde(default)]
    pub nodes: Vec<String>,
}

impl StreamConfig {
    /// A camera and what serves it, everything else as in a file that says no more.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        source: SourceConfig,
        student: StudentConfig,
        teacher: TeacherConfig,
    ) -> Self {
        Self {
            name: name.into(),
            device: None,
            source,
            student,
            teacher,
            inference: InferenceConfig::default(),
            weight: one(),
            stay: false,
            nodes: Vec::new(),
        }
    }

    /// Names of the nodes that may run it, when it is that node's; none where all may.
    #[must_use]
    pub(crate) fn may_run_on(&self, home: &str) -> Vec<String> {
        if self.stay {
            vec![home.to_owned()]
        } else {
            self.nodes.clone()
        }
    }
}

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SourceConfig {
    /// The procedural scene: nothing has to be connected.
    Scene(SceneConfig),
    /// A labelled folder: pictures that a CSV file lists, with their labels.
    Folder(FolderConfig),
    /// A video file or camera, read by ffmpeg.
    Video(VideoConfig),
    /// A source of the program that runs the node, which embeds ekya.
    Own(OwnSourceConfig),
}

/// The model that serves a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StudentConfig {
    /// Names the class of each region, for sources that say where objects are.
    Classifier(ClassifierConfig),
    /// FastestDet, which finds the objects itself.
    FastestDet(DetectorConfig),
    /// TinyYOLOv3, which finds the objects itself.
    TinyYoloV3(DetectorConfig),
    /// SSDLite on MobileNetV2, which finds the objects itself.
    SsdLite(DetectorConfig),
    /// A student of the program that runs the node.
    Own(OwnStudentConfig),
}

impl StudentConfig {
    /// Whether this is the student that is built in for the procedural scene.
    #[must_use]
    pub(crate) fn is_built_in(&self) -> bool {
        let Self::Classifier(ClassifierConfig {
            weights: Some(weights),
            ..
        }) = self
        else {
            return false;
        };
        weights.as_os_str() == BUILT_IN_WEIGHTS
    }

    /// The classes that it finds by itself, whatever the source says; none of a classifier, which is told
    /// where objects are.
    #[must_use]
    pub(crate) fn finds(&self) -> &[String] {
        match self {
            Self::Classifier(_) => &[],
            Self::FastestDet(config) | Self::TinyYoloV3(config) | Self::SsdLite(config) => {
                &config.classes
            }
            Self::Own(config) => &config.classes,
        }
    }

    /// The network of a student that finds the objects itself, and what is configured of it.
    #[must_use]
    pub(crate) fn detector(&self) -> Option<(DetectorKind, &DetectorConfig)> {
        match self {
            Self::Classifier(_) | Self::Own(_) => None,
            Self::FastestDet(config) => Some((DetectorKind::FastestDet, config)),
            Self::TinyYoloV3(config) => Some((DetectorKind::TinyYoloV3, config)),
            Self::SsdLite(config) => Some((DetectorKind::SsdLite, config)),
        }
    }
}

/// A detection network as student.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectorConfig {
    /// Its weights: safetensors, or darknet's `.weights` for TinyYOLOv3. Absent means random weights,
    /// which the first window's labels train; FastestDet needs a file.
    #[schemars(extend("format" = "path"))]
    pub weights: Option<PathBuf>,
    /// SSDLite without weights of its own: those of the MobileNetV2 (safetensors) that it begins with.
    #[schemars(extend("format" = "path"))]
    pub backbone: Option<PathBuf>,
    /// Names of classes to look for, among those that the weights know (COCO's, where the file says
    /// nothing else); the stream's classes, in this order.
    pub classes: Vec<String>,
    /// Side in pixels of its input at full resolution, a multiple of 32 from 32 to 4096; that of the
    /// weights if absent.
    pub input_side: Option<usize>,
}

/// A student of the program's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OwnStudentConfig {
    /// The name that the program gave it.
    pub name: String,
    /// The classes that it finds by itself; without, it is a classifier, which is told where objects are.
    #[serde(default)]
    pub classes: Vec<String>,
}

impl OwnStudentConfig {
    /// A classifier, under the name that the program gave it.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            classes: Vec::new(),
        }
    }
}

/// Who labels samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum TeacherConfig {
    /// The built-in teacher of the procedural scene.
    Scene,
    /// The labels of a labelled folder, which cost nothing.
    Labels,
    /// A classifier's checkpoint, which knows the stream's classes.
    Classifier {
        /// The file.
        #[schemars(extend("format" = "path"))]
        weights: PathBuf,
    },
    /// A classifier in an ONNX file.
    Onnx(OnnxTeacherConfig),
    /// A YOLOX-style ONNX file.
    Yolox {
        /// The file.
        #[schemars(extend("format" = "path"))]
        model: PathBuf,
    },
    /// A detection network like a student's, which finds the student's classes.
    Detector(DetectorTeacherConfig),
    /// A teacher of the program that runs the node, which embeds ekya, by the name that the
    /// program gave it.
    Own(String),
}

impl TeacherConfig {
    /// Whether labelling takes device time: labels that a source brings along, and those that
    /// somebody else makes, do not.
    #[must_use]
    pub(crate) fn costs_device_time(&self) -> bool {
        !matches!(self, Self::Labels | Self::Own(_))
    }
}

/// A detection network as teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectorTeacherConfig {
    /// Which one.
    pub network: DetectorKind,
    /// Its weights, as a student's.
    #[schemars(extend("format" = "path"))]
    pub weights: PathBuf,
    /// Side in pixels of its input, a multiple of 32 from 32 to 4096; that of the weights if absent.
    pub input_side: Option<usize>,
}

/// Inference configurations Λ to choose from, every sampling with every resolution, and what holds for
/// all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// Answer every n-th frame: the choices of n, 1 to 1000; 1 must be among them.
    pub sample_every: Vec<u32>,
    /// Side of the network's input relative to full: the choices, above 0 and at most 1; 1 must be among them.
    pub resolution: Vec<f64>,
    /// A frame that has waited longer for its turn, in seconds, is dropped: above 0 and up to 3600. At
    /// most two frames wait in any case, so this matters where frames are far apart or inference is
    /// held up. Take what an answer is worth waiting for.
    pub deadline_seconds: f64,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self {
            sample_every: vec![1, 2, 3, 5, 8, 13],
            resolution: vec![1.0],
            deadline_seconds: 5.0,
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
    /// [`ConfigError`] with the line and key of everything that is wrong.
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
    /// [`ConfigError::Problems`] with the line and key of everything that is wrong.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Problems(vec![Problem::of_toml(text, &error)]);
        let file = DeTable::parse(text).map_err(unreadable)?;
        refuse(misfit::misfits(file.get_ref()), Some(text))?;
        let config: Config = toml::from_str(text).map_err(unreadable)?;
        refuse(validate::check(&config), Some(text))?;
        Ok(Self(config))
    }

    /// Checks a configuration that a program has put together.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with the key of everything that is wrong.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        refuse(validate::check(&config), None)?;
        Ok(Self(config))
    }
}

/// Refuses what has flaws.
fn refuse(flaws: Flaws, text: Option<&str>) -> Result<(), ConfigError> {
    match flaws.problems(text) {
        problems if problems.is_empty() => Ok(()),
        problems => Err(ConfigError::Problems(problems)),
    }
}

impl ValidConfig {
    /// The same with changes, checked again.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with the key of what is wrong.
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Result<Self, ConfigError> {
        change(&mut self.0);
        Self::new(self.0)
    }

    /// Checks that a node of a cluster has a state folder.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] when it has none.
    pub(crate) fn check_state(&self) -> Result<(), ConfigError> {
        let config = &self.0;
        if config.cluster.is_none() || config.run.state.is_some() {
            return Ok(());
        }
        let message =
            "a node of a cluster needs a folder for what outlives it: set it, or run with --state";
        Err(ConfigError::Problems(vec![Problem::of_key(
            "run.state",
            message,
        )]))
    }

    /// Checks that the program has every source, student and teacher that the configuration takes to be
    /// its own.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with the key of the first that is not there.
    pub(crate) fn check_own(&self, there: &Own<'_>) -> Result<(), ConfigError> {
        let check = |index: usize, key: &str, what: &str, name: &str, names: &[&str]| {
            if names.contains(&name) {
                return Ok(());
            }
            Err(not_own(format!("stream[{index}].{key}"), what, name, names))
        };
        for (index, stream) in self.streams.iter().enumerate() {
            if let SourceConfig::Own(own) = &stream.source {
                check(
                    index,
                    "source.own.name",
                    "source",
                    &own.name,
                    &there.sources,
                )?;
            }
            if let StudentConfig::Own(own) = &stream.student {
                check(
                    index,
                    "student.own.name",
                    "student",
                    &own.name,
                    &there.students,
                )?;
            }
            if let TeacherConfig::Own(name) = &stream.teacher {
                check(index, "teacher.own", "teacher", name, &there.teachers)?;
            }
        }
        Ok(())
    }
}

/// Names of what a program that runs a node brings along.
#[derive(Debug, Default)]
pub(crate) struct Own<'a> {
    pub(crate) sources: Vec<&'a str>,
    pub(crate) students: Vec<&'a str>,
    pub(crate) teachers: Vec<&'a str>,
}

impl std::ops::Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

/// That the program has no such thing of that name.
fn not_own(key: String, what: &str, name: &str, names: &[&str]) -> ConfigError {
    let known = match names {
        [] => "it has none of its own".to_owned(),
        names => format!("it has {}", names.join(", ")),
    };
    let meant = did_you_mean(name, names.iter().copied());
    let message = format!("this program has no {what} '{name}'; {known}{meant}");
    ConfigError::Problems(vec![Problem::of_key(key, message)])
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
    /// All that is wrong with what it says; never empty.
    #[error("{}", listed(.0))]
    Problems(Vec<Problem>),
}

impl ConfigError {
    /// What is wrong, one by one.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Problems(problems) => problems.clone(),
            other => vec![Problem::of_file(other.to_string())],
        }
    }
}

/// One problem in its line, several in a line each.
fn listed(problems: &[Problem]) -> String {
    match problems {
        [one] => one.to_string(),
        several => several
            .iter()
            .fold(format!("{} problems", several.len()), |text, one| {
                format!("{text}\n  {one}")
            }),
    }
}

#[cfg(test)]
mod tests;
