//! The run record: what `run.json` holds. Times are seconds from the start of the run, shares are
//! parts of a device, accuracies are 0..=1.

use std::path::Path;

use ekya_sched::{RetrainingConfig, Share};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the record's format; readers refuse newer ones.
pub const RECORD_VERSION: u32 = 3;

/// One run of one scheduler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunRecord {
    /// [`RECORD_VERSION`] at the time of writing.
    pub version: u32,
    /// Scheduler, as written in the configuration ("ekya", "none", "uniform:0.5:cheap").
    pub scheduler: String,
    /// Seed of everything random in the run.
    pub seed: u64,
    /// Length of a retraining window.
    pub window_seconds: f64,
    /// Part of each device that is set aside for labels and profiles; absent in older records.
    #[serde(default)]
    pub overhead_share: Option<Share>,
    /// Devices of the node.
    pub devices: Vec<DeviceRecord>,
    /// Streams, in the order of the configuration.
    pub streams: Vec<StreamRecord>,
    /// Windows, in order.
    pub windows: Vec<WindowRecord>,
    /// Whether the run reached its end; false after an interruption or an error.
    pub complete: bool,
}

/// Why a file is no record that can be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It holds something else.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A later program has written it.
    #[error("version {0}, newer than the {RECORD_VERSION} that this program knows")]
    Newer(u32),
}

impl RunRecord {
    /// Reads a `run.json`.
    ///
    /// # Errors
    /// [`RecordError`]; it does not name the file.
    pub fn read(file: &Path) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(&std::fs::read(file)?)?;
        if record.version > RECORD_VERSION {
            return Err(RecordError::Newer(record.version));
        }
        Ok(record)
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceRecord {
    /// Name in grants and logs ("cpu0").
    pub name: String,
    /// Threads that a minibatch may use on a CPU device; 0 for CUDA.
    pub cores: usize,
    /// Device seconds used, by job.
    pub busy_seconds: Vec<(String, f64)>,
}

/// One stream over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StreamRecord {
    /// Name from the configuration.
    pub name: String,
    /// Class names, by class index.
    pub classes: Vec<String>,
    /// What became of the frames.
    pub frames: FrameCounts,
    /// Mean over all arrived frames that hold an object, against the source's truth; absent when
    /// the source knows none.
    pub true_accuracy: Option<f64>,
    /// Mean over the labelled frames, against the teacher.
    pub measured_accuracy: Option<f64>,
    /// Standard deviation of measuring it.
    #[serde(default)]
    pub measured_sd: Option<f64>,
    /// Accuracy in steps of a second: against the truth where there is one, else measured.
    pub accuracy_over_time: Vec<AccuracyPoint>,
    /// Slowdown of a recorded file: 2 means played at half speed. 1 for all else.
    pub slowdown: f64,
    /// Why the stream ended before the run did.
    pub failure: Option<String>,
    /// Number of the checkpoint that it continued from.
    #[serde(default)]
    pub continued_from: Option<u64>,
    /// How often a student or the training memory could not be kept in the state folder.
    #[serde(default)]
    pub not_kept: u64,
}

/// What became of the frames of a stream: `arrived = answered + skipped + dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FrameCounts {
    /// Handed over by the source, by its own count.
    pub arrived: u64,
    /// Answered by the student.
    pub answered: u64,
    /// Left out by the inference configuration; they inherit the last answer.
    pub skipped: u64,
    /// Overtaken by newer frames because inference was late, or past their deadline when their turn
    /// came, or the student failed on them; they inherit the last answer.
    pub dropped: u64,
    /// Of the dropped ones, those past their deadline. Older records did not count them.
    #[serde(default)]
    pub late: u64,
    /// Of the dropped ones, those on which the student failed. Older records did not count them.
    #[serde(default)]
    pub failed: u64,
}

/// Mean accuracy of the frames of one second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccuracyPoint {
    /// Start of the second.
    pub at: f64,
    /// Mean accuracy.
    pub accuracy: f64,
    /// Frames it is the mean of.
    pub frames: u64,
}

/// One retraining window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WindowRecord {
    /// Counts from 0.
    pub index: usize,
    /// Start of the window.
    pub from: f64,
    /// End of the window.
    pub to: f64,
    /// Streams, in the order of the configuration.
    pub streams: Vec<WindowStream>,
}

