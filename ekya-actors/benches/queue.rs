//! What a device's queue costs: a dispatch where many jobs wait, a renewed lease where many are
//! registered, and changed grants.
//!
//! Physical limits: the queue alone is a few hundred instructions on memory that is in the cache. A
//! renewed lease adds two readings of the clock and a lock; handed over to another thread, the wake-up
//! of that.
//!
//! Prints one JSON document; progress goes to stderr. Times are medians over rounds, and the highest
//! beside them.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::Parser;
use ekya_actors::sfq::Sfq;
use ekya_actors::{Device, Grant, JobHandle};
use ekya_sched::Share;
use serde_json::json;

/// Jobs in the queue alone.
const JOBS: [usize; 4] = [1, 10, 100, 1000];
/// Jobs on a device.
const REGISTERED: usize = 1000;
/// Threads that take turns on it.
const ACTIVE: usize = 4;
/// Times that a measurement is begun anew.
const ROUNDS: usize = 21;

/// Measures the queue.
#[derive(Parser)]
struct Args {
    /// A tenth of it
    #[arg(long)]
    quick: bool,
    /// What `cargo bench` passes, and `cargo test` does not
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    if !args.bench {
        eprintln!(
            "not run: this takes some seconds; `cargo bench -p ekya-actors --bench queue` runs it"
        );
        return;
    }
    let scale = if args.quick { 1 } else { 10 };
    let dispatches = JOBS.map(|jobs| dispatch(jobs, 10_000 * scale));
    let document = json!({
        "dispatch": dispatches,
        "renew": renew(5_000 * scale),
        "hand_over": hand_over(500 * scale),
        "grants": grants(),
    });
    println!("{document}");
}

/// Median and highest of what one of `times` takes, in nanoseconds.
fn each(mut rounds: Vec<Duration>, times: usize) -> serde_json::Value {
    rounds.sort_unstable();
    let each = |round: Duration| round.as_secs_f64() * 1e9 / times as f64;
    json!({ "median_ns": each(rounds[rounds.len() / 2]), "highest_ns": each(rounds[rounds.len() - 1]) })
}

/// Between 1 and 40 ms, in no order that a branch predictor learns.
fn cost(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    1_000_000 + (*state >> 33) % 39_000_000
}

/// Enqueueing, dispatching and completing where every job always waits.
fn dispatch(jobs: usize, times: usize) -> serde_json::Value {
    let mut queue = Sfq::new(1);
    for number in 0..jobs {
        let job = queue.add();
        queue.set_weight(job, Share::from_micro(500 + number as u32 % 500));
        queue.enqueue(job);
    }
    let mut state = 1;
    let mut round = || {
        let start = Instant::now();
        for _ in 0..times {
            let (job, ticket) = queue.dispatch().expect("every job waits");
            queue.enqueue(job);
            queue.complete(ticket, cost(&mut state));
        }
        start.elapsed()
    };
    round();
    let rounds = (0..ROUNDS).map(|_| round()).collect();
    eprintln!("dispatches of {jobs} jobs: done");
    json!({ "jobs": jobs, "each": each(rounds, times) })
}

/// A device with many jobs that hold equal shares.
fn crowded() -> (Device, Vec<JobHandle>) {
    let device = Device::new("cpu0", 1);
    let jobs: Vec<JobHandle> = (0..REGISTERED)
        .map(|number| device.job(format!("job-{number}")))
        .collect();
    device.grant_all(&plan(&jobs, 0)).expect("the shares fit");
    (device, jobs)
}

/// Grants of about equal shares; those of one sequence number differ from those of the next.
fn plan(jobs: &[JobHandle], sequence: u64) -> Vec<Grant> {
    let grant = |(number, job): (usize, &JobHandle)| Grant {
        job: job.id(),
        share: Share::from_micro(900 + (number as u32 + sequence as u32) % 100),
        term: 0,
        sequence,
        expires: Some(Instant::now() + Duration::from_secs(3600)),
    };
    jobs.iter().enumerate().map(grant).collect()
}

/// Renewing a lease that nobody else waits for.
fn renew(times: usize) -> serde_json::Value {
    let (_device, jobs) = crowded();
    let round = |_| {
        let mut lease = jobs[REGISTERED / 2].lease().expect("the device is open");
        let start = Instant::now();
        for _ in 0..times {
            lease = lease.renew().expect("the device is open");
        }
        start.elapsed()
    };
    let rounds = (0..ROUNDS).map(round).collect();
    eprintln!("renewed leases: done");
    json!({ "registered": REGISTERED, "each": each(rounds, times) })
}

/// Renewing leases by turns with other threads.
fn hand_over(times: usize) -> serde_json::Value {
    let (_device, jobs) = crowded();
    let all_there = Barrier::new(ACTIVE);
    let turns = |job: &JobHandle| {
        all_there.wait();
        let mut lease = job.lease().expect("the device is open");
        for _ in 0..times {
            lease = lease.renew().expect("the device is open");
        }
    };
    let round = |_| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for job in &jobs[..ACTIVE] {
                scope.spawn(|| turns(job));
            }
        });
        start.elapsed()
    };
    let rounds = (0..ROUNDS).map(round).collect();
    eprintln!("leases handed over: done");
    json!({ "registered": REGISTERED, "threads": ACTIVE, "each": each(rounds, times * ACTIVE) })
}

/// Changing the shares of all jobs, and of one.
fn grants() -> serde_json::Value {
    let (device, jobs) = crowded();
    let time = |plan: &[Grant]| {
        let start = Instant::now();
        device.grant_all(black_box(plan)).expect("the shares fit");
        start.elapsed()
    };
    let plans = (1..=ROUNDS as u64).map(|sequence| plan(&jobs, sequence));
    let (all, one) = plans.map(|plan| (time(&plan), time(&plan[..1]))).unzip();
    eprintln!("grants: done");
    json!({ "jobs": REGISTERED, "all": each(all, 1), "one": each(one, 1) })
}
