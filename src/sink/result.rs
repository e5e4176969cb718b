//! A line of `results.jsonl`.

use ekya_models::Object;
use serde::Serialize;

use crate::clock::unix_time;
use crate::stream::{Fate, Settled};

/// What was answered about one frame.
#[derive(Debug, Serialize)]
pub struct ResultLine {
    /// Seconds from the start of the stream.
    time: f64,
    /// When this was known, in Unix seconds.
    known_at: f64,
    stream: String,
    frame: u64,
    fate: &'static str,
    /// Which student of the stream answered; absent before the first answer.
    student: Option<u64>,
    latency_ms: Option<f64>,
    detections: Vec<Object>,
}

impl ResultLine {
    /// The line of a settled frame.
    pub(crate) fn of(stream: &str, settled: &Settled) -> Self {
        let own = settled
            .answer
            .as_ref()
            .filter(|_| settled.fate == Fate::Answered);
        Self {
            time: settled.at,
            known_at: unix_time(),
            stream: stream.to_string(),
            frame: settled.frame.index,
            fate: match settled.fate {
                Fate::Answered => "answered",
                Fate::Skipped => "skipped",
                Fate::Dropped | Fate::Late | Fate::Failed => "dropped",
            },
            student: settled.answer.as_ref().map(|answer| answer.student),
            latency_ms: own.map(|answer| answer.latency.as_secs_f64() * 1e3),
            detections: settled
                .answer
                .as_ref()
                .map_or_else(Vec::new, |answer| answer.objects.clone()),
        }
    }
}
