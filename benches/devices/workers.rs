//! How long a worker takes to be ready, and weights to go in and out.
//!
//! What bounds the weights is how often they are copied, and how fast the kernel finds pages for the
//! copies. ResNet18's are 44 MiB. Going in they are copied twice: from the node's tensors into a file
//! in shared memory, and from that into the worker's tensors. Coming out, the trained student is looked
//! through for values that are not finite and copied once before, since the training may go on. In a
//! virtual machine of two cores of an EPYC, beside compilers, each part alone took at best, with one
//! thread: writing the file 32 ms, reading it 16, a copy in memory 11, the look 12. That adds up to 48
//! in and 71 out; asking the worker, and whoever else computes, come on top.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ekya::learn::Turn;
use ekya::worker::{HostedStudent, Hosting};
use ekya_actors::Device;
use ekya_models::{Architecture, Student};
use ekya_sched::RetrainingConfig;
use serde_json::json;

use super::jobs::{STEP, config_of, examples, placement, student, threads};
use super::throughput::{middle, milliseconds};

/// By then the pool has a spare worker again.
const SPARE_READY: Duration = Duration::from_secs(2);

/// Does each so many times.
pub(crate) fn measure(times: usize) -> Result<serde_json::Value> {
    let device = Device::new("cpu", 1);
    let (small, large) = (
        student(Architecture::Small)?,
        student(Architecture::ResNet18)?,
    );
    let example = examples(1).remove(0);
    let (mut cold, mut warm, mut inward, mut outward) = (vec![], vec![], vec![], vec![]);
    for _ in 0..times {
        let start = Instant::now();
        let hosting = Hosting::start(placement(), threads(), None)?;
        let mut ready = Vec::new();
        for _ in 0..2 {
            let asked = Instant::now();
            let turn = Arc::new(Turn::new(Arc::new(device.job("worker"))));
            let host = hosting.host(turn, STEP);
            let hosted = HostedStudent::new(&host, &config_of(Architecture::Small), &small)?;
            hosted.infer(&example.image, &example.regions(), 1.0)?;
            ready.push((start.elapsed(), asked.elapsed(), host, hosted));
            std::thread::sleep(SPARE_READY);
        }
        cold.push(milliseconds(ready[0].0));
        warm.push(milliseconds(ready[1].1));
        let (.., host, _) = &ready[1];
        let start = Instant::now();
        let hosted = HostedStudent::new(host, &config_of(Architecture::ResNet18), &large)?;
        hosted.load()?;
        inward.push(milliseconds(start.elapsed()));
        let mut training = hosted.train(
            std::slice::from_ref(&example),
            &RetrainingConfig::default(),
            1,
        )?;
        training.step()?;
        let start = Instant::now();
        let trained = training.student()?;
        let out = trained.fork()?;
        outward.push(milliseconds(start.elapsed()));
        drop(out);
    }
    let [cold, warm, inward, outward] = [cold, warm, inward, outward].map(middle);
    eprintln!(
        "workers: ready in {cold:.0} ms, {warm:.0} from the pool; weights {inward:.0} in, {outward:.0} out"
    );
    Ok(json!({
        "cold_ms": cold, "warm_ms": warm, "weights_in_ms": inward, "weights_out_ms": outward,
    }))
}
