//! The rows of Supervision's `CSVSink`.

use std::io::{self, Write};

use super::ExportError;
use super::run::RunResults;

/// The columns of every `CSVSink`, and after them, by name, those of ours.
const COLUMNS: [&str; 13] = [
    "x_min",
    "y_min",
    "x_max",
    "y_max",
    "class_id",
    "confidence",
    "tracker_id",
    "class_name",
    "fate",
    "frame_index",
    "stream",
    "student",
    "time",
];

/// Writes the results as CSV, a row a detection. Objects are not followed from frame to frame, so that
/// `tracker_id` is empty.
///
/// # Errors
/// [`ExportError`].
pub fn supervision(results: &RunResults, out: impl Write) -> Result<(), ExportError> {
    let mut out = csv::Writer::from_writer(out);
    out.write_record(COLUMNS).map_err(written)?;
    results.for_each(|line, _, stream| {
        for one in &line.detections {
            let bbox = one.bbox;
            let row = (
                (bbox.x1, bbox.y1, bbox.x2, bbox.y2),
                (one.class, one.score, None::<u64>),
                (&stream.classes[one.class], &line.fate, line.frame),
                (&line.stream, line.student, line.time),
            );
            out.serialize(row).map_err(written)?;
        }
        Ok(())
    })?;
    Ok(out.flush()?)
}

fn written(error: csv::Error) -> ExportError {
    ExportError::Output(io::Error::other(error))
}
