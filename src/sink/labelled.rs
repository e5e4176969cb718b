//! A line of `labelled.jsonl`.

use ekya_models::{BBox, Object};
use serde::{Deserialize, Serialize};

use crate::learn::Labelled;
use crate::stream::Metric;

/// A frame that the teacher has labelled, and the answer that was in force at its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelledLine {
    /// Name of the stream.
    pub stream: String,
    /// Number of the frame, as in `results.jsonl`.
    pub frame: u64,
    /// Seconds from the start of the run.
    pub time: f64,
    /// Index of the retraining window that it arrived in.
    pub window: usize,
    /// Whether it belongs to a burst of consecutive frames, which is no sample of its window.
    pub burst: bool,
    /// How the answer is scored.
    pub metric: Metric,
    /// Which student of the stream answered; absent before the first answer.
    pub student: Option<u64>,
    /// The answer in force.
    pub answer: Vec<NamedObject>,
    /// The teacher's labels.
    pub labels: Vec<NamedObject>,
    /// The answer's score against these; absent where there is nothing to score.
    pub score: Option<f64>,
}

/// An object with the name of its class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedObject {
    /// Name of the class.
    pub class: String,
    /// Confidence, 0..=1.
    pub score: f32,
    /// Where, in pixels of the picture.
    pub bbox: BBox,
}

impl LabelledLine {
    /// The line of a frame of a stream with these classes.
    pub(crate) fn of(
        stream: &str,
        classes: &[String],
        window: usize,
        metric: Metric,
        labelled: &Labelled,
    ) -> Self {
        let answer = labelled.answer.as_ref();
        Self {
            stream: stream.to_owned(),
            frame: labelled.frame.index,
            time: labelled.at,
            window,
            burst: labelled.burst,
            metric,
            student: answer.map(|answer| answer.student),
            answer: named(answer.map_or(&[], |answer| &answer.objects), classes),
            labels: named(&labelled.labels, classes),
            score: labelled.live_score(metric),
        }
    }
}

/// Objects by name. Labels are checked when they are made, and a student has no other classes.
fn named(objects: &[Object], classes: &[String]) -> Vec<NamedObject> {
    let name = |object: &Object| {
        Some(NamedObject {
            class: classes.get(object.class)?.clone(),
            score: object.score,
            bbox: object.bbox,
        })
    };
    objects.iter().filter_map(name).collect()
}
