//! Shares of jobs that always have work, work that an idle job leaves to the others, and changed
//! grants.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use ekya::worker::Hosting;
use ekya_actors::Device;
use ekya_models::Architecture;
use serde_json::json;

use super::jobs::{Capped, Training, grant, placement, threads};

/// How often the kernel is asked.
const SAMPLE: Duration = Duration::from_millis(50);
/// Mixes of shares in tenths.
const MIXES: [[u32; 4]; 4] = [[1, 2, 3, 4], [4, 3, 2, 1], [7, 1, 1, 1], [1, 1, 1, 7]];

/// Runs each mix for so many seconds: with four small students, whose steps are as long as they may
/// be, and with two of them and two ResNet18s, whose steps are as long as they are.
pub(crate) fn measure(seconds: u64) -> Result<serde_json::Value> {
    let small = Capped::new(Architecture::Small)?;
    let large = Capped::new(Architecture::ResNet18)?;
    Ok(json!({
        "capped": mixes([&small; 4], seconds)?,
        "with_resnet18": mixes([&large, &large, &small, &small], seconds)?,
    }))
}

fn mixes(kinds: [&Capped; 4], seconds: u64) -> Result<serde_json::Value> {
    let device = Device::new("cpu", 1);
    let hosting = Hosting::start(placement(), threads(), None)?;
    let jobs = kinds.map(|capped| Training::start(&device, &hosting, capped));
    let jobs = jobs.into_iter().collect::<Result<Vec<_>>>()?;
    let (mut one, mut five, mut busy) = (0.0_f64, 0.0_f64, f64::INFINITY);
    let mut of_mixes = Vec::new();
    for (index, mix) in MIXES.iter().enumerate() {
        let shares: Vec<_> = jobs.iter().map(|job| job.job).zip(*mix).collect();
        let start = Instant::now();
        grant(&device, &shares, index as u64 + 1)?;
        let granting = start.elapsed();
        // The minibatch that was running is over.
        std::thread::sleep(Duration::from_millis(200));
        let (samples, kept) = sample(&device, &jobs, seconds)?;
        let errors = (
            error_over(&samples, mix, 1.0),
            error_over(&samples, mix, 5.0),
        );
        eprintln!(
            "shares {mix:?}: off by {:.3} and {:.3}, busy {kept:.3}",
            errors.0, errors.1
        );
        (one, five, busy) = (one.max(errors.0), five.max(errors.1), busy.min(kept));
        of_mixes.push(json!({
            "tenths": mix, "over_1_s": errors.0, "over_5_s": errors.1, "busy": kept,
            "granting_us": granting.as_secs_f64() * 1e6,
        }));
    }
    let conserved = conserved(&device, &jobs, seconds)?;
    device.close();
    for job in jobs {
        job.end()?;
    }
    Ok(json!({
        "steps": kinds.map(Capped::describe),
        "over_1_s": one,
        "over_5_s": five,
        "busy": busy,
        "mixes": of_mixes,
        "one_idle": conserved,
    }))
}

/// Seconds since the start, and processor seconds of each job.
type Sample = (f64, Vec<f64>);

/// What the jobs have used, over some seconds, and the part of the time in which the device was busy.
fn sample(device: &Device, jobs: &[Training], seconds: u64) -> Result<(Vec<Sample>, f64)> {
    let start = Instant::now();
    let before = busy(device);
    let mut samples = Vec::new();
    while start.elapsed() < Duration::from_secs(seconds) {
        let used = jobs.iter().map(Training::processor_seconds);
        samples.push((start.elapsed().as_secs_f64(), used.collect::<Result<_>>()?));
        std::thread::sleep(SAMPLE);
    }
    let busy = (busy(device) - before) / start.elapsed().as_secs_f64();
    Ok((samples, busy))
}

/// Seconds of all leases.
fn busy(device: &Device) -> f64 {
    let usage = device.usage();
    usage.iter().map(|used| used.busy.as_secs_f64()).sum()
}

/// The largest difference between a job's part of what was used and its share, over any time of so
/// many seconds.
fn error_over(samples: &[Sample], tenths: &[u32], seconds: f64) -> f64 {
    let mut worst = 0.0_f64;
    for (index, (from, before)) in samples.iter().enumerate() {
        let end = samples[index..].iter().find(|(at, _)| at - from >= seconds);
        let Some((_, after)) = end else {
            break;
        };
        let used: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        let all: f64 = used.iter().sum();
        if all <= 0.0 {
            return f64::INFINITY;
        }
        for (used, tenths) in used.iter().zip(tenths) {
            worst = worst.max((used / all - f64::from(*tenths) / 10.0).abs());
        }
    }
    worst
}

/// One job with four tenths falls idle: what the others have got of the rest, in proportion.
fn conserved(device: &Device, jobs: &[Training], seconds: u64) -> Result<serde_json::Value> {
    let mix = [4, 3, 2, 1];
    let shares: Vec<_> = jobs.iter().map(|job| job.job).zip(mix).collect();
    grant(device, &shares, MIXES.len() as u64 + 1)?;
    jobs[0].idle.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(200));
    let (samples, kept) = sample(device, jobs, seconds)?;
    jobs[0].idle.store(false, Ordering::Relaxed);
    let (Some((_, before)), Some((_, after))) = (samples.first(), samples.last()) else {
        anyhow::bail!("no samples");
    };
    let used: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    let all: f64 = used[1..].iter().sum();
    let rest = mix[1..].iter().sum::<u32>();
    let off = used[1..]
        .iter()
        .zip(&mix[1..])
        .map(|(used, tenths)| (used / all - f64::from(*tenths) / f64::from(rest)).abs())
        .fold(0.0, f64::max);
    eprintln!("one idle: the others off by {off:.3}, busy {kept:.3}");
    Ok(json!({ "off_by": off, "busy": kept, "idle_used_seconds": used[0] }))
}
