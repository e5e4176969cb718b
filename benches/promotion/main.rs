//! Are better students promoted, and only those? And what does a promotion cost the frames?
//!
//! `cargo xtask bench promotion` runs this and puts the figures beside their targets. Here are the
//! measurements alone: one JSON document on stdout, a chart in the folder `--out`, progress on stderr.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ekya::report::chart::GateChart;
use ekya::write::write_atomically;
use serde::Serialize;

mod retrainings;
mod spoil;
mod streams;
mod swaps;
mod witness;

use retrainings::{Retrained, Stretch};
use spoil::Kind;
use swaps::Swaps;

/// Measures the gate and the swap.
#[derive(Parser)]
struct Args {
    /// Folder that the example traffic_crops has filled, with a first student in it.
    #[arg(long, value_name = "FOLDER")]
    crops: Option<PathBuf>,
    /// Folder for promotion.svg: measured gains against true ones.
    #[arg(long, value_name = "FOLDER", default_value = "out/bench")]
    out: PathBuf,
    /// About a fifth of it.
    #[arg(long)]
    quick: bool,
    /// What `cargo bench` passes, and `cargo test` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Document {
    retrainings: Vec<Retrained>,
    swaps: Swaps,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        eprintln!("not run: this takes minutes; `cargo xtask bench promotion` runs it");
        return Ok(());
    }
    ekya_models::set_compute_threads(1);
    let swaps = swaps::measure(if args.quick { 4 } else { 20 })?;
    let mut retrainings = Vec::new();
    for stream in streams::all(args.crops.as_deref(), args.quick)? {
        retrainings.extend(Stretch::of(stream?)?.retrain_round_by_round()?);
    }
    fs::create_dir_all(&args.out)?;
    let picture = args.out.join("promotion.svg");
    write_atomically(&picture, chart(&retrainings).svg()?.as_bytes())?;
    let document = Document { retrainings, swaps };
    println!("{}", serde_json::to_string(&document)?);
    Ok(())
}

fn chart(retrainings: &[Retrained]) -> GateChart {
    let of = |kind: Kind| {
        let marks = retrainings.iter().filter(|one| one.kind == kind);
        let marks = marks.filter_map(Retrained::mark).collect();
        (kind.name().to_owned(), marks)
    };
    GateChart {
        title: "Measured gain of retrained students against their true gain".to_owned(),
        kinds: Kind::ALL.map(of).to_vec(),
    }
}
