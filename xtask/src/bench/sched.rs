//! The bench of the schedulers, `ekya-sched/benches/sched.rs`: runs it, reads criterion's estimates,
//! and has large plans made in a process each.
//!
//! What is timed, the bench says itself (`list`). Times are what a plan computes, without what it
//! waits for a core on a busy machine. Where a plan took longer than [`LONG`], the larger ones of its
//! row of sizes are left out, unless they have a target.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::fit;
use super::row::Row;
use crate::{run, setup};

/// Seconds above which larger plans would take longer than a minute.
const LONG: f64 = 20.0;
/// Longest time for any plan, with what it waits for a core.
const PATIENCE: Duration = Duration::from_secs(300);
/// Plans made of one that has a target, unless it takes [`LONG`]; the middle one counts.
const REPEATS: usize = 3;

/// Sizes that have a target: (streams x GPUs x configurations, seconds of the thief, of the best plan).
const TARGETS: [(&str, f64, f64); 2] = [("10x8x18", 2e-3, 50e-3), ("1000x100x18", 2.0, 10.0)];
const MEMORY_TARGET_MB: f64 = 500.0;
/// The paper's thief in Python, with 10 streams, 8 GPUs in one, and 18 configurations.
const PAPER: (&str, &str, f64) = ("10x8x18_pooled", "the paper's thief in Python", 5.9);

/// Times the schedulers.
///
/// # Errors
/// When the bench does not build or run, or says what cannot be read.
pub(super) fn rows(quick: bool) -> Result<Vec<Row>> {
    let bench = Bench::build()?;
    let points = bench.points(quick)?;
    bench.sample(quick)?;
    let mut measured = Measured::default();
    for question in questions(&points) {
        for series in series(&points, &question) {
            measured.take(&bench, &series)?;
        }
    }
    let mut rows = target_rows(&points, &measured);
    for question in questions(&points) {
        if question != "targets" {
            rows.extend(growth_rows(&points, &question, &measured));
        }
    }
    Ok(rows)
}

/// Something that the bench can time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Point {
    question: String,
    /// `thief_10x8x18_pooled`.
    name: String,
    is_sampled: bool,
}

impl Point {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[question, name, how] = &words[..] else {
            return None;
        };
        let point = Self {
            question: question.into(),
            name: name.into(),
            is_sampled: how == "sampled",
        };
        point.parts()?;
        Some(point)
    }

    /// Scheduler, size and kind of devices.
    fn parts(&self) -> Option<[&str; 3]> {
        let parts: Vec<&str> = self.name.split('_').collect();
        parts.try_into().ok()
    }

    /// What all points of one line of a graph have in common.
    fn series(&self) -> String {
        let [scheduler, _, devices] = self.parts().unwrap_or_default();
        format!("{scheduler}_{}_{devices}", self.question)
    }

    /// What grows in its question.
    fn size(&self) -> Option<f64> {
        let mut sizes = self.parts()?[1].split('x').map(|size| size.parse().ok());
        let place = match self.question.as_str() {
            "gpus" => 1,
            "configurations" => 2,
            _ => 0,
        };
        sizes.nth(place)?
    }

    fn has_target(&self) -> bool {
        self.target().is_some()
    }

    /// Seconds that it should take at most.
    fn target(&self) -> Option<f64> {
        let [scheduler, size, _] = self.parts()?;
        let &(_, thief, best) = TARGETS.iter().find(|target| target.0 == size)?;
        Some(if scheduler == "thief" { thief } else { best })
    }
}

/// Questions in the order in which they come.
fn questions(points: &[Point]) -> Vec<String> {
    let mut questions: Vec<String> = points.iter().map(|point| point.question.clone()).collect();
    questions.dedup();
    questions
}

/// The points of a question that are to be compared with each other, by rising size.
fn series<'a>(points: &'a [Point], question: &str) -> Vec<Vec<&'a Point>> {
    let points = points.iter().filter(|point| point.question == question);
    let points: Vec<&Point> = points.collect();
    let chunks = points.chunk_by(|a, b| a.series() == b.series());
    chunks.map(<[&Point]>::to_vec).collect()
}

/// The program that times.
struct Bench {
    program: PathBuf,
    /// Where criterion leaves its estimates.
    estimates: PathBuf,
}

