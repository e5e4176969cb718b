//! What must be on the machine already, and one line on how to get it where it is not.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

const MIB: u64 = 1 << 20;

/// The program `name` in the folders of `path` (the form of `PATH`).
pub(crate) fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

/// Whether `file` is a file that may be executed.
pub(crate) fn is_program(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The process' `PATH`, empty when unset.
pub(crate) fn search_path() -> std::ffi::OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// The C++ compiler that torch-sys will be compiled with: `$CXX`, else `c++`.
///
/// # Errors
/// When there is none.
pub(crate) fn cxx_compiler(cxx: Option<&OsStr>, path: &OsStr) -> Result<()> {
    if cxx.is_some_and(|cxx| !cxx.is_empty()) || find_program("c++", path).is_some() {
        return Ok(());
    }
    bail!(
        "no C++ compiler: there is no c++ on the PATH \
         (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++), or set CXX"
    )
}

/// That the prebuilt libtorch and ffmpeg run here.
///
/// # Errors
/// On anything but x86-64 Linux with glibc.
pub(crate) fn platform(os: &str, architecture: &str, glibc: bool) -> Result<()> {
    if os == "linux" && architecture == "x86_64" && glibc {
        return Ok(());
    }
    let libc = if os == "linux" && !glibc {
        " without glibc"
    } else {
        ""
    };
    bail!(
        "libtorch is fetched for x86_64 Linux with glibc only, and this is {architecture} {os}{libc}: \
         set LIBTORCH to the absolute path of a libtorch 2.11.0 (and have an ffmpeg on the PATH)"
    )
}

/// The Python that fetches: `python3` with pip.
///
/// # Errors
/// When either is missing.
pub(crate) fn python_with_pip(path: &OsStr) -> Result<PathBuf> {
    let python = find_program("python3", path).context(
        "no python3 on the PATH, which fetches libtorch \
         (Debian, Ubuntu: apt-get install python3-pip; Fedora: dnf install python3-pip), or set LIBTORCH",
    )?;
    let pip = Command::new(&python)
        .args(["-m", "pip", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("starting {}", python.display()))?;
    ensure!(
        pip.success(),
        "{} has no pip, which fetches libtorch (Debian, Ubuntu: apt-get install python3-pip; \
         Fedora: dnf install python3-pip; elsewhere: python3 -m ensurepip --user), or set LIBTORCH",
        python.display()
    );
    Ok(python)
}

/// That the user's PyTorch is of version `expected` (`LIBTORCH_USE_PYTORCH`).
///
/// # Errors
/// When Python or PyTorch is missing or of another version, unless
/// `LIBTORCH_BYPASS_VERSION_CHECK` is set.
pub(crate) fn pytorch(expected: &str) -> Result<()> {
    // The interpreter that torch-sys asks.
    let python = if env::var_os("VIRTUAL_ENV").is_some() {
        "python"
    } else {
        "python3"
    };
    let asked = Command::new(python)
        .args([
            "-c",
            "import importlib.metadata; print(importlib.metadata.version('torch'))",
        ])
        .output()
        .with_context(|| format!("LIBTORCH_USE_PYTORCH is set, but {python} does not start"))?;
    let version = String::from_utf8_lossy(&asked.stdout);
    let version = version.trim().split('+').next().unwrap_or_default();
    ensure!(
        asked.status.success(),
        "LIBTORCH_USE_PYTORCH is set, but {python} has no torch: \
         {python} -m pip install torch=={expected}, or unset LIBTORCH_USE_PYTORCH"
    );
    ensure!(
        version == expected || env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some(),
        "LIBTORCH_USE_PYTORCH is set, but the torch of {python} is {version}: {python} -m pip install \
         torch=={expected}, or unset LIBTORCH_USE_PYTORCH"
    );
    Ok(())
}

/// That `folder`, which exists, has `needed` bytes to spare.
///
/// # Errors
/// When it has not, or its file system cannot be asked.
pub(crate) fn space(folder: &Path, needed: u64) -> Result<()> {
    let found = nix::sys::statvfs::statvfs(folder)
        .with_context(|| format!("asking for the free space of {}", folder.display()))?;
    #[allow(
        clippy::useless_conversion,
        reason = "these are 32 bits wide on some systems"
    )]
    let available = u64::from(found.blocks_available()) * u64::from(found.fragment_size());
    enough_space(folder, available, needed)
}

fn enough_space(folder: &Path, available: u64, needed: u64) -> Result<()> {
    ensure!(
        available >= needed,
        "no space: {} has {} MiB free and set-up needs {} MiB there; free some, or set EKYA_CACHE to a \
         folder on another disk",
        folder.display(),
        available / MIB,
        needed.div_ceil(MIB)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with a shell script `name` in it. A child writes it: were the file open for writing
    /// here while another test starts a process, it could not be started itself ("text file busy").
    fn folder_with(name: &str, script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
        let file = dir.path().join(name);
        let written = Command::new("sh")
            .arg("-c")
            .arg(write)
            .arg(file)
            .arg(script)
            .status()
            .unwrap();
        assert!(written.success());
        dir
    }

    #[test]
    fn only_executable_files_are_programs() {
        let dir = folder_with("tool", "");
        fs::write(dir.path().join("text"), "").unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        let path = env::join_paths([Path::new("/none"), dir.path()]).unwrap();
        assert_eq!(find_program("tool", &path), Some(dir.path().join("tool")));
        assert_eq!(find_program("text", &path), None);
        assert_eq!(find_program("folder", &path), None);
    }

    #[test]
    fn a_missing_compiler_is_named_with_a_way_to_get_it() {
        let dir = folder_with("c++", "");
        cxx_compiler(None, dir.path().as_os_str()).unwrap();
        cxx_compiler(Some(OsStr::new("clang++")), OsStr::new("")).unwrap();
        for cxx in [None, Some(OsStr::new(""))] {
            let error = cxx_compiler(cxx, OsStr::new("/none"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("apt-get install g++") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn missing_python_and_missing_pip_are_told_apart() {
        let error = python_with_pip(OsStr::new("/none"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no python3"), "{error}");
        let dir = folder_with("python3", "exit 1");
        let error = python_with_pip(dir.path().as_os_str())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("has no pip") && !error.contains('\n'),
            "{error}"
        );
        let dir = folder_with("python3", "exit 0");
        assert_eq!(
            python_with_pip(dir.path().as_os_str()).unwrap(),
            dir.path().join("python3")
        );
    }

    #[test]
    fn another_platform_is_sent_to_libtorch() {
        platform("linux", "x86_64", true).unwrap();
        for (os, architecture, glibc) in [
            ("linux", "aarch64", true),
            ("macos", "x86_64", false),
            ("linux", "x86_64", false),
        ] {
            let error = platform(os, architecture, glibc).unwrap_err().to_string();
            assert!(
                error.contains("set LIBTORCH") && error.contains(architecture),
                "{error}"
            );
        }
    }

    #[test]
    fn too_little_space_says_how_much_is_needed_and_where() {
        let folder = Path::new("/cache");
        enough_space(folder, 2 * MIB, 2 * MIB).unwrap();
        let error = enough_space(folder, 2 * MIB, 2 * MIB + 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/cache has 2 MiB free and set-up needs 3 MiB"),
            "{error}"
        );
        assert!(space(&env::temp_dir(), u64::MAX).is_err());
        space(&env::temp_dir(), 0).unwrap();
    }
}
