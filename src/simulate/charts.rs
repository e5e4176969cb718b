//! Charts of a sweep: accuracy against each circumstance that varies, and the shares of one window.

use super::summary::Row;
use super::sweep::Point;
use crate::report::ReportError;
use crate::report::chart::{Line, SweepChart, TimelineChart, TimelineRow};

/// Streams that a chart of shares shows at most.
const STREAMS_SHOWN: usize = 12;

/// A circumstance that may vary.
struct Axis {
    file: &'static str,
    title: &'static str,
    value: fn(&Row) -> f64,
}

const AXES: [Axis; 4] = [
    Axis {
        file: "accuracy_gpus.svg",
        title: "GPUs",
        value: |row| f64::from(row.gpus),
    },
    Axis {
        file: "accuracy_streams.svg",
        title: "streams",
        value: |row| row.streams as f64,
    },
    Axis {
        file: "accuracy_window.svg",
        title: "window (s)",
        value: |row| row.window_seconds,
    },
    Axis {
        file: "accuracy_noise.svg",
        title: "error of predictions (relative)",
        value: |row| row.noise,
    },
];

/// File names and SVGs.
pub(super) fn all(points: &[Point], rows: &[Row]) -> Result<Vec<(String, String)>, ReportError> {
    let mut charts = Vec::new();
    for axis in &AXES {
        if let Some(chart) = accuracy(axis, rows) {
            charts.push((axis.file.to_owned(), chart.svg()?));
        }
    }
    // The last combination of circumstances: with the most of what was listed last.
    let last = points.last();
    let alike = |point: &&Point| {
        last.is_some_and(|last| {
            (point.gpus, point.streams, point.window_seconds, point.noise)
                == (last.gpus, last.streams, last.window_seconds, last.noise)
        })
    };
    for point in points.iter().filter(alike) {
        if let Some(chart) = shares(point) {
            let name = point.scheduler.replace([':', '.'], "_");
            charts.push((format!("shares_{name}.svg"), chart.svg()?));
        }
    }
    Ok(charts)
}

/// Accuracy against one circumstance, averaged over the others; `None` where it does not vary.
fn accuracy(axis: &Axis, rows: &[Row]) -> Option<SweepChart> {
    let mut values: Vec<f64> = rows.iter().map(axis.value).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    if values.len() < 2 {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.scheduler.as_str()) {
            names.push(&row.scheduler);
        }
    }
    // Those without a look of their own are counted.
    let own = |name: &&&str| !["none", "thief"].contains(*name);
    let line = |(place, name): (usize, &&str)| {
        let index = names[..place].iter().filter(own).count();
        let point = |&value: &f64| {
            let here = rows
                .iter()
                .filter(|row| row.scheduler == *name && (axis.value)(row) == value);
            let accuracies: Vec<f64> = here.map(|row| row.mean_accuracy).collect();
            (
                value,
                accuracies.iter().sum::<f64>() / accuracies.len() as f64,
            )
        };
        Line::of_scheduler(name, index, values.iter().map(point).collect())
    };
    Some(SweepChart {
        title: format!("Accuracy of inference against {}", axis.title),
        horizontal: axis.title,
        lines: names.iter().enumerate().map(line).collect(),
    })
}

/// Shares of the first window of a point.
fn shares(point: &Point) -> Option<TimelineChart> {
    let record = point.records.first()?;
    let row = |stream: &ekya_sched::simulate::StreamRecord| TimelineRow {
        label: match &stream.config {
            Some(config) => format!(
                "{}: {:.0} % to {:.0} % ({config})",
                stream.stream,
                stream.start_accuracy * 100.0,
                stream.end_accuracy * 100.0
            ),
            None => format!("{}: {:.0} %", stream.stream, stream.start_accuracy * 100.0),
        },
        segments: stream
            .segments
            .iter()
            .map(|s| (s.from, s.to, s.inference_gpu, s.training_gpu))
            .collect(),
        completes_at: stream.completes_at,
    };
    Some(TimelineChart {
        title: format!(
            "Shares over time under {} on {} GPUs",
            point.scheduler, point.gpus
        ),
        seconds: point.window_seconds,
        rows: record.streams.iter().take(STREAMS_SHOWN).map(row).collect(),
    })
}
