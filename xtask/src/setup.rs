//! Set-up: after it, plain cargo commands find libtorch, and `ekya` finds ffmpeg.
//!
//! It is quick when there is nothing to do, for every task that builds starts with it.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cache::Cache;
use crate::environment::{self, Libtorch, Variables};
use crate::package::Package;
use crate::{ffmpeg, libtorch, machine};

/// Left free when space is asked for: folders, journals, rounding to blocks.
const SPARE_BYTES: u64 = 64 << 20;

/// Brings what is missing and says in one line each what will be used.
///
/// # Errors
/// In one line, what is missing and how to get it.
pub(crate) fn set_up() -> Result<()> {
    let root = root();
    let path = machine::search_path();
    let whose = environment::decide(&Variables::of_process(), &root)?;
    let own_ffmpeg = ffmpeg::of_user(env::var_os("EKYA_FFMPEG").as_deref(), &path)?;
    machine::cxx_compiler(env::var_os("CXX").as_deref(), &path)?;

    match &whose {
        Libtorch::Project => {}
        Libtorch::Folder(folder) => check_folder(folder)?,
        Libtorch::Python => machine::pytorch(libtorch::VERSION)?,
    }

    let mut wanted = Vec::new();
    if whose == Libtorch::Project {
        wanted.push(&libtorch::PACKAGE);
    }
    if own_ffmpeg.is_none() {
        wanted.push(&ffmpeg::PACKAGE);
    }
    let cache = Cache::of_user()?;
    install(&wanted, &cache)?;
    if whose == Libtorch::Project {
        link(
            &root.join(environment::LINK),
            &libtorch::PACKAGE.folder(&cache),
        )?;
    }

    let used = match whose {
        Libtorch::Project => libtorch::PACKAGE.folder(&cache).display().to_string(),
        Libtorch::Folder(folder) => format!("{} (LIBTORCH)", folder.display()),
        Libtorch::Python => "your Python's PyTorch (LIBTORCH_USE_PYTORCH)".to_owned(),
    };
    let ffmpeg = own_ffmpeg.unwrap_or_else(|| ffmpeg::PACKAGE.folder(&cache).join("ffmpeg"));
    eprintln!("libtorch: {used}");
    eprintln!("ffmpeg:   {}", ffmpeg.display());
    Ok(())
}

/// The checkout that this xtask was built in.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

fn install(wanted: &[&Package], cache: &Cache) -> Result<()> {
    if wanted.iter().all(|package| package.is_whole(cache)) {
        return Ok(());
    }
    machine::platform(env::consts::OS, env::consts::ARCH, cfg!(target_env = "gnu"))?;
    let locked = cache.lock()?;
    // Asked again: another checkout may have finished while this one waited.
    let missing: Vec<_> = wanted
        .iter()
        .filter(|package| !package.is_whole(cache))
        .collect();
    let needed: u64 = missing
        .iter()
        .map(|package| package.bytes_needed(cache))
        .sum();
    machine::space(cache.folder(), needed + SPARE_BYTES)?;
    missing
        .into_iter()
        .try_for_each(|package| package.install(&locked))
}

/// Makes the link `from` point to `to`, without a moment in which it points nowhere.
fn link(from: &Path, to: &Path) -> Result<()> {
    match fs::read_link(from) {
        Ok(found) if found == to => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => bail!(
            "{} is not the link that set-up makes: move it away",
            from.display()
        ),
    }
    // Of this process alone, so that two set-ups in one checkout do not meet.
    let fresh = from.with_extension(format!("new-{}", std::process::id()));
    symlink(to, &fresh)
        .and_then(|()| fs::rename(&fresh, from))
        .with_context(|| format!("linking {} to {}", from.display(), to.display()))
}

fn check_folder(folder: &Path) -> Result<()> {
    // Where torch-sys looks for the libraries.
    let lib = env::var_os("LIBTORCH_LIB")
        .map_or_else(|| folder.to_owned(), PathBuf::from)
        .join("lib");
    ensure!(
        lib.is_dir(),
        "LIBTORCH={} holds no libtorch ({} is not a folder): unset it to have one fetched",
        folder.display(),
        lib.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_made_kept_and_turned() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join(".libtorch");
        for to in ["/cache/a", "/cache/a", "/cache/b"] {
            link(&from, Path::new(to)).unwrap();
            assert_eq!(fs::read_link(&from).unwrap(), Path::new(to));
        }
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn a_folder_in_the_links_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join(".libtorch");
        fs::create_dir(&from).unwrap();
        let error = link(&from, Path::new("/cache/a")).unwrap_err().to_string();
        assert!(error.contains("move it away"), "{error}");
        assert!(from.is_dir());
    }

    #[test]
    fn an_empty_libtorch_folder_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = check_folder(dir.path()).unwrap_err().to_string();
        assert!(error.contains("holds no libtorch"), "{error}");
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(root().join(".cargo/config.toml").is_file());
    }
}
