//! Gives the binaries, tests and examples of `ekya` an rpath to libtorch.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Told by the build script of ekya-models; absent in a build without libtorch.
    if let Ok(rpath) = std::env::var("DEP_EKYA_MODELS_LIBTORCH_RPATH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{rpath}");
    }
}
