//! The result of one frame, as every outlet and every subscriber gets it, and as it is written in
//! `results.jsonl`.

use std::sync::Arc;
use std::time::Duration;

use ekya_models::BBox;
use serde::{Serialize, Serializer};

use crate::clock::unix_time;
use crate::stream::{Fate, Settled};

/// What was answered about one frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FrameResult {
    /// When the frame came, in seconds from the start of the run.
    pub time: f64,
    /// When this was known, in Unix seconds.
    pub known_at: f64,
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Number of the frame in its stream, from 0.
    pub frame: u64,
    /// What became of it. In JSON a `"dropped"` frame does not say why.
    #[serde(serialize_with = "fate_name")]
    pub fate: Fate,
    /// Which student gave the answer: counts those that have served the stream, from 0, so a higher
    /// number than before says that one was promoted. Absent before the first answer.
    pub student: Option<u64>,
    /// From the frame's arrival to its answer; absent where it has none of its own. In JSON
    /// `latency_ms`, in milliseconds.
    #[serde(rename = "latency_ms", serialize_with = "milliseconds")]
    pub latency: Option<Duration>,
    /// The answer in force at the frame's time: its own, or the last one before it.
    #[serde(rename = "detections")]
    pub objects: Vec<DetectedObject>,
    /// Names of the stream's classes.
    #[serde(skip)]
    pub(super) classes: Arc<[Arc<str>]>,
}

/// An object that a student has found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DetectedObject {
    /// Index of its class among the stream's.
    pub class: usize,
    /// Name of its class.
    pub name: Arc<str>,
    /// Confidence, 0..=1.
    pub score: f32,
    /// Where, in pixels of the picture.
    pub bbox: BBox,
}

impl FrameResult {
    /// The result of a settled frame of a stream with these classes.
    pub(super) fn of(stream: &Arc<str>, classes: &Arc<[Arc<str>]>, settled: &Settled) -> Self {
        let answer = settled.answer.as_deref();
        let own = answer.filter(|_| settled.fate == Fate::Answered);
        let objects = answer.map_or(&[][..], |answer| &answer.objects).iter();
        // A student has no classes but the stream's.
        let object = |object: &ekya_models::Object| {
            Some(DetectedObject {
                class: object.class,
                name: Arc::clone(classes.get(object.class)?),
                score: object.score,
                bbox: object.bbox,
            })
        };
        Self {
            time: settled.at,
            known_at: unix_time(),
            stream: Arc::clone(stream),
            frame: settled.frame.index,
            fate: settled.fate.clone(),
            student: answer.map(|answer| answer.student),
            latency: own.map(|answer| answer.latency),
            objects: objects.filter_map(object).collect(),
            classes: Arc::clone(classes),
        }
    }

    /// Puts it behind other lines of JSON.
    pub(super) fn write_line(&self, lines: &mut Vec<u8>) {
        let before = lines.len();
        if serde_json::to_writer(&mut *lines, self).is_err() {
            // It has nothing in it that JSON cannot hold.
            return lines.truncate(before);
        }
        lines.push(b'\n');
    }

    /// Whether the answer is the frame's own, not inherited from one before.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.fate == Fate::Answered
    }
}

fn fate_name<S: Serializer>(fate: &Fate, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match fate {
        Fate::Answered => "answered",
        Fate::Skipped => "skipped",
        Fate::Dropped | Fate::Late | Fate::Failed => "dropped",
    })
}

fn milliseconds<S: Serializer>(latency: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    let milliseconds = latency.map(|latency| latency.as_secs_f64() * 1e3);
    milliseconds.serialize(to)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A result of the stream "gate", answered by student 0, with objects of these classes.
    pub(crate) fn result(frame: u64, objects: &[&str]) -> FrameResult {
        let object = |(class, name): (usize, &&str)| DetectedObject {
            class,
            name: (*name).into(),
            score: 0.5,
            bbox: BBox {
                x1: 1.0,
                y1: 2.0,
                x2: 4.0,
                y2: 8.0,
            },
        };
        FrameResult {
            time: frame as f64 / 10.0,
            known_at: 1000.0 + frame as f64 / 10.0,
            stream: "gate".into(),
            frame,
            fate: Fate::Answered,
            student: Some(0),
            latency: Some(Duration::from_millis(20)),
            objects: objects.iter().enumerate().map(object).collect(),
            classes: objects.iter().map(|name| (*name).into()).collect(),
        }
    }

    /// Tools read these lines: fields may come, none may change.
    #[test]
    fn a_line_is_as_it_was() {
        let line = serde_json::to_value(result(3, &["car"])).unwrap();
        let expected = serde_json::json!({
            "time": 3.0 / 10.0, "known_at": 1000.3, "stream": "gate", "frame": 3,
            "fate": "answered", "student": 0, "latency_ms": 20.0,
            "detections": [{
                "class": 0, "name": "car", "score": 0.5,
                "bbox": { "x1": 1.0, "y1": 2.0, "x2": 4.0, "y2": 8.0 },
            }],
        });
        assert_eq!(line, expected);
    }
}
