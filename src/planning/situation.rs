//! What a node knows and wants: its devices, and its streams with what each could be retrained with.

use ekya_sched::{Share, StreamSpec};
use serde::{Deserialize, Serialize};

use super::decisions::Place;
use super::parts::Parts;

/// Streams of a part: each takes up to 2 KiB, and a message holds 64.
const STREAMS_A_PART: usize = 16;

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Situation {
    /// Counts the situations of a node since its start.
    pub number: u64,
    /// How far plans look ahead, in seconds.
    pub horizon: f64,
    /// δ, the step in which shares are moved.
    pub quantum: Share,
    /// Accuracy that no stream should fall below.
    pub min_accuracy: f64,
    /// Its devices.
    pub devices: Vec<DeviceSituation>,
    /// Its streams.
    pub streams: Vec<StreamSituation>,
}

/// A device of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceSituation {
    /// Its name on that node.
    pub name: String,
    /// What plans may hand out: what is left beside labelling and profiling.
    pub capacity: Share,
    /// Bytes that retrainings may take together; `None` where they are never short.
    pub memory: Option<u64>,
    /// Whether students of other nodes may be retrained on it.
    pub lends: bool,
    /// Training steps a second of whole devices, by kind of student, as far as they were measured.
    pub speeds: Vec<(String, f64)>,
}

/// A stream of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamSituation {
    /// What is to be planned. Its device is one of the node's, by index; where it is retrained is said
    /// below.
    pub spec: StreamSpec,
    /// Changes whenever options do, or what is in progress: decisions about an older version are out of
    /// date.
    pub version: u64,
    /// The kind of its student.
    pub kind: String,
    /// Where its retraining runs, when that is another node.
    pub trained_on: Option<Place>,
}

impl Parts for Situation {
    fn into_parts(mut self) -> Vec<Self> {
        let mut rest = std::mem::take(&mut self.streams).into_iter();
        let mut parts = Vec::new();
        loop {
            let streams: Vec<_> = rest.by_ref().take(STREAMS_A_PART).collect();
            if streams.is_empty() && !parts.is_empty() {
                return parts;
            }
            parts.push(Self {
                streams,
                ..self.clone()
            });
        }
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn add(&mut self, part: Self) {
        self.streams.extend(part.streams);
    }
}
