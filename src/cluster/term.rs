//! The highest term that a node knows, in a file: what it has refused before, it refuses after a start,
//! too, and a term that it begins is above all that it has known.

use std::io;
use std::path::{Path, PathBuf};

use super::error::ClusterError;
use crate::write::write_atomically;

/// The file and what it holds.
#[derive(Debug)]
pub(super) struct TermFile {
    path: PathBuf,
    term: u64,
}

impl TermFile {
    /// That in `folder`; 0 where there is none.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub(super) fn read(folder: &Path) -> Result<Self, ClusterError> {
        let path = folder.join("term");
        let read = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io::Error::other(
                    "it holds no term; remove it, and the highest is learnt from others",
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        match read {
            Ok(term) => Ok(Self { path, term }),
            Err(source) => Err(ClusterError::Term { path, source }),
        }
    }

    pub(super) const fn term(&self) -> u64 {
        self.term
    }

    /// Keeps a term, before others hear of it. A disk that fails is told of: the node goes on, and may
    /// take orders of an older term after its next start.
    pub(super) fn keep(&mut self, term: u64) {
        if term <= self.term {
            return;
        }
        self.term = term;
        if let Err(error) = write_atomically(&self.path, format!("{term}\n").as_bytes()) {
            tracing::error!(%error, term, "the term is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_outlives_the_process_and_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = TermFile::read(folder.path()).unwrap();
        assert_eq!(file.term(), 0);
        file.keep(7);
        file.keep(3);
        assert_eq!(TermFile::read(folder.path()).unwrap().term(), 7);
    }

    #[test]
    fn something_else_is_no_term() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("term"), "seven").unwrap();
        let error = TermFile::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("holds no term"), "{error}");
    }
}
