//! What queue and process cost: the same training steps in a bare loop of this process, and in a
//! worker, in leases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ekya::learn::{TURNS_A_STEP, Turn, Work};
use ekya::worker::{HostedStudent, Hosting};
use ekya_actors::Device;
use ekya_models::gpu::Mark;
use ekya_models::{Architecture, Training};
use ekya_profiler::quality::median;
use ekya_sched::Share;
use serde_json::json;

use super::jobs::{Capped, STEP, config_of, placement, student, threads};

/// Times so many turns of each kind, for each network.
pub(crate) fn measure(turns: usize) -> Result<serde_json::Value> {
    let resnet = compare(Architecture::ResNet18, turns / 4, 5)?;
    let small = compare(Architecture::Small, turns, 20)?;
    Ok(json!({ "resnet18": resnet, "small": small }))
}

/// `at_a_time` steps of each by turns, so that both see the machine in the same moods.
fn compare(
    architecture: Architecture,
    turns: usize,
    at_a_time: usize,
) -> Result<serde_json::Value> {
    let capped = Capped::new(architecture)?;
    let local = student(architecture)?;
    let mut bare = capped.begin(&local)?;
    let device = Device::new("cpu", 1);
    let job = device.job_with("training", Share::WHOLE)?;
    let turn = Arc::new(Turn::new(Arc::new(job)));
    let hosting = Hosting::start(placement(), threads(), None)?;
    let host = hosting.host(turn.clone(), STEP);
    let hosted = HostedStudent::new(&host, &config_of(architecture), &local)?;
    let mut leased = capped.begin(&hosted)?;
    let (mut alone, mut in_leases) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        alone.push(time(|| Ok(bare.step().map(drop)?), at_a_time)?);
        let mut work = Work::new(turn.clone(), Arc::default());
        let start = Instant::now();
        let mut steps = 0;
        while steps < at_a_time {
            let at_most = at_a_time - steps;
            steps += work
                .minibatch(|| leased.steps_within(STEP / TURNS_A_STEP, at_most))?
                .len();
        }
        in_leases.push(milliseconds(start.elapsed()) / at_a_time as f64);
    }
    let (alone, in_leases) = (middle(alone), middle(in_leases));
    eprintln!(
        "{architecture}: {alone:.3} ms a step alone, {in_leases:.3} ms in leases of a worker"
    );
    let device = device_time(&mut *bare)?.map(milliseconds);
    Ok(json!({ "bare_ms": alone, "worker_ms": in_leases, "bare_on_gpu_ms": device }))
}

/// Of one step in this process, by the marks of a GPU in its stream.
fn device_time(training: &mut dyn Training) -> Result<Option<Duration>> {
    let Some(before) = Mark::now() else {
        return Ok(None);
    };
    training.step()?;
    let after = Mark::now();
    Ok(after.map(|after| before.until(&after)).transpose()?)
}

/// Milliseconds of a step, in the mean over some.
fn time(mut step: impl FnMut() -> Result<()>, steps: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..steps {
        step()?;
    }
    Ok(milliseconds(start.elapsed()) / steps as f64)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median; no number of no values.
pub(crate) fn middle(values: Vec<f64>) -> f64 {
    median(values).unwrap_or(f64::NAN)
}
