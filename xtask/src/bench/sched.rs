//! The bench of the schedulers, `ekya-sched/benches/sched.rs`: runs it, reads criterion's estimates,
//! and has large plans made in a process each.
//!
//! What is timed, the bench says itself (`list`). A plan that is likely to take longer than
//! [`PATIENCE`] is left out, and so are the larger ones of its row of sizes.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::fit;
use super::row::Row;
use crate::{run, setup};

/// Longest time for a plan that has no target.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time for one that has.
const PATIENCE_WITH_TARGET: Duration = Duration::from_secs(300);
/// Plans made of one that has a target and takes long; the middle one counts.
const REPEATS: usize = 3;
/// A plan that took longer is not made again.
const TOO_LONG_TO_REPEAT: f64 = 20.0;

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

    /// Criterion's estimate of a point's time in seconds: the median, which other load on the
    /// machine disturbs least.
    fn estimate(&self, name: &str) -> Result<f64> {
        let file = self
            .estimates
            .join(format!("sched/{name}/new/estimates.json"));
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        median(&text).with_context(|| format!("{}: no median", file.display()))
    }

    /// Has one plan made; `None` when that takes too long.
    fn once(&self, name: &str, patience: Duration) -> Result<Option<Once>> {
        let mut command = self.command();
        let mut child = command
            .args(["once", name])
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the bench")?;
        if !ends_within(&mut child, patience)? {
            eprintln!("{name}: longer than {} s, left out", patience.as_secs());
            return Ok(None);
        }
        let mut text = String::new();
        let stdout = child.stdout.as_mut().context("no output")?;
        stdout
            .read_to_string(&mut text)
            .context("reading the bench")?;
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

/// Waits for a process; ends it when it takes too long.
fn ends_within(child: &mut Child, patience: Duration) -> Result<bool> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("waiting for the bench")? {
            if !status.success() {
                bail!("the bench ended with {status}");
            }
            return Ok(true);
        }
        if started.elapsed() > patience {
            child.kill().context("ending the bench")?;
            child.wait().context("waiting for the bench")?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A plan made once.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Once {
    seconds: f64,
    /// Those of them that it was on a core.
    computed: f64,
    /// Most memory of the process.
    bytes: f64,
}

impl Once {
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[seconds, computed, bytes] = &words[..] else {
            return None;
        };
        Some(Self {
            seconds: seconds.parse().ok()?,
            computed: computed.parse().ok()?,
            bytes: bytes.parse().ok()?,
        })
    }
}

/// What was found, by the names of the points.
#[derive(Default)]
struct Measured {
    seconds: HashMap<String, f64>,
    /// Of plans made in a process each.
    once: HashMap<String, Once>,
}

impl Measured {
    /// Measures points of rising size, as far as they are quick enough.
    fn take(&mut self, bench: &Bench, series: &[&Point]) -> Result<()> {
        let mut before: Vec<(f64, f64)> = Vec::new();
        for point in series {
            if point.is_sampled {
                let seconds = bench.estimate(&point.name)?;
                self.seconds.insert(point.name.clone(), seconds);
            } else if !self.seconds.contains_key(&point.name) {
                let likely = point.size().and_then(|size| foreseen(&before, size));
                if likely.is_some_and(|seconds| seconds > PATIENCE.as_secs_f64()) {
                    eprintln!("{}: likely to take too long, left out", point.name);
                    return Ok(());
                }
                if !self.make(bench, point)? {
                    return Ok(());
                }
            }
            let seconds = self.seconds.get(&point.name).copied();
            before.extend(point.size().zip(seconds));
        }
        Ok(())
    }

    /// Makes a plan, or some; false when that takes too long.
    fn make(&mut self, bench: &Bench, point: &Point) -> Result<bool> {
        let (repeats, patience) = if point.has_target() {
            (REPEATS, PATIENCE_WITH_TARGET)
        } else {
            (1, PATIENCE)
        };
        let mut all: Vec<Once> = Vec::new();
        while all.len() < repeats && all.iter().all(|once| once.seconds < TOO_LONG_TO_REPEAT) {
            let Some(once) = bench.once(&point.name, patience)? else {
                return Ok(false);
            };
            eprintln!(
                "{}: {:.3} s, of which {:.3} s computing",
                point.name, once.seconds, once.computed
            );
            all.push(once);
        }
        all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let middle = all[all.len() / 2];
        self.seconds.insert(point.name.clone(), middle.seconds);
        self.once.insert(point.name.clone(), middle);
        Ok(true)
    }
}

/// What a size is likely to take, going on as from the last size but one to the last.
fn foreseen(before: &[(f64, f64)], size: f64) -> Option<f64> {
    let &[.., (size_a, a), (size_b, b)] = before else {
        return None;
    };
    let growth = (b / a).ln() / (size_b / size_a).ln();
    Some(b * (size / size_b).powf(growth))
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
    rows.extend(
        points
            .iter()
            .flat_map(|point| process_rows(point, measured)),
    );
    rows
}

/// More about a plan that has targets and was made in a process of its own: its time without what
/// it waited for a core, which other load on the machine makes longer, and its memory.
fn process_rows(point: &Point, measured: &Measured) -> Vec<Row> {
    let once = measured.once.get(&point.name);
    let Some(once) = once.filter(|_| point.question == "targets") else {
        return Vec::new();
    };
    let name = |what| format!("{}_{what}", point.name);
    vec![
        Row::new(name("computing"), once.computed, "s"),
        Row::new(name("memory"), once.bytes / 1e6, "MB").at_most(MEMORY_TARGET_MB),
    ]
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
            once: HashMap::new(),
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
    fn times_go_on_as_they_grew() {
        let seconds = foreseen(&[(1.0, 9.0), (10.0, 1.0), (100.0, 100.0)], 1000.0);
        assert!(seconds.is_some_and(|seconds| (seconds - 10_000.0).abs() < 1e-6));
        assert_eq!(foreseen(&[(10.0, 1.0)], 100.0), None);
    }

    #[test]
    fn a_plan_made_once_is_read() {
        let once = Once {
            seconds: 2.5,
            computed: 2.0,
            bytes: 4096.0,
        };
        assert_eq!(Once::parse("2.5 2 4096\n"), Some(once));
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