impl Bench {
    fn build() -> Result<Self> {
        let mut command = run::cargo(["bench", "--package", "ekya-sched", "--bench", "sched"]);
        command
            .args(["--no-run", "--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit());
        run::announce(&command);
        let output = command.output().context("starting cargo")?;
        if !output.status.success() {
            bail!("the bench does not build: mend what is listed above");
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let program = messages.lines().find_map(program_of);
        let program = program.context("cargo names no program for the bench")?;
        let target = program.ancestors().nth(3).context("no target folder")?;
        Ok(Self {
            estimates: target.join("criterion"),
            program,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(setup::root())
            .env("CRITERION_HOME", &self.estimates)
            .stdin(Stdio::null());
        command
    }

    fn points(&self, quick: bool) -> Result<Vec<Point>> {
        let output = self.command().arg("list").output();
        let output = output.context("starting the bench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let points = text
            .lines()
            .map(|line| Point::parse(line).with_context(|| format!("no point: {line:?}")));
        let mut points = points.collect::<Result<Vec<Point>>>()?;
        points.retain(|point| !quick || point.question == "targets");
        Ok(points)
    }

    /// Has criterion time what can be repeated.
    fn sample(&self, quick: bool) -> Result<()> {
        let mut command = self.command();
        command.args(["--bench", "--noplot"]);
        if quick {
            command.arg(format!("_{}_", TARGETS[0].0));
        }
        eprintln!("timing small problems");
        // The table alone goes to stdout.
        let status = command.stdout(Stdio::from(io::stderr())).status();
        let status = status.context("starting the bench")?;
        if !status.success() {
            bail!("the bench ended with {status}");
        }
        Ok(())
    }

    /// Criterion's estimate of a point's time in seconds: the median, which neighbours on
    /// the machine disturb least.
    fn estimate(&self, name: &str) -> Result<f64> {
        let file = self
            .estimates
            .join(format!("sched/{name}/new/estimates.json"));
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        median(&text).with_context(|| format!("{}: no median", file.display()))
    }

    /// Has one plan made; `None` when that takes too long.
    fn once(&self, name: &str) -> Result<Option<Once>> {
        let mut command = self.command();
        let mut child = command
            .args(["once", name])
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the bench")?;
        let Some(text) = output_in_time(&mut child)? else {
            eprintln!("{name}: longer than {} s, left out", PATIENCE.as_secs());
            return Ok(None);
        };
        let once = Once::parse(&text).with_context(|| format!("{name}: {text:?} is no time"))?;
        Ok(Some(once))
    }
}

/// The bench's program, if this line of cargo's is about it.
fn program_of(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_bench = message["target"]["kind"][0] == "bench" && message["target"]["name"] == "sched";
    let program = message["executable"].as_str()?;
    is_bench.then(|| Path::new(program).to_owned())
}

/// Seconds, from criterion's nanoseconds.
fn median(estimates: &str) -> Option<f64> {
    let estimates: Value = serde_json::from_str(estimates).ok()?;
    Some(estimates["median"]["point_estimate"].as_f64()? / 1e9)
}

/// What a process prints until it ends; `None` when it takes too long, and is ended.
fn output_in_time(child: &mut Child) -> Result<Option<String>> {
    let mut stdout = child.stdout.take().context("no output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        // Nobody waits any more for one that took too long.
        let _ = sender.send(read);
    });
    let Ok(text) = receiver.recv_timeout(PATIENCE) else {
        child.kill().context("ending the bench")?;
        child.wait().context("waiting for the bench")?;
        return Ok(None);
    };
    let status = child.wait().context("waiting for the bench")?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(Some(text.context("reading the bench")?))
}

/// A plan made once.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Once {
    /// That it computed.
    seconds: f64,
    /// That went by meanwhile.
    elapsed: f64,
    /// Most memory of the process.
    bytes: f64,
}

impl Once {
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[seconds, elapsed, bytes] = &words[..] else {
            return None;
        };
        Some(Self {
            seconds: seconds.parse().ok()?,
            elapsed: elapsed.parse().ok()?,
            bytes: bytes.parse().ok()?,
        })
    }
}

/// What was found, by the names of the points.
#[derive(Default)]
struct Measured {
    seconds: HashMap<String, f64>,
    /// Most memory, of plans made in a process each.
    bytes: HashMap<String, f64>,
}

impl Measured {
    /// Measures points of rising size, as far as they are quick enough.
    fn take(&mut self, bench: &Bench, series: &[&Point]) -> Result<()> {
        for point in series {
            if point.is_sampled {
                let seconds = bench.estimate(&point.name)?;
                self.seconds.insert(point.name.clone(), seconds);
            } else if !self.seconds.contains_key(&point.name) {
                self.make(bench, point)?;
            }
            let seconds = self.seconds.get(&point.name);
            if point.question != "targets" && seconds.is_none_or(|&seconds| seconds > LONG) {
                eprintln!("{}: what is larger is left out", point.name);
                break;
            }
        }
        Ok(())
    }

    /// Makes a plan, or some, if it does not take too long.
    fn make(&mut self, bench: &Bench, point: &Point) -> Result<()> {
        let repeats = if point.has_target() { REPEATS } else { 1 };
        let mut all: Vec<Once> = Vec::new();
        while all.len() < repeats && all.iter().all(|once| once.seconds < LONG) {
            let Some(once) = bench.once(&point.name)? else {
                return Ok(());
            };
            eprintln!(
                "{}: {:.3} s in {:.3} s",
                point.name, once.seconds, once.elapsed
            );
            all.push(once);
        }
        all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let middle = all[all.len() / 2];
        self.seconds.insert(point.name.clone(), middle.seconds);
        self.bytes.insert(point.name.clone(), middle.bytes);
        Ok(())
    }
}

/// Times and, where a process made one plan alone, memory of what has targets.
fn target_rows(points: &[Point], measured: &Measured) -> Vec<Row> {
    let mut rows = Vec::new();
    for point in points.iter().filter(|point| point.question == "targets") {
        let Some((&seconds, target)) = measured.seconds.get(&point.name).zip(point.target()) else {
            continue;
        };
        let (per_second, unit) = if target < 1.0 {
            (1e3, "ms")
        } else {
            (1.0, "s")
        };
        let row = Row::new(point.name.clone(), seconds * per_second, unit);
        let (size, baseline, paper) = PAPER;
        let row = if point.name.ends_with(&format!("_{size}")) {
            row.against(baseline, paper * per_second)
        } else {
            row
        };
        rows.push(row.at_most(target * per_second));
    }
    let memory = points.iter().filter(|point| point.question == "targets");
    rows.extend(memory.filter_map(|point| {
        let bytes = measured.bytes.get(&point.name)?;
        let name = format!("{}_memory", point.name);
        Some(Row::new(name, bytes / 1e6, "MB").at_most(MEMORY_TARGET_MB))
    }));
    rows
}

/// The times of a question, each line of them followed by how it grows.
fn growth_rows(points: &[Point], question: &str, measured: &Measured) -> Vec<Row> {
    let mut rows = Vec::new();
    for series in series(points, question) {
        let times = series.iter().filter_map(|point| {
            let seconds = *measured.seconds.get(&point.name)?;
            Some((*point, point.size()?, seconds))
        });
        let times: Vec<_> = times.collect();
        let row = |&(point, _, seconds): &(&Point, f64, f64)| {
            Row::new(format!("{question}:{}", point.name), seconds * 1e3, "ms")
        };
        rows.extend(times.iter().map(row));
        let logs: Vec<(f64, f64)> = times.iter().map(|&(_, size, s)| (size, s)).collect();
        if let (Some(point), Some(exponent)) = (series.first(), fit::exponent(&logs)) {
            rows.push(Row::new(point.series(), exponent, "exponent"));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(line: &str) -> Point {
        Point::parse(line).expect("a point")
    }

    #[test]
    fn a_line_of_the_bench_is_a_point() {
        let point = point("gpus optimal_10x64x18_separate sampled");
        assert_eq!(point.series(), "optimal_gpus_separate");
        assert_eq!(point.size(), Some(64.0));
        assert!(point.is_sampled && !point.has_target());
        assert_eq!(Point::parse("gpus thief sampled"), None);
    }

    #[test]
    fn the_paper_is_compared_with_the_pooled_size_alone() {
        let points = [
            point("targets thief_10x8x18_pooled sampled"),
            point("targets thief_10x8x18_separate sampled"),
        ];
        let seconds = points.iter().map(|point| (point.name.clone(), 0.0059));
        let measured = Measured {
            seconds: seconds.collect(),
            bytes: HashMap::new(),
        };
        let rows = target_rows(&points, &measured);
        let row = |point: &Point| Row::new(point.name.clone(), 0.0059 * 1e3, "ms");
        assert_eq!(
            rows[0],
            row(&points[0]).against(PAPER.1, 5900.0).at_most(2.0)
        );
        assert_eq!(rows[1], row(&points[1]).at_most(2.0));
    }

    #[test]
    fn a_plan_made_once_is_read() {
        let once = Once {
            seconds: 2.0,
            elapsed: 2.5,
            bytes: 4096.0,
        };
        assert_eq!(Once::parse("2 2.5 4096\n"), Some(once));
        assert_eq!(Once::parse("2.5 4096\n"), None);
    }

    #[test]
    fn criterion_and_cargo_are_read() {
        let estimates = r#"{"mean":{"point_estimate":9.0},"median":{"point_estimate":2e9}}"#;
        assert_eq!(median(estimates), Some(2.0));
        let line = r#"{"target":{"kind":["bench"],"name":"sched"},"executable":"/t/x"}"#;
        assert_eq!(program_of(line), Some(PathBuf::from("/t/x")));
        assert_eq!(program_of(&line.replace("bench", "lib")), None);
    }
}