/// One stream in one window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WindowStream {
    /// Mean accuracy against the truth over the window's frames.
    pub true_accuracy: Option<f64>,
    /// Mean accuracy against the teacher over the window's labelled frames.
    pub measured_accuracy: Option<f64>,
    /// Standard deviation of measuring it, neighbouring frames taken to be alike.
    #[serde(default)]
    pub measured_sd: Option<f64>,
    /// Labelled frames that `measured_accuracy` is the mean of.
    #[serde(default)]
    pub labelled_frames: usize,
    /// Samples without labels because the teacher failed on them, or gave such as cannot be used.
    #[serde(default)]
    pub not_labelled: u64,
    /// What the scheduler's first plan of the window expected the mean over its horizon to be.
    pub predicted_accuracy: Option<f64>,
    /// Of the student that served before the last promotion, on those of the window's labels that came
    /// after it: what not retraining would have given. Absent where nothing was compared.
    #[serde(default)]
    pub previous_accuracy: Option<f64>,
    /// Device seconds spent on labelling.
    pub labelling_seconds: f64,
    /// Device seconds spent on profiling.
    pub profiling_seconds: f64,
    /// Accuracy of the serving student where every frame is answered, when the profiler predicted last.
    #[serde(default)]
    pub student_accuracy: Option<f64>,
    /// Inference configurations, as measured last before that.
    #[serde(default)]
    pub inference: Vec<InferenceRecord>,
    /// What the profiler predicted last, configuration by configuration.
    pub profiles: Vec<ProfileRecord>,
    /// Shares over the window.
    pub segments: Vec<ShareSegment>,
    /// The retrainings that were started, in order.
    pub retrainings: Vec<RetrainingRecord>,
    /// What was decided and why, in order.
    pub decisions: Vec<Decision>,
}

/// One inference configuration as it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InferenceRecord {
    /// Every how many frames one is answered.
    pub sample_every: u32,
    /// Side of the network's input, relative to full.
    pub resolution: f64,
    /// What is left of the student's accuracy.
    pub accuracy_factor: f64,
    /// Share of the device that it needs to keep up with the source.
    pub share: Share,
}

/// One configuration as the profiler saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProfileRecord {
    /// The configuration.
    pub config: RetrainingConfig,
    /// Predicted accuracy of the stream after the retraining and its gate.
    pub end_accuracy: f64,
    /// Predicted cost on a whole device.
    pub gpu_seconds: f64,
}

/// Shares granted and used between two plans.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShareSegment {
    /// Start.
    pub from: f64,
    /// End.
    pub to: f64,
    /// Granted to inference.
    pub inference_granted: Share,
    /// Used by inference: device seconds over the segment's length.
    pub inference_used: f64,
    /// Granted to retraining.
    pub training_granted: Share,
    /// Used by retraining and profiling.
    pub training_used: f64,
    /// Every how many frames one is answered.
    pub sample_every: u32,
    /// Side of the network's input, relative to full.
    pub resolution: f64,
}

/// One retraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RetrainingRecord {
    /// The configuration.
    pub config: RetrainingConfig,
    /// When it started.
    pub from: f64,
    /// When it ended.
    pub to: Option<f64>,
    /// It was ended before it was through, or failed.
    pub cut_off: bool,
    /// Device seconds it took.
    pub gpu_seconds: f64,
    /// Accuracy of the stream that was predicted for its end, gate included; absent under a
    /// scheduler that predicts nothing.
    pub predicted_accuracy: Option<f64>,
    /// Cost on a whole device that was predicted; likewise.
    pub predicted_gpu_seconds: Option<f64>,
    /// Labelled pictures it trained on.
    pub examples: usize,
    /// Held-out frames that it was compared with the serving student on.
    pub held_out: usize,
    /// Accuracy of the serving student on them.
    pub serving_accuracy: Option<f64>,
    /// Accuracy of the retrained student on them.
    pub retrained_accuracy: Option<f64>,
    /// Standard deviation of measuring the difference.
    pub difference_sd: Option<f64>,
    /// The chance that it is better, what was expected of it beforehand considered.
    pub chance: Option<f64>,
    /// Whether it replaced the serving student.
    pub promoted: bool,
    /// When the student before it was put back, because newer labels showed that one to be better.
    pub rolled_back: Option<f64>,
}

/// A decision and its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// When.
    pub at: f64,
    /// What and why, for people.
    pub text: String,
}
