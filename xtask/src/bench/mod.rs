//! Benches: each runs something and gives rows of one form ([`row`]); here they are printed and
//! written. Nothing fails because something is slow: a target that is missed is marked.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

mod actors;
mod fit;
mod profiler;
mod promotion;
mod row;
mod sched;

use row::Row;

/// What to time.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The actors: asks and payloads beside bare actix and bare quinn.
    Actors(Options),
    /// The schedulers of ekya-sched: time, memory and growth of a plan.
    Sched(Options),
    /// The profiler: predictions beside retrainings that are really done, on scenes and, where
    /// EKYA_DATA is set, on real traffic crops.
    Profiler(Options),
    /// The gate and the swap: which retrained students are promoted, and what that costs the frames.
    Promotion(Options),
}

/// How to time it.
#[derive(Args)]
pub(crate) struct Options {
    /// Write the rows of the table to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Less of it: only what has a target, or fewer repetitions.
    #[arg(long)]
    quick: bool,
}

/// Runs a bench.
///
/// # Errors
/// When something cannot be built, started or read, or the file not written.
pub(crate) fn bench(bench: &Bench) -> Result<ExitCode> {
    let (rows, options) = match bench {
        Bench::Actors(options) => (actors::rows(options.quick)?, options),
        Bench::Sched(options) => (sched::rows(options.quick)?, options),
        Bench::Profiler(options) => (profiler::rows(options.quick)?, options),
        Bench::Promotion(options) => (promotion::rows(options.quick)?, options),
    };
    print!("{}", row::table(&rows));
    if let Some(file) = &options.json {
        write(&rows, file)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(rows: &[Row], file: &PathBuf) -> Result<()> {
    let mut text = serde_json::to_string_pretty(rows).context("rows as JSON")?;
    text.push('\n');
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
