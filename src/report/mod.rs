//! What came out of a set of runs, for people and for programs: `report.html` and `summary.json`.

pub mod chart;
mod details;
mod figures;
mod html;
mod palette;
pub mod statistics;
mod summary;
#[cfg(test)]
pub(crate) mod synthetic;
mod table;

use std::path::Path;

use thiserror::Error;

pub use summary::{RunSummary, Summary, SummaryError};
pub use table::{Comparison, Row};

use crate::write::{WriteError, write_atomically};

use crate::record::RunRecord;

/// Runs to be reported together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Records, each with the label of its load where several loads are compared. The order of the
    /// labels' first appearance is the order of the columns.
    pub records: Vec<(Option<String>, RunRecord)>,
}

/// Why there is no report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The records do not make a summary.
    #[error(transparent)]
    Summary(#[from] SummaryError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A chart could not be drawn.
    #[error("cannot draw a chart: {0}")]
    Chart(String),
    /// The summary could not be turned into JSON.
    #[error("cannot write the summary as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Text could not be put together.
    #[error("cannot put the report together: {0}")]
    Format(#[from] std::fmt::Error),
}

impl Report {
    /// One mean accuracy a run.
    ///
    /// # Errors
    /// [`SummaryError`] when there is no run, or a stream whose accuracy is not known.
    pub fn summary(&self) -> Result<Summary, SummaryError> {
        Summary::of(&self.records)
    }

    /// Writes `summary.json` and `report.html` to a folder that exists. Both are put together before
    /// either is written.
    ///
    /// # Errors
    /// [`ReportError`]; each file is then the new one or what was there before, never a part.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        let mut json = serde_json::to_vec_pretty(&self.summary()?)?;
        json.push(b'\n');
        let html = html::page(self)?;
        write_atomically(&folder.join("summary.json"), &json)?;
        write_atomically(&folder.join("report.html"), html.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_written_and_the_summary_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let report = Report {
            records: synthetic::records(&[1, 2], &[Some("low"), Some("high")], &["none", "ekya"]),
        };
        report.write(folder.path()).unwrap();
        let json = std::fs::read(folder.path().join("summary.json")).unwrap();
        let summary: Summary = serde_json::from_slice(&json).unwrap();
        assert_eq!(summary, report.summary().unwrap());
        assert!(folder.path().join("report.html").exists());
    }

    #[test]
    fn no_runs_leave_the_folder_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("summary.json"), "old").unwrap();
        let error = Report::default().write(folder.path()).unwrap_err();
        assert!(matches!(error, ReportError::Summary(SummaryError::NoRuns)));
        let kept = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
        assert_eq!(kept, "old");
    }

    #[test]
    fn a_folder_that_does_not_exist_is_a_write_error() {
        let folder = tempfile::tempdir().unwrap();
        let report = Report {
            records: synthetic::records(&[1], &[None], &["ekya"]),
        };
        let error = report.write(&folder.path().join("absent")).unwrap_err();
        assert!(matches!(error, ReportError::Write(_)), "{error}");
    }
}
