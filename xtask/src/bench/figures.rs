//! What a bench of the workspace prints: one JSON document.

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::run;

/// Runs a bench and reads what it prints.
///
/// # Errors
/// When it does not build or run, or prints something else.
pub(super) fn figures(bench: &str, arguments: &[OsString]) -> Result<Value> {
    // The profile of everything else, so that nothing is built twice; it optimises.
    let mut command = run::cargo([
        "bench",
        "--workspace",
        "--profile",
        "dev",
        "--bench",
        bench,
        "--",
    ]);
    let output = command
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("the bench {bench} failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("what the bench {bench} printed"))
}

/// The number at a path of keys and indices; not a number where there is none.
pub(super) fn number(figures: &Value, path: &str) -> f64 {
    let found = path
        .split('/')
        .try_fold(figures, |value, key| match key.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(key),
        });
    found.and_then(Value::as_f64).unwrap_or(f64::NAN)
}
