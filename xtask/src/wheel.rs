//! Python wheels as parcels: fetched by pip, known by digest, never run.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cache::Locked;
use crate::{digest, machine};

/// A wheel, pinned.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// Project on the package index.
    pub(crate) project: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// File name.
    pub(crate) file: &'static str,
    /// The one platform tag by which pip is to choose the file, whatever the machine's own tags are.
    pub(crate) platform: &'static str,
    /// Digest of the file, in hexadecimal.
    pub(crate) sha256: &'static str,
    /// Size of the file.
    pub(crate) bytes: u64,
}

impl Wheel {
    /// Path of the wheel in the cache, where it lies whole: fetched unless it is there already.
    ///
    /// # Errors
    /// When it is missing and cannot be fetched.
    pub(crate) fn ensure(&self, locked: &Locked<'_>) -> Result<PathBuf> {
        let path = locked.cache().wheels().join(self.file);
        if path.exists() {
            if self.is_whole(&path)? {
                return Ok(path);
            }
            eprintln!("{} is damaged and is fetched again", path.display());
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        self.fetch(locked, &path)?;
        Ok(path)
    }

    /// Whether the file at `path` is this wheel, by its digest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn is_whole(&self, path: &Path) -> Result<bool> {
        Ok(self.has_its_size(path) && digest::of_file(path)? == self.sha256)
    }

    /// Whether the file at `path` has this wheel's size.
    pub(crate) fn has_its_size(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|data| data.len() == self.bytes)
    }

    fn fetch(&self, locked: &Locked<'_>, path: &Path) -> Result<()> {
        let python = machine::python_with_pip(&machine::search_path())?;
        eprintln!(
            "fetching {} {} ({} MB)",
            self.project,
            self.version,
            self.bytes.div_ceil(1_000_000)
        );
        let temporary = locked.temporary()?;
        self.download(&python, temporary.path())?;
        let arrived = temporary.path().join(self.file);
        ensure!(
            self.is_whole(&arrived)?,
            "{} arrived damaged: run the command again, or see which index `{} -m pip config list` names",
            self.file,
            python.display()
        );
        fs::rename(&arrived, path).with_context(|| format!("moving {} into the cache", self.file))
    }

    /// Lets pip put the wheel into `folder`, its progress bar on this process' stderr.
    fn download(&self, python: &Path, folder: &Path) -> Result<()> {
        let requirements = folder.join("requirements.txt");
        fs::write(&requirements, self.requirement()).context("writing pip's requirements")?;
        let mut pip = Command::new(python)
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--require-hashes",
                "--only-binary=:all:",
            ])
            .args(["--no-cache-dir", "--disable-pip-version-check"])
            .args([
                "--implementation",
                "cp",
                "--python-version",
                "311",
                "--abi",
                "cp311",
            ])
            .args(["--platform", self.platform])
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(folder)
            // pip writes there first: /tmp may be small, and what a killed pip leaves is cleared.
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {} -m pip", python.display()))?;
        let said = pip.stderr.take().map(|stderr| echo(BufReader::new(stderr)));
        let status = pip.wait().context("waiting for pip")?;
        if status.success() {
            return Ok(());
        }
        let reason = said
            .as_deref()
            .and_then(reason)
            .unwrap_or("it gave no reason");
        bail!(
            "pip could not fetch {} {}: {reason} (is the network, or the index that `{} -m pip config list` \
             names, in reach?)",
            self.project,
            self.version,
            python.display()
        )
    }

    fn requirement(&self) -> String {
        format!(
            "{}=={} --hash=sha256:{}\n",
            self.project, self.version, self.sha256
        )
    }
}

/// Shows on stderr what comes, and returns it.
fn echo(from: impl BufRead) -> Vec<String> {
    let lines = from.split(b'\n').map_while(Result::ok);
    lines
        .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
        .inspect(|line| eprintln!("{line}"))
        .collect()
}

/// The line in which pip says why it failed: its last error, else its last word.
fn reason(said: &[String]) -> Option<&str> {
    let written = || {
        said.iter()
            .map(|line| line.trim())
            .filter(|line| !line.is_empty())
    };
    written()
        .rfind(|line| line.starts_with("ERROR:"))
        .or_else(|| written().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: Wheel = Wheel {
        project: "abc",
        version: "1.0",
        file: "abc-1.0-py3-none-any.whl",
        platform: "any",
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        bytes: 3,
    };

    #[test]
    fn a_damaged_wheel_is_noticed_by_size_and_by_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ABC.file);
        assert!(!ABC.is_whole(&path).unwrap());
        for (text, whole) in [
            ("abc", true),
            ("ab", false),
            ("abd", false),
            ("abcd", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(ABC.is_whole(&path).unwrap(), whole, "{text}");
        }
    }

    #[test]
    fn what_is_whole_in_the_cache_is_not_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let cache = crate::cache::Cache::in_folder(dir.path());
        let locked = cache.lock().unwrap();
        let path = cache.wheels().join(ABC.file);
        fs::write(&path, "abc").unwrap();
        assert_eq!(ABC.ensure(&locked).unwrap(), path);
    }

    #[test]
    fn the_requirement_pins_version_and_digest() {
        assert_eq!(
            ABC.requirement(),
            format!("abc==1.0 --hash=sha256:{}\n", ABC.sha256)
        );
    }

    #[test]
    fn the_reason_is_pips_last_error() {
        let said = |text: &str| echo(text.as_bytes());
        let refused = said(
            "WARNING: Retrying\nERROR: first\nERROR: No matching distribution\n[notice] new\n\n",
        );
        assert_eq!(reason(&refused), Some("ERROR: No matching distribution"));
        assert_eq!(
            reason(&said("Traceback\nOSError: x\n\n")),
            Some("OSError: x")
        );
        assert_eq!(reason(&said("\n")), None);
    }
}
