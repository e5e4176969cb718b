//! `report.html`: one page that needs nothing else.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write};

use super::figures::{self, Figure};
use super::table::{Comparison, EKYA, NONE, UNIFORM, counted, dash, load_title, percent};
use super::{Report, ReportError, details, palette};
use crate::record::{FrameCounts, RunRecord};

/// Style of the page, without the rules for charts on a dark page.
const STYLE: &str = include_str!("page.css");

/// The whole page.
///
/// # Errors
/// [`ReportError::Summary`] when the records cannot be summed up, [`ReportError::Chart`] when a
/// chart cannot be drawn.
pub(super) fn page(report: &Report) -> Result<String, ReportError> {
    let summary = report.summary()?;
    let comparison = Comparison::of(&summary);
    let records: Vec<&RunRecord> = report.records.iter().map(|(_, record)| record).collect();
    let mut out = String::new();
    head(&mut out)?;
    introduction(&mut out, &comparison, &records)?;
    notices(&mut out, report)?;
    results(&mut out, &comparison)?;
    schedulers(&mut out, &records)?;
    for load in &comparison.loads {
        charts_of_load(&mut out, report, load.as_deref())?;
    }
    device_time(&mut out, &records)?;
    frames(&mut out, &records)?;
    details::write(&mut out, report, &summary)?;
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(out)
}

/// Text with everything escaped that means something in HTML, in an element or an attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A table row of `tag` cells; the first is the row's name.
pub(super) fn row(out: &mut String, tag: &str, cells: &[String]) -> fmt::Result {
    out.push_str("<tr>");
    for cell in cells {
        write!(out, "<{tag}>{}</{tag}>", Escaped(cell))?;
    }
    out.push_str("</tr>\n");
    Ok(())
}

/// A table that scrolls by itself where it is wider than the page.
pub(super) fn table(out: &mut String, titles: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    out.push_str("<div class=\"wide\"><table>\n<thead>");
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    row(out, "th", &titles)?;
    out.push_str("</thead>\n<tbody>\n");
    for cells in rows {
        row(out, "td", cells)?;
    }
    out.push_str("</tbody></table></div>\n");
    Ok(())
}

/// Seconds of a device.
pub(super) fn seconds(seconds: f64) -> String {
    format!("{seconds:.1}")
}

fn head(out: &mut String) -> fmt::Result {
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Ekya: report</title>\n<style>\n{STYLE}\n\
         @media (prefers-color-scheme: dark) {{\n{}}}\n</style>\n</head>\n<body>\n<main>\n",
        palette::dark_rules()
    )
}

fn introduction(out: &mut String, comparison: &Comparison, records: &[&RunRecord]) -> fmt::Result {
    out.push_str("<h1>Continuous learning on a shared device</h1>\n<dl class=\"facts\">\n");
    let windows = records.iter().map(|record| record.windows.len()).max();
    let lengths: BTreeSet<String> = records
        .iter()
        .map(|record| format!("{} s", record.window_seconds))
        .collect();
    let streams = records.iter().map(|record| record.streams.len()).max();
    let devices: BTreeSet<String> = records.iter().map(|record| devices_of(record)).collect();
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    let loads: Vec<&str> = comparison
        .loads
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let facts = [
        (
            "Runs",
            format!(
                "{} of {}",
                records.len(),
                counted(comparison.rows.len(), "scheduler")
            ),
        ),
        ("Streams", streams.unwrap_or(0).to_string()),
        (
            "Windows",
            format!("{} of {}", windows.unwrap_or(0), joined(lengths)),
        ),
        ("Seeds", seeds.join(", ")),
        (
            "Loads",
            if loads.is_empty() {
                dash()
            } else {
                loads.join(", ")
            },
        ),
        ("Devices", joined(devices)),
    ];
    for (name, value) in facts {
        writeln!(
            out,
            "<div><dt>{name}</dt><dd>{}</dd></div>",
            Escaped(&value)
        )?;
    }
    out.push_str("</dl>\n");
    Ok(())
}

fn joined(texts: BTreeSet<String>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(" or ")
}

fn devices_of(record: &RunRecord) -> String {
    let devices: Vec<String> = record
        .devices
        .iter()
        .map(|device| match device.cores {
            0 => device.name.clone(),
            cores => format!("{} ({})", device.name, counted(cores, "core")),
        })
        .collect();
    devices.join(", ")
}

