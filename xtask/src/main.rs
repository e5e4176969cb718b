//! `cargo xtask …`: one command for each thing that is done to the workspace.
//!
//! - [`setup`] brings what a checkout needs and a Rust toolchain lacks (libtorch, ffmpeg): it asks
//!   [`environment`] whose libtorch is meant, [`machine`] what is missing, and has [`package`] fetch
//!   ([`wheel`]) and unpack into the cache ([`cache`]).
//! - [`run`] calls cargo for the demo, the tests and the checks; [`summary`] counts what the tests said.
//! - [`api`] lists the public API, so that a change of it is meant.
//! - [`chaos`] has three nodes go through random faults.
//! - [`soak`] runs what takes longer than the tests may.
//! - [`mod@bench`] times things and puts what came out beside what it should be.
//!
//! **Invariant:** nothing here links libtorch or depends on another crate of the workspace, so that
//! set-up runs on a machine that has neither.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod api;
mod bench;
mod cache;
mod chaos;
mod digest;
mod environment;
mod ffmpeg;
mod libtorch;
mod machine;
mod package;
mod run;
mod setup;
mod soak;
mod summary;
mod wheel;

const AFTER_HELP: &str = "\
First steps:
  cargo xtask demo     fetch what is missing, build, and compare schedulers on four drifting streams
  cargo xtask test     fetch what is missing, build, and run all tests
Afterwards plain `cargo build`, `cargo test` and `cargo run --example NAME` work too.

Environment:
  EKYA_CACHE            folder for what is fetched [else $XDG_CACHE_HOME/ekya, else ~/.cache/ekya]
  LIBTORCH              your own libtorch 2.11.0 (an absolute path): none is fetched
  LIBTORCH_USE_PYTORCH  1: use the PyTorch 2.11.0 of the python3 on the PATH: none is fetched
  EKYA_FFMPEG           your own ffmpeg, when it is not on the PATH: none is fetched
  EKYA_DATA             folder of real data for the tests that want some; they are skipped without";

/// Set-up, demo, tests and checks of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = AFTER_HELP, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch libtorch and ffmpeg where missing (about 600 MB, once) and link this checkout to them.
    Setup,
    /// Run the main job: four drifting streams under each scheduler, a table and a report.
    ///
    /// Sets up, builds, and runs `ekya demo` with the arguments given here.
    /// `cargo xtask demo -- --help` lists them.
    Demo(Passed),
    /// Run all tests of the workspace and summarise.
    ///
    /// Sets up, and runs `cargo test --workspace` with the arguments given here,
    /// such as `-p ekya-sched` or a part of a test's name.
    Test(Passed),
    /// Run a long test by its name.
    Soak {
        /// Which one.
        name: soak::Soak,
        /// Length of `devices`, `membership` and `memory`.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        minutes: u64,
    },
    /// Run three nodes through random faults, and check that all is well after each.
    ///
    /// Kills, stops, cuts off, delays, loses packets, fills disks (that as root only). Everything stays on
    /// the loopback.
    Chaos(chaos::Options),
    /// Time a part of the product and print a table.
    ///
    /// Builds what is timed, and nothing else; progress goes to stderr.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Compare the public API of the library with docs/public-api.txt.
    Api {
        /// Write it there instead.
        #[arg(long)]
        write: bool,
    },
    /// Check format, lints and documentation; writes nothing in the sources.
    Check,
    /// Format the sources and apply what the lints suggest.
    Fix,
    /// Train the weights of the scene's students and teacher that are committed.
    ///
    /// Sets up, builds, and runs `ekya train-scene` with the arguments given here.
    /// `cargo xtask train-scene -- --help` lists them.
    TrainScene(Passed),
}

/// Arguments handed on as they are.
#[derive(clap::Args)]
struct Passed {
    /// Handed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Task {
    /// The schedulers and the nodes are built without libtorch, and sources can be read without it.
    const fn needs_setup(&self) -> bool {
        match self {
            Self::Bench(bench) => !matches!(bench, bench::Bench::Sched(_)),
            Self::Soak { name, .. } => name.needs_setup(),
            Self::Api { .. } => false,
            _ => true,
        }
    }
}

fn main() -> ExitCode {
    match execute(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(task: Task) -> Result<ExitCode> {
    if task.needs_setup() {
        setup::set_up()?;
    }
    match task {
        Task::Setup => Ok(ExitCode::SUCCESS),
        Task::Demo(passed) => run::ekya("demo", &passed.arguments),
        Task::Test(passed) => run::test(&passed.arguments),
        Task::Soak { name, minutes } => soak::soak(name, minutes),
        Task::Chaos(options) => chaos::chaos(&options),
        Task::Bench(bench) => bench::bench(&bench),
        Task::Api { write } => api::api(write),
        Task::Check => run::check(),
        Task::Fix => run::fix(),
        Task::TrainScene(passed) => run::ekya("train-scene", &passed.arguments),
    }
}
