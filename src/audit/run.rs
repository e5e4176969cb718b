//! What a finished run says of the frames that its teachers have labelled.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use ekya_models::Object;

use super::AuditError;
use crate::record::RunRecord;
use crate::sink::{LabelledLine, NamedObject};
use crate::stream::Metric;

/// The labelled frames of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Streams, in the order of the configuration.
    pub streams: Vec<LabelledStream>,
}

/// A stream and its labelled frames, bursts left out: those are no sample of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledStream {
    /// Name from the configuration.
    pub name: String,
    /// Class names, by class index.
    pub classes: Vec<String>,
    /// How answers are scored.
    pub metric: Metric,
    /// By number, which is by time.
    pub frames: BTreeMap<u64, LabelledFrame>,
}

/// A frame that the teacher has labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledFrame {
    /// Seconds from the start of the run.
    pub time: f64,
    /// The answer that was in force.
    pub answer: Vec<Object>,
    /// The teacher's labels.
    pub labels: Vec<Object>,
}

impl Run {
    /// Reads `run.json` and `labelled.jsonl` in the folder that a run was told to write to.
    ///
    /// # Errors
    /// [`AuditError`] when one of them cannot be read, or they do not fit each other.
    pub fn read(folder: &Path) -> Result<Self, AuditError> {
        let mut run = Self::empty(&folder.join("run.json"))?;
        let path = folder.join("labelled.jsonl");
        let error = |line, reason| AuditError {
            path: path.clone(),
            line,
            reason,
        };
        let file = File::open(&path).map_err(|reason| error(None, reason.to_string()))?;
        for (line, number) in BufReader::new(file).lines().zip(1..) {
            let error = |reason| error(Some(number), reason);
            let line = line.map_err(|reason| error(reason.to_string()))?;
            let line = serde_json::from_str(&line).map_err(|reason| error(reason.to_string()))?;
            run.add(line).map_err(error)?;
        }
        Ok(run)
    }

    /// The streams of a record.
    fn empty(path: &Path) -> Result<Self, AuditError> {
        let record = RunRecord::read(path).map_err(|reason| AuditError {
            path: path.to_owned(),
            line: None,
            reason: reason.to_string(),
        })?;
        let stream = |stream: crate::record::StreamRecord| LabelledStream {
            name: stream.name,
            classes: stream.classes,
            metric: Metric::Accuracy,
            frames: BTreeMap::new(),
        };
        let streams = record.streams.into_iter().map(stream).collect();
        Ok(Self { streams })
    }

    fn add(&mut self, line: LabelledLine) -> Result<(), String> {
        let stream = self.stream(&line.stream)?;
        let stream = &mut self.streams[stream];
        stream.metric = line.metric;
        if line.burst {
            return Ok(());
        }
        let frame = LabelledFrame {
            time: line.time,
            answer: stream.objects(line.answer)?,
            labels: stream.objects(line.labels)?,
        };
        stream.frames.insert(line.frame, frame);
        Ok(())
    }

    /// Index of the stream of that name, or what is wrong.
    pub(super) fn stream(&self, name: &str) -> Result<usize, String> {
        let position = self.streams.iter().position(|stream| stream.name == name);
        position.ok_or_else(|| {
            let names: Vec<&str> = self.streams.iter().map(|one| one.name.as_str()).collect();
            format!("no stream '{name}'; the run has {}", names.join(", "))
        })
    }
}

impl LabelledStream {
    /// Index of the class of that name, or what is wrong.
    pub(super) fn class(&self, name: &str) -> Result<usize, String> {
        let position = self.classes.iter().position(|class| class == name);
        position.ok_or_else(|| {
            let classes = self.classes.join(", ");
            format!("no class '{name}'; stream '{}' has {classes}", self.name)
        })
    }

    fn objects(&self, named: Vec<NamedObject>) -> Result<Vec<Object>, String> {
        let object = |named: NamedObject| {
            Ok(Object {
                class: self.class(&named.class)?,
                score: named.score,
                bbox: named.bbox,
            })
        };
        named.into_iter().map(object).collect()
    }
}
