//! Devices: how well shares are kept by real minibatches in real worker processes, and what the
//! queue and the processes cost.
//!
//! Input is synthetic: random pictures, since what a minibatch costs does not depend on what it
//! shows. Shares are computed from the processor time that the kernel has counted for each worker,
//! not from the device's own ledger.
//!
//! Physical limit: what has begun its turn is let finish that, so that over a time of T a share is off
//! by at least about half a turn / T: .005 for turns of 10 ms in a second. A stop in the middle of a step
//! costs two signals and a wait, about .1 ms. Handing a minibatch to a process costs two wake-ups of a
//! thread; weights cost a copy into shared memory and one out of it.
//!
//! On a GPU (`--device cuda`) shares are left out, since the processor time of a worker says little
//! there; instead, eight students train side by side. Nothing of this has run on a GPU yet.
//!
//! Prints one JSON document; progress goes to stderr. `cargo xtask bench devices` runs it and puts the
//! figures beside their targets.

mod colocated;
mod inference;
mod jobs;
mod shares;
mod table;
mod throughput;
mod workers;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use ekya_models::Placement;
use serde_json::json;

/// Measures devices.
#[derive(Parser)]
struct Args {
    /// A third of it
    #[arg(long)]
    quick: bool,
    /// One part of it
    #[arg(long)]
    only: Option<Part>,
    /// Where students live
    #[arg(long, value_enum, default_value = "cpu")]
    device: Where,
    /// A table of all numbers in place of the JSON document
    #[arg(long)]
    table: bool,
    /// What `cargo bench` passes, and `cargo test` does not
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Workers,
    Throughput,
    Shares,
    Inference,
    /// Not among what runs by default on a CPU: side by side is for GPUs
    Colocated,
}

/// Where students live.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Where {
    Cpu,
    Cuda,
}

fn main() -> Result<()> {
    ekya::worker::serve_if_asked();
    let args = Args::parse();
    if !args.bench {
        eprintln!("not run: this takes minutes; `cargo xtask bench devices` runs it");
        return Ok(());
    }
    let on_gpu = args.device == Where::Cuda;
    if on_gpu {
        let best = Placement::best();
        anyhow::ensure!(best != Placement::Cpu, "libtorch sees no CUDA GPU");
        jobs::place(best);
    }
    let scale: u64 = if args.quick { 1 } else { 3 };
    let times = usize::try_from(scale)?;
    let part = |part, measure: &dyn Fn() -> Result<serde_json::Value>| {
        let by_default = match part {
            // They are computed from processor time.
            Part::Shares => !on_gpu,
            Part::Colocated => on_gpu,
            _ => true,
        };
        let wanted = args.only.map_or(by_default, |only| only == part);
        wanted.then(measure).transpose()
    };
    let document = json!({
        "workers": part(Part::Workers, &|| workers::measure(3 * times))?,
        "throughput": part(Part::Throughput, &|| throughput::measure(40 * times))?,
        "shares": part(Part::Shares, &|| shares::measure(10 * scale))?,
        "inference": part(Part::Inference, &|| inference::measure(10 * scale))?,
        "colocated": part(Part::Colocated, &colocated::measure)?,
    });
    if args.table {
        print!("{}", table::table(&document));
    } else {
        println!("{document}");
    }
    Ok(())
}
