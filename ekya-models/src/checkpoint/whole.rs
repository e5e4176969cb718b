//! Files that are there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How the names of files end that are being written; one that stays behind was interrupted.
const PARTIAL: &str = ".partial";

/// Has `write` write beside `path`, makes that durable, and renames.
pub(super) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let (folder, temporary) = temporary_beside(path)?;
    let mut written = File::create_new(&temporary).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    written = written.and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing more can be done when this fails too; the first error is the one that counts.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    // The rename itself lasts only once the folder is on the disk.
    OpenOptions::new().read(true).open(folder)?.sync_all()
}

/// The folder of `path` and a name in it that no other writer uses.
fn temporary_beside(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(
        ".{}.{}-{count}{PARTIAL}",
        name.display(),
        std::process::id()
    ));
    Ok((folder, temporary))
}

/// Whether a file of that name is what an interrupted [`write_whole`] has left.
pub(super) fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(PARTIAL)
}
