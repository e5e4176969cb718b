//! Gives this crate's tests an rpath to libtorch, and passes it on to dependants' build scripts as
//! `DEP_EKYA_MODELS_LIBTORCH_RPATH`: link arguments of torch-sys reach only its own targets.

use std::fs;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Told by torch-sys, whose `links` is "tch"; absent in a build without libtorch.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    // First the folder that the checkout's link leads to now, so that a binary survives being moved;
    // then the link itself, so that it survives that folder being moved (another cache).
    let rpath = match fs::canonicalize(&lib) {
        Ok(real) if real.as_os_str() != lib.as_str() => format!("{}:{lib}", real.display()),
        _ => lib,
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{rpath}");
    println!("cargo:libtorch_rpath={rpath}");
}
