//! Runs configurations under several schedulers, one after another, and reports what came out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use ekya::config::{SchedulerConfig, ValidConfig};
use ekya::node::{self, RunOptions};
use ekya::record::RunRecord;
use ekya::report::{self, Report};
use ekya::source::StopFlag;

/// A configuration and the schedulers to run it under.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    /// What to run; its own scheduler does not count.
    pub(crate) config: ValidConfig,
    /// Who decides, run by run.
    pub(crate) schedulers: Vec<SchedulerConfig>,
    /// Name of the load, where several are compared.
    pub(crate) load: Option<String>,
}

/// Runs everything, each run on the idle machine after the one before it, writes the records and
/// the report to `out`, and prints the table. After an interruption the runs that are complete are
/// reported. Nothing is kept: no run may continue from what another has learnt.
///
/// # Errors
/// When a run cannot start or `out` cannot be written.
pub(crate) fn run(comparisons: Vec<Comparison>, out: &Path, stop: &StopFlag) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let total = comparisons.iter().map(|one| one.schedulers.len()).sum();
    let mut report = Report::default();
    let all = comparisons.iter().flat_map(|one| {
        one.schedulers
            .iter()
            .map(move |scheduler| (one, *scheduler))
    });
    for (number, (comparison, scheduler)) in all.enumerate() {
        if stop.is_set() {
            break;
        }
        let config = comparison.config.clone().with(|config| {
            config.run.scheduler = scheduler;
            config.run.state = None;
            config.cluster = None;
            // They are for those who wait for results, not for trials.
            config.outputs.clear();
        })?;
        let title = title(comparison, scheduler, number + 1, total);
        let record = run_one(
            &config,
            &title,
            &out.join("runs").join(folder(comparison, scheduler)),
            stop,
        )?;
        eprintln!("{title}: {}", describe(&record));
        if record.complete {
            report.records.push((comparison.load.clone(), record));
        }
    }
    if report.records.is_empty() {
        eprintln!("interrupted before the first run was complete: nothing to report");
        return Ok(());
    }
    report.write(out)?;
    println!("{}", report::Comparison::of(&report.summary()?).to_text());
    println!("report: {}", out.join("report.html").display());
    Ok(())
}

fn run_one(config: &ValidConfig, title: &str, out: &Path, stop: &StopFlag) -> Result<RunRecord> {
    let bar = Arc::new(progress_bar(config.run.windows, title));
    let shown = bar.clone();
    let options = RunOptions::new()
        .out(out)
        .stop(stop.clone())
        .on_window(move |done| shown.set_position(done as u64));
    let record = node::run(config, options);
    bar.finish_and_clear();
    record.with_context(|| title.to_owned())
}

fn progress_bar(windows: usize, title: &str) -> ProgressBar {
    let bar = ProgressBar::new(windows as u64).with_message(title.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} window {pos}/{len} {elapsed}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn title(
    comparison: &Comparison,
    scheduler: SchedulerConfig,
    number: usize,
    total: usize,
) -> String {
    let seed = comparison.config.run.seed;
    let load = comparison
        .load
        .as_ref()
        .map_or_else(String::new, |load| format!(", load {load}"));
    format!("[{number}/{total}] {scheduler}, seed {seed}{load}")
}

fn folder(comparison: &Comparison, scheduler: SchedulerConfig) -> String {
    let load = comparison
        .load
        .as_ref()
        .map_or_else(String::new, |load| format!("{load}-"));
    format!(
        "{load}seed{}-{}",
        comparison.config.run.seed,
        scheduler.to_string().replace(':', "-")
    )
}

/// One line about a run.
#[must_use]
pub(crate) fn describe(record: &RunRecord) -> String {
    let known: Vec<f64> = record
        .streams
        .iter()
        .filter_map(|stream| stream.true_accuracy.or(stream.measured_accuracy))
        .collect();
    let accuracy = if known.is_empty() {
        "accuracy not measured".to_owned()
    } else {
        format!(
            "mean accuracy {:.3}",
            known.iter().sum::<f64>() / known.len() as f64
        )
    };
    let retrainings: Vec<bool> = record
        .windows
        .iter()
        .flat_map(|window| window.streams.iter().flat_map(|stream| &stream.retrainings))
        .map(|retraining| retraining.promoted)
        .collect();
    let promoted = retrainings.iter().filter(|promoted| **promoted).count();
    let dropped: u64 = record
        .streams
        .iter()
        .map(|stream| stream.frames.dropped)
        .sum();
    let arrived: u64 = record
        .streams
        .iter()
        .map(|stream| stream.frames.arrived)
        .sum();
    format!(
        "{accuracy}, {} retrainings, {promoted} promoted, {arrived} frames, {dropped} dropped{}",
        retrainings.len(),
        if record.complete {
            ""
        } else {
            " (interrupted)"
        },
    )
}
