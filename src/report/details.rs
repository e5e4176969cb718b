//! The part of the page that tells what happened in every window of every run, folded away.

use std::fmt::{self, Write};

use ekya_sched::RetrainingConfig;

use super::chart::Outcome;
use super::figures::outcome;
use super::html::{Escaped, frame_cells, maybe_percent, run_title, seconds, table};
use super::table::{dash, percent};
use super::{Report, Summary};
use crate::record::{RetrainingRecord, RunRecord, WindowRecord, WindowStream};

/// All runs, in the order of the report.
pub(super) fn write(out: &mut String, report: &Report, summary: &Summary) -> fmt::Result {
    out.push_str(
        "<h2>Run by run</h2>\n<p class=\"note\">Streams, retrainings and decisions with their \
         reasons. Times in seconds from the start of the run, accuracies in %, shares in \
         devices.</p>\n",
    );
    for ((load, record), sums) in report.records.iter().zip(&summary.runs) {
        let title = run_title(load.as_deref(), record);
        writeln!(
            out,
            "<details class=\"run\"><summary>{}<span>{} %</span></summary>",
            Escaped(&title),
            percent(sums.mean_accuracy),
        )?;
        streams(out, record)?;
        jobs(out, record)?;
        for window in &record.windows {
            write_window(out, record, window)?;
        }
        out.push_str("</details>\n");
    }
    Ok(())
}

fn streams(out: &mut String, record: &RunRecord) -> fmt::Result {
    let rows: Vec<Vec<String>> = record
        .streams
        .iter()
        .map(|stream| {
            let mut cells = vec![
                stream.name.clone(),
                maybe_percent(stream.true_accuracy),
                uncertain_percent(stream.measured_accuracy, stream.measured_sd),
            ];
            cells.extend(frame_cells(stream.frames));
            cells
        })
        .collect();
    let titles = [
        "stream",
        "to the truth",
        "to the teacher",
        "arrived",
        "answered",
        "skipped",
        "dropped",
    ];
    table(out, &titles, &rows)
}

