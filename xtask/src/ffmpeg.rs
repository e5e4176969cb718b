//! ffmpeg, for machines that have none: the static build that the wheel `imageio-ffmpeg` carries.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::machine;
use crate::package::Package;
use crate::wheel::Wheel;

/// ffmpeg; `ekya` looks for `ffmpeg-9.0.2/ffmpeg` in the cache by the same rules.
pub(crate) const PACKAGE: Package = Package {
    name: "ffmpeg-9.0.2",
    edition: 1,
    wheels: &[Wheel {
        project: "imageio-ffmpeg",
        version: "0.8.1",
        file: "imageio_ffmpeg-0.8.1-py3-none-manylinux_2_28_x86_64.whl",
        platform: "manylinux_2_28_x86_64",
        sha256: "050d6850601c3b3890bd2b28306f3b842b3daea390a561101174375a1c460bda",
        bytes: 67_998_402,
    }],
    bytes: 175_000_000,
    pick,
    finish: |_| Ok(()),
};

fn pick(name: &str) -> Option<PathBuf> {
    name.starts_with("imageio_ffmpeg/binaries/ffmpeg-")
        .then(|| PathBuf::from("ffmpeg"))
}

/// The ffmpeg that the user has: `$EKYA_FFMPEG` (`named`), else one in the folders of `path`.
///
/// # Errors
/// When `named` is no program.
pub(crate) fn of_user(named: Option<&OsStr>, path: &OsStr) -> Result<Option<PathBuf>> {
    match named.filter(|named| !named.is_empty()).map(Path::new) {
        Some(program) if machine::is_program(program) => Ok(Some(program.to_owned())),
        Some(other) => bail!(
            "EKYA_FFMPEG={} is no program: name an ffmpeg, or unset it",
            other.display()
        ),
        None => Ok(machine::find_program("ffmpeg", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_program_is_picked() {
        assert_eq!(
            pick("imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-v9.0.2"),
            Some("ffmpeg".into())
        );
        assert_eq!(pick("imageio_ffmpeg/binaries/README.md"), None);
    }

    #[test]
    fn a_users_ffmpeg_is_found_and_a_wrong_name_told() {
        let sh = OsStr::new("/bin/sh");
        let nowhere = OsStr::new("/none");
        assert_eq!(of_user(Some(sh), nowhere).unwrap(), Some(sh.into()));
        assert_eq!(of_user(None, nowhere).unwrap(), None);
        assert_eq!(of_user(Some(OsStr::new("")), nowhere).unwrap(), None);
        let error = of_user(Some(OsStr::new("/none/ffmpeg")), nowhere)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("EKYA_FFMPEG=/none/ffmpeg is no program"),
            "{error}"
        );
    }
}
