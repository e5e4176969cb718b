//! Accuracy of a finished run, set right by what people say of a part of its labelled frames.
//!
//! [`Run`] is what the run has left behind, [`HumanLabels`] are what people say of some of its
//! frames, and [`audit`] scores the same answers against both. Which frames people are to label is
//! best drawn at random ([`draw()`]): where they choose by looks, nothing is set right.
//!
//! A frame in which nothing is and nothing was found counts as right here, because what the teacher
//! and the student both miss must not drop out; `measured_accuracy` in `run.json` leaves it out.

mod draw;
mod human;
mod run;

use std::fmt::Write;
use std::path::PathBuf;

use ekya_models::Object;
use ekya_profiler::Estimate;
use ekya_profiler::accuracy::{AUDITED_MIN, Audited, accuracy};
use ekya_profiler::comparison::mean_of_series;
use thiserror::Error;

pub use draw::draw;
pub use human::HumanLabels;
pub use run::{LabelledFrame, LabelledStream, Run};

use crate::stream::Metric;

/// Standard deviations to either side of the mean of a normal distribution that hold 95 % of it.
const SD_OF_95_PERCENT: f64 = 1.96;

/// A file that cannot be read or used.
#[derive(Debug, Error)]
#[error("{}: {}{reason}", path.display(), line.map_or_else(String::new, |line| format!("line {line}: ")))]
pub struct AuditError {
    /// The file.
    pub path: PathBuf,
    /// Its line, from 1.
    pub line: Option<u64>,
    /// What is wrong and what was expected.
    pub reason: String,
}

/// How accurate a stream was. Accuracies are 0..=1.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamAudit {
    /// Name of the stream.
    pub stream: String,
    /// Frames that the teacher has labelled.
    pub labelled: usize,
    /// Those of them that people have labelled.
    pub by_people: usize,
    /// Accuracy by the teacher's labels alone.
    pub by_teacher: Option<Estimate>,
    /// Accuracy set right by people's labels; absent with fewer than [`AUDITED_MIN`] frames.
    pub corrected: Option<Estimate>,
    /// Mean score of the teacher's labels against people's.
    pub agreement: Option<f64>,
}

/// Scores the answers of every stream against the teacher's labels and against people's.
#[must_use]
pub fn audit(run: &Run, human: &HumanLabels) -> Vec<StreamAudit> {
    let streams = run.streams.iter().enumerate();
    streams
        .map(|(index, stream)| audit_stream(stream, |frame| human.of(index, frame)))
        .collect()
}

fn audit_stream<'a>(
    stream: &LabelledStream,
    human: impl Fn(u64) -> Option<&'a [Object]>,
) -> StreamAudit {
    let right = |labels: &[Object], answer: &[Object]| right(stream.metric, labels, answer);
    let (mut all, mut others) = (Vec::new(), Vec::new());
    let (mut audited, mut agreement) = (Vec::new(), Vec::new());
    for (index, frame) in &stream.frames {
        let teacher = right(&frame.labels, &frame.answer);
        all.push(teacher);
        match human(*index) {
            Some(labels) => {
                let human = right(labels, &frame.answer);
                audited.push(Audited { human, teacher });
                agreement.push(right(labels, &frame.labels));
            }
            None => others.push(teacher),
        }
    }
    let enough = audited.len() >= AUDITED_MIN;
    StreamAudit {
        stream: stream.name.clone(),
        labelled: all.len(),
        by_people: audited.len(),
        by_teacher: accuracy(&all, &[]),
        corrected: enough.then(|| accuracy(&others, &audited)).flatten(),
        agreement: mean_of_series(&agreement).map(|mean| mean.mean),
    }
}

/// Score of an answer; that nothing is there is right where nothing is.
fn right(metric: Metric, labels: &[Object], answer: &[Object]) -> f64 {
    metric.score(labels, answer).unwrap_or(1.0)
}

