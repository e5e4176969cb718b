//! What takes longer than `cargo xtask test` may: each soak by its name.

mod devices;

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::run;

/// Random cases of a property, unless `PROPTEST_CASES` says otherwise; `cargo test` tries 256.
const CASES: &str = "10000";
/// Time between two looks at the memory.
const LOOK: Duration = Duration::from_secs(5);
/// By how much the largest memory of the last third may be above that of the second: room for the
/// record, which keeps every window, and for what the allocator does.
const GROWTH: f64 = 1.05;

/// A long test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Soak {
    /// All tests, with every property tried on 10,000 random cases (or as many as `PROPTEST_CASES` says).
    Properties,
    /// What nodes say to each other, simulated on 100,000 networks (or those of `EKYA_SEEDS=FROM..TO`).
    Actors,
    /// Three nodes on a machine whose cores are all busy, for an hour; fails when one is taken for dead.
    Membership,
    /// Eight streams that are retrained all the time, in workers of which one is killed every few seconds;
    /// fails when something grows, is left over, or a frame has no fate.
    Devices,
    /// Every way in which a worker can die, a hundred times each (or as often as `EKYA_FAULTS` says).
    Faults,
    /// A node that is killed 200 times at random moments (or as often as `EKYA_KILLS` says).
    Kill,
    /// The streams of examples/scenes.toml for an hour; fails when their memory goes on growing.
    Memory,
}

impl Soak {
    /// Nodes are built without libtorch.
    pub(crate) const fn needs_setup(self) -> bool {
        !matches!(self, Self::Membership)
    }
}

/// Runs a soak; `minutes` is how long [`Soak::Devices`], [`Soak::Membership`] and [`Soak::Memory`] take.
///
/// # Errors
/// When something cannot be started, or the soak finds fault.
pub(crate) fn soak(soak: Soak, minutes: u64) -> Result<ExitCode> {
    match soak {
        Soak::Properties => {
            let cases = std::env::var_os("PROPTEST_CASES");
            let cases = cases.as_deref().unwrap_or(OsStr::new(CASES));
            run::test_with(&[], [("PROPTEST_CASES", cases)])
        }
        Soak::Actors => actors(),
        Soak::Membership => membership(minutes),
        Soak::Devices => devices::devices(Duration::from_secs(60 * minutes)),
        Soak::Faults => often("faults", "EKYA_FAULTS", FAULTS),
        Soak::Kill => often("killed", "EKYA_KILLS", KILLS),
        Soak::Memory => memory(Duration::from_secs(60 * minutes)),
    }
}

/// Seeds of simulated networks, unless `EKYA_SEEDS` says others; `cargo test` tries 2,000.
const SEEDS: &str = "0..100000";

fn actors() -> Result<ExitCode> {
    let mut command = run::cargo(["test", "--workspace", "--lib", "simulation"]);
    if std::env::var_os("EKYA_SEEDS").is_none() {
        command.env("EKYA_SEEDS", SEEDS);
    }
    run::must_pass(
        &mut command,
        "the seed that it names repeats what went wrong",
    )?;
    Ok(ExitCode::SUCCESS)
}

fn membership(minutes: u64) -> Result<ExitCode> {
    let mut command = run::cargo(["test", "--package", "ekya-actors", "--test", "load"]);
    command.args(["--", "--ignored", "--nocapture"]);
    command.env("EKYA_SOAK_MINUTES", minutes.to_string());
    run::must_pass(
        &mut command,
        "a node that lives was taken for dead, or this machine was suspended",
    )?;
    Ok(ExitCode::SUCCESS)
}

/// How often each fault is tried, unless `EKYA_FAULTS` says otherwise; `cargo test` tries 5 times.
const FAULTS: &str = "100";

/// How often a node is killed, unless `EKYA_KILLS` says otherwise; `cargo test` does it 10 times.
const KILLS: &str = "200";

