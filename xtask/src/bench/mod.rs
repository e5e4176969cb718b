//! Benches: each runs something and gives rows of one form ([`row`]); here they are printed and
//! written. Nothing fails because something is slow: a target that is missed is marked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

mod actors;
mod cluster;
mod devices;
mod figures;
mod fit;
mod operations;
mod profiler;
mod promotion;
mod rivals;
mod row;
mod sched;

use rivals::Rivals;
use row::Row;

/// What to time.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The actors: asks and payloads beside bare actix and bare quinn, and beside Ray, kameo and ractor.
    Actors(ActorsOptions),
    /// Devices: how well shares are kept, what the queue and workers cost, inference beside training.
    Devices(Options),
    /// Several nodes: how long the leader plans and how much each says and hears, as nodes are added; and
    /// three real ones that are killed, cut off, stopped and restarted (not with --quick).
    Cluster(Options),
    /// A node from outside: latency of frames, eight cameras (where EKYA_DATA is set, not with --quick), the
    /// dashboard with 100 streams, a restart.
    Operations(Options),
    /// The schedulers of ekya-sched: time, memory and growth of a plan.
    Sched(Options),
    /// The profiler: predictions beside retrainings that are really done, on scenes and, where
    /// EKYA_DATA is set, on real traffic crops.
    Profiler(Options),
    /// The gate and the swap: which retrained students are promoted, and what that costs the frames.
    Promotion(Options),
}

/// How to time the actors.
#[derive(Args)]
pub(crate) struct ActorsOptions {
    #[command(flatten)]
    options: Options,
    /// Beside Ray, kameo and ractor as well, each between two processes; PYTHON has Ray.
    #[arg(long, value_name = "PYTHON")]
    rivals: Option<PathBuf>,
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

impl Bench {
    fn python_of_rivals(&self) -> Option<&Path> {
        match self {
            Self::Actors(actors) => actors.rivals.as_deref(),
            Self::Cluster(_)
            | Self::Devices(_)
            | Self::Operations(_)
            | Self::Sched(_)
            | Self::Profiler(_)
            | Self::Promotion(_) => None,
        }
    }
}

/// Runs a bench.
///
/// # Errors
/// When something cannot be built, started or read, or the file not written.
pub(crate) fn bench(bench: &Bench) -> Result<ExitCode> {
    // What is missing is told before anything takes time.
    let rivals = bench.python_of_rivals().map(Rivals::prepare).transpose()?;
    let (mut rows, options) = match bench {
        Bench::Actors(ActorsOptions { options, .. }) => (actors::rows(options.quick)?, options),
        Bench::Cluster(options) => (cluster::rows(options.quick)?, options),
        Bench::Devices(options) => (devices::rows(options.quick)?, options),
        Bench::Operations(options) => (operations::rows(options.quick)?, options),
        Bench::Sched(options) => (sched::rows(options.quick)?, options),
        Bench::Profiler(options) => (profiler::rows(options.quick)?, options),
        Bench::Promotion(options) => (promotion::rows(options.quick)?, options),
    };
    print!("{}", row::table(&rows));
    if let Some(rivals) = rivals {
        let comparison = rivals.compare(options.quick);
        print!("\n{}", comparison.table());
        rows.extend(comparison.rows());
    }
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
