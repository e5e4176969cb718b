//! Prepares the traffic crops for classification: unpacks the pictures and writes a manifest to
//! train a first student on, and one for each of three streams. Then, with `traffic_crops.toml`:
//!
//! ```text
//! cargo run --example traffic_crops -- --crops $EKYA_DATA/datasets/traffic_crops --out out/traffic_crops
//! cargo run --bin ekya -- train --manifest out/traffic_crops/first.csv --classes car,person,truck,bus,bicycle,motorcycle --out out/traffic_crops/first.safetensors
//! cargo run --bin ekya -- compare --config examples/traffic_crops.toml --out out/traffic_crops/runs
//! ```
//!
//! A stream shows one camera after the other, each in its own time order, as if it were moved: what
//! is seen, how it looks and how often changes with each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Deserialize;

/// Cameras of each manifest, one after the other: one to train a first student on, three streams.
const STREAMS: [(&str, &[&str]); 4] = [
    // The motorway that the first student knows; no stream shows it.
    ("first", &["bgs_video03"]),
    // Cars and buses on a motorway from above, then streets and junctions closer by.
    (
        "road",
        &["bgs_video02", "ckuhn_street", "otv_truck", "otv_cyclist"],
    ),
    // People and parked vans on a campus, then people and cars from other heights.
    (
        "campus",
        &["vtest", "ken_dos", "ken_ecuador", "intel_person"],
    ),
    // A street with nothing but cars, people on a campus, a motorway: the mix turns over twice.
    ("mixed", &["ahmetozlu_street", "vtest", "bgs_video02"]),
];

/// Seconds between the last crop of one camera and the first of the next.
const GAP_SECONDS: f64 = 1.0;

/// Prepares streams from the traffic crops.
#[derive(Parser)]
struct Args {
    /// Folder of the crops: `crops64.tar` and `labels.csv`.
    #[arg(long)]
    crops: PathBuf,
    /// Folder to write to; made when absent.
    #[arg(long)]
    out: PathBuf,
    /// Leaves out crops that the labelling model was less sure of.
    #[arg(long, default_value_t = 0.5)]
    min_score: f64,
}

/// One line of labels.csv; it has more columns.
#[derive(Clone, Deserialize)]
struct Crop {
    file: String,
    camera: String,
    t_s: f64,
    teacher_class: String,
    teacher_score: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    unpack(&args.crops.join("crops64.tar"), &args.out)?;
    let cameras = by_camera(&args.crops.join("labels.csv"), args.min_score)?;
    for (name, sequence) in STREAMS {
        let manifest = args.out.join(format!("{name}.csv"));
        let rows = one_after_the_other(&cameras, sequence)?;
        write(&manifest, &rows).with_context(|| format!("cannot write {}", manifest.display()))?;
        let labels = count_labels(&rows);
        println!("{}: {} crops, {labels}", manifest.display(), rows.len());
    }
    Ok(())
}

fn unpack(tar: &Path, to: &Path) -> Result<()> {
    let status = Command::new("tar")
        .arg("-xf")
        .arg(tar)
        .arg("-C")
        .arg(to)
        .status()
        .context("cannot run tar")?;
    ensure!(status.success(), "tar could not unpack {}", tar.display());
    Ok(())
}

fn by_camera(labels: &Path, min_score: f64) -> Result<BTreeMap<String, Vec<Crop>>> {
    let mut cameras: BTreeMap<String, Vec<Crop>> = BTreeMap::new();
    let mut reader = csv::Reader::from_path(labels)
        .with_context(|| format!("cannot read {}", labels.display()))?;
    for crop in reader.deserialize() {
        let crop: Crop = crop.with_context(|| format!("in {}", labels.display()))?;
        if crop.teacher_score >= min_score {
            cameras.entry(crop.camera.clone()).or_default().push(crop);
        }
    }
    Ok(cameras)
}

/// The crops of `sequence`, with times that go on from camera to camera.
fn one_after_the_other(
    cameras: &BTreeMap<String, Vec<Crop>>,
    sequence: &[&str],
) -> Result<Vec<Crop>> {
    let mut rows: Vec<Crop> = Vec::new();
    for camera in sequence {
        let crops = cameras.get(*camera);
        let mut crops = crops
            .with_context(|| format!("no crop of camera {camera}"))?
            .clone();
        crops.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
        let from = rows.last().map_or(0.0, |last| last.t_s + GAP_SECONDS);
        let first = crops.first().map_or(0.0, |crop| crop.t_s);
        crops.iter_mut().for_each(|crop| crop.t_s += from - first);
        rows.append(&mut crops);
    }
    Ok(rows)
}

fn write(manifest: &Path, rows: &[Crop]) -> Result<()> {
    let mut writer = csv::Writer::from_path(manifest)?;
    writer.write_record(["time", "image", "label", "camera"])?;
    for crop in rows {
        let time = format!("{:.3}", crop.t_s);
        writer.write_record([&time, &crop.file, &crop.teacher_class, &crop.camera])?;
    }
    writer.flush()?;
    Ok(())
}

fn count_labels(rows: &[Crop]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for crop in rows {
        *counts.entry(&crop.teacher_class).or_default() += 1;
    }
    format!("{counts:?}")
}
