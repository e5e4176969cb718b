//! The files of lines that a run leaves behind.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::run::NodeError;
use crate::sink::{LabelledLine, LineSink, LineWriter, ResultLine};

/// Where the lines of a run go.
pub(super) struct Sinks {
    pub(super) results: LineSink<ResultLine>,
    pub(super) labelled: LineSink<LabelledLine>,
}

/// The files that are being written.
pub(super) struct Lines {
    files: [(PathBuf, LineWriter); 2],
}

impl Lines {
    /// Begins both files in `out`, which is made when absent.
    pub(super) fn create(out: &Path) -> Result<(Self, Sinks), NodeError> {
        std::fs::create_dir_all(out).map_err(|error| write_error(out, &error))?;
        let (results, results_file) = begin(out.join("results.jsonl"))?;
        let (labelled, labelled_file) = begin(out.join("labelled.jsonl"))?;
        let files = [results_file, labelled_file];
        Ok((Self { files }, Sinks { results, labelled }))
    }

    /// Waits until every line is written; all sinks must be gone.
    pub(super) fn finish(self) -> Result<(), NodeError> {
        for (path, writer) in self.files {
            let lost = writer
                .finish()
                .map_err(|error| write_error(&path, &error))?;
            if lost > 0 {
                let path = path.display();
                tracing::warn!(%path, lost, "lines were left out because the disk was too slow");
            }
        }
        Ok(())
    }
}

type Begun<L> = (LineSink<L>, (PathBuf, LineWriter));

fn begin<L: Serialize + Send + 'static>(path: PathBuf) -> Result<Begun<L>, NodeError> {
    let created = LineSink::create(&path);
    let (sink, writer) = created.map_err(|error| write_error(&path, &error))?;
    Ok((sink, (path, writer)))
}

pub(super) fn write_error(path: &Path, error: &dyn std::error::Error) -> NodeError {
    NodeError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
