//! The files of a sweep: `timeline.json`, `summary.csv`, and the charts.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::charts;
use super::summary::Row;
use super::sweep::Point;
use crate::report::ReportError;
use crate::write::{WriteError, write_atomically};

/// Why a sweep's files are not there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The folder cannot be made.
    #[error("{}: cannot make the folder: {source}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A record cannot be put in words.
    #[error("cannot write the records as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A row cannot be put in words.
    #[error("cannot write the summary as CSV: {0}")]
    Csv(#[from] csv::Error),
    /// A chart cannot be drawn.
    #[error(transparent)]
    Chart(#[from] ReportError),
}

/// Writes everything into a folder, which is made where it is missing, and returns the names of the
/// files.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write_files(
    folder: &Path,
    points: &[Point],
    rows: &[Row],
) -> Result<Vec<String>, FilesError> {
    std::fs::create_dir_all(folder).map_err(|source| FilesError::Folder {
        path: folder.to_path_buf(),
        source,
    })?;
    let records: Vec<_> = points.iter().flat_map(|point| &point.records).collect();
    let mut files = vec![
        ("timeline.json".to_owned(), serde_json::to_vec(&records)?),
        ("summary.csv".to_owned(), summary(rows)?),
    ];
    for (name, svg) in charts::all(points, rows)? {
        files.push((name, svg.into_bytes()));
    }
    for (name, bytes) in &files {
        write_atomically(&folder.join(name), bytes)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

fn summary(rows: &[Row]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    writer
        .into_inner()
        .map_err(|error| error.into_error().into())
}
