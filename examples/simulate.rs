//! Simulates windows of a recorded trace under several schedulers. Needs no libtorch:
//!
//! ```text
//! cargo run --release --no-default-features --example simulate -- \\
//!     --trace traces/cityscapes.csv --inference-profile traces/inference_subsampling.csv:c1 \\
//!     --gpus 1,2,4,8 --scheduler none,uniform:0.5:best,thief,optimal --out out/simulate
//! ```

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ekya::simulate::{Row, Sweep, gpus_needed, table, write_files};
use ekya_sched::simulate::{
    Devices, PlanOn, Scenario, Start, Trace, inference_from_csv, throughput_from_csv,
};
use ekya_sched::{SCHEDULER_NAMES, Share, scheduler_by_name};
use indicatif::{ProgressBar, ProgressStyle};

/// Simulates windows of a recorded trace under several schedulers. Where several values are given,
/// separated by commas, all their combinations are simulated. Writes timeline.json (every window),
/// summary.csv and charts, and prints the summary.
#[derive(Parser)]
struct Args {
    /// CSV with the columns stream, window, start_accuracy, config, gpu_seconds, end_accuracy, and
    /// perhaps predicted_accuracy, startup_seconds, and what reuse:LIKENESS compares: hour, objects,
    /// location_x, location_y, class_…
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// CSV for reuse:LIKENESS: stream, window, from_stream, from_window, and the accuracy that a
    /// student of those has there
    #[arg(long, value_name = "FILE")]
    reuse: Option<PathBuf>,
    /// CSV: every n-th frame, and columns with what is left of the accuracy then
    #[arg(long, value_name = "FILE[:COLUMN]")]
    inference_profile: String,
    /// Share of a GPU with which a student answers every frame
    #[arg(long, default_value_t = 0.25)]
    student_share: f64,
    /// CSV: percent of a GPU, and seconds that a retraining takes; linear without
    #[arg(long, value_name = "FILE")]
    throughput: Option<PathBuf>,
    /// Numbers of GPUs
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    gpus: Vec<u32>,
    /// No job may span GPUs; without, they are one large device as in the paper's simulator
    #[arg(long)]
    separate: bool,
    /// Numbers of streams; those of the trace without, more repeat it
    #[arg(long, value_delimiter = ',')]
    streams: Vec<usize>,
    /// How many windows; those of the trace without, more repeat it
    #[arg(long)]
    windows: Option<usize>,
    /// Lengths of a window, in seconds
    #[arg(long, value_delimiter = ',', default_value = "200")]
    window: Vec<f64>,
    /// Schedulers
    #[arg(long, value_delimiter = ',', default_value = "none,uniform:0.5:best,thief,optimal",
          long_help = format!("Schedulers: {SCHEDULER_NAMES}"))]
    scheduler: Vec<String>,
    /// What schedulers are told about retrainings: "true" outcomes, or those "predicted"
    #[arg(long, default_value = "true", value_parser = ["true", "predicted"])]
    plan_on: String,
    /// Relative normal errors of what they are told; 0.2 is 20 %
    #[arg(long, value_delimiter = ',', default_value = "0")]
    noise: Vec<f64>,
    /// Decides the errors
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Students go on into the next window with the accuracy they have; without, the trace says
    /// what each window starts with
    #[arg(long)]
    carry: bool,
    /// Seconds until labels are there, in every window
    #[arg(long, default_value_t = 0.0)]
    labelling_delay: f64,
    /// Accuracy that no stream should fall below
    #[arg(long, default_value_t = 0.0)]
    min_accuracy: f64,
    /// Step in which shares are moved, in GPUs
    #[arg(long, default_value_t = 0.1)]
    quantum: f64,
    /// Do not compute what no plan exceeds
    #[arg(long)]
    no_bound: bool,
    /// Print with how few GPUs each scheduler reaches the accuracy of this one on so many
    #[arg(long, value_name = "SCHEDULER:GPUS")]
    reach: Option<String>,
    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut trace = Trace::from_csv(open(&args.trace)?)
        .with_context(|| format!("cannot read the trace {}", args.trace.display()))?;
    if let Some(file) = &args.reuse {
        let reuse = trace.with_reuse(open(file)?);
        trace = reuse.with_context(|| format!("cannot read the students {}", file.display()))?;
    }
    let sweep = args.sweep(&trace)?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} (left: {eta})")?;
    let bar = ProgressBar::new(0).with_style(style);
    let points = sweep.run(&|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let rows: Vec<Row> = points.iter().map(Row::of).collect();
    let files = write_files(&args.out, &points, &rows)?;
    let mut text = table(&rows);
    if let Some(reach) = &args.reach {
        text += &needed(&rows, reach)?;
    }
    text += &format!("{}: {}\n", args.out.display(), files.join(", "));
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

impl Args {
    fn sweep<'a>(&self, trace: &'a Trace) -> Result<Sweep<'a>> {
        let seconds = |value: &f64| Duration::try_from_secs_f64(*value).context("not a time");
        let (profile, column) = self.inference_profile();
        let inference = inference_from_csv(open(&profile)?, column, self.student_share)
            .with_context(|| format!("cannot read the inference profile {}", profile.display()))?;
        let mut base = Scenario::new(trace, inference);
        if let Some(file) = &self.throughput {
            base.throughput = throughput_from_csv(open(file)?)
                .with_context(|| format!("cannot read the throughput {}", file.display()))?;
        }
        if self.separate {
            base.devices = Devices::Separate;
        }
        if self.carry {
            base.start = Start::Carried;
        }
        if self.plan_on == "predicted" {
            base.plan_on = PlanOn::Predicted;
        }
        ensure!(
            self.noise.iter().all(|n| n.is_finite() && *n >= 0.0),
            "noise is at least 0"
        );
        base.windows = self.windows.unwrap_or(base.windows);
        base.labelling_delay = seconds(&self.labelling_delay)?;
        base.min_accuracy = self.min_accuracy;
        base.quantum = Share::try_from(self.quantum)?;
        base.seed = self.seed;
        let names = self.scheduler.iter();
        Ok(Sweep {
            gpus: self.gpus.clone(),
            streams: if self.streams.is_empty() {
                vec![base.streams]
            } else {
                self.streams.clone()
            },
            windows: self.window.iter().map(seconds).collect::<Result<_>>()?,
            noise: self.noise.clone(),
            schedulers: names
                .map(|name| scheduler_by_name(name))
                .collect::<Result<_, _>>()?,
            bounds: !self.no_bound,
            base,
        })
    }

    /// The file, and the column where one is named; a file whose name has a colon is itself.
    fn inference_profile(&self) -> (PathBuf, Option<&str>) {
        match self.inference_profile.rsplit_once(':') {
            Some((file, column)) if !Path::new(&self.inference_profile).exists() => {
                (file.into(), Some(column))
            }
            _ => (self.inference_profile.clone().into(), None),
        }
    }
}

/// The answer to `--reach`, in words.
fn needed(rows: &[Row], reach: &str) -> Result<String> {
    let wanted = "--reach is SCHEDULER:GPUS";
    let (scheduler, gpus) = reach.rsplit_once(':').context(wanted)?;
    let needed = gpus_needed(rows, scheduler, gpus.parse().context(wanted)?);
    ensure!(
        !needed.is_empty(),
        "{scheduler} on {gpus} GPUs was not simulated"
    );
    let mut text = format!("GPUs needed for the accuracy of {scheduler} on {gpus}:\n");
    for one in needed {
        let gpus = one
            .gpus
            .map_or_else(|| "more than simulated".into(), |gpus| gpus.to_string());
        text += &format!("  {:<18} {gpus}\n", one.scheduler);
    }
    Ok(text)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}
