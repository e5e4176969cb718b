//! A package: a folder in the cache, unpacked from wheels, that is either whole or taken for absent.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use zip::ZipArchive;

use crate::cache::{Cache, Locked};
use crate::digest;
use crate::wheel::Wheel;

/// Name of the file, written last, that tells a whole folder from a half-made one.
const MARKER: &str = ".complete";

/// What to unpack from which wheels.
#[derive(Debug)]
pub(crate) struct Package {
    /// Name of the folder in the cache.
    pub(crate) name: &'static str,
    /// Raised when `pick` or `finish` change what they make, so that older folders are made again.
    pub(crate) edition: u32,
    /// Where its files come from.
    pub(crate) wheels: &'static [Wheel],
    /// About how much it takes unpacked.
    pub(crate) bytes: u64,
    /// Where in the folder a file of a wheel belongs; `None` leaves it out.
    pub(crate) pick: fn(&str) -> Option<PathBuf>,
    /// Makes in the folder what no wheel holds.
    pub(crate) finish: fn(&Path) -> Result<()>,
}

impl Package {
    /// Where it is, or will be.
    pub(crate) fn folder(&self, cache: &Cache) -> PathBuf {
        cache.folder().join(self.name)
    }

    /// Whether it is there with every file at its full size.
    pub(crate) fn is_whole(&self, cache: &Cache) -> bool {
        let folder = self.folder(cache);
        fs::read_to_string(folder.join(MARKER))
            .is_ok_and(|found| self.marker(&folder).is_ok_and(|expected| found == expected))
    }

    /// Bytes that installing needs at its fullest: pip holds the wheel it fetches twice for a moment.
    pub(crate) fn bytes_needed(&self, cache: &Cache) -> u64 {
        let missing = self
            .wheels
            .iter()
            .filter(|wheel| !wheel.has_its_size(&cache.wheels().join(wheel.file)));
        let (sum, largest) = missing.fold((0, 0), |(sum, largest), wheel| {
            (sum + wheel.bytes, wheel.bytes.max(largest))
        });
        sum + largest + self.bytes
    }

    /// Makes it anew from its wheels, and puts it in place of whatever lies there.
    ///
    /// # Errors
    /// When a wheel cannot be fetched or the folder cannot be made; nothing half-made is left in place.
    pub(crate) fn install(&self, locked: &Locked<'_>) -> Result<()> {
        let wheels: Vec<_> = self
            .wheels
            .iter()
            .map(|wheel| wheel.ensure(locked))
            .collect::<Result<_>>()?;
        let temporary = locked.temporary()?;
        let fresh = temporary.path().join(self.name);
        fs::create_dir(&fresh)?;
        eprintln!("unpacking {}", self.name);
        for wheel in &wheels {
            unpack(wheel, &fresh, self.pick)
                .with_context(|| format!("unpacking {}", wheel.display()))?;
        }
        (self.finish)(&fresh)?;
        fs::write(fresh.join(MARKER), self.marker(&fresh)?)?;
        let folder = self.folder(locked.cache());
        if folder.symlink_metadata().is_ok() {
            fs::rename(&folder, temporary.path().join("old"))
                .with_context(|| format!("moving {} aside", folder.display()))?;
        }
        fs::rename(&fresh, &folder)
            .with_context(|| format!("putting {} in place", folder.display()))
    }

    /// What the marker must say: a digest of the recipe and of every file's path and size.
    fn marker(&self, folder: &Path) -> Result<String> {
        let mut text = format!("{} edition {}\n", self.name, self.edition);
        for wheel in self.wheels {
            writeln!(text, "{}", wheel.sha256)?;
        }
        for (path, bytes) in inventory(folder)? {
            writeln!(text, "{}\t{bytes}", path.display())?;
        }
        Ok(digest::of_text(&text) + "\n")
    }
}

