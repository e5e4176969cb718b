//! Files that are there whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

/// A file that could not be written. What was at `path` before is still there.
#[derive(Debug, Error)]
#[error("{}: cannot {step}: {source}{}", .path.display(), advice(.source))]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// What failed.
    pub step: &'static str,
    /// Why.
    pub source: io::Error,
}

/// What to do about the failures that a user can put right.
pub(crate) fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; create the folder first",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room or choose another folder"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; make the folder writable for this user or choose another one"
        }
        _ => "",
    }
}

/// Puts `bytes` at `path`, replacing what is there: they go to a temporary file in the same folder,
/// reach the disk, and only then take the name. A reader sees the old file or the new one, never a
/// part; after an error or a full disk the old one is still there and the temporary file is gone.
///
/// # Errors
/// [`WriteError`] when the folder does not exist or may not be written to, or the disk is full.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write(path, Readers::All, |file| content(path, bytes, file))
}

/// The same for content that is made while it is written, by `fill` into a file that is not there yet for
/// others.
///
/// # Errors
/// As [`write_atomically`], and those of `fill`.
pub fn fill_atomically<E: From<WriteError>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    write(path, Readers::All, fill)
}

/// The same for a secret: nobody but its owner can read the file, at any moment.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_privately(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write(path, Readers::Owner, |file| content(path, bytes, file))
}

fn content(path: &Path, bytes: &[u8], file: &mut File) -> Result<(), WriteError> {
    file.write_all(bytes)
        .map_err(failed(path, "write its content"))
}

fn failed(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError {
        path: path.to_path_buf(),
        step,
        source,
    }
}

/// Who may read a new file, as far as the process's mask lets them.
#[derive(Clone, Copy, PartialEq)]
enum Readers {
    All,
    Owner,
}

fn write<E: From<WriteError>>(
    path: &Path,
    readers: Readers,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |step| failed(path, step);
    // `parent` of a bare file name is the empty path, which no system call takes for the current one.
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut temporary =
        temporary_in(folder, readers).map_err(failed("create a temporary file in its folder"))?;
    fill(temporary.as_file_mut())?;
    temporary
        .as_file()
        .sync_all()
        .map_err(failed("get its content to the disk"))?;
    temporary
        .persist(path)
        .map_err(|error| failed("give the new file its name")(error.error))?;
    sync_folder(folder).map_err(failed("get its name to the disk"))?;
    Ok(())
}

/// A temporary file with the permissions that the file is to have; `tempfile`'s own are for its owner
/// only.
fn temporary_in(folder: &Path, readers: Readers) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".ekya-");
    #[cfg(unix)]
    if readers == Readers::All {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Only on Unix can a folder be opened to be synchronised.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_old_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        write_atomically(&path, b"a longer first content").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("run.json");
        let error = write_atomically(&path, b"x").unwrap_err();
        assert_eq!(error.path, path);
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
        assert!(
            error.to_string().contains("create the folder first"),
            "{error}"
        );
    }

    /// The rename is the last step that can fail: a folder in the file's place makes it fail.
    #[test]
    fn after_a_failure_the_old_content_is_there_and_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("old"), b"old").unwrap();
        write_atomically(&path, b"new").unwrap_err();
        assert_eq!(std::fs::read(path.join("old")).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_the_permissions_of_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let ordinary = folder.path().join("ordinary");
        std::fs::write(&ordinary, b"x").unwrap();
        let path = folder.path().join("run.json");
        write_atomically(&path, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }
}
