//! From records to charts.

use std::collections::{BTreeMap, BTreeSet};

use super::ReportError;
use super::chart::{AccuracyChart, Line, Outcome, RetrainingMark, ShareChart, ShareStep};
use super::table::{EKYA, NONE, display_order};
use crate::record::{RetrainingRecord, RunRecord, WindowStream};

/// Points a window in the charts of accuracy: fewer hide what happens within a window, more show
/// the noise of single seconds.
const POINTS_A_WINDOW: f64 = 10.0;

/// A chart of one stream.
pub(super) struct Figure {
    /// Name of the stream.
    pub(super) stream: String,
    /// An SVG element.
    pub(super) svg: String,
}

/// Width of the steps that accuracies are averaged over, in whole seconds.
pub(super) fn step_seconds(records: &[&RunRecord]) -> f64 {
    let window = records.iter().map(|record| record.window_seconds);
    (window.fold(0.0, f64::max) / POINTS_A_WINDOW)
        .ceil()
        .max(1.0)
}

/// Accuracy over time of every stream, a line a scheduler, the mean over the records of that
/// scheduler.
pub(super) fn accuracy(records: &[&RunRecord]) -> Result<Vec<Figure>, ReportError> {
    let step = step_seconds(records);
    let schedulers = schedulers_of(records);
    let boundaries = boundaries_of(records);
    let mut lines_by_stream = Vec::new();
    for stream in streams_of(records) {
        lines_by_stream.push((lines(records, &schedulers, &stream, step), stream));
    }
    let range = range_of(lines_by_stream.iter().flat_map(|(lines, _)| lines));
    lines_by_stream
        .into_iter()
        .map(|(lines, stream)| {
            let chart = AccuracyChart {
                title: format!("Accuracy over time of stream {stream}"),
                boundaries: boundaries.clone(),
                lines,
                range,
            };
            let svg = chart.svg()?;
            Ok(Figure { stream, svg })
        })
        .collect()
}

/// The record whose shares are worth a chart: the first one under Ekya, else the first one in which
/// anything was retrained.
pub(super) fn record_for_shares<'a>(records: &[&'a RunRecord]) -> Option<&'a RunRecord> {
    let ekya = records.iter().find(|record| record.scheduler == EKYA);
    let retrained = |record: &RunRecord| {
        let mut streams = record.windows.iter().flat_map(|window| &window.streams);
        streams.any(|stream| !stream.retrainings.is_empty())
    };
    ekya.or_else(|| records.iter().find(|record| retrained(record)))
        .copied()
}

/// Shares over time of every stream of one run.
pub(super) fn shares(record: &RunRecord) -> Result<Vec<Figure>, ReportError> {
    let mut charts: Vec<ShareChart> = (0..record.streams.len())
        .map(|stream| share_chart(record, stream))
        .collect();
    let top = charts
        .iter()
        .flat_map(|chart| chart.inference.iter().chain(&chart.training))
        .flat_map(|step| [step.granted, step.used])
        .fold(0.0, f64::max);
    for chart in &mut charts {
        chart.top = (top * 10.0).ceil() / 10.0;
    }
    charts
        .iter()
        .zip(&record.streams)
        .map(|(chart, stream)| {
            Ok(Figure {
                stream: stream.name.clone(),
                svg: chart.svg()?,
            })
        })
        .collect()
}

/// How a retraining ended, as the record tells.
pub(super) fn outcome(retraining: &RetrainingRecord) -> Outcome {
    match (retraining.promoted, retraining.cut_off) {
        (true, _) => Outcome::Promoted,
        (false, false) => Outcome::Dropped,
        (false, true) => Outcome::CutOff,
    }
}

fn share_chart(record: &RunRecord, stream: usize) -> ShareChart {
    let name = &record.streams[stream].name;
    let mut chart = ShareChart {
        title: format!("Shares over time of stream {name}"),
        boundaries: boundaries_of(&[record]),
        ..ShareChart::default()
    };
    for window in &record.windows {
        if let Some(entry) = window.streams.get(stream) {
            add_shares(&mut chart, entry);
            chart.retrainings.extend(entry.retrainings.iter().map(mark));
        }
    }
    chart
}

fn add_shares(chart: &mut ShareChart, entry: &WindowStream) {
    for segment in &entry.segments {
        let step = |granted: ekya_sched::Share, used: f64| ShareStep {
            from: segment.from,
            to: segment.to,
            granted: granted.as_f64(),
            used,
        };
        let inference = step(segment.inference_granted, segment.inference_used);
        let training = step(segment.training_granted, segment.training_used);
        chart.inference.push(inference);
        chart.training.push(training);
    }
}

fn mark(retraining: &RetrainingRecord) -> RetrainingMark {
    RetrainingMark {
        from: retraining.from,
        to: retraining.to.unwrap_or(retraining.from),
        outcome: outcome(retraining),
    }
}

/// Names of the schedulers, in the order of the table.
pub(super) fn schedulers_of(records: &[&RunRecord]) -> Vec<String> {
    let names: BTreeSet<&String> = records.iter().map(|record| &record.scheduler).collect();
    let mut names: Vec<String> = names.into_iter().cloned().collect();
    names.sort_by(|a, b| display_order(a, b));
    names
}

fn streams_of(records: &[&RunRecord]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for stream in records.iter().flat_map(|record| &record.streams) {
        if !names.contains(&stream.name) {
            names.push(stream.name.clone());
        }
    }
    names
}

