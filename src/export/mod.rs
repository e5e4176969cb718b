//! A finished run's results in the forms that evaluation tools read: [`coco()`] and [`supervision()`]. Both
//! read `results.jsonl` line by line and keep nothing of it.

mod coco;
mod run;
mod supervision;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use coco::coco;
pub use run::RunResults;
pub use supervision::supervision;

use crate::write::WriteError;

/// Why results cannot be exported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A file of the run cannot be read or used.
    #[error("{}: {}{reason}", path.display(), line.map_or_else(String::new, |line| format!("line {line}: ")))]
    Run {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: Option<u64>,
        /// What is wrong and what to do.
        reason: String,
    },
    /// What comes out cannot be written.
    #[error("cannot write what was asked for")]
    Output(#[from] io::Error),
    /// The file that was to be written is as it was.
    #[error(transparent)]
    File(#[from] WriteError),
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::record::{FrameCounts, RECORD_VERSION, RunRecord, StreamRecord};

    const LINES: &str = r#"{"time":0.0,"known_at":1000.0,"stream":"gate","frame":0,"fate":"answered","student":0,"latency_ms":20.0,"detections":[]}
{"time":0.1,"known_at":1000.1,"stream":"yard","frame":0,"fate":"answered","student":0,"latency_ms":20.0,"detections":[{"class":0,"name":"van, red","score":0.25,"bbox":{"x1":0.0,"y1":0.0,"x2":2.0,"y2":2.0}}]}
{"time":0.5,"known_at":1000.5,"stream":"gate","frame":5,"fate":"skipped","student":1,"latency_ms":null,"detections":[{"class":1,"name":"bus","score":0.5,"bbox":{"x1":1.0,"y1":2.0,"x2":4.0,"y2":8.0}}]}
"#;

    /// A run of two streams with these lines.
    fn run(folder: &Path, lines: &str) {
        let stream = |name: &str, classes: &[&str]| StreamRecord {
            name: name.to_owned(),
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            frames: FrameCounts::default(),
            true_accuracy: None,
            measured_accuracy: None,
            measured_sd: None,
            accuracy_over_time: vec![],
            slowdown: 1.0,
            failure: None,
            continued_from: None,
            not_kept: 0,
        };
        let record = RunRecord {
            version: RECORD_VERSION,
            scheduler: "none".to_owned(),
            seed: 1,
            window_seconds: 1.0,
            overhead_share: None,
            devices: vec![],
            streams: vec![
                stream("gate", &["car", "bus"]),
                stream("yard", &["van, red"]),
            ],
            windows: vec![],
            complete: true,
        };
        fs::write(
            folder.join("run.json"),
            serde_json::to_vec(&record).unwrap(),
        )
        .unwrap();
        fs::write(folder.join("results.jsonl"), lines).unwrap();
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> Result<(), ExportError>) -> Result<String, String> {
        let mut out = Vec::new();
        write(&mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn coco_has_pictures_categories_and_boxes() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), LINES);
        let results = RunResults::open(folder.path(), Some("gate")).unwrap();
        let text = text(|out| coco(&results, out)).unwrap();
        let coco: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "info": { "description": "ekya, stream gate" },
            "categories": [{ "id": 1, "name": "car" }, { "id": 2, "name": "bus" }],
            "images": [
                { "id": 0, "file_name": "gate/0", "time": 0.0 },
                { "id": 5, "file_name": "gate/5", "time": 0.5 },
            ],
            "annotations": [{
                "id": 1, "image_id": 5, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 6.0],
                "area": 18.0, "iscrowd": 0, "score": 0.5,
            }],
        });
        assert_eq!(coco, expected);
    }

    #[test]
    fn rows_are_those_of_supervision() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), LINES);
        let results = RunResults::open(folder.path(), None).unwrap();
        let expected = "\
x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,fate,frame_index,stream,student,time
0.0,0.0,2.0,2.0,0,0.25,,\"van, red\",answered,0,yard,0,0.1
1.0,2.0,4.0,8.0,1,0.5,,bus,skipped,5,gate,1,0.5
";
        assert_eq!(text(|out| supervision(&results, out)).unwrap(), expected);
        let gate = RunResults::open(folder.path(), Some("gate")).unwrap();
        assert_eq!(
            text(|out| supervision(&gate, out)).unwrap().lines().count(),
            2
        );
    }

    #[test]
    fn what_cannot_be_exported_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let open =
            |stream| RunResults::open(folder.path(), stream).map_err(|error| error.to_string());
        assert!(open(None).unwrap_err().contains("run.json: "));
        run(folder.path(), LINES);
        let error = open(Some("yart")).unwrap_err();
        assert!(
            error.contains("no stream 'yart'; the run has gate, yard"),
            "{error}"
        );
        let error = text(|out| coco(&open(None).unwrap(), out)).unwrap_err();
        assert!(
            error.contains("choose one of its streams: gate, yard"),
            "{error}"
        );
        let third = LINES.lines().nth(2).unwrap();
        for (lines, expected) in [
            (format!("{LINES}{{\"time\""), "line 4: "),
            (
                format!("{LINES}{third}\n"),
                "line 4: the stream begins anew",
            ),
            (
                LINES.replace("\"class\":1", "\"class\":2"),
                "line 3: no class 2",
            ),
        ] {
            run(folder.path(), &lines);
            let error = text(|out| coco(&open(Some("gate")).unwrap(), out)).unwrap_err();
            assert!(error.contains(expected), "{error}\nexpected {expected}");
        }
    }
}
