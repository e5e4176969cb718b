//! Gives this crate's tests an rpath to libtorch, and passes the folder on to dependants' build scripts
//! as `DEP_EKYA_MODELS_LIBTORCH_LIB`: link arguments of torch-sys reach only its own targets.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        // The link in the checkout is resolved, so that a binary survives being moved.
        let lib = std::fs::canonicalize(&lib).map_or(lib, |path| path.display().to_string());
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo:libtorch_lib={lib}");
    }
}
