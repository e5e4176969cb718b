//! Predicts the retrainings of a recorded trace, each stream from the outcomes of the other streams
//! and its own earlier windows, and says how good the predictions are. Needs no libtorch:
//!
//! ```text
//! cargo run --release --no-default-features --example profile_trace -- \\
//!     --trace traces/cityscapes.csv --inference-profile traces/inference_subsampling.csv:c1 \\
//!     --out out/predicted.csv
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use ekya::report::chart::CalibrationChart;
use ekya::write::write_atomically;
use ekya_profiler::quality::{Judged, Quality};
use ekya_profiler::trace::{Predicted, predict};
use ekya_sched::Thief;
use ekya_sched::simulate::{PlanOn, Scenario, Trace, inference_from_csv};

/// Predicts what retrainings of a recorded trace give: each stream from the outcomes of the other
/// streams and its own earlier windows only. Writes the predictions with their 80 % intervals and
/// a chart that shows whether the intervals hold, and prints how good they are.
#[derive(Parser)]
struct Args {
    /// CSV with the columns stream, window, start_accuracy, config, gpu_seconds, end_accuracy; what
    /// configurations have in common is known by epochs, data_fraction, head_width and
    /// last_layer_only, where it has them
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// CSV to write: stream, window, config, predicted, low, high. The chart lies beside it (.svg)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// CSV: every n-th frame, and columns with what is left of the accuracy then; with it, plans on
    /// predictions are compared with plans on the truth
    #[arg(long, value_name = "FILE[:COLUMN]")]
    inference_profile: Option<String>,
    /// Share of a GPU with which a student answers every frame
    #[arg(long, default_value_t = 0.25)]
    student_share: f64,
    /// Numbers of GPUs to plan for
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    gpus: Vec<u32>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let trace = Trace::from_csv(open(&args.trace)?)
        .with_context(|| format!("cannot read the trace {}", args.trace.display()))?;
    let predicted = predict(&trace);
    write_atomically(&args.out, &csv(&predicted)?)?;
    let judged: Vec<_> = predicted.iter().map(judge).collect();
    let chart = CalibrationChart {
        title: "Truths inside intervals, against their level".to_owned(),
        predictions: vec![(
            "predicted".to_owned(),
            judged.iter().map(Judged::level).collect(),
        )],
    };
    let picture = args.out.with_extension("svg");
    write_atomically(&picture, chart.svg()?.as_bytes())?;
    if let Some(quality) = Quality::of(&judged) {
        print!("{}", table(&quality));
    }
    if let Some(profile) = &args.inference_profile {
        print!("{}", args.plans(trace, &predicted, profile)?);
    }
    println!("{}, {}", args.out.display(), picture.display());
    Ok(())
}

fn judge(predicted: &Predicted) -> Judged<(&str, u32)> {
    Judged {
        group: (&predicted.stream, predicted.window),
        predicted: predicted.accuracy,
        truth: predicted.truth,
    }
}

fn csv(predicted: &[Predicted]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["stream", "window", "config", "predicted", "low", "high"])?;
    for one in predicted {
        let (low, high) = one.accuracy.interval();
        let accuracy = |value: f64| format!("{:.6}", value.clamp(0.0, 1.0));
        let numbers = [one.accuracy.mean, low, high].map(accuracy);
        let [predicted, low, high] = &numbers;
        let window = one.window.to_string();
        writer.write_record([&one.stream, &window, &one.config, predicted, low, high])?;
    }
    Ok(writer.into_inner().map_err(|error| error.into_error())?)
}

fn table(quality: &Quality) -> String {
    let points = |accuracy: f64| accuracy * 100.0;
    format!(
        "retrainings                          {:>7}\n\
         median error, points                 {:>7.2}\n\
         mean error, points                   {:>7.2}\n\
         Spearman, within stream and window   {:>7.2}\n\
         regret of the best predicted, points {:>7.2}\n\
         truths in 80 % intervals, %          {:>7.1}\n",
        quality.count,
        points(quality.median_error),
        points(quality.mean_error),
        quality.spearman,
        points(quality.regret),
        points(quality.coverage),
    )
}

impl Args {
    /// What the thief reaches when it plans on predictions, beside what it reaches on the truth.
    fn plans(&self, trace: Trace, predicted: &[Predicted], profile: &str) -> Result<String> {
        let (file, column) = match profile.rsplit_once(':') {
            Some((file, column)) if !Path::new(profile).exists() => (file, Some(column)),
            _ => (profile, None),
        };
        let inference = inference_from_csv(open(Path::new(file))?, column, self.student_share)
            .with_context(|| format!("cannot read the inference profile {file}"))?;
        let trace = trace.with_predictions(predicted.iter().map(|one| one.accuracy.mean));
        let mut text = "GPUs   on the truth   on predictions   loss, points\n".to_owned();
        for &gpus in &self.gpus {
            let reached = |plan_on| -> Result<f64> {
                let scenario = Scenario {
                    gpus,
                    plan_on,
                    ..Scenario::new(&trace, inference.clone())
                };
                let records = scenario.run(&Thief::default())?;
                let sum: f64 = records.iter().map(|record| record.mean_accuracy).sum();
                Ok(100.0 * sum / records.len().max(1) as f64)
            };
            let (truth, predicted) = (reached(PlanOn::True)?, reached(PlanOn::Predicted)?);
            let loss = truth - predicted;
            text += &format!("{gpus:>4}   {truth:>12.2}   {predicted:>14.2}   {loss:>12.2}\n");
        }
        Ok(text)
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}
