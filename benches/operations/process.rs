//! A node as a process, and what it takes of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

/// Has this program load libtorch and say what memory that takes.
pub(crate) const LOADED: &str = "--libtorch-alone";
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what a node has written.
const LOOK: Duration = Duration::from_millis(20);
/// Linux counts processor time in these, on every machine that libtorch runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// A running node.
pub(crate) struct Node {
    folder: PathBuf,
    process: Child,
    /// In Unix seconds.
    pub(crate) started: f64,
}

/// A frame and what became of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Settled {
    pub(crate) known_at: f64,
    pub(crate) stream: String,
    pub(crate) frame: u64,
    pub(crate) fate: String,
    pub(crate) latency_ms: Option<f64>,
}

impl Node {
    /// Starts one in a folder, with these lines of configuration and more arguments.
    pub(crate) fn start(folder: &Path, config: &str, arguments: &[&str]) -> Self {
        let file = folder.join("node.toml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let started = ekya::clock::unix_time();
        let process = Command::new(env!("CARGO_BIN_EXE_ekya"))
            .args(["run", "--config"])
            .arg(file)
            .arg("--out")
            .arg(folder.join("out"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let folder = folder.to_owned();
        Self {
            folder,
            process,
            started,
        }
    }

    /// What it has written of frames until now.
    pub(crate) fn settled(&self) -> Vec<Settled> {
        let text = fs::read_to_string(self.folder.join("out/results.jsonl")).unwrap_or_default();
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until something is found.
    pub(crate) fn wait<R>(&mut self, what: &str, find: impl Fn(&Self) -> Option<R>) -> R {
        let begin = Instant::now();
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            let has_ended = self.process.try_wait().unwrap().is_some();
            if has_ended || begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("{what}\n{log}");
            }
            thread::sleep(LOOK);
        }
    }

    /// Processor seconds by the names of its threads: those that it has now.
    pub(crate) fn processor_seconds(&self) -> BTreeMap<String, f64> {
        let mut seconds: BTreeMap<String, f64> = BTreeMap::new();
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        for task in tasks.flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            // A thread may end while it is looked at.
            let Some((name, stat)) = read("comm").zip(read("stat")) else {
                continue;
            };
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let fields: Vec<&str> = fields.split_whitespace().collect();
            let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
            // User and system time, the 14th and 15th field; the second one ends with the bracket.
            *seconds.entry(name.trim().to_owned()).or_default() +=
                (ticks(11) + ticks(12)) / TICKS_A_SECOND;
        }
        seconds
    }

    /// Bytes of memory that it has.
    pub(crate) fn memory(&self) -> f64 {
        memory_of(&self.process.id().to_string())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(mut self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGINT).unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Where the bench has panicked.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn memory_of(process: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<f64>().unwrap() * 1024.0
}

/// Bytes of memory of a process that has only loaded libtorch.
pub(crate) fn memory_of_libtorch() -> f64 {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).arg(LOADED).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().parse().unwrap()
}

/// The other side of [`memory_of_libtorch`].
pub(crate) fn load_libtorch() {
    ekya_models::set_compute_threads(1);
    println!("{}", memory_of("self"));
}

/// The value below which a part of the values are.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * part).round() as usize).copied()
}
