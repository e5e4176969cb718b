//! The files of lines that a run leaves behind.

use std::path::{Path, PathBuf};

use super::run::NodeError;
use crate::sink::{LabelledLine, LineSink, LineWriter, Outlets, QUEUE_LINES, Streams};

/// The files that are being written.
pub(super) struct Lines {
    files: [(PathBuf, LineWriter); 2],
}

impl Lines {
    /// Begins both files in `out`, which is made when absent: one with the results, one for labelled
    /// frames.
    pub(super) fn create(
        out: &Path,
        outlets: &mut Outlets,
    ) -> Result<(Self, LineSink<LabelledLine>), NodeError> {
        std::fs::create_dir_all(out).map_err(|error| write_error(out, &error))?;
        let path = out.join("results.jsonl");
        let writer = LineWriter::start(&path, outlets.add(Streams::All, QUEUE_LINES));
        let results = writer.map_err(|error| write_error(&path, &error))?;
        let labelled_path = out.join("labelled.jsonl");
        let created = LineSink::create(&labelled_path);
        let (sink, labelled) = created.map_err(|error| write_error(&labelled_path, &error))?;
        let files = [(path, results), (labelled_path, labelled)];
        Ok((Self { files }, sink))
    }

    /// Waits until every line is written; the outlets must be closed, and all sinks gone.
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

pub(super) fn write_error(path: &Path, error: &dyn std::error::Error) -> NodeError {
    NodeError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
