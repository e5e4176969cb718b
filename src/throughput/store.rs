//! Keeps what was measured from one start to the next, in one small file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Curves;
use crate::write::write_atomically;

/// Name of the file in its folder.
const FILE: &str = "throughput.json";
/// Version of its format.
const VERSION: u32 = 1;
/// Measurements that are kept, the newest.
const KEPT_MAX: usize = 100;

/// What a measurement holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The hardware, in words; see [`describe`](super::describe).
    pub device: String,
    /// Minibatches that run side by side.
    pub depth: usize,
    /// Whether students train in processes of their own.
    pub workers: bool,
    /// The kind of student.
    pub student: String,
    /// Version of ekya that measured.
    pub ekya: String,
}

/// A file of measurements, or nothing where there is no folder to keep one in.
#[derive(Debug, Clone, Default)]
pub struct Store {
    path: Option<PathBuf>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    measured: Vec<Measured>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    key: Key,
    curves: Curves,
}

impl Store {
    /// The file in a folder, which is made when there is something to keep.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        let path = Some(folder.join(FILE));
        Self { path }
    }

    /// The file in this user's cache.
    #[must_use]
    pub fn of_user() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
        let folder = cache.map(|cache| cache.join("ekya"));
        folder.map_or_else(Self::default, |folder| Self::in_folder(&folder))
    }

    /// What was measured for `key`. A file that cannot be used counts as none, with a warning.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<Curves> {
        let measured = self.read().measured;
        let mut same = measured.into_iter().filter(|one| one.key == *key);
        same.next().map(|one| one.curves)
    }

    /// Keeps a measurement in place of an older one for the same key. Where it cannot be written it
    /// is made again at the next start; the log says so.
    pub fn keep(&self, key: Key, curves: Curves) {
        let Some(path) = &self.path else {
            return;
        };
        let mut measured = self.read().measured;
        measured.retain(|one| one.key != key);
        measured.insert(0, Measured { key, curves });
        measured.truncate(KEPT_MAX);
        let version = VERSION;
        // Strings and finite numbers: always JSON.
        let text = serde_json::to_vec_pretty(&Content { version, measured }).unwrap_or_default();
        if let Some(folder) = path.parent() {
            // Without it, writing says what is wrong.
            let _ = fs::create_dir_all(folder);
        }
        if let Err(error) = write_atomically(path, &text) {
            tracing::warn!(%error, "measured throughput is not kept");
        }
    }

    fn read(&self) -> Content {
        let Some(path) = &self.path else {
            return Content::default();
        };
        let useless = |reason: String| {
            let path = path.display();
            tracing::warn!(%path, reason, "no measurements of throughput: they are made again");
            Content::default()
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Content::default(),
            Err(error) => return useless(error.to_string()),
        };
        match serde_json::from_slice::<Content>(&text) {
            Ok(content) if content.version == VERSION => content,
            Ok(content) => useless(format!("version {} of the file", content.version)),
            Err(error) => useless(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ekya_sched::{Share, Throughput};

    use super::*;

    fn key(student: &str) -> Key {
        Key {
            device: "a CPU, 2 threads".to_owned(),
            depth: 2,
            workers: true,
            student: student.to_owned(),
            ekya: "0.1.0".to_owned(),
        }
    }

    fn curves(rate: f64) -> Curves {
        let half = Share::from_micro(500_000);
        let points = [(half, 1.0), (Share::WHOLE, 1.0)];
        Curves {
            training: Throughput::measured(&points).unwrap_or_default(),
            inference: Throughput::default(),
            steps_per_second: vec![rate],
        }
    }

    #[test]
    fn what_is_kept_is_found_by_its_key_alone() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let inside = folder.path().join("cache");
        let store = Store::in_folder(&inside);
        assert_eq!(store.find(&key("small")), None);
        assert!(!inside.exists(), "looking makes nothing");
        store.keep(key("small"), curves(1.0));
        store.keep(key("resnet18"), curves(2.0));
        store.keep(key("small"), curves(3.0));
        // Another process.
        let store = Store::in_folder(&inside);
        assert_eq!(store.find(&key("small")), Some(curves(3.0)));
        assert_eq!(store.find(&key("resnet18")), Some(curves(2.0)));
        let deeper = Key {
            depth: 3,
            ..key("small")
        };
        assert_eq!(store.find(&deeper), None);
        Ok(())
    }

    #[test]
    fn a_damaged_or_foreign_file_is_replaced() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let store = Store::in_folder(folder.path());
        store.keep(key("small"), curves(1.0));
        let path = folder.path().join(FILE);
        let whole = fs::read_to_string(&path)?;
        let falling = whole.replacen("\"speed\": 1.0", "\"speed\": -1.0", 1);
        assert_ne!(falling, whole);
        let newer = whole.replacen("\"version\": 1", "\"version\": 2", 1);
        assert_ne!(newer, whole);
        for bad in ["", "[]", &whole[..whole.len() / 2], &falling, &newer] {
            fs::write(&path, bad)?;
            assert_eq!(store.find(&key("small")), None, "{bad}");
        }
        store.keep(key("small"), curves(2.0));
        assert_eq!(store.find(&key("small")), Some(curves(2.0)));
        Ok(())
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let store = Store::default();
        store.keep(key("small"), curves(1.0));
        assert_eq!(store.find(&key("small")), None);
    }
}
