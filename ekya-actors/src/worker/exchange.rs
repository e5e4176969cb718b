//! Large data between a worker and who asks it: files in shared memory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;

/// Where files are memory.
const MEMORY: &str = "/dev/shm";

/// What the folders are called, before the number of the process and their own.
const PREFIX: &str = "ekya-exchange-";

/// A private folder in shared memory, removed when dropped. One side puts a file there, its path goes
/// over the socket, and the other side reads it.
///
/// Where there is no shared memory, or no room in it, the folder for temporary files is the next
/// best; the first time that it is needed, a warning says so.
#[derive(Debug)]
pub struct Exchange {
    /// None where there is no shared memory.
    memory: Option<Folder>,
    /// Made when it is needed.
    fallback: Mutex<Option<Folder>>,
    fallback_root: PathBuf,
    next: AtomicU64,
}

/// The place of one file in an [`Exchange`]; dropped, the file is removed, if there is one.
#[derive(Debug)]
pub struct Parcel {
    path: PathBuf,
}

/// One folder, removed when dropped.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The folder itself, locked for as long as it is in use, which tells it from what a killed
    /// process has left behind. Unlike a process number, that holds across containers.
    _lock: File,
}

impl Exchange {
    /// Makes the folder, and removes those that killed processes of this user have left behind.
    ///
    /// # Errors
    /// When neither shared memory nor the folder for temporary files can be used.
    pub fn new() -> io::Result<Self> {
        Self::in_roots(Path::new(MEMORY), std::env::temp_dir())
    }

    fn in_roots(memory: &Path, fallback_root: PathBuf) -> io::Result<Self> {
        let (memory, missing) = match Folder::make(memory) {
            Ok(folder) => (Some(folder), None),
            Err(error) => (None, Some(error)),
        };
        let exchange = Self {
            memory,
            fallback: Mutex::default(),
            fallback_root,
            next: AtomicU64::new(0),
        };
        if let Some(error) = missing {
            exchange.fall_back(0, &error)?;
        }
        Ok(exchange)
    }

    /// A new place for a file of so many bytes. The file does not exist yet.
    ///
    /// That there is room now is no promise: others take room, too. Where writing fails with
    /// [`ErrorKind::StorageFull`], there may be room [elsewhere](Self::elsewhere).
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] when there is no room anywhere.
    pub fn place(&self, bytes: u64) -> io::Result<Parcel> {
        let no_memory = || io::Error::from(ErrorKind::NotFound);
        let memory = self.memory.as_ref().ok_or_else(no_memory);
        let folder = match memory.and_then(|folder| folder.with_room(bytes)) {
            Ok(folder) => folder,
            Err(error) => self.fall_back(bytes, &error)?,
        };
        Ok(self.within(&folder))
    }

    /// A new place that is not in shared memory, after a file did not fit there.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] when there is no room either.
    pub fn elsewhere(&self, bytes: u64) -> io::Result<Parcel> {
        let folder = self.fall_back(bytes, &ErrorKind::StorageFull.into())?;
        Ok(self.within(&folder))
    }

    fn within(&self, folder: &Path) -> Parcel {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Parcel {
            path: folder.join(number.to_string()),
        }
    }

    /// The next best folder with room, made where it has not been needed before.
    fn fall_back(&self, bytes: u64, why: &io::Error) -> io::Result<PathBuf> {
        let mut fallback = self.fallback.lock();
        let folder = match &mut *fallback {
            Some(folder) => folder,
            none => {
                let folder = Folder::make(&self.fallback_root)?;
                let instead = folder.path.display();
                tracing::warn!(%why, %instead, "shared memory cannot be used: data of workers goes through files");
                none.insert(folder)
            }
        };
        folder.with_room(bytes)
    }
}

