//! What is known about a file of weights.

use std::collections::BTreeMap;

use ekya_sched::RetrainingConfig;
use serde::{Deserialize, Serialize};

use super::seen::Seen;

/// Version of the manifest; newer ones are refused.
pub(super) const VERSION: u32 = 1;

/// A checkpoint's manifest, without which its weights are nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its number, above that of every checkpoint that was there when it was saved.
    pub sequence: u64,
    /// SHA-256 of the file of weights, in hexadecimal.
    pub weights_sha256: String,
    /// Length of the file of weights.
    pub weights_bytes: u64,
    /// Where the weights come from.
    pub provenance: Provenance,
}

/// Where weights come from and how good they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The stream that they serve.
    pub stream: String,
    /// The network, as [`crate::Student::network`] names it.
    pub network: String,
    /// Class names, by class index.
    pub classes: Vec<String>,
    /// SHA-256 of the weights that they were retrained from, where those were saved too.
    pub parent: Option<String>,
    /// What the last retraining was trained on.
    pub trained_on: TrainedOn,
    /// All that they have ever been trained on since the first weights of the stream.
    pub seen: Seen,
    /// How they were retrained.
    pub config: RetrainingConfig,
    /// Seed of the retraining.
    pub seed: u64,
    /// Accuracy on held-out frames, 0..=1.
    pub accuracy: f64,
    /// How many frames that is the mean of.
    pub held_out: usize,
    /// When they were written (Unix seconds).
    pub written_at: u64,
}

/// Labelled frames in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrainedOn {
    /// How many.
    pub frames: usize,
    /// When the earliest was taken (Unix seconds).
    pub from: u64,
    /// When the latest was taken (Unix seconds).
    pub to: u64,
    /// Objects of each class, by name.
    pub objects: BTreeMap<String, usize>,
}