/// A test as often as `variable` says, or else `usual`.
fn often(test: &str, variable: &str, usual: &str) -> Result<ExitCode> {
    let mut command = run::cargo(["test", "--package", "ekya", "--test", test]);
    command.args(["--", "--nocapture"]);
    if std::env::var_os(variable).is_none() {
        command.env(variable, usual);
    }
    run::must_pass(&mut command, "the error says what a fault came to")?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `ekya` for `length` and compares the memory of the second and the last third; the first
/// warms up.
fn memory(length: Duration) -> Result<ExitCode> {
    let ekya = ["--package", "ekya", "--bin", "ekya"];
    run::must_pass(run::cargo(["build"]).args(ekya), "mend what does not build")?;
    let out = tempfile::tempdir().context("no folder for the run")?;
    let mut command = run::cargo(["run", "--quiet"]);
    command
        .args(ekya)
        .args(["--", "run", "--config", "examples/scenes.toml", "--out"]);
    command.arg(out.path()).env("EKYA_LOG", "warn");
    let mut child = start(&mut command)?;
    let looks = match watch(&mut child, length) {
        Ok(looks) => looks,
        Err(error) => {
            child.kill().context("killing ekya")?;
            return Err(error);
        }
    };
    interrupt(&child)?;
    let status = child.wait().context("waiting for ekya")?;
    if !status.success() {
        bail!("ekya ended with {status}");
    }
    let thirds = peaks(&looks)?;
    let growth = thirds[2] / thirds[1];
    println!(
        "largest memory by thirds of {} min: {:.0}, {:.0}, {:.0} MiB; the last is {growth:.3} times the second",
        length.as_secs() / 60,
        thirds[0],
        thirds[1],
        thirds[2],
    );
    if growth > GROWTH {
        bail!("memory goes on growing: {growth:.3} times, at most {GROWTH} is fine");
    }
    Ok(ExitCode::SUCCESS)
}

fn start(command: &mut Command) -> Result<Child> {
    run::announce(command);
    command
        .stdin(Stdio::null())
        .spawn()
        .context("starting cargo")
}

/// Resident memory in MiB, every [`LOOK`] of `length`.
fn watch(child: &mut Child, length: Duration) -> Result<Vec<f64>> {
    let started = Instant::now();
    let mut looks = Vec::new();
    let mut told = 0;
    while started.elapsed() < length {
        thread::sleep(LOOK);
        if let Some(status) = child.try_wait().context("looking at ekya")? {
            bail!("ekya ended by itself, with {status}");
        }
        // `cargo run` becomes the program it starts, so the child is `ekya` itself.
        let memory = resident(child.id())?;
        looks.push(memory);
        let minutes = started.elapsed().as_secs() / 60;
        if minutes > told {
            told = minutes;
            eprintln!("{minutes} min: {memory:.0} MiB");
        }
    }
    Ok(looks)
}

/// Resident memory of a process in MiB.
fn resident(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    parse_resident(&text).with_context(|| format!("{path}: no line VmRSS"))
}

fn parse_resident(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The largest of each third.
fn peaks(looks: &[f64]) -> Result<[f64; 3]> {
    let third = looks.len() / 3;
    if third == 0 {
        bail!("too short to tell: less than three looks at the memory");
    }
    let peak = |part: usize| {
        let part = &looks[part * third..(part + 1) * third];
        part.iter().copied().fold(0.0, f64::max)
    };
    Ok([peak(0), peak(1), peak(2)])
}

/// What Ctrl-C does: the run ends by itself.
fn interrupt(child: &Child) -> Result<()> {
    let process = i32::try_from(child.id()).context("a process number")?;
    let process = nix::unistd::Pid::from_raw(process);
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).context("stopping ekya")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_mebibytes() {
        let status = "Name:\tekya\nVmPeak:\t 9999 kB\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(parse_resident(status), Some(2.0));
        assert_eq!(parse_resident("Name:\tekya\n"), None);
    }

    #[test]
    fn thirds_are_compared_by_their_peaks() -> Result<()> {
        assert_eq!(peaks(&[9.0, 1.0, 2.0, 3.0, 5.0, 4.0])?, [9.0, 3.0, 5.0]);
        assert!(peaks(&[1.0, 2.0]).is_err());
        Ok(())
    }
}