impl Folder {
    fn make(root: &Path) -> io::Result<Self> {
        static FOLDERS: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("{PREFIX}{}-{number}", process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                // A process of this number has been killed, or lives in another container.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            if let Some(lock) = lock(&path) {
                let owner = lock.metadata()?.uid();
                let folder = Self { path, _lock: lock };
                sweep(root, owner);
                return Ok(folder);
            }
            // Another process took it for a left-over before it was locked.
        }
    }

    /// Its path, if a file of so many bytes has room in it.
    fn with_room(&self, bytes: u64) -> io::Result<PathBuf> {
        let system = statvfs(&self.path)?;
        let free = system.blocks_available() * system.fragment_size();
        // One mounted without a limit has no blocks at all.
        if system.blocks() == 0 || bytes <= free {
            return Ok(self.path.clone());
        }
        let folder = self.path.display();
        let text = format!("no room for {bytes} bytes in {folder}, where {free} are free");
        Err(io::Error::new(ErrorKind::StorageFull, text))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            let folder = self.path.display();
            tracing::warn!(%folder, %error, "cannot remove the folder for data of workers");
        }
    }
}

/// Takes a folder, unless somebody else has it or it is gone.
fn lock(path: &Path) -> Option<File> {
    let folder = File::open(path).ok()?;
    folder.try_lock().ok()?;
    // Somebody else may have taken and removed it before that.
    let (here, locked) = (fs::symlink_metadata(path).ok()?, folder.metadata().ok()?);
    (here.is_dir() && here.ino() == locked.ino()).then_some(folder)
}

/// Removes folders that belong to this user and that nobody has.
fn sweep(root: &Path, user: u32) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Of the entry itself: a link may lead anywhere.
        let own = || {
            entry
                .metadata()
                .is_ok_and(|it| it.is_dir() && it.uid() == user)
        };
        if named && own() {
            let path = entry.path();
            if let Some(_lock) = lock(&path) {
                let removed = fs::remove_dir_all(&path);
                let folder = path.display();
                tracing::debug!(%folder, ?removed, "left behind by a killed process");
            }
        }
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
        // There need not be a file.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two roots, the second of which is the fallback.
    fn roots() -> (tempfile::TempDir, tempfile::TempDir) {
        let root = || tempfile::tempdir().expect("a folder for the test");
        (root(), root())
    }

    fn is_empty(root: &Path) -> bool {
        fs::read_dir(root).expect("it is there").next().is_none()
    }

    #[test]
    fn files_are_private_and_nothing_is_left_of_them() {
        let (root, fallback) = roots();
        let exchange = Exchange::in_roots(root.path(), fallback.path().to_owned()).unwrap();
        let [one, other] = [(); 2].map(|()| exchange.place(5).unwrap());
        assert_ne!(*one, *other);
        fs::write(&one, b"hello").unwrap();
        let folder = one.parent().unwrap().to_owned();
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        drop(one);
        assert!(is_empty(&folder));
        fs::write(&other, b"hello").unwrap();
        drop(exchange);
        assert!(is_empty(root.path()) && is_empty(fallback.path()));
    }

    #[test]
    fn without_shared_memory_there_are_files() {
        let (_, fallback) = roots();
        let missing = Path::new("/nowhere");
        let exchange = Exchange::in_roots(missing, fallback.path().to_owned()).unwrap();
        let parcel = exchange.place(5).unwrap();
        assert!(parcel.starts_with(fallback.path()));
        drop(exchange);
        assert!(is_empty(fallback.path()));
    }

    #[test]
    fn without_either_there_is_no_exchange() {
        let missing = Path::new("/nowhere");
        let error = Exchange::in_roots(missing, missing.to_owned()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn more_than_there_is_room_for_anywhere_is_an_error() {
        let (root, fallback) = roots();
        let exchange = Exchange::in_roots(root.path(), fallback.path().to_owned()).unwrap();
        let error = exchange.place(u64::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(exchange.place(1).unwrap().starts_with(root.path()));
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let (root, fallback) = roots();
        let live = Folder::make(root.path()).unwrap();
        let left = root.path().join("ekya-exchange-1-1");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("0"), b"weights").unwrap();
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        let link = root.path().join("ekya-exchange-1-2");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let _exchange = Exchange::in_roots(root.path(), fallback.path().to_owned()).unwrap();
        assert!(!left.exists());
        assert!(live.path.exists() && other.exists() && link.is_symlink());
        // Of another user.
        fs::create_dir(&left).unwrap();
        sweep(root.path(), left.metadata().unwrap().uid() + 1);
        assert!(left.exists());
    }
}
