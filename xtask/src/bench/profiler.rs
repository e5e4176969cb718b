//! The bench of the profiler, `benches/profiler.rs`: prepares the real crops where there are some,
//! runs it, and puts what it measured beside what it should be.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::figures::figures;
use super::row::Row;
use crate::run;

/// Where the bench leaves its table and chart.
const OUT: &str = "out/bench";

/// Predictions beside retrainings that were really done.
///
/// # Errors
/// When something does not build or run, or says what cannot be read.
pub(super) fn rows(quick: bool) -> Result<Vec<Row>> {
    let mut arguments: Vec<OsString> = ["--out", OUT].map(Into::into).into();
    if quick {
        arguments.push("--quick".into());
    }
    match crops()? {
        Some(crops) => arguments.extend(["--crops".into(), crops.into_os_string()]),
        None => eprintln!("EKYA_DATA is not set: without the real traffic crops"),
    }
    let figures = figures("profiler", &arguments)?;
    let number = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
    let percent = |name: &str| number(name) * 100.0;
    eprintln!("{OUT}/profiler.csv: every prediction; {OUT}/profiler.svg: whether intervals hold");
    Ok(vec![
        Row::new("outcomes".into(), number("outcomes"), "").at_least(100.0),
        Row::new("median_error".into(), percent("median_error"), "points").at_most(4.0),
        Row::new("mean_error".into(), percent("mean_error"), "points"),
        Row::new("spearman".into(), number("spearman"), "").at_least(0.6),
        Row::new("regret".into(), percent("regret"), "points").at_most(1.5),
        Row::new(
            "cost_of_training_everything".into(),
            percent("cost_of_training_everything"),
            "%",
        )
        .at_most(3.0),
        Row::new("held_by_80%_intervals_low".into(), percent("coverage"), "%").at_least(70.0),
        Row::new(
            "held_by_80%_intervals_high".into(),
            percent("coverage"),
            "%",
        )
        .at_most(90.0),
        Row::new(
            "median_cost_error".into(),
            percent("median_cost_error"),
            "%",
        )
        .at_most(10.0),
    ])
}

/// The folder of the real crops, unpacked, with a first student for them; `None` without EKYA_DATA.
///
/// # Errors
/// When they cannot be unpacked or the student not be trained.
pub(super) fn crops() -> Result<Option<PathBuf>> {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        return Ok(None);
    };
    let out = Path::new("out/traffic_crops");
    let student = out.join("first.safetensors");
    if !student.exists() {
        let crops = Path::new(&data).join("datasets/traffic_crops");
        let unpack = ["run", "--example", "traffic_crops", "--"];
        let mut command = run::cargo(unpack);
        succeed(command.arg("--crops").arg(crops).arg("--out").arg(out))?;
        let train = ["run", "--bin", "ekya", "--", "train"];
        let classes = "car,person,truck,bus,bicycle,motorcycle";
        let mut command = run::cargo(train);
        command.arg("--manifest").arg(out.join("first.csv"));
        succeed(
            command
                .args(["--classes", classes])
                .arg("--out")
                .arg(&student),
        )?;
    }
    Ok(Some(out.to_owned()))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("starting {command:?}"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("{command:?} failed: {status}")
    }
}
