//! A file of lines that is begun anew when it has grown: `PATH` becomes `PATH.1`, which becomes `PATH.2`,
//! and so on. Lines are in it whole or not at all.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::lines::end_of_whole_lines;
use crate::config::FileOutputConfig;

/// What every line begins with. A file whose last line was cut short has a part of such a line there; else
/// it is somebody else's, and left alone.
const BEGINNING: &[u8] = b"{\"time\":";

/// Such a file. After a failure it is opened again when it is needed.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    rotate_bytes: u64,
    keep: usize,
    /// Size at which it is begun anew; later than usual after that has failed.
    full_at: u64,
    file: Option<File>,
}

impl RotatingFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be opened, another process writes to it, or it is no file of results.
    pub(super) fn open(config: &FileOutputConfig) -> io::Result<Self> {
        Ok(Self {
            path: config.path.clone(),
            rotate_bytes: config.rotate_bytes,
            keep: config.keep,
            full_at: config.rotate_bytes,
            file: Some(open(&config.path)?),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// What the system says. Then none of the lines is in the file.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut length = self.length()?;
        let full = length.saturating_add(lines.len() as u64) > self.full_at;
        if length > 0 && full {
            self.rotate(length);
            length = self.length()?;
        }
        let file = self.file()?;
        let written = file.write_all(lines);
        if written.is_err() {
            // Where this fails, too, opening it again cuts off what is not whole.
            drop(file.set_len(length));
            self.file = None;
        }
        written
    }

    /// Its size. A file that somebody has removed is made anew.
    fn length(&mut self) -> io::Result<u64> {
        let metadata = self.file()?.metadata()?;
        if metadata.nlink() > 0 {
            return Ok(metadata.len());
        }
        self.file = None;
        Ok(self.file()?.metadata()?.len())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        match self.file.take() {
            Some(file) => Ok(self.file.insert(file)),
            None => Ok(self.file.insert(open(&self.path)?)),
        }
    }

    /// Begins the file anew, or lets it grow on where that cannot be done.
    fn rotate(&mut self, length: u64) {
        match self.shift() {
            Ok(()) => {
                self.full_at = self.rotate_bytes;
                self.file = None;
            }
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the file cannot be renamed, and grows on");
                self.full_at = length.saturating_add(self.rotate_bytes);
            }
        }
    }

    /// Renames every file to the next number; the last one goes. Fails before anything is lost.
    fn shift(&self) -> io::Result<()> {
        for number in (0..self.keep).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.into()
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    if file.metadata()?.is_file() {
        // Some file systems know no locks.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(io::Error::other("another process writes to it"));
        }
        cut_torn_line(&mut file)?;
    }
    Ok(file)
}

/// Cuts off the beginning of a line that a crash has left behind.
fn cut_torn_line(file: &mut File) -> io::Result<()> {
    let end = end_of_whole_lines(file)?;
    let mut torn = Vec::new();
    file.seek(SeekFrom::Start(end))?;
    file.take(BEGINNING.len() as u64).read_to_end(&mut torn)?;
    if torn.is_empty() {
        return Ok(());
    }
    if !BEGINNING.starts_with(&torn) {
        let reason = "it ends with something else than a result; name another file";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    file.set_len(end)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(path: PathBuf) -> FileOutputConfig {
        FileOutputConfig {
            path,
            rotate_bytes: 10,
            keep: 2,
        }
    }

    #[test]
    fn full_files_are_numbered_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let mut file = RotatingFile::open(&config(path.clone())).unwrap();
        for line in [
            "one\n",
            "two\n",
            "three\n",
            "longer than a file\n",
            "five\n",
            "six\n",
        ] {
            file.append(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("r"), "five\nsix\n");
        assert_eq!(read("r.1"), "longer than a file\n");
        assert_eq!(read("r.2"), "three\n");
        assert!(!folder.path().join("r.3").exists());
    }

    #[test]
    fn where_nothing_can_be_renamed_it_grows_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        // A folder in the way, which is not empty.
        fs::create_dir_all(folder.path().join("r.1/x")).unwrap();
        fs::create_dir_all(folder.path().join("r.2/x")).unwrap();
        let mut file = RotatingFile::open(&config(path.clone())).unwrap();
        for _ in 0..4 {
            file.append(b"12345678\n").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "12345678\n".repeat(4));
        fs::remove_dir_all(folder.path().join("r.1")).unwrap();
        fs::remove_dir_all(folder.path().join("r.2")).unwrap();
        for _ in 0..2 {
            file.append(b"abcdefgh\n").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "abcdefgh\n");
    }

    #[test]
    fn a_line_that_a_crash_has_cut_short_goes_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        for torn in ["{\"ti", "{\"time\":3.0,\"kn"] {
            fs::write(&path, format!("whole\n{torn}")).unwrap();
            let mut file = RotatingFile::open(&config(path.clone())).unwrap();
            file.append(b"n\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nn\n");
        }
        fs::write(&path, "a letter").unwrap();
        let error = RotatingFile::open(&config(path.clone())).unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a letter");
    }

    #[test]
    fn one_that_was_removed_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let mut file = RotatingFile::open(&config(path.clone())).unwrap();
        file.append(b"one\n").unwrap();
        fs::remove_file(&path).unwrap();
        file.append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn two_do_not_write_to_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path().join("r"));
        let first = RotatingFile::open(&config).unwrap();
        let error = RotatingFile::open(&config).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        RotatingFile::open(&config).unwrap();
    }
}
