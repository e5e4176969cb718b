//! Whose libtorch the build is to use: the project's own, or one that the user names.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Name of the link in a checkout that `.cargo/config.toml` gives as the default `LIBTORCH`.
pub(crate) const LINK: &str = ".libtorch";

/// Where libtorch comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Libtorch {
    /// The project's: fetched into the cache, linked from the checkout.
    Project,
    /// A folder that the user named in `LIBTORCH`.
    Folder(PathBuf),
    /// The PyTorch of the user's Python (`LIBTORCH_USE_PYTORCH`).
    Python,
}

/// The variables that decide it, as torch-sys' build script reads them.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// `LIBTORCH`.
    pub(crate) libtorch: Option<OsString>,
    /// `LIBTORCH_USE_PYTORCH`. torch-sys asks only whether it is set, so `0` means yes there too.
    pub(crate) use_pytorch: Option<OsString>,
}

impl Variables {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        Self {
            libtorch: env::var_os("LIBTORCH"),
            use_pytorch: env::var_os("LIBTORCH_USE_PYTORCH"),
        }
    }
}

/// Decides whose libtorch is meant in the checkout at `root`.
///
/// Cargo sets `LIBTORCH` for xtask from `.cargo/config.toml`, so the project's default is told from
/// a user's wish by its path. `LIBTORCH_USE_PYTORCH` comes first, as in torch-sys.
///
/// # Errors
/// A `LIBTORCH` that no build script could use: empty, or relative (each script runs in another folder).
pub(crate) fn decide(variables: &Variables, root: &Path) -> Result<Libtorch> {
    if variables.use_pytorch.is_some() {
        return Ok(Libtorch::Python);
    }
    match variables.libtorch.as_deref().map(Path::new) {
        None => Ok(Libtorch::Project),
        Some(path) if is_default(path, root) => Ok(Libtorch::Project),
        Some(path) if path.as_os_str().is_empty() => {
            bail!("LIBTORCH is set but empty: unset it, or name the folder of a libtorch 2.11.0")
        }
        Some(path) if path.is_relative() => {
            bail!(
                "LIBTORCH={} is relative: name the folder by its absolute path",
                path.display()
            )
        }
        Some(path) => Ok(Libtorch::Folder(path.to_owned())),
    }
}

/// Whether `path` is the default of the checkout at `root`, under whatever name the checkout is reached.
pub(crate) fn is_default(path: &Path, root: &Path) -> bool {
    if path == root.join(LINK) {
        return true;
    }
    let same_folder =
        |a: &Path| matches!((a.canonicalize(), root.canonicalize()), (Ok(a), Ok(b)) if a == b);
    path.file_name().is_some_and(|name| name == LINK) && path.parent().is_some_and(same_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(libtorch: Option<&str>, use_pytorch: Option<&str>) -> Result<Libtorch> {
        let variables = Variables {
            libtorch: libtorch.map(Into::into),
            use_pytorch: use_pytorch.map(Into::into),
        };
        decide(&variables, Path::new("/src/ekya"))
    }

    #[test]
    fn the_projects_default_is_not_taken_for_the_users() {
        assert_eq!(decided(None, None).unwrap(), Libtorch::Project);
        assert_eq!(
            decided(Some("/src/ekya/.libtorch"), None).unwrap(),
            Libtorch::Project
        );
    }

    #[test]
    fn a_users_folder_wins_even_if_it_is_another_checkouts_link() {
        for folder in [
            "/opt/libtorch",
            "/src/other/.libtorch",
            "/src/ekya/libtorch",
        ] {
            assert_eq!(
                decided(Some(folder), None).unwrap(),
                Libtorch::Folder(folder.into())
            );
        }
    }

    #[test]
    fn pytorch_wins_over_any_folder_as_in_torch_sys() {
        for libtorch in [
            None,
            Some("/src/ekya/.libtorch"),
            Some("/opt/libtorch"),
            Some(""),
        ] {
            for value in ["1", "0", ""] {
                assert_eq!(decided(libtorch, Some(value)).unwrap(), Libtorch::Python);
            }
        }
    }

    #[test]
    fn a_folder_that_no_build_script_could_use_is_refused() {
        for (value, word) in [
            ("", "empty"),
            ("libtorch", "absolute"),
            (".libtorch", "absolute"),
        ] {
            let error = decided(Some(value), None).unwrap_err().to_string();
            assert!(
                error.contains("LIBTORCH") && error.contains(word),
                "{error}"
            );
        }
    }

    #[test]
    fn the_default_is_known_under_another_name_of_the_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let (root, alias) = (dir.path().join("ekya"), dir.path().join("alias"));
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&root, &alias).unwrap();
        assert!(is_default(&alias.join(LINK), &root));
        assert!(!is_default(&dir.path().join(LINK), &root));
    }
}
