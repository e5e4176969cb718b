//! What came of a sweep, a row a point.

use serde::Serialize;

use super::sweep::Point;

/// A scheduler under one combination of circumstances, as it stands in `summary.csv`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the scheduler.
    pub scheduler: String,
    /// Number of GPUs.
    pub gpus: u32,
    /// Number of streams.
    pub streams: usize,
    /// Length of a window, in seconds.
    pub window_seconds: f64,
    /// Error of what the scheduler is told.
    pub noise: f64,
    /// Number of windows.
    pub windows: usize,
    /// Accuracy of inference, mean over windows and streams, in 0..=1.
    pub mean_accuracy: f64,
    /// What no plan exceeds, mean over the windows; where that was asked for.
    pub upper_bound: Option<f64>,
    /// Retrainings that ended, per stream and window.
    pub retrained: f64,
    /// Part of the streams and windows in which no other configuration would have ended better.
    pub most_accurate: f64,
    /// GPUs for inference, mean over time.
    pub inference_gpu: f64,
    /// GPUs for training, mean over time.
    pub training_gpu: f64,
}

/// A scheduler, and with how few GPUs it reaches an accuracy; `None` when with none of those
/// simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Name of the scheduler.
    pub scheduler: String,
    /// GPUs.
    pub gpus: Option<u32>,
}

impl Row {
    /// Of one point.
    #[must_use]
    pub fn of(point: &Point) -> Self {
        let windows = point.records.len();
        let per_window = |sum: f64| {
            if windows == 0 {
                0.0
            } else {
                sum / windows as f64
            }
        };
        let streams = point.records.iter().flat_map(|record| &record.streams);
        let part = |count: usize| per_window(count as f64 / point.streams.max(1) as f64);
        let segments = streams.clone().flat_map(|stream| &stream.segments);
        let gpu_seconds = |gpus: fn(&ekya_sched::simulate::GpuSegment) -> f64| {
            let used = segments.clone().map(|s| gpus(s) * (s.to - s.from));
            per_window(used.sum::<f64>() / point.window_seconds.max(f64::MIN_POSITIVE))
        };
        let bounds = point.records.iter().map(|record| record.upper_bound);
        Self {
            scheduler: point.scheduler.clone(),
            gpus: point.gpus,
            streams: point.streams,
            window_seconds: point.window_seconds,
            noise: point.noise,
            windows,
            mean_accuracy: per_window(point.records.iter().map(|r| r.mean_accuracy).sum()),
            upper_bound: bounds.sum::<Option<f64>>().map(per_window),
            retrained: part(streams.clone().filter(|s| s.completes_at.is_some()).count()),
            most_accurate: part(streams.clone().filter(|s| s.most_accurate).count()),
            inference_gpu: gpu_seconds(|segment| segment.inference_gpu),
            training_gpu: gpu_seconds(|segment| segment.training_gpu),
        }
    }
}

/// With how few GPUs each scheduler is at least as accurate as `scheduler` on `gpus`, everything
/// else equal to the first point of that; empty when that was not simulated.
#[must_use]
pub fn gpus_needed(rows: &[Row], scheduler: &str, gpus: u32) -> Vec<Needed> {
    let reference = |row: &&Row| row.scheduler == scheduler && row.gpus == gpus;
    let Some(wanted) = rows.iter().find(reference) else {
        return Vec::new();
    };
    let alike = |row: &&Row| {
        (row.streams, row.window_seconds, row.noise)
            == (wanted.streams, wanted.window_seconds, wanted.noise)
    };
    let mut all: Vec<Needed> = Vec::new();
    for row in rows.iter().filter(alike) {
        let reached = (row.mean_accuracy >= wanted.mean_accuracy).then_some(row.gpus);
        match all
            .iter_mut()
            .find(|needed| needed.scheduler == row.scheduler)
        {
            Some(needed) => {
                needed.gpus = needed.gpus.into_iter().chain(reached).min();
            }
            None => all.push(Needed {
                scheduler: row.scheduler.clone(),
                gpus: reached,
            }),
        }
    }
    all
}

/// Rows as a text table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<18} {:>5} {:>7} {:>7} {:>6} {:>9} {:>7} {:>10} {:>10} {:>10} {:>9}\n",
        "scheduler",
        "GPUs",
        "streams",
        "window",
        "noise",
        "accuracy",
        "bound",
        "retrained",
        "best conf.",
        "inference",
        "training"
    );
    for row in rows {
        let bound = row
            .upper_bound
            .map_or_else(|| "-".into(), |bound| format!("{:.2}", bound * 100.0));
        text += &format!(
            "{:<18} {:>5} {:>7} {:>7} {:>6} {:>9.2} {:>7} {:>10.0} {:>10.0} {:>10.2} {:>9.2}\n",
            row.scheduler,
            row.gpus,
            row.streams,
            row.window_seconds,
            row.noise,
            row.mean_accuracy * 100.0,
            bound,
            row.retrained * 100.0,
            row.most_accurate * 100.0,
            row.inference_gpu,
            row.training_gpu,
        );
    }
    text + "(accuracy, bound, retrained, best configuration: %; window: s; inference, training: GPUs)\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scheduler: &str, gpus: u32, mean_accuracy: f64) -> Row {
        Row {
            scheduler: scheduler.into(),
            gpus,
            streams: 8,
            window_seconds: 200.0,
            noise: 0.0,
            windows: 3,
            mean_accuracy,
            upper_bound: None,
            retrained: 0.0,
            most_accurate: 0.0,
            inference_gpu: 0.0,
            training_gpu: 0.0,
        }
    }

    #[test]
    fn the_fewest_gpus_that_suffice_are_found() {
        let rows = [
            row("thief", 1, 0.6),
            row("none", 1, 0.5),
            row("thief", 2, 0.8),
            row("none", 2, 0.7),
            row("thief", 4, 0.9),
            row("none", 4, 0.75),
            row("optimal", 1, 0.8),
        ];
        let needed = gpus_needed(&rows, "thief", 2);
        let found = |name: &str| {
            needed
                .iter()
                .find(|n| n.scheduler == name)
                .and_then(|n| n.gpus)
        };
        assert_eq!(
            (found("thief"), found("none"), found("optimal")),
            (Some(2), None, Some(1))
        );
        assert_eq!(gpus_needed(&rows, "thief", 3), []);
    }
}
