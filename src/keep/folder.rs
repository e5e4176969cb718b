//! The state folder: where everything lies, and who may write to it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekya_models::ModelError;
use thiserror::Error;

use crate::write::{WriteError, advice, write_atomically};

/// Bytes written to see whether the disk takes any: a full one may still have room for a name.
const PROBE_BYTES: usize = 64 * 1024;

/// Why a state folder cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process uses it.
    #[error(
        "{}: in use by {holder}; stop it first or choose another folder",
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process that holds it.
        holder: String,
    },
    /// There is none.
    #[error("{}: no state folder; `ekya run --state` makes one", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be read, made or locked.
    #[error("{}: cannot {step}: {reason}{}", path.display(), advice(reason))]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// What the system said.
        reason: io::Error,
    },
    /// It cannot be written to.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The checkpoints of a stream cannot be read or removed.
    #[error(transparent)]
    Checkpoints(#[from] ModelError),
    /// There is no such stream in it.
    #[error("{}: nothing is kept of a stream '{stream}'; there are: {known}", path.display())]
    UnknownStream {
        /// The folder.
        path: PathBuf,
        /// The stream asked for.
        stream: String,
        /// The streams that there are.
        known: String,
    },
}

/// A state folder that this process may write to, until the last clone is dropped or it dies.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
    /// Locked; the system releases it with the process, however that ends.
    _lock: Arc<File>,
}

/// The folders of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFolder {
    /// Its checkpoints.
    pub checkpoints: PathBuf,
    /// Its training memory.
    pub frames: PathBuf,
}

impl StateFolder {
    /// Makes the folder when absent, for this user only, and takes its lock.
    ///
    /// # Errors
    /// [`StateError::Locked`] when another process has it; others when it cannot be made or
    /// written to.
    pub fn make(path: &Path) -> Result<Self, StateError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(failed(path, "make it"))?;
        let state = Self::take(path)?;
        let probe = path.join("probe");
        write_atomically(&probe, &[0; PROBE_BYTES])?;
        std::fs::remove_file(&probe).map_err(failed(&probe, "remove it"))?;
        Ok(state)
    }

    /// Takes the lock of a folder that is there.
    ///
    /// # Errors
    /// [`StateError::Absent`], [`StateError::Locked`] when another process has it, or
    /// [`StateError::Folder`] when the lock cannot be taken.
    pub fn take(path: &Path) -> Result<Self, StateError> {
        if !path.is_dir() {
            return Err(StateError::Absent {
                path: path.to_owned(),
            });
        }
        let lock = path.join("lock");
        let cannot = |step| failed(&lock, step);
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock)
            .map_err(cannot("open the lock file"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::Locked {
                    path: path.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock it")(error)),
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(cannot("write to the lock file"))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: Arc::new(file),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl StreamFolder {
    /// The folders of the stream of that name in the state folder at `state`.
    #[must_use]
    pub fn of(state: &Path, stream: &str) -> Self {
        let own = state.join(STREAMS).join(encode(stream));
        Self {
            checkpoints: own.join("checkpoints"),
            frames: own.join("frames"),
        }
    }
}

const STREAMS: &str = "streams";

/// Names of the streams of which the state folder at `state` keeps something, in order.
///
/// # Errors
/// [`StateError::Absent`] when it is no state folder, [`StateError::Folder`] when it cannot be read.
pub fn streams(state: &Path) -> Result<Vec<String>, StateError> {
    let folder = state.join(STREAMS);
    if !folder.is_dir() {
        return Err(StateError::Absent {
            path: state.to_owned(),
        });
    }
    let cannot = || failed(&folder, "list the streams in it");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(cannot())? {
        let name = entry.map_err(cannot())?.file_name();
        names.extend(name.to_str().and_then(decode));
    }
    names.sort();
    Ok(names)
}

fn failed(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |reason| StateError::Folder { path, step, reason }
}

/// Who says to hold the lock.
fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    let pid = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    // It may have been taken this very moment.
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("the process {pid}"),
    )
}

/// A stream's name as a folder's: letters, digits, `-` and `_` stand for themselves, every other
/// byte for `%` and two hexadecimal digits.
fn encode(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    name.bytes().map(byte).collect()
}

/// The name that [`encode`] has made a folder's of, if it has.
fn decode(folder: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = folder.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        });
    }
    let name = String::from_utf8(bytes).ok()?;
    (encode(&name) == folder).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_taker_is_told_who_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateFolder::make(&folder.path().join("state")).unwrap();
        let refused = StateFolder::take(first.path()).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains(&format!("in use by the process {}", std::process::id())),
            "{text}"
        );
        let path = first.path().to_owned();
        let clone = first.clone();
        drop(first);
        assert!(StateFolder::take(&path).is_err());
        drop(clone);
        StateFolder::take(&path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        let text = StateFolder::make(&file.join("state"))
            .unwrap_err()
            .to_string();
        assert!(text.contains("cannot make it"), "{text}");
        let absent = folder.path().join("absent");
        let text = StateFolder::take(&absent).unwrap_err().to_string();
        assert!(text.contains("absent: no state folder"), "{text}");
        assert!(streams(&absent).is_err());
    }

    #[test]
    fn a_full_or_locked_disk_comes_with_advice() {
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, "make room"),
            (io::ErrorKind::ReadOnlyFilesystem, "writable"),
            (io::ErrorKind::PermissionDenied, "writable"),
        ] {
            let text = failed(Path::new("state"), "make it")(kind.into()).to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let path = StreamFolder::of(Path::new("state"), "../..").frames;
        assert_eq!(path, Path::new("state/streams/%2e%2e%2f%2e%2e/frames"));
    }

    proptest! {
        #[test]
        fn names_are_read_back(name: String) {
            prop_assert_eq!(decode(&encode(&name)), Some(name));
        }

        #[test]
        fn other_folders_are_no_streams(folder: String) {
            if let Some(name) = decode(&folder) {
                prop_assert_eq!(encode(&name), folder);
            }
        }
    }
}
