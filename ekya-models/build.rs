//! Gives this crate's tests an rpath to libtorch, and passes it on to dependants' build scripts as
//! `DEP_EKYA_MODELS_LIBTORCH_RPATH`: link arguments of torch-sys reach only its own targets.
//!
//! Builds the C++ file that asks libtorch about GPUs, where libtorch's headers are (`cfg(ekya_gpu)`).

use std::fs;
use std::path::Path;

const SHIM: &str = "src/gpu/shim.cpp";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SHIM}");
    println!("cargo:rustc-check-cfg=cfg(ekya_gpu)");
    // Told by torch-sys, whose `links` is "tch"; absent in a build without libtorch.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    build_shim(Path::new(&lib));
    // First the folder that the checkout's link leads to now, so that a binary survives being moved;
    // then the link itself, so that it survives that folder being moved (another cache).
    let rpath = match fs::canonicalize(&lib) {
        Ok(real) if real.as_os_str() != lib.as_str() => format!("{}:{lib}", real.display()),
        _ => lib,
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{rpath}");
    println!("cargo:libtorch_rpath={rpath}");
}

/// The headers lie beside the libraries, in a libtorch as in Python's PyTorch.
fn build_shim(lib: &Path) {
    let Some(include) = lib.parent().map(|libtorch| libtorch.join("include")) else {
        return;
    };
    if !include.join("c10/core/CachingDeviceAllocator.h").exists() {
        println!("cargo:warning=no headers of libtorch beside its libraries: GPUs without streams");
        return;
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(include)
        .file(SHIM)
        .compile("ekya_gpu");
    println!("cargo:rustc-cfg=ekya_gpu");
}
