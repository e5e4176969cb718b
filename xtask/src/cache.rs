//! The folder, shared by all checkouts of a user, that holds what was fetched.
//!
//! `wheels/` holds what arrived, as it arrived; each unpacked package is a folder beside it. Whatever
//! is being made lies in a folder whose name starts with `.tmp-` and is renamed into place when whole.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

const TEMPORARY: &str = ".tmp-";

/// The cache, which may not exist yet.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// The right to change the cache, held by one process at a time.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    cache: &'a Cache,
    /// Locked until it is closed, which the system does even for a killed process.
    _file: File,
}

impl Cache {
    /// The user's: `$EKYA_CACHE`, else `$XDG_CACHE_HOME/ekya`, else `~/.cache/ekya`.
    ///
    /// # Errors
    /// When none of these variables is set.
    pub(crate) fn of_user() -> Result<Self> {
        let folder = folder_by(|name| env::var_os(name)).context(
            "no place for a cache: HOME is unset; set EKYA_CACHE to a folder with 2 GiB to spare",
        )?;
        Ok(Self {
            folder: std::path::absolute(folder)?,
        })
    }

    /// A cache in `folder`.
    #[cfg(test)]
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the wheels are.
    pub(crate) fn wheels(&self) -> PathBuf {
        self.folder.join("wheels")
    }

    /// Makes the folder where needed, waits for other set-ups, and clears what killed ones left.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn lock(&self) -> Result<Locked<'_>> {
        let path = self.folder.join("setup.lock");
        let file = fs::create_dir_all(self.wheels())
            .and_then(|()| File::create(&path))
            .with_context(|| {
                format!(
                    "making the cache {} (EKYA_CACHE names another)",
                    self.folder.display()
                )
            })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another set-up, which holds {}", path.display());
                file.lock()
                    .with_context(|| format!("locking {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        let locked = Locked {
            cache: self,
            _file: file,
        };
        locked.clear_left_overs()?;
        Ok(locked)
    }
}

impl Locked<'_> {
    /// The cache that is locked.
    pub(crate) fn cache(&self) -> &Cache {
        self.cache
    }

    /// A new folder on the cache's own file system, so that what is made in it can be renamed into place.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn temporary(&self) -> Result<TempDir> {
        let folder = self.cache.folder();
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(folder)
            .with_context(|| format!("making a folder in {}", folder.display()))
    }

    /// Removes what killed set-ups left. What a pip that outlived its own still writes to may resist: the
    /// next set-up gets it.
    fn clear_left_overs(&self) -> Result<()> {
        let folder = self.cache.folder();
        for entry in
            fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY)
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                eprintln!(
                    "left for later: removing {}: {error}",
                    entry.path().display()
                );
            }
        }
        Ok(())
    }
}

/// The rule by which `ekya` finds the cached ffmpeg too; an empty variable counts as unset.
fn folder_by(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("EKYA_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|caches| caches.join("ekya")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/ekya")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_and_not_empty_names_the_folder() {
        let by = |set: &[(&str, &str)]| {
            folder_by(|name| {
                set.iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, value)| value.into())
            })
        };
        let all = [
            ("EKYA_CACHE", "/e"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(by(&all), Some("/e".into()));
        assert_eq!(by(&all[1..]), Some("/x/ekya".into()));
        assert_eq!(by(&all[2..]), Some("/h/.cache/ekya".into()));
        assert_eq!(
            by(&[("EKYA_CACHE", ""), ("HOME", "/h")]),
            Some("/h/.cache/ekya".into())
        );
        assert_eq!(by(&[]), None);
    }

    #[test]
    fn one_process_holds_the_lock_and_the_next_clears_up() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(&dir.path().join("new/cache"));
        let locked = cache.lock().unwrap();
        let left = locked.temporary().unwrap().keep();
        fs::write(left.join("half a wheel"), "x").unwrap();
        let other = File::open(cache.folder().join("setup.lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(locked);
        let _locked = cache.lock().unwrap();
        assert!(!left.exists() && cache.wheels().is_dir());
    }
}
