//! Random faults on three nodes: runs the test of that name, which the others leave out.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::run;

/// Which faults, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Which faults, in which order: the same seed, the same schedule.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For how long new ones begin.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Write what came of each fault to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// When something was not well again after a fault.
pub(crate) fn chaos(options: &Options) -> Result<ExitCode> {
    let mut command = run::cargo(["test", "--package", "ekya", "--test", "chaos"]);
    command.args(["--", "--ignored", "--nocapture"]);
    command.env("EKYA_CHAOS_SEED", options.seed.to_string());
    command.env("EKYA_CHAOS_MINUTES", options.minutes.to_string());
    if let Some(file) = &options.json {
        let file = std::path::absolute(file).with_context(|| file.display().to_string())?;
        command.env("EKYA_CHAOS_JSON", file);
    }
    run::must_pass(&mut command, "the same seed repeats the faults")?;
    Ok(ExitCode::SUCCESS)
}
