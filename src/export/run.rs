//! The results that a finished run has left behind.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use ekya_models::BBox;
use serde::Deserialize;

use super::ExportError;
use crate::record::{RecordError, RunRecord};

/// The results of a run, of one stream or of all.
#[derive(Debug, Clone)]
pub struct RunResults {
    path: PathBuf,
    streams: Vec<Stream>,
    /// Index of the stream that was chosen.
    chosen: Option<usize>,
}

/// A stream of the run.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) classes: Vec<String>,
}

/// What is needed of a line of `results.jsonl`.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    pub(super) time: f64,
    #[serde(borrow)]
    pub(super) stream: Cow<'a, str>,
    pub(super) frame: u64,
    #[serde(borrow)]
    pub(super) fate: Cow<'a, str>,
    pub(super) student: Option<u64>,
    pub(super) detections: Vec<Detection>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Detection {
    pub(super) class: usize,
    pub(super) score: f32,
    pub(super) bbox: BBox,
}

impl RunResults {
    /// Those in the folder that a run was told to write to, of the stream of that name, or of all.
    ///
    /// # Errors
    /// [`ExportError::Run`] when `run.json` cannot be read, or has no such stream.
    pub fn open(folder: &Path, stream: Option<&str>) -> Result<Self, ExportError> {
        let streams = streams(&folder.join("run.json"))?;
        let mut results = Self {
            path: folder.join("results.jsonl"),
            streams,
            chosen: None,
        };
        if let Some(name) = stream {
            results.chosen = results.streams.iter().position(|one| one.name == name);
            if results.chosen.is_none() {
                let names = results.names();
                return Err(results.error(None, format!("no stream '{name}'; the run has {names}")));
            }
        }
        Ok(results)
    }

    /// The stream that was chosen, or the only one.
    pub(super) fn one_stream(&self) -> Result<&Stream, ExportError> {
        match (self.chosen, &self.streams[..]) {
            (Some(chosen), streams) => Ok(&streams[chosen]),
            (None, [only]) => Ok(only),
            (None, _) => {
                let names = self.names();
                Err(self.error(None, format!("choose one of its streams: {names}")))
            }
        }
    }

    /// Calls `take` with each line of the streams that are wanted, its number, and its stream. Classes of
    /// its detections are among the stream's.
    pub(super) fn for_each(
        &self,
        mut take: impl FnMut(&Line<'_>, u64, &Stream) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let chosen = self.chosen.map(|chosen| self.streams[chosen].name.as_str());
        let file = File::open(&self.path);
        let file = file.map_err(|error| self.error(None, error.to_string()))?;
        let (mut file, mut text) = (BufReader::new(file), String::new());
        for number in 1.. {
            let error = |reason| self.error(Some(number), reason);
            text.clear();
            let read = file.read_line(&mut text);
            if read.map_err(|reason| error(reason.to_string()))? == 0 {
                break;
            }
            let line: Line<'_> =
                serde_json::from_str(&text).map_err(|reason| error(reason.to_string()))?;
            if chosen.is_some_and(|name| name != line.stream) {
                continue;
            }
            let stream = self.streams.iter().find(|one| one.name == line.stream);
            let stream =
                stream.ok_or_else(|| error(format!("no stream '{}' in run.json", line.stream)))?;
            let mut classes = line.detections.iter().map(|one| one.class);
            if let Some(class) = classes.find(|class| *class >= stream.classes.len()) {
                return Err(error(format!("no class {class} in run.json")));
            }
            take(&line, number, stream)?;
        }
        Ok(())
    }

    pub(super) fn error(&self, line: Option<u64>, reason: String) -> ExportError {
        ExportError::Run {
            path: self.path.clone(),
            line,
            reason,
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.streams.iter().map(|one| one.name.as_str()).collect();
        names.join(", ")
    }
}

fn streams(path: &Path) -> Result<Vec<Stream>, ExportError> {
    let record = RunRecord::read(path).map_err(|reason| ExportError::Run {
        path: path.to_owned(),
        line: None,
        reason: match reason {
            RecordError::Read(reason) => {
                format!("{reason}; it is written when a run with --out ends")
            }
            reason => reason.to_string(),
        },
    })?;
    let mut streams: Vec<Stream> = Vec::new();
    for stream in record.streams {
        // One that has gone and come again stands there more than once.
        if streams.iter().all(|known| known.name != stream.name) {
            streams.push(Stream {
                name: stream.name,
                classes: stream.classes,
            });
        }
    }
    Ok(streams)
}
