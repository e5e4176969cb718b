//! The form of COCO.

use std::io::Write;

use serde::Serialize;

use super::ExportError;
use super::run::RunResults;

#[derive(Serialize)]
struct Image {
    /// The frame's number.
    id: u64,
    file_name: String,
    time: f64,
}

#[derive(Serialize)]
struct Annotation {
    /// Counts from 1: pycocotools takes 0 for none.
    id: u64,
    image_id: u64,
    category_id: usize,
    /// Left, top, width, height.
    bbox: [f32; 4],
    area: f32,
    iscrowd: u8,
    score: f32,
}

/// Writes one stream's results as a data set of COCO: every frame is a picture whose id is its number, every
/// class a category whose id is one more than its index, and every detection an annotation with its score.
/// pycocotools loads the whole with `COCO(FILE)`; the list under `annotations` is what `loadRes` takes.
///
/// # Errors
/// [`ExportError`]; also when the run has several streams and none was chosen.
pub fn coco(results: &RunResults, mut out: impl Write) -> Result<(), ExportError> {
    let stream = results.one_stream()?;
    let head = serde_json::json!({ "description": format!("ekya, stream {}", stream.name) });
    let categories = stream.classes.iter().zip(1..);
    let categories: Vec<_> = categories
        .map(|(name, id)| serde_json::json!({ "id": id, "name": name }))
        .collect();
    let categories = serde_json::Value::from(categories);
    write!(
        out,
        "{{\"info\":{head},\"categories\":{categories},\"images\":["
    )?;
    let mut before = None;
    results.for_each(|line, number, _| {
        if before.is_some_and(|before| before >= line.frame) {
            let reason = "the stream begins anew here, and a picture has one number only";
            return Err(results.error(Some(number), reason.to_owned()));
        }
        separate(&mut out, before.is_none())?;
        before = Some(line.frame);
        let image = Image {
            id: line.frame,
            file_name: format!("{}/{}", line.stream, line.frame),
            time: line.time,
        };
        write_json(&mut out, &image)
    })?;
    write!(out, "],\"annotations\":[")?;
    let mut id = 0;
    results.for_each(|line, _, _| {
        for one in &line.detections {
            separate(&mut out, id == 0)?;
            id += 1;
            let (width, height) = (one.bbox.x2 - one.bbox.x1, one.bbox.y2 - one.bbox.y1);
            let annotation = Annotation {
                id,
                image_id: line.frame,
                category_id: one.class + 1,
                bbox: [one.bbox.x1, one.bbox.y1, width, height],
                area: width * height,
                iscrowd: 0,
                score: one.score,
            };
            write_json(&mut out, &annotation)?;
        }
        Ok(())
    })?;
    writeln!(out, "]}}")?;
    Ok(out.flush()?)
}

fn separate(out: &mut impl Write, first: bool) -> Result<(), ExportError> {
    let separator = if first { "\n" } else { ",\n" };
    Ok(out.write_all(separator.as_bytes())?)
}

fn write_json(out: &mut impl Write, value: &impl Serialize) -> Result<(), ExportError> {
    serde_json::to_writer(out, value).map_err(|error| ExportError::Output(error.into()))
}