/// What makes runs incomparable: said before any figure.
fn notices(out: &mut String, report: &Report) -> fmt::Result {
    let mut notices = Vec::new();
    for (load, record) in &report.records {
        let run = run_title(load.as_deref(), record);
        if !record.complete {
            notices.push(format!(
                "{run} was interrupted: its figures are of a part of the run."
            ));
        }
        for stream in &record.streams {
            if let Some(failure) = &stream.failure {
                notices.push(format!(
                    "{run}: stream {} ended early: {failure}",
                    stream.name
                ));
            }
        }
    }
    let slowed: BTreeSet<String> = report
        .records
        .iter()
        .flat_map(|(_, record)| &record.streams)
        .filter(|stream| stream.slowdown != 1.0)
        .map(|stream| format!("{} (×{})", stream.name, stream.slowdown))
        .collect();
    if !slowed.is_empty() {
        let slowed: Vec<String> = slowed.into_iter().collect();
        notices.push(format!(
            "Played slower than real time: {}.",
            slowed.join(", ")
        ));
    }
    if notices.is_empty() {
        return Ok(());
    }
    out.push_str("<ul class=\"notice\">\n");
    for notice in notices {
        writeln!(out, "<li>{}</li>", Escaped(&notice))?;
    }
    out.push_str("</ul>\n");
    Ok(())
}

/// "ekya, seed 1, load high".
pub(super) fn run_title(load: Option<&str>, record: &RunRecord) -> String {
    let load = load.map_or_else(String::new, |load| format!(", {}", load_title(Some(load))));
    format!("{}, seed {}{load}", record.scheduler, record.seed)
}

