//! `ekya check`: whether a configuration makes sense, without running it.

use std::path::Path;

use anyhow::{Context as _, Result};
use ekya::config::Problem;
use serde::Serialize;

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict<'a> {
    file: &'a Path,
    /// None where something is wrong, as with `devices`.
    streams: Option<usize>,
    devices: Option<usize>,
    problems: Vec<Problem>,
}

/// Prints what there is to say.
///
/// # Errors
/// When something is wrong with it.
pub(crate) fn check(file: &Path, json: bool) -> Result<()> {
    let checked = crate::read(file);
    let config = checked.as_ref().ok();
    if json {
        let verdict = Verdict {
            file,
            streams: config.map(|config| config.streams.len()),
            devices: config.map(|config| config.devices.len()),
            problems: checked
                .as_ref()
                .err()
                .map_or_else(Vec::new, |error| error.problems()),
        };
        println!("{}", serde_json::to_string_pretty(&verdict)?);
    } else if let Some(config) = config {
        println!(
            "{}: {} streams on {} devices, fine",
            file.display(),
            config.streams.len(),
            config.devices.len()
        );
    }
    checked
        .map(drop)
        .with_context(|| file.display().to_string())
}