/// Every file below `folder` but the marker, with its size, in order.
fn inventory(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("reading {}", next.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.path() != folder.join(MARKER) {
                files.push((
                    entry.path().strip_prefix(folder)?.to_owned(),
                    entry.metadata()?.len(),
                ));
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Unpacks what `pick` wants of the archive at `wheel` into `folder`. The archive's own checksums are verified.
fn unpack(wheel: &Path, folder: &Path, pick: fn(&str) -> Option<PathBuf>) -> Result<()> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(wheel)?))?;
    let mut wanted = Vec::new();
    let mut bytes = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        if let Some(to) =
            pick(entry.name()).filter(|_| entry.is_file() && entry.enclosed_name().is_some())
        {
            bytes += entry.size();
            wanted.push((index, folder.join(to)));
        }
    }
    let bar = progress_bar(bytes)?;
    for (index, to) in wanted {
        let entry = archive.by_index(index)?;
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let mode = entry.unix_mode().unwrap_or(0o644) & 0o777;
        let mut file =
            BufWriter::new(File::create(&to).with_context(|| format!("making {}", to.display()))?);
        io::copy(&mut bar.wrap_read(entry), &mut file)
            .and_then(|_| file.flush())
            .with_context(|| format!("writing {}", to.display()))?;
        fs::set_permissions(&to, Permissions::from_mode(mode))?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// A bar on stderr; hidden when that is no terminal.
fn progress_bar(bytes: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("  {bar:40} {bytes}/{total_bytes} {eta}")?;
    Ok(ProgressBar::new(bytes).with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::write::{FileOptions, ZipWriter};

    fn pick(name: &str) -> Option<PathBuf> {
        name.strip_prefix("tool/").map(PathBuf::from)
    }

    fn finish(folder: &Path) -> Result<()> {
        Ok(fs::write(folder.join("version"), "1\n")?)
    }

    /// A package of one wheel, made here: `files` are names, texts and modes.
    fn package_of(cache: &Cache, files: &[(&str, &str, u32)]) -> Package {
        const FILE: &str = "tool-1-py3-none-any.whl";
        let path = cache.wheels().join(FILE);
        fs::create_dir_all(cache.wheels()).unwrap();
        let mut archive = ZipWriter::new(File::create(&path).unwrap());
        for (name, text, mode) in files {
            archive
                .start_file(*name, FileOptions::default().unix_permissions(*mode))
                .unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        let wheel = Wheel {
            project: "tool",
            version: "1",
            file: FILE,
            platform: "any",
            sha256: Box::leak(digest::of_file(&path).unwrap().into_boxed_str()),
            bytes: path.metadata().unwrap().len(),
        };
        let wheels: &'static [Wheel] = Box::leak(Box::new([wheel]));
        Package {
            name: "tool-1",
            edition: 1,
            wheels,
            bytes: 100,
            pick,
            finish,
        }
    }

    const FILES: [(&str, &str, u32); 3] = [
        ("tool/bin/run", "#!/bin/sh\n", 0o755),
        ("tool/notes", "long text", 0o644),
        ("other/file", "x", 0o644),
    ];

    #[test]
    fn what_is_picked_is_unpacked_with_its_mode_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(dir.path());
        let package = package_of(&cache, &FILES);
        assert!(!package.is_whole(&cache));
        package.install(&cache.lock().unwrap()).unwrap();
        assert!(package.is_whole(&cache));
        let folder = package.folder(&cache);
        let names: Vec<_> = inventory(&folder)
            .unwrap()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(names, ["bin/run", "notes", "version"].map(PathBuf::from));
        assert_eq!(
            fs::read_to_string(folder.join("notes")).unwrap(),
            "long text"
        );
        assert!(crate::machine::is_program(&folder.join("bin/run")));
        assert!(!crate::machine::is_program(&folder.join("notes")));
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(
            left, 3,
            "wheels, the lock and the package, nothing temporary"
        );
    }

    #[test]
    fn a_folder_that_is_not_whole_is_noticed_and_replaced() {
        type Damage = fn(&Path) -> io::Result<()>;
        let damages: [Damage; 4] = [
            |folder| fs::remove_file(folder.join("bin/run")),
            |folder| fs::write(folder.join("notes"), "long"),
            |folder| fs::remove_file(folder.join(MARKER)),
            |folder| fs::write(folder.join("stray"), ""),
        ];
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(dir.path());
        let package = package_of(&cache, &FILES);
        for damage in damages {
            package.install(&cache.lock().unwrap()).unwrap();
            assert!(package.is_whole(&cache));
            damage(&package.folder(&cache)).unwrap();
            assert!(!package.is_whole(&cache));
        }
        package.install(&cache.lock().unwrap()).unwrap();
        assert!(package.is_whole(&cache));
    }

    #[test]
    fn a_folder_of_another_recipe_is_not_taken_for_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(dir.path());
        let package = package_of(&cache, &FILES);
        package.install(&cache.lock().unwrap()).unwrap();
        let next = Package {
            edition: 2,
            ..package
        };
        assert!(!next.is_whole(&cache));
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_not_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(dir.path());
        let package = package_of(&cache, &[("tool/../../../../escaped", "x", 0o644)]);
        package.install(&cache.lock().unwrap()).unwrap();
        let names: Vec<_> = inventory(&package.folder(&cache)).unwrap();
        assert_eq!(names.len(), 1, "only what finish made: {names:?}");
    }

    #[test]
    fn space_is_asked_for_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(dir.path());
        let package = package_of(&cache, &FILES);
        assert_eq!(package.bytes_needed(&cache), 100);
        fs::remove_file(cache.wheels().join(package.wheels[0].file)).unwrap();
        assert_eq!(
            package.bytes_needed(&cache),
            100 + 2 * package.wheels[0].bytes
        );
    }
}
