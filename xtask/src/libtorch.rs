//! The project's libtorch: the CPU half of PyTorch's wheel, which needs neither Python nor a GPU.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::package::Package;
use crate::wheel::Wheel;

/// The version that tch insists on.
pub(crate) const VERSION: &str = "2.11.0";

/// libtorch for the CPU.
pub(crate) const PACKAGE: Package = Package {
    name: "libtorch-2.11.0-cpu",
    edition: 1,
    wheels: &[
        Wheel {
            project: "nvidia-cuda-runtime",
            version: "13.0.96",
            file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            platform: "manylinux2014_x86_64",
            sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
            bytes: 2_243_632,
        },
        Wheel {
            project: "nvidia-cuda-cupti",
            version: "13.0.85",
            file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
            platform: "manylinux_2_25_x86_64",
            sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
            bytes: 10_715_597,
        },
        Wheel {
            project: "torch",
            version: VERSION,
            file: "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            platform: "manylinux_2_28_x86_64",
            sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
            bytes: 530_604_548,
        },
    ],
    // 496 MB in 9,400 files, most of them smaller than a block.
    bytes: 560_000_000,
    pick,
    finish,
};

/// The headers, and the libraries that `libtorch_cpu.so` needs: it was built with CUDA's profiler in it.
fn pick(name: &str) -> Option<PathBuf> {
    if let Some(header) = name.strip_prefix("torch/include/") {
        return Some(Path::new("include").join(header));
    }
    let (folder, library) = name.rsplit_once('/')?;
    let wanted = match folder {
        "torch/lib" => ["libc10.so", "libtorch_cpu.so", "libgomp.so.1"].contains(&library),
        "nvidia/cu13/lib" => ["libcudart.so.13", "libcupti.so.13"].contains(&library),
        _ => false,
    };
    wanted.then(|| Path::new("lib").join(library))
}

fn finish(folder: &Path) -> Result<()> {
    link_stub(&folder.join("lib"))?;
    // torch-sys reads the version here and refuses another.
    fs::write(folder.join("build-version"), format!("{VERSION}+cpu\n"))
        .context("writing build-version")
}

/// Links an empty `libtorch.so` that pulls in the CPU half; the wheel's own insists on the CUDA half.
fn link_stub(lib: &Path) -> Result<()> {
    let cc = env::var_os("CC")
        .filter(|cc| !cc.is_empty())
        .unwrap_or_else(|| OsString::from("cc"));
    let linked = Command::new(&cc)
        .args([
            "-shared",
            "-x",
            "c",
            "/dev/null",
            "-x",
            "none",
            "-o",
            "libtorch.so",
            "-L.",
        ])
        .args([
            "-Wl,--no-as-needed",
            "-ltorch_cpu",
            "-lc10",
            "-Wl,-rpath,$ORIGIN",
        ])
        .current_dir(lib)
        .output()
        .with_context(|| format!("starting {}, which links libtorch.so", cc.display()))?;
    let said = String::from_utf8_lossy(&linked.stderr);
    ensure!(
        linked.status.success(),
        "{} could not link libtorch.so: {}",
        cc.display(),
        said.trim().lines().last().unwrap_or("it gave no reason")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_the_cpu_libraries_are_picked() {
        let picked = |name| pick(name).map(|path| path.display().to_string());
        for (name, to) in [
            (
                "torch/include/torch/csrc/api/include/torch/torch.h",
                "include/torch/csrc/api/include/torch/torch.h",
            ),
            ("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
            ("nvidia/cu13/lib/libcupti.so.13", "lib/libcupti.so.13"),
        ] {
            assert_eq!(picked(name).as_deref(), Some(to));
        }
        for name in [
            "torch/lib/libtorch.so",
            "torch/lib/libtorch_cuda.so",
            "torch/__init__.py",
            "libc10.so",
        ] {
            assert_eq!(picked(name), None, "{name}");
        }
    }

    #[test]
    fn the_folder_is_named_after_the_version() {
        assert_eq!(PACKAGE.name, format!("libtorch-{VERSION}-cpu"));
    }

    #[test]
    fn a_stub_that_cannot_be_linked_is_an_error_in_one_line() {
        let empty = tempfile::tempdir().unwrap();
        let error = link_stub(empty.path()).unwrap_err().to_string();
        assert!(
            error.contains("could not link libtorch.so") && !error.contains('\n'),
            "{error}"
        );
    }
}
