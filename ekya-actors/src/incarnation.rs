//! A number that is higher at every start of a node, whatever its clock says: the last one is kept in
//! a file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

/// Why there is no number.
#[derive(Debug, Error)]
#[error("cannot count the starts of this node in {path}: {source}")]
pub struct IncarnationError {
    path: PathBuf,
    source: io::Error,
}

/// The next number, kept in `folder` before it is used.
///
/// # Errors
/// [`IncarnationError`].
pub(crate) fn next(folder: &Path) -> Result<u64, IncarnationError> {
    let path = folder.join("incarnation");
    count(folder, &path).map_err(|source| IncarnationError { path, source })
}

fn count(folder: &Path, path: &Path) -> io::Result<u64> {
    fs::create_dir_all(folder)?;
    let next = match fs::read_to_string(path) {
        Ok(text) => {
            let last = text.trim().parse::<u64>().ok();
            last.and_then(|last| last.checked_add(1)).ok_or_else(|| {
                let what = "it holds no number that another can follow: remove it if this machine's \
                            clock is right";
                io::Error::other(what)
            })?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
        Err(error) => return Err(error),
    };
    let next = next.max(now_micros());
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{next}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The rename, too, must outlast a loss of power.
    File::open(folder)?.sync_all()?;
    Ok(next)
}

/// The time, for a node that keeps nothing.
pub(crate) fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| since.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_at_every_start_also_when_the_clock_is_set_back() {
        let folder = std::env::temp_dir().join(format!("ekya-incarnation-{}", std::process::id()));
        let first = next(&folder).unwrap();
        assert!(next(&folder).unwrap() > first);
        let ahead = now_micros() + 1_000_000_000_000;
        fs::write(folder.join("incarnation"), ahead.to_string()).unwrap();
        assert_eq!(next(&folder).unwrap(), ahead + 1);
        assert_eq!(next(&folder).unwrap(), ahead + 2);
        // After the highest, there is none.
        for unusable in ["half a", "18446744073709551615"] {
            fs::write(folder.join("incarnation"), unusable).unwrap();
            let error = next(&folder).unwrap_err().to_string();
            assert!(error.contains("holds no number"), "{error}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