/// The audits as a table for people.
#[must_use]
pub fn table(audits: &[StreamAudit]) -> String {
    let mut text = format!(
        "{:<16} {:>8} {:>9}  {:<22} {:<22} {:>9}\n",
        "stream", "labelled", "by people", "accuracy by teacher", "corrected", "agreement"
    );
    for one in audits {
        let agreement = one.agreement.map_or_else(dash, percent);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<16} {:>8} {:>9}  {:<22} {:<22} {:>9}",
            one.stream,
            one.labelled,
            one.by_people,
            one.by_teacher.map_or_else(dash, interval),
            one.corrected.map_or_else(dash, interval),
            agreement
        );
    }
    let _ = writeln!(
        text,
        "(%, with 95 % intervals; corrected from {AUDITED_MIN} frames by people on; agreement: score of the teacher's labels against people's)"
    );
    text
}

fn dash() -> String {
    "–".to_owned()
}

fn percent(part: f64) -> String {
    format!("{:.1}", part * 100.0)
}

fn interval(estimate: Estimate) -> String {
    let half = SD_OF_95_PERCENT * estimate.sd;
    let low = (estimate.mean - half).max(0.0);
    let high = (estimate.mean + half).min(1.0);
    let [mean, low, high] = [estimate.mean, low, high].map(percent);
    format!("{mean} ({low} to {high})")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ekya_models::BBox;

    use super::*;

    fn object(class: usize) -> Object {
        let bbox = BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 8.0,
            y2: 8.0,
        };
        Object {
            class,
            score: 1.0,
            bbox,
        }
    }

    /// A stream of cars (0) and vans (1), all answered "car": every other frame is a car, and the
    /// teacher takes each third frame for a van.
    fn stream(frames: u64) -> LabelledStream {
        let frame = |index: u64| {
            let class = if index.is_multiple_of(3) {
                1
            } else {
                truth(index)
            };
            let frame = LabelledFrame {
                time: index as f64,
                answer: vec![object(0)],
                labels: vec![object(class)],
            };
            (index, frame)
        };
        LabelledStream {
            name: "gate".to_owned(),
            classes: vec!["car".to_owned(), "van".to_owned()],
            metric: Metric::Accuracy,
            frames: (0..frames).map(frame).collect(),
        }
    }

    fn truth(index: u64) -> usize {
        (index % 2) as usize
    }

    fn people(frames: impl Iterator<Item = u64>) -> BTreeMap<u64, Vec<Object>> {
        frames
            .map(|index| (index, vec![object(truth(index))]))
            .collect()
    }

    fn audited(frames: u64, people: &BTreeMap<u64, Vec<Object>>) -> StreamAudit {
        audit_stream(&stream(frames), |index| {
            people.get(&index).map(Vec::as_slice)
        })
    }

    #[test]
    fn people_set_the_teacher_right() {
        let audit = audited(600, &people((0..600).step_by(7)));
        let by_teacher = audit.by_teacher.unwrap().mean;
        assert!((by_teacher - 1.0 / 3.0).abs() < 0.01, "{by_teacher}");
        let corrected = audit.corrected.unwrap();
        assert!(
            (corrected.mean - 0.5).abs() < 2.0 * corrected.sd,
            "{corrected:?}"
        );
        assert!(corrected.mean > by_teacher);
        assert_eq!((audit.labelled, audit.by_people), (600, 86));
        // It is wrong of cars in each sixth frame.
        let agreement = audit.agreement.unwrap();
        assert!((agreement - 5.0 / 6.0).abs() < 0.02, "{agreement}");
    }

    #[test]
    fn a_few_frames_by_people_correct_nothing() {
        let few = people(0..AUDITED_MIN as u64 - 1);
        let audit = audited(60, &few);
        assert!(audit.by_teacher.is_some() && audit.agreement.is_some());
        assert_eq!(audit.corrected, None);
        assert!(table(&[audit]).lines().nth(1).unwrap().contains('–'));
        assert_eq!(audited(0, &BTreeMap::new()).by_teacher, None);
    }

    #[test]
    fn what_teacher_and_student_both_miss_counts() {
        let metric = Metric::F1;
        assert_eq!(right(metric, &[], &[]), 1.0);
        assert_eq!(right(metric, &[object(0)], &[]), 0.0);
    }

    #[test]
    fn intervals_stay_within_accuracies() {
        let text = |mean, sd| interval(Estimate { mean, sd });
        assert_eq!(text(0.5, 0.1), "50.0 (30.4 to 69.6)");
        assert_eq!(text(0.95, 0.1), "95.0 (75.4 to 100.0)");
    }
}
