//! Eight streams that are retrained all the time, in workers of which one is killed every few seconds:
//! what grows, and what is left over.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{interrupt, resident, start};
use crate::run;

/// Time between two looks; at each a worker is killed.
const LOOK: Duration = Duration::from_secs(3);
/// Streams.
const STREAMS: usize = 8;
/// Growth of the node's memory after the first third of the time, in MiB a minute, at most.
const SLOPE_MAX: f64 = 1.0;
/// How workers are killed, by turns. (A signal SIGSEGV from outside Rust takes for a false alarm at
/// first.)
const WAYS: [Signal; 4] = [
    Signal::SIGKILL,
    Signal::SIGABRT,
    Signal::SIGTERM,
    Signal::SIGILL,
];

/// What a process has at one time.
struct Look {
    minutes: f64,
    memory: f64,
    threads: usize,
    descriptors: usize,
    /// Memory of all workers, in MiB.
    workers: f64,
}

/// Runs the streams for `length`.
pub(super) fn devices(length: Duration) -> Result<ExitCode> {
    let ekya = ["--package", "ekya", "--bin", "ekya"];
    run::must_pass(run::cargo(["build"]).args(ekya), "mend what does not build")?;
    let folder = tempfile::tempdir().context("no folder for the run")?;
    let config = folder.path().join("streams.toml");
    fs::write(&config, streams()?).with_context(|| config.display().to_string())?;
    let before = shared_folders()?;
    let mut command = run::cargo(["run", "--quiet"]);
    command.args(ekya).args(["--", "run", "--config"]);
    command.arg(&config).arg("--out").arg(folder.path());
    // Each killed worker is told of, which is as it should be.
    let mut child = start(command.env("EKYA_LOG", "error"))?;
    let watched = watch(child.id(), length);
    interrupt(&child)?;
    let status = child.wait().context("waiting for ekya")?;
    let (looks, killed) = watched?;
    ensure!(status.success(), "ekya ended with {status}");
    judge(&looks, &killed)?;
    frames_add_up(&folder.path().join("run.json"))?;
    let left: Vec<_> = shared_folders()?.difference(&before).cloned().collect();
    ensure!(left.is_empty(), "left in shared memory: {left:?}");
    for worker in killed {
        ensure!(kill(worker, None).is_err(), "the worker {worker} is left");
    }
    Ok(ExitCode::SUCCESS)
}

/// Drifting scenes, labelled for nothing and retrained whenever that pays. They remember few frames, so
/// that their memory is full when the first third is over.
fn streams() -> Result<String> {
    let mut text = "[run]\nwindow_seconds = 10.0\n[[device]]\nname = \"cpu0\"\nkind = \"cpu\"\n\
         [learning]\nmemory = 8\n"
        .to_owned();
    let presets = ["nightfall", "storm", "newcomers", "fleet"];
    for (index, preset) in presets.iter().cycle().take(STREAMS).enumerate() {
        writeln!(
            text,
            "[[stream]]\nname = \"s{index}\"\nteacher = \"labels\"\n\
             source = {{ scene = {{ fps = 5.0, seed = {}, preset = \"{preset}\" }} }}\n\
             student = {{ classifier = {{ weights = \"scene\" }} }}",
            300 + index
        )?;
    }
    Ok(text)
}

/// Looks at the node for so long, and kills workers; which ones.
fn watch(node: u32, length: Duration) -> Result<(Vec<Look>, Vec<Pid>)> {
    let (started, mut looks, mut killed) = (Instant::now(), Vec::new(), Vec::new());
    while started.elapsed() < length {
        thread::sleep(LOOK);
        let look = look(node, started).context("ekya has ended by itself")?;
        if looks.len() % 20 == 0 {
            eprintln!(
                "{:.0} min: {:.0} MiB, {} threads, {} descriptors; workers {:.0} MiB, {} killed",
                look.minutes,
                look.memory,
                look.threads,
                look.descriptors,
                look.workers,
                killed.len()
            );
        }
        looks.push(look);
        let workers = children(node);
        if workers.is_empty() {
            continue;
        }
        let worker = workers[killed.len() % workers.len()];
        // It may have ended meanwhile.
        if kill(worker, WAYS[killed.len() % WAYS.len()]).is_ok() {
            killed.push(worker);
        }
    }
    Ok((looks, killed))
}

fn look(node: u32, started: Instant) -> Result<Look> {
    let count = |of: &str| -> Result<usize> {
        let path = format!("/proc/{node}/{of}");
        Ok(fs::read_dir(&path).with_context(|| path.clone())?.count())
    };
    let workers = children(node).into_iter();
    let memory = workers.filter_map(|worker| resident(worker.as_raw().unsigned_abs()).ok());
    Ok(Look {
        minutes: started.elapsed().as_secs_f64() / 60.0,
        memory: resident(node)?,
        threads: count("task")?,
        descriptors: count("fd")?,
        workers: memory.sum(),
    })
}

/// Processes that the node has started.
fn children(node: u32) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{node}/task"));
    let tasks = tasks.into_iter().flatten().filter_map(Result::ok);
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let all: Vec<String> = lists.collect();
    let pids = all.iter().flat_map(|list| list.split_whitespace());
    pids.filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

/// Folders of exchanges.
fn shared_folders() -> Result<BTreeSet<String>> {
    let names = fs::read_dir("/dev/shm").context("/dev/shm")?;
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with("ekya-")).collect())
}

/// What has grown after the first third.
fn judge(looks: &[Look], killed: &[Pid]) -> Result<()> {
    let third = looks.len() / 3;
    let (first, rest) = looks.split_at(third);
    if first.is_empty() {
        bail!("too short to tell");
    }
    let slope = slope(rest.iter().map(|look| (look.minutes, look.memory)));
    let most = |looks: &[Look], of: fn(&Look) -> usize| looks.iter().map(of).max().unwrap_or(0);
    let threads = [first, rest].map(|part| most(part, |look| look.threads));
    let descriptors = [first, rest].map(|part| most(part, |look| look.descriptors));
    println!(
        "{} workers killed; memory of the node grows by {slope:.2} MiB a minute; at most {threads:?} threads and \
         {descriptors:?} descriptors in the first third and after it",
        killed.len()
    );
    ensure!(
        slope <= SLOPE_MAX,
        "memory goes on growing, by more than {SLOPE_MAX} MiB a minute"
    );
    ensure!(threads[1] <= threads[0], "threads go on growing in number");
    ensure!(
        descriptors[1] <= descriptors[0],
        "descriptors go on growing in number"
    );
    Ok(())
}

/// Slope of the line of least squares.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|(x, _)| x), mean(|(_, y)| y));
    let products = points.map(|point| ((point.0 - x) * (point.1 - y), (point.0 - x).powi(2)));
    let (above, below) = products.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    above / below
}

/// Every frame that has arrived has its fate.
fn frames_add_up(record: &Path) -> Result<()> {
    let text = fs::read(record).with_context(|| record.display().to_string())?;
    let record: serde_json::Value = serde_json::from_slice(&text).context("run.json")?;
    for stream in record["streams"].as_array().context("streams")? {
        let frames = &stream["frames"];
        let count = |name: &str| frames[name].as_u64().unwrap_or(0);
        let settled = count("answered") + count("skipped") + count("dropped");
        ensure!(
            count("arrived") == settled,
            "frames do not add up: {frames}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line() {
        let points = [(0.0, 1.0), (1.0, 3.5), (2.0, 4.5), (3.0, 7.0)];
        assert!((slope(points.into_iter()) - 1.9).abs() < 1e-9);
    }
}
