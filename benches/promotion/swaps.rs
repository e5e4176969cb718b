//! What swaps of students add to the latency of frames: one stream, stretches without swaps and with
//! them by turns, so that whatever else goes on disturbs both.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ekya::node::builtin_student;
use ekya::source::scene::{Preset, SceneConfig, SceneSource};
use ekya::source::{Frame, Source as _};
use ekya::stream::{
    Answer, InferenceActor, InferenceServer, Intake, Metric, SampleSchedule, Serve, StreamLog,
};
use ekya_actors::{Device, Ref, System};
use ekya_models::{Example, Placement, Student};
use ekya_sched::{RetrainingConfig, Share};
use serde::Serialize;

/// Frames of a stretch.
const FRAMES: usize = 100;
/// In a stretch with swaps, a new student comes with every tenth frame: with two per cent or more,
/// the 99th percentile is that of frames after a swap.
const SWAP_EVERY: usize = 10;
/// Time between two frames: far more than an answer takes, and still more than cameras send.
const PACE: Duration = Duration::from_millis(25);
/// A frame that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Latencies of all frames in milliseconds, from when the stream takes a frame up to its answer.
#[derive(Default, Serialize)]
pub(crate) struct Swaps {
    without_ms: Vec<f64>,
    with_ms: Vec<f64>,
    dropped_without: u64,
    dropped_with: u64,
    swaps: u64,
}

/// Measures `stretches` of either kind.
pub(crate) fn measure(stretches: usize) -> Result<Swaps> {
    let system = System::start()?;
    let mut stream = Stream::start(&system)?;
    // The first frames prepare kernels.
    stream.stretch(Swapping::No)?;
    let mut swaps = Swaps::default();
    for stretch in 1..=stretches {
        let without = stream.stretch(Swapping::No)?;
        swaps.without_ms.extend(without.latencies_ms);
        swaps.dropped_without += without.dropped;
        let with = stream.stretch(Swapping::Yes)?;
        swaps.with_ms.extend(with.latencies_ms);
        swaps.dropped_with += with.dropped;
        swaps.swaps += with.swaps;
        eprintln!("swaps: {stretch} of {stretches} stretches");
    }
    stream.intake.close();
    if !stream.server.end() {
        bail!("the inference thread panicked");
    }
    system.shutdown(PATIENCE)?;
    Ok(swaps)
}

#[derive(Clone, Copy, PartialEq)]
enum Swapping {
    No,
    Yes,
}

/// A stream that is served.
struct Stream {
    intake: Arc<Intake>,
    inference: Ref<InferenceActor>,
    server: InferenceServer,
    /// To serve by turns.
    students: [Box<dyn Student>; 2],
    frames: Vec<Frame>,
    next_index: u64,
    started: Instant,
}

struct Stretch {
    latencies_ms: Vec<f64>,
    dropped: u64,
    swaps: u64,
}

impl Stream {
    fn start(system: &System) -> Result<Self> {
        let frames = frames()?;
        let student = builtin_student(Placement::Cpu)?;
        let other = retrained(&student, &frames)?;
        let device = Device::new("cpu", 1);
        let job = device.job_with("inference", Share::WHOLE)?;
        let log = StreamLog::new("swaps", Metric::Accuracy, None);
        let intake = Arc::new(Intake::new(log, Arc::new(job), PATIENCE));
        let server = InferenceServer::start(&device, 1)?;
        let actor = server.serve(intake.clone(), server.share(student.fork()?)?);
        Ok(Self {
            intake,
            inference: system.spawn("inference", actor, FRAMES)?,
            server,
            students: [other, Box::new(student)],
            frames,
            next_index: 0,
            started: Instant::now(),
        })
    }

    /// Pushes [`FRAMES`] frames, one every [`PACE`], and waits for their answers.
    fn stretch(&mut self, swapping: Swapping) -> Result<Stretch> {
        let at = self.started.elapsed().as_secs_f64();
        // All frames are wanted: a burst is of consecutive ones.
        let schedule = SampleSchedule::new(at, at + 1.0, FRAMES, FRAMES, true, 0);
        self.intake.resample(schedule);
        let dropped = self.intake.counts().dropped;
        let mut successors = self.successors(swapping)?;
        let mut swaps = 0;
        let mut due = Instant::now();
        for frame in 0..FRAMES {
            due += PACE;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if frame % SWAP_EVERY == 0
                && let Some(student) = successors.pop()
            {
                self.inference.tell(Serve(student))?;
                swaps += 1;
            }
            self.push();
        }
        self.settle()?;
        Ok(Stretch {
            latencies_ms: self.latencies_ms(),
            dropped: self.intake.counts().dropped - dropped,
            swaps,
        })
    }

    fn successors(&self, swapping: Swapping) -> Result<Vec<Box<dyn Student>>> {
        let count = match swapping {
            Swapping::No => 0,
            Swapping::Yes => FRAMES / SWAP_EVERY,
        };
        let students = self.students.iter().cycle().take(count);
        Ok(students
            .map(|student| student.fork())
            .collect::<Result<_, _>>()?)
    }

    fn push(&mut self) {
        let index = self.next_index as usize % self.frames.len();
        let mut frame = self.frames[index].clone();
        frame.index = self.next_index;
        self.next_index += 1;
        self.intake
            .push(frame, self.started.elapsed().as_secs_f64());
    }

    /// Waits until no frame is on its way.
    fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counts = self.intake.counts();
            if counts.arrived == counts.answered + counts.skipped + counts.dropped {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("no answer within {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Of the frames since the schedule; a dropped one has the answer of the one before it, which
    /// counts once.
    fn latencies_ms(&self) -> Vec<f64> {
        let samples = self.intake.with_log(StreamLog::take_samples);
        let mut answers: Vec<_> = samples.into_iter().filter_map(|one| one.answer).collect();
        answers.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let latency = |answer: &Arc<Answer>| answer.latency.as_secs_f64() * 1e3;
        answers.iter().map(latency).collect()
    }
}

/// Ten seconds of a scene, drawn beforehand.
fn frames() -> Result<Vec<Frame>> {
    let mut source = SceneSource::new(SceneConfig {
        fps: 10.0,
        preset: Some(Preset::Steady),
        ..SceneConfig::default()
    })?;
    let mut frames = Vec::new();
    for _ in 0..100 {
        frames.extend(source.next_frame()?);
    }
    Ok(frames)
}

/// A student with other weights.
fn retrained(student: &dyn Student, frames: &[Frame]) -> Result<Box<dyn Student>> {
    let example = |frame: &Frame| {
        Some(Example {
            image: frame.image.clone(),
            objects: frame.truth.clone()?,
        })
    };
    let examples: Vec<Example> = frames.iter().filter_map(example).collect();
    let mut training = student.train(&examples, &RetrainingConfig::default(), 1)?;
    training.step()?;
    Ok(training.student()?)
}
