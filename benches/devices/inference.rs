//! Inference beside training: what a frame waits for the device more than alone, and whether any is
//! dropped while the stream stays inside its share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ekya::source::Frame;
use ekya::stream::{InferenceServer, Intake, Metric, SampleSchedule, StreamLog};
use ekya::worker::Hosting;
use ekya_actors::Device;
use ekya_models::{Architecture, Student};
use serde_json::json;

use super::jobs::{Capped, Training, examples, grant, placement, student, threads};
use super::throughput::milliseconds;

/// Time between two frames: inference of the small student takes a few hundredths of it.
const PACE: Duration = Duration::from_millis(50);
/// As by default.
const DEADLINE: Duration = Duration::from_secs(5);
/// What the stream is granted, in tenths; the two trainings have the rest.
const SHARE: u32 = 2;

/// Serves for so many seconds alone, and for as many beside two trainings.
pub(crate) fn measure(seconds: u64) -> Result<serde_json::Value> {
    let device = Device::new("cpu", 1);
    let job = Arc::new(device.job("inference"));
    grant(&device, &[(job.id(), SHARE)], 1)?;
    let log = StreamLog::new("bench", Metric::Accuracy, None);
    let intake = Arc::new(Intake::new(log, job.clone(), DEADLINE));
    let mut server = InferenceServer::start(&device, threads())?;
    let student = server.share(student(Architecture::Small)?.fork()?)?;
    let _actor = server.serve(intake.clone(), student);
    let start = Instant::now();
    let mut stream = Stream {
        intake,
        start,
        next: 0,
    };
    let frames = seconds * 1000 / PACE.as_millis() as u64;
    // The first frames prepare kernels.
    stream.serve(20)?;
    let alone = stream.serve(frames)?;

    let hosting = Hosting::start(placement(), threads(), None)?;
    let capped = Capped::new(Architecture::ResNet18)?;
    let trainings = [(); 2].map(|()| Training::start(&device, &hosting, &capped));
    let trainings = trainings.into_iter().collect::<Result<Vec<_>>>()?;
    let mut shares = vec![(job.id(), SHARE)];
    shares.extend(trainings.iter().map(|training| (training.job, 4)));
    grant(&device, &shares, 2)?;
    stream.serve(20)?;
    let beside = stream.serve(frames)?;
    let counts = stream.intake.counts();
    stream.intake.close();
    anyhow::ensure!(server.end(), "the inference thread panicked");
    for training in trainings {
        training.end()?;
    }
    let [alone, beside] = [alone, beside].map(|times| quantile(times, 0.99));
    eprintln!("inference: p99 {alone:.1} ms alone, {beside:.1} beside trainings; {counts:?}");
    Ok(json!({
        "alone_p99_ms": alone,
        "beside_p99_ms": beside,
        "step": capped.describe(),
        "dropped": counts.dropped,
    }))
}

struct Stream {
    intake: Arc<Intake>,
    start: Instant,
    next: u64,
}

impl Stream {
    /// What each of so many frames took, from its arrival to its answer, in milliseconds.
    fn serve(&mut self, frames: u64) -> Result<Vec<f64>> {
        let at = self.start.elapsed().as_secs_f64();
        let count = usize::try_from(frames)?;
        self.intake
            .resample(SampleSchedule::new(at, at + 1.0, count, count, true, 0));
        let example = examples(1).remove(0);
        let mut due = Instant::now();
        for _ in 0..frames {
            due += PACE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let image = example.image.clone();
            let frame = Frame::new(self.next, self.start.elapsed(), image, example.regions());
            self.next += 1;
            self.intake.push(frame, self.start.elapsed().as_secs_f64());
        }
        self.settled()?;
        let samples = self.intake.with_log(StreamLog::take_samples);
        let answers = samples.iter().filter_map(|sample| sample.answer.as_ref());
        Ok(answers.map(|answer| milliseconds(answer.latency)).collect())
    }

    /// Waits until every frame has its fate.
    fn settled(&self) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let counts = self.intake.counts();
            if counts.arrived == counts.answered + counts.skipped + counts.dropped {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < patience,
                "frames are not answered: {counts:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * part) as usize;
    values
        .get(rank.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