/// Of the longest run: starts of its windows and its end.
fn boundaries_of(records: &[&RunRecord]) -> Vec<f64> {
    let longest = records.iter().max_by_key(|record| record.windows.len());
    let Some(windows) = longest.map(|record| &record.windows) else {
        return Vec::new();
    };
    let mut boundaries: Vec<f64> = windows.iter().map(|window| window.from).collect();
    boundaries.extend(windows.last().map(|window| window.to));
    boundaries
}

fn lines(records: &[&RunRecord], schedulers: &[String], stream: &str, step: f64) -> Vec<Line> {
    let own_look = |name: &str| name != EKYA && name != NONE;
    schedulers
        .iter()
        .enumerate()
        .map(|(position, name)| {
            let index = schedulers[..position].iter().filter(|name| own_look(name));
            let of_scheduler = records.iter().filter(|record| record.scheduler == *name);
            let points = averaged(of_scheduler.copied(), stream, step);
            Line::of_scheduler(name, index.count(), points)
        })
        .collect()
}

/// Mean over all frames of each step; a hole of more than a window breaks the line.
fn averaged<'a>(
    records: impl Iterator<Item = &'a RunRecord>,
    stream: &str,
    step: f64,
) -> Vec<(f64, f64)> {
    let mut steps: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for record in records {
        let of_stream = record.streams.iter().filter(|of| of.name == stream);
        for point in of_stream.flat_map(|of| &of.accuracy_over_time) {
            if !point.accuracy.is_finite() || !point.at.is_finite() || point.frames == 0 {
                continue;
            }
            // Seconds from the start of a run are far inside the range of the integer.
            let (sum, frames) = steps.entry((point.at / step).floor() as i64).or_default();
            *sum += point.accuracy * point.frames as f64;
            *frames += point.frames as f64;
        }
    }
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(steps.len());
    for (index, (sum, frames)) in steps {
        let at = (index as f64 + 0.5) * step;
        if let Some((before, _)) = points.last()
            && at - before > step * (POINTS_A_WINDOW + 0.5)
        {
            points.push((at, f64::NAN));
        }
        points.push((at, sum / frames));
    }
    points
}

/// Whole tens of per cent around all points.
fn range_of<'a>(lines: impl Iterator<Item = &'a Line>) -> (f64, f64) {
    let accuracies = lines.flat_map(|line| line.points.iter().map(|(_, accuracy)| *accuracy));
    let (low, high) = accuracies
        .filter(|accuracy| accuracy.is_finite())
        .fold((1.0_f64, 0.0_f64), |(low, high), accuracy| {
            (low.min(accuracy), high.max(accuracy))
        });
    if low > high {
        return (0.0, 1.0);
    }
    let low = (low * 10.0).floor() / 10.0;
    // Room for the numbers of the windows above the lines.
    (low, (high * 10.0).ceil() / 10.0 + 0.05)
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    fn only(record: &RunRecord, step: f64) -> Vec<(f64, f64)> {
        averaged([record].into_iter(), &record.streams[0].name, step)
    }

    #[test]
    fn steps_are_weighted_by_frames() {
        let mut record = synthetic::records(&[1], &[None], &["ekya"]).remove(0).1;
        let points = &mut record.streams[0].accuracy_over_time;
        points.truncate(2);
        (points[0].accuracy, points[0].frames) = (1.0, 3);
        (points[1].accuracy, points[1].frames) = (0.0, 1);
        assert_eq!(only(&record, 2.0), [(1.0, 0.75)]);
    }

    #[test]
    fn a_long_hole_breaks_the_line_and_a_short_one_does_not() {
        let mut record = synthetic::records(&[1], &[None], &["ekya"]).remove(0).1;
        let points = &mut record.streams[0].accuracy_over_time;
        points.retain(|point| point.at < 4.0 || (8.0..12.0).contains(&point.at) || point.at > 60.0);
        let broken: Vec<f64> = only(&record, 2.0)
            .into_iter()
            .filter(|(_, accuracy)| accuracy.is_nan())
            .map(|(at, _)| at)
            .collect();
        assert_eq!(broken, [61.0]);
    }

    #[test]
    fn streams_and_schedulers_each_get_theirs() {
        let records = synthetic::records(&[1, 2], &[None], &["ekya", "uniform:0.5:cheap", "none"]);
        let records: Vec<&RunRecord> = records.iter().map(|(_, record)| record).collect();
        let figures = accuracy(&records).unwrap();
        assert_eq!(figures.len(), 4);
        for figure in &figures {
            synthetic::assert_well_formed(&figure.svg);
            assert!(figure.svg.contains("uniform:0.5:cheap"));
        }
        let record = record_for_shares(&records).unwrap();
        assert_eq!(record.scheduler, "ekya");
        assert_eq!(shares(record).unwrap().len(), 4);
    }

    #[test]
    fn records_without_windows_or_points_give_empty_charts() {
        let mut record = synthetic::records(&[1], &[None], &["none"]).remove(0).1;
        record.windows.clear();
        record.streams[0].accuracy_over_time.clear();
        assert!(record_for_shares(&[&record]).is_none());
        assert_eq!(accuracy(&[&record]).unwrap().len(), 4);
        assert_eq!(shares(&record).unwrap().len(), 4);
        assert!(accuracy(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_retraining_that_was_cut_off_is_marked_so() {
        let record = synthetic::records(&[1], &[None], &["ekya"]).remove(0).1;
        let chart = share_chart(&record, 3);
        let last = chart.retrainings.last().unwrap();
        assert_eq!(last.outcome, Outcome::CutOff);
        assert_eq!(last.to, last.from + 10.0);
    }
}
