//! How long a plan takes: of the thief and of the best plan, at the sizes that have a target, and
//! growing with streams, GPUs and configurations. The problems are made up ([`synthetic`]).
//!
//! `cargo bench -p ekya-sched` times what is small enough to be repeated, with criterion. Two more
//! modes are for `cargo xtask bench sched`, which also prints the table: `list` names all points,
//! and `once POINT` makes one plan, so that a process' peak memory is that plan's. Times are what
//! the thread computes ([`clock`]). None is asserted: what a machine takes is for people to judge.
//!
//! The limit: a plan has to look at every option of every stream once, 18 retraining options of 64
//! bytes and 12 inference options of 16. That is 13 kB for 10 streams and 1.3 MB for 1,000, which
//! at 10 GB/s are read in 1.3 µs and in 0.13 ms; and a plan of 1,000 streams, with its reasons, is
//! itself some hundred kB to write. Everything above is searching.

// A bench that cannot go on has nobody to tell but the terminal.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod clock;
mod points;
mod synthetic;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};

use points::{Point, questions};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list"] => list(),
        ["once", name] => once(name),
        _ => sample(),
    }
}

/// One line a point: its question, its name, and whether it is timed `once` or `sampled`.
fn list() {
    for (question, points) in questions() {
        for point in points {
            let how = if point.is_large() { "once" } else { "sampled" };
            println!("{question} {point} {how}");
        }
    }
}

/// Makes one plan and prints the seconds that it computed, those that went by meanwhile, and the
/// most memory the process had, in bytes.
fn once(name: &str) {
    let point: Point = name.parse().unwrap();
    let problem = synthetic::problem(point.size, point.devices);
    let scheduler = point.scheduler.scheduler();
    let (started, began) = (clock::now(), Instant::now());
    let plan = scheduler.plan(&problem).unwrap();
    let (computed, elapsed) = (clock::now() - started, began.elapsed());
    eprintln!(
        "{name}: accuracy {}, gap {:?}",
        plan.mean_accuracy,
        plan.gap()
    );
    let [computed, elapsed] = [computed, elapsed].map(|time| time.as_secs_f64());
    println!("{computed} {elapsed} {}", peak_memory());
}

/// The largest resident memory so far, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

/// Times all small points with criterion, or those that its command line chooses; one that belongs
/// to several questions once.
fn sample() {
    let mut criterion = Criterion::default()
        .with_measurement(clock::Computing)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut group = criterion.benchmark_group("sched");
    group.sampling_mode(SamplingMode::Flat);
    let mut seen = HashSet::new();
    let points = questions().into_iter().flat_map(|(_, points)| points);
    for point in points.filter(|point| !point.is_large()) {
        let name = point.to_string();
        if seen.insert(name.clone()) {
            let problem = synthetic::problem(point.size, point.devices);
            let scheduler = point.scheduler.scheduler();
            group.bench_function(name, |bencher| {
                bencher.iter(|| scheduler.plan(&problem).unwrap());
            });
        }
    }
    group.finish();
    criterion.final_summary();
}
