//! What people say of frames: a CSV with a line for each object.
//!
//! Columns are `stream`, `frame`, `class` and, where an object is not the only one of its frame,
//! `x1`, `y1`, `x2`, `y2`; others are not looked at. A frame without objects has one line whose
//! class is empty.

use std::collections::BTreeMap;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use ekya_models::{BBox, Object};
use serde::Deserialize;

use super::draw::TO_FILL_IN;
use super::{AuditError, LabelledFrame, LabelledStream, Run};
use crate::stream::Metric;

/// Labels by people, by index of the stream and number of the frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HumanLabels {
    frames: BTreeMap<(usize, u64), Vec<Object>>,
}

/// A line of the file.
#[derive(Debug, Deserialize)]
struct Row {
    stream: String,
    frame: u64,
    class: String,
    x1: Option<f32>,
    y1: Option<f32>,
    x2: Option<f32>,
    y2: Option<f32>,
}

impl HumanLabels {
    /// Reads the labels of frames of `run`.
    ///
    /// # Errors
    /// [`AuditError`] with the line of what is wrong: a stream, a class or a labelled frame that the
    /// run does not have, or a box that is none.
    pub fn read(path: &Path, run: &Run) -> Result<Self, AuditError> {
        let error = |line, reason| AuditError {
            path: path.to_owned(),
            line,
            reason,
        };
        let reader = ReaderBuilder::new().trim(Trim::All).from_path(path);
        let mut reader = reader.map_err(|reason| error(None, reason.to_string()))?;
        let header = reader.headers().cloned();
        let header = header.map_err(|reason| error(Some(1), reason.to_string()))?;
        let mut labels = Self::default();
        for record in reader.records() {
            let record = record.map_err(|reason| {
                let line = reason.position().map(csv::Position::line);
                error(line, reason.to_string())
            })?;
            let line = record.position().map(csv::Position::line);
            let added = labels.add(&record, &header, run);
            added.map_err(|reason| error(line, reason))?;
        }
        Ok(labels)
    }

    /// What people say of a frame, if they do.
    #[must_use]
    pub fn of(&self, stream: usize, frame: u64) -> Option<&[Object]> {
        self.frames.get(&(stream, frame)).map(Vec::as_slice)
    }

    fn add(
        &mut self,
        record: &StringRecord,
        header: &StringRecord,
        run: &Run,
    ) -> Result<(), String> {
        let row: Row = record
            .deserialize(Some(header))
            .map_err(|error| what(&error))?;
        let index = run.stream(&row.stream)?;
        let stream = &run.streams[index];
        let frame = stream.frames.get(&row.frame).ok_or_else(|| {
            format!(
                "the teacher of '{}' has not labelled a frame {}, or as part of a burst only",
                row.stream, row.frame
            )
        })?;
        let object = row.object(stream, frame)?;
        let objects = self.frames.entry((index, row.frame)).or_default();
        objects.extend(object);
        Ok(())
    }
}

/// What is wrong with a line, without the position that stands before it anyway.
fn what(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    }
}

impl Row {
    /// The object of a line; none where nothing is.
    fn object(
        &self,
        stream: &LabelledStream,
        frame: &LabelledFrame,
    ) -> Result<Option<Object>, String> {
        if self.class.is_empty() {
            return Ok(None);
        }
        if self.class == TO_FILL_IN {
            return Err(format!(
                "the class is still '{TO_FILL_IN}': name it, or leave it empty where no object is"
            ));
        }
        Ok(Some(Object {
            class: stream.class(&self.class)?,
            score: 1.0,
            bbox: self.bbox(stream, frame)?,
        }))
    }

    fn bbox(&self, stream: &LabelledStream, frame: &LabelledFrame) -> Result<BBox, String> {
        match (self.x1, self.y1, self.x2, self.y2) {
            (Some(x1), Some(y1), Some(x2), Some(y2)) => {
                let finite = [x1, y1, x2, y2].iter().all(|side| side.is_finite());
                if finite && x1 < x2 && y1 < y2 {
                    return Ok(BBox { x1, y1, x2, y2 });
                }
                Err(format!(
                    "not a box of x1 < x2, y1 < y2: {x1},{y1},{x2},{y2}"
                ))
            }
            (None, None, None, None) => only_region(stream, frame),
            _ => Err("a box has all of x1, y1, x2, y2".to_owned()),
        }
    }
}

/// Where the object is that a line gives no box of: a classifier's source has said so.
fn only_region(stream: &LabelledStream, frame: &LabelledFrame) -> Result<BBox, String> {
    match (stream.metric, &frame.labels[..]) {
        (Metric::Accuracy, [only]) => Ok(only.bbox),
        (Metric::Accuracy, labels) => Err(format!(
            "say by x1, y1, x2, y2 which of the frame's {} objects is meant",
            labels.len()
        )),
        (Metric::F1, _) => Err("say by x1, y1, x2, y2 where the object is".to_owned()),
    }
}
