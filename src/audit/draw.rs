//! Draws the frames that people are to label.

use std::io::Write;

use ekya_models::BBox;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::{LabelledFrame, Run};
use crate::stream::Metric;

/// Stands for a class that nobody has filled in yet.
pub(super) const TO_FILL_IN: &str = "?";

/// Writes a CSV of `count` frames of each stream, or all that it has, drawn at random out of those
/// that its teacher has labelled. Classes are to be filled in; of a classifier's frames the boxes
/// are given. The teacher's own answers are not, or people would follow them.
///
/// # Errors
/// When `out` cannot be written to.
pub fn draw(run: &Run, count: usize, seed: u64, out: impl Write) -> Result<(), csv::Error> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["stream", "frame", "time", "class", "x1", "y1", "x2", "y2"])?;
    for stream in &run.streams {
        let frames: Vec<(&u64, &LabelledFrame)> = stream.frames.iter().collect();
        let drawn = index::sample(&mut rng, frames.len(), count.min(frames.len()));
        let mut drawn = drawn.into_vec();
        drawn.sort_unstable();
        for (number, frame) in drawn.into_iter().map(|drawn| frames[drawn]) {
            let frame_columns = [
                stream.name.clone(),
                number.to_string(),
                format!("{:.2}", frame.time),
                TO_FILL_IN.to_owned(),
            ];
            for sides in regions(stream.metric, frame) {
                csv.write_record(frame_columns.iter().chain(&sides))?;
            }
        }
    }
    csv.flush()?;
    Ok(())
}

/// The boxes to name the classes of: one that is empty where people are to find the objects.
fn regions(metric: Metric, frame: &LabelledFrame) -> Vec<[String; 4]> {
    if metric == Metric::F1 || frame.labels.is_empty() {
        return vec![Default::default()];
    }
    let sides = |BBox { x1, y1, x2, y2 }| [x1, y1, x2, y2].map(|side: f32| side.to_string());
    let boxes = frame.labels.iter().map(|label| label.bbox);
    boxes.map(sides).collect()
}
