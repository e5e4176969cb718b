//! Large data between a worker and who asks it: files in shared memory.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statvfs::statvfs;

/// A private folder in shared memory, removed when dropped. A file is put there by one side, its
/// path goes over the socket, and the other side reads it.
#[derive(Debug)]
pub struct Exchange {
    folder: PathBuf,
    next: AtomicU64,
}

/// The place of one file in an [`Exchange`]; dropped, the file is removed, if there is one.
#[derive(Debug)]
pub struct Parcel {
    path: PathBuf,
}

impl Exchange {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it can be made nowhere.
    pub fn new() -> io::Result<Self> {
        static FOLDERS: AtomicU64 = AtomicU64::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder =
            Path::new("/dev/shm").join(format!("ekya-exchange-{}-{number}", process::id()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let next = AtomicU64::new(0);
        Ok(Self { folder, next })
    }

    /// A new place for a file of about so many bytes. The file does not exist yet.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] when there is no room for it. Writing may fail all the same, as
    /// others take room, too: ask again then for the next best place.
    pub fn place(&self, bytes: u64) -> io::Result<Parcel> {
        let room = statvfs(&self.folder)?;
        if room.blocks_available() * room.fragment_size() < bytes {
            return Err(ErrorKind::StorageFull.into());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(number.to_string());
        Ok(Parcel { path })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Deref for Parcel {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Parcel {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