fn results(out: &mut String, comparison: &Comparison) -> fmt::Result {
    out.push_str("<h2>Result</h2>\n<div class=\"wide\"><table>\n<thead>");
    row(out, "th", &comparison.titles())?;
    out.push_str("</thead>\n<tbody>\n");
    for line in &comparison.rows {
        let best = line.best && comparison.rows.len() > 1;
        out.push_str(if best { "<tr class=\"best\">" } else { "<tr>" });
        for (index, cell) in comparison.row_cells(line).iter().enumerate() {
            let mark = if best && index == 0 {
                "<b>best</b>"
            } else {
                ""
            };
            write!(out, "<td>{}{mark}</td>", Escaped(cell))?;
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    for note in comparison.notes() {
        writeln!(out, "<p class=\"note\">{}</p>", Escaped(&note))?;
    }
    Ok(())
}

fn schedulers(out: &mut String, records: &[&RunRecord]) -> fmt::Result {
    out.push_str("<h2>Schedulers</h2>\n<dl class=\"terms\">\n");
    let mut explained = BTreeSet::new();
    for name in figures::schedulers_of(records) {
        let (term, explanation) = explain(&name);
        if explained.insert(term.clone()) {
            let (term, explanation) = (Escaped(&term), Escaped(explanation));
            writeln!(out, "<dt>{term}</dt><dd>{explanation}</dd>")?;
        }
    }
    out.push_str("</dl>\n");
    Ok(())
}

fn explain(scheduler: &str) -> (String, &'static str) {
    match scheduler {
        NONE => (
            NONE.to_owned(),
            "Never retrains: students stay as they were at the start, and inference has the \
             devices to itself.",
        ),
        EKYA => (
            EKYA.to_owned(),
            "The thief scheduler. Profiles the retraining configurations on a small sample, then \
             moves shares in small steps from job to job for as long as the predicted accuracy, \
             averaged over the window and the streams, rises. A student is retrained only where \
             that pays, with the configuration that pays most.",
        ),
        uniform if uniform.starts_with(UNIFORM) => (
            "uniform:F:CONFIG".to_owned(),
            "Every student is retrained in every window with the configuration CONFIG. The \
             fraction F of each device is for inference and the rest for retraining, both divided \
             evenly over the streams; what an ended retraining leaves is divided over the jobs \
             that still run.",
        ),
        other => (other.to_owned(), "As named in the configuration."),
    }
}

fn charts_of_load(
    out: &mut String,
    report: &Report,
    load: Option<&str>,
) -> Result<(), ReportError> {
    let of_load = report
        .records
        .iter()
        .filter(|(of, _)| of.as_deref() == load);
    let records: Vec<&RunRecord> = of_load.map(|(_, record)| record).collect();
    let title = load.map_or_else(String::new, |load| format!(", {}", load_title(Some(load))));
    writeln!(out, "<h2>Accuracy over time{}</h2>", Escaped(&title))?;
    let seeds: BTreeSet<u64> = records.iter().map(|record| record.seed).collect();
    writeln!(
        out,
        "<p class=\"note\">Against the source’s truth where it knows one, else against the \
         teacher. Each point is the mean over {} s and {}; vertical lines are window \
         boundaries.</p>",
        figures::step_seconds(&records),
        counted(seeds.len(), "seed"),
    )?;
    gallery(out, &figures::accuracy(&records)?)?;

    let Some(record) = figures::record_for_shares(&records) else {
        return Ok(());
    };
    writeln!(out, "<h2>Shares over time{}</h2>", Escaped(&title))?;
    writeln!(
        out,
        "<p class=\"note\">In devices, under {}, seed {}. Training includes profiling. Whatever one \
         job leaves unused the others may use, so that use can lie above the grant. Bars above the \
         training are retrainings from start to end.</p>",
        Escaped(&record.scheduler),
        record.seed,
    )?;
    Ok(gallery(out, &figures::shares(record)?)?)
}

fn gallery(out: &mut String, figures: &[Figure]) -> fmt::Result {
    out.push_str("<div class=\"gallery\">\n");
    for figure in figures {
        let Figure { stream, svg } = figure;
        let stream = Escaped(stream);
        writeln!(
            out,
            "<figure><figcaption>{stream}</figcaption>\n{svg}</figure>"
        )?;
    }
    out.push_str("</div>\n");
    Ok(())
}

/// Device time of a run, by purpose, in seconds of a whole device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Spent {
    labelling: f64,
    profiling: f64,
    training: f64,
    inference: f64,
    capacity: f64,
}

impl Spent {
    fn of(record: &RunRecord) -> Self {
        let mut spent = Self::default();
        for window in &record.windows {
            spent.capacity += (window.to - window.from) * record.devices.len() as f64;
            for stream in &window.streams {
                spent.labelling += stream.labelling_seconds;
                spent.profiling += stream.profiling_seconds;
                let retrainings = stream.retrainings.iter();
                spent.training += retrainings.map(|one| one.gpu_seconds).sum::<f64>();
                let segments = stream.segments.iter();
                spent.inference += segments
                    .map(|segment| segment.inference_used * (segment.to - segment.from))
                    .sum::<f64>();
            }
        }
        spent
    }

    fn values(self) -> [f64; 5] {
        let Self {
            labelling,
            profiling,
            training,
            inference,
            capacity,
        } = self;
        let total = labelling + profiling + training + inference;
        let used = if capacity > 0.0 {
            total / capacity
        } else {
            0.0
        };
        [labelling, profiling, training, inference, used]
    }
}

fn device_time(out: &mut String, records: &[&RunRecord]) -> fmt::Result {
    out.push_str(
        "<h2>Device time</h2>\n<p class=\"note\">GPU-seconds (seconds of a whole device, GPU or \
         not), mean over the runs; in the last column as a part of all there was.</p>\n",
    );
    let rows: Vec<Vec<String>> = figures::schedulers_of(records)
        .into_iter()
        .map(|name| {
            let runs = records.iter().filter(|record| record.scheduler == name);
            let values: Vec<[f64; 5]> = runs.map(|record| Spent::of(record).values()).collect();
            let mean = |column: usize| {
                let column: Vec<f64> = values.iter().map(|values| values[column]).collect();
                super::statistics::mean(&column).unwrap_or(0.0)
            };
            let mut cells = vec![name];
            cells.extend((0..4).map(|column| seconds(mean(column))));
            cells.push(format!("{} %", percent(mean(4))));
            cells
        })
        .collect();
    let titles = [
        "scheduler",
        "labelling",
        "profiling",
        "training",
        "inference",
        "used",
    ];
    table(out, &titles, &rows)
}

fn frames(out: &mut String, records: &[&RunRecord]) -> fmt::Result {
    out.push_str(
        "<h2>Frames</h2>\n<p class=\"note\">Of all runs. Skipped: left out by the inference \
         configuration. Dropped: overtaken by newer frames because inference was late. Both inherit \
         the stream’s last answer and are scored with it.</p>\n",
    );
    let rows: Vec<Vec<String>> = figures::schedulers_of(records)
        .into_iter()
        .map(|name| {
            let runs = records.iter().filter(|record| record.scheduler == name);
            let counts = runs
                .flat_map(|record| &record.streams)
                .map(|stream| stream.frames);
            let counted = frame_cells(counts.fold(FrameCounts::default(), sum));
            let mut cells = vec![name];
            cells.extend(counted);
            cells
        })
        .collect();
    table(
        out,
        &["scheduler", "arrived", "answered", "skipped", "dropped"],
        &rows,
    )
}

fn sum(a: FrameCounts, b: FrameCounts) -> FrameCounts {
    FrameCounts {
        arrived: a.arrived + b.arrived,
        answered: a.answered + b.answered,
        skipped: a.skipped + b.skipped,
        dropped: a.dropped + b.dropped,
        late: a.late + b.late,
        failed: a.failed + b.failed,
    }
}

/// Arrived, then the other counts with their part of the arrived, and how many were late.
pub(super) fn frame_cells(counts: FrameCounts) -> [String; 4] {
    let of_arrived = |count: u64| match counts.arrived {
        0 => count.to_string(),
        arrived => format!("{count} ({:.0} %)", count as f64 / arrived as f64 * 100.0),
    };
    let mut dropped = of_arrived(counts.dropped);
    if counts.late > 0 {
        dropped += &format!(", {} past their deadline", counts.late);
    }
    [
        counts.arrived.to_string(),
        of_arrived(counts.answered),
        of_arrived(counts.skipped),
        dropped,
    ]
}

/// An accuracy that may be unknown, in per cent.
pub(super) fn maybe_percent(accuracy: Option<f64>) -> String {
    accuracy.map_or_else(dash, percent)
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{self, assert_well_formed};
    use super::*;

    fn report() -> Report {
        Report {
            records: synthetic::records(
                &[1, 2],
                &[Some("low"), Some("<high>")],
                &["none", "uniform:0.5:<cheap>", "ekya"],
            ),
        }
    }

    /// The page without its style, whose text is not markup.
    fn body(page: &str) -> &str {
        page.split_once("</style>").unwrap().1
    }

    #[test]
    fn the_page_is_well_formed_and_names_are_escaped() {
        let page = page(&report()).unwrap();
        assert_well_formed(&page);
        for raw in ["<gate>", "<cheap>", "<high>", "<frames>", "& \"square\""] {
            assert!(!page.contains(raw), "{raw}");
        }
        assert!(page.contains("north &lt;gate&gt;"));
        assert!(page.contains("east &amp; &quot;square&quot;"));
    }

    #[test]
    fn nothing_comes_from_outside_and_nothing_is_run() {
        let page = page(&report()).unwrap();
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for foreign in [
            "http:", "https:", "//", "<script", "<link", "@import", "url(",
        ] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn every_part_is_there() {
        let page = page(&report()).unwrap();
        let body = body(&page);
        for part in [
            "<h2>Result</h2>",
            "Accuracy over time, load low",
            "Shares over time, load &lt;high&gt;",
            "<h2>Device time</h2>",
            "<h2>Frames</h2>",
            "promoted: 77 % &gt; 69 % on 41 held-out &lt;frames&gt;",
            "cpu0 (2 cores)",
        ] {
            assert!(body.contains(part), "{part}");
        }
        // Four streams, two kinds of chart, two loads.
        assert_eq!(body.matches("<svg ").count(), 16);
    }

    #[test]
    fn what_makes_runs_incomparable_is_said_first() {
        let mut report = report();
        report.records[0].1.complete = false;
        report.records[1].1.streams[0].failure = Some("camera <gone>".to_owned());
        report.records[2].1.streams[1].slowdown = 2.0;
        let page = page(&report).unwrap();
        let body = body(&page);
        let notice = body.find("was interrupted").unwrap();
        assert!(notice < body.find("<h2>Result</h2>").unwrap());
        assert!(body.contains("camera &lt;gone&gt;"));
        assert!(body.contains("(×2)"));
    }

    #[test]
    fn a_run_that_never_got_to_its_first_window_is_reported() {
        let mut report = Report {
            records: synthetic::records(&[1], &[None], &["ekya"]),
        };
        report.records[0].1.windows.clear();
        assert_well_formed(&page(&report).unwrap());
    }

    #[test]
    fn device_time_is_summed_by_purpose() {
        let record = &synthetic::records(&[1], &[None], &["ekya"])[0].1;
        let spent = Spent::of(record);
        assert!((spent.labelling - 5.0 * 4.0 * 1.2).abs() < 1e-9);
        assert!((spent.profiling - 5.0 * 4.0 * 2.1).abs() < 1e-9);
        // Ten of the twenty windows of a stream retrain.
        assert!((spent.training - 10.0 * 2.3).abs() < 1e-9);
        assert_eq!(spent.capacity, 100.0);
    }
}