fn jobs(out: &mut String, record: &RunRecord) -> fmt::Result {
    let rows: Vec<Vec<String>> = record
        .devices
        .iter()
        .flat_map(|device| {
            let busy = device.busy_seconds.iter();
            busy.map(|(job, busy)| vec![job.clone(), device.name.clone(), seconds(*busy)])
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    out.push_str("<details><summary>Device seconds by job</summary>\n");
    table(out, &["job", "device", "seconds"], &rows)?;
    out.push_str("</details>\n");
    Ok(())
}

fn write_window(out: &mut String, record: &RunRecord, window: &WindowRecord) -> fmt::Result {
    let all = || window.streams.iter().flat_map(|stream| &stream.retrainings);
    let retrained = all().count();
    let promoted = all().filter(|retraining| retraining.promoted).count();
    writeln!(
        out,
        "<details><summary>Window {} ({:.0} to {:.0} s)<span>{retrained} retrainings, {promoted} \
         promoted</span></summary>",
        window.index, window.from, window.to,
    )?;
    let names = || record.streams.iter().map(|stream| stream.name.as_str());
    accuracies(out, names().zip(&window.streams))?;
    retrainings(out, names().zip(&window.streams))?;
    for (name, stream) in names().zip(&window.streams) {
        stream_story(out, name, stream)?;
    }
    out.push_str("</details>\n");
    Ok(())
}

fn accuracies<'a>(
    out: &mut String,
    streams: impl Iterator<Item = (&'a str, &'a WindowStream)>,
) -> fmt::Result {
    let rows: Vec<Vec<String>> = streams
        .map(|(name, stream)| {
            vec![
                name.to_owned(),
                maybe_percent(stream.predicted_accuracy),
                maybe_percent(stream.true_accuracy),
                uncertain_percent(stream.measured_accuracy, stream.measured_sd),
                seconds(stream.labelling_seconds),
                seconds(stream.profiling_seconds),
            ]
        })
        .collect();
    let titles = [
        "stream",
        "predicted",
        "to the truth",
        "to the teacher",
        "labelling (GPU-s)",
        "profiling (GPU-s)",
    ];
    table(out, &titles, &rows)
}

fn retrainings<'a>(
    out: &mut String,
    streams: impl Iterator<Item = (&'a str, &'a WindowStream)>,
) -> fmt::Result {
    let rows: Vec<Vec<String>> = streams
        .flat_map(|(name, stream)| {
            let retrainings = stream.retrainings.iter();
            retrainings.map(move |one| retraining_cells(name, one))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let titles = [
        "retrained",
        "outcome",
        "predicted gain",
        "measured gain",
        "GPU-s",
        "pictures",
        "configuration",
    ];
    table(out, &titles, &rows)
}

fn retraining_cells(name: &str, retraining: &RetrainingRecord) -> Vec<String> {
    let serving = retraining.serving_accuracy;
    let predicted = retraining
        .predicted_accuracy
        .zip(serving)
        .map(|(end, serving)| end - serving);
    let measured = retraining
        .retrained_accuracy
        .zip(serving)
        .map(|(new, old)| new - old);
    let cost = match retraining.predicted_gpu_seconds {
        Some(predicted) => format!("{:.1} (predicted {predicted:.1})", retraining.gpu_seconds),
        None => seconds(retraining.gpu_seconds),
    };
    vec![
        name.to_owned(),
        verdict(retraining).to_owned(),
        gain(predicted),
        gain(measured),
        cost,
        retraining.examples.to_string(),
        config(&retraining.config),
    ]
}

/// With the 95 % interval.
fn uncertain_percent(accuracy: Option<f64>, sd: Option<f64>) -> String {
    let half = sd.map_or(String::new(), |sd| format!(" ± {:.1}", 196.0 * sd));
    maybe_percent(accuracy) + &half
}

fn gain(gain: Option<f64>) -> String {
    gain.map_or_else(dash, |gain| format!("{:+.1}", gain * 100.0))
}

/// Promoted, or why not as far as figures tell; the decisions tell the rest.
fn verdict(retraining: &RetrainingRecord) -> &'static str {
    let better = retraining
        .retrained_accuracy
        .zip(retraining.serving_accuracy)
        .map(|(retrained, serving)| retrained > serving);
    match (outcome(retraining), better) {
        (Outcome::Promoted, _) if retraining.rolled_back.is_some() => "promoted, taken back later",
        (Outcome::Promoted, _) => "promoted",
        (Outcome::CutOff, _) => "cut off before its end",
        (Outcome::Dropped, None) => "dropped: not measured",
        (Outcome::Dropped, Some(false)) => "dropped: not better on held-out frames",
        (Outcome::Dropped, Some(true)) => "dropped: better, but not proven, or a class lost",
    }
}

/// A configuration in words.
fn config(config: &RetrainingConfig) -> String {
    let mut text = format!(
        "{} epochs, batch {}, {:.0} % of the data, rate {}",
        config.epochs,
        config.batch_size,
        config.data_fraction * 100.0,
        config.learning_rate,
    );
    if config.head_width > 0 {
        text.push_str(&format!(", head {}", config.head_width));
    }
    if config.layers_frozen > 0 {
        text.push_str(&format!(", {} frozen", config.layers_frozen));
    }
    text
}

fn stream_story(out: &mut String, name: &str, stream: &WindowStream) -> fmt::Result {
    if stream.decisions.is_empty() && stream.segments.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h4>{}</h4>", Escaped(name))?;
    if !stream.decisions.is_empty() {
        out.push_str("<ul class=\"decisions\">\n");
        for decision in &stream.decisions {
            let text = Escaped(&decision.text);
            writeln!(out, "<li><span>{:.1} s</span> {text}</li>", decision.at)?;
        }
        out.push_str("</ul>\n");
    }
    profiles(out, stream)?;
    segments(out, stream)
}

fn profiles(out: &mut String, stream: &WindowStream) -> fmt::Result {
    if stream.profiles.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = stream
        .profiles
        .iter()
        .map(|profile| {
            vec![
                config(&profile.config),
                percent(profile.end_accuracy),
                seconds(profile.gpu_seconds),
            ]
        })
        .collect();
    table(
        out,
        &[
            "profiled configuration",
            "predicted accuracy",
            "predicted GPU-s",
        ],
        &rows,
    )
}

fn segments(out: &mut String, stream: &WindowStream) -> fmt::Result {
    if stream.segments.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = stream
        .segments
        .iter()
        .map(|segment| {
            vec![
                format!("{:.1} to {:.1} s", segment.from, segment.to),
                segment.inference_granted.to_string(),
                format!("{:.2}", segment.inference_used),
                segment.training_granted.to_string(),
                format!("{:.2}", segment.training_used),
                format!("1 in {}", segment.sample_every),
                format!("{:.0} %", segment.resolution * 100.0),
            ]
        })
        .collect();
    let titles = [
        "time",
        "inference granted",
        "used",
        "training granted",
        "used",
        "frames answered",
        "resolution",
    ];
    table(out, &titles, &rows)
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    fn first_retraining() -> RetrainingRecord {
        let record = synthetic::records(&[1], &[None], &["ekya"]).remove(0).1;
        record.windows[0].streams[0].retrainings[0].clone()
    }

    #[test]
    fn gains_are_told_beside_each_other() {
        let cells = retraining_cells("a", &first_retraining());
        let expected = ["promoted", "+9.0", "+8.0", "2.3 (predicted 4.0)", "312"];
        assert_eq!(cells[1..6], expected);
    }

    #[test]
    fn every_outcome_has_its_reason() {
        let promoted = first_retraining();
        let dropped = |retrained_accuracy| RetrainingRecord {
            promoted: false,
            retrained_accuracy,
            ..promoted.clone()
        };
        assert_eq!(verdict(&promoted), "promoted");
        assert_eq!(verdict(&dropped(None)), "dropped: not measured");
        assert_eq!(
            verdict(&dropped(Some(0.6))),
            "dropped: not better on held-out frames"
        );
        assert_eq!(
            verdict(&dropped(Some(0.8))),
            "dropped: better, but not proven, or a class lost"
        );
        let cut_off = RetrainingRecord {
            cut_off: true,
            ..dropped(None)
        };
        assert_eq!(verdict(&cut_off), "cut off before its end");
    }
}
