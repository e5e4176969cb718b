//! Jobs that train without end in worker processes, and what the kernel says that they have used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ekya::config::{ClassifierConfig, StudentConfig};
use ekya::learn::{LearnError, TURNS_A_STEP, Turn, Work};
use ekya::worker::{Host, HostedStudent, Hosting};
use ekya_actors::{Device, Grant, JobId};
use ekya_models::{Architecture, Classifier, Example, Placement, Student};
use ekya_sched::{RetrainingConfig, Share};

/// What a training step may take.
pub(crate) const STEP: Duration = Duration::from_millis(40);
/// Threads of a minibatch: those of the machine.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where students live, where that is not the CPU.
static PLACE: OnceLock<Placement> = OnceLock::new();

/// Lets students live there from now on.
pub(crate) fn place(placement: Placement) {
    // Said once, before the first student.
    let _ = PLACE.set(placement);
}

/// Where students live.
pub(crate) fn placement() -> Placement {
    PLACE.get().copied().unwrap_or_default()
}

/// What the students know.
const CLASSES: usize = 4;

/// Random pictures of one object each.
pub(crate) fn examples(count: usize) -> Vec<Example> {
    ekya::throughput::examples(count, CLASSES)
}

/// A new student.
pub(crate) fn student(architecture: Architecture) -> Result<Classifier> {
    Ok(Classifier::new(architecture, CLASSES, 64, placement(), 1)?)
}

/// Its kind, as a configuration says it.
pub(crate) fn config_of(architecture: Architecture) -> StudentConfig {
    StudentConfig::Classifier(ClassifierConfig {
        architecture,
        ..ClassifierConfig::default()
    })
}

/// Training with steps as long as [`STEP`] allows.
#[derive(Debug, Clone)]
pub(crate) struct Capped {
    pub(crate) architecture: Architecture,
    pub(crate) config: RetrainingConfig,
    /// What nine of ten steps take at most, alone in this process.
    pub(crate) step: Duration,
}

/// Examples of a step that are tried.
const EXAMPLES: [usize; 5] = [8, 16, 32, 64, 128];

impl Capped {
    /// Measures with more and more examples. The fewest are taken where even those take longer: batch
    /// normalisation needs eight, which on two cores is longer for a ResNet18. It does not end by
    /// itself.
    pub(crate) fn new(architecture: Architecture) -> Result<Self> {
        ekya_models::set_compute_threads(threads());
        let mut best: Option<Self> = None;
        for batch_size in EXAMPLES {
            let mut capped = Self {
                architecture,
                config: RetrainingConfig {
                    epochs: 100_000,
                    batch_size,
                    layers_frozen: 0,
                    data_fraction: 1.0,
                    ..RetrainingConfig::default()
                },
                step: Duration::ZERO,
            };
            capped.step = capped.measured()?;
            if best.is_some() && capped.step > STEP {
                break;
            }
            best = Some(capped);
        }
        best.context("measured")
    }

    fn measured(&self) -> Result<Duration> {
        let mut training = self.begin(&student(self.architecture)?)?;
        let mut times = Vec::new();
        for _ in 0..20 {
            let start = Instant::now();
            training.step()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() * 9 / 10])
    }

    /// Begins it with a student.
    pub(crate) fn begin(&self, student: &dyn Student) -> Result<Box<dyn ekya_models::Training>> {
        Ok(student.train(&examples(EXAMPLES[4]), &self.config, 1)?)
    }

    pub(crate) fn describe(&self) -> serde_json::Value {
        serde_json::json!({
            "network": self.architecture.to_string(),
            "examples": self.config.batch_size,
            "step_ms": self.step.as_secs_f64() * 1e3,
        })
    }
}

/// A job that trains on a thread of its own, in a worker.
pub(crate) struct Training {
    pub(crate) job: JobId,
    host: Arc<Host>,
    stop: Arc<AtomicBool>,
    /// Set to let it wait without asking for the device.
    pub(crate) idle: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Training {
    /// Starts it; it has no share yet.
    pub(crate) fn start(device: &Device, hosting: &Arc<Hosting>, capped: &Capped) -> Result<Self> {
        let architecture = capped.architecture;
        let job = Arc::new(device.job(format!("{architecture}")));
        let id = job.id();
        let turn = Arc::new(Turn::new(job));
        let host = hosting.host(turn.clone(), STEP);
        let local = student(architecture)?;
        let hosted = HostedStudent::new(&host, &config_of(architecture), &local)?;
        // Loaded and begun before it counts.
        let mut training = capped.begin(&hosted)?;
        let (stop, idle) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stopped, waits) = (stop.clone(), idle.clone());
        let thread = std::thread::spawn(move || {
            // What it trains from must live as long.
            let _hosted = hosted;
            while !stopped.load(Ordering::Relaxed) {
                let mut work = Work::new(turn.clone(), stopped.clone());
                while !waits.load(Ordering::Relaxed) {
                    match work.minibatch(|| training.steps_within(STEP / TURNS_A_STEP, usize::MAX))
                    {
                        Ok(_) => {}
                        Err(LearnError::Cancelled) => return Ok(()),
                        Err(error) => return Err(error.into()),
                    }
                }
                drop(work);
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        Ok(Self {
            job: id,
            host,
            stop,
            idle,
            thread: Some(thread),
        })
    }

    /// Processor time of its worker, in seconds, as the kernel counts it.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        let time = self.host.processor_time();
        Ok(time.context("the worker has died")?.as_secs_f64())
    }

    /// Ends it.
    ///
    /// # Errors
    /// What it failed with.
    pub(crate) fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it runs")?;
        thread.join().expect("no panic")
    }
}

/// Grants shares in tenths.
pub(crate) fn grant(device: &Device, shares: &[(JobId, u32)], sequence: u64) -> Result<()> {
    let grants = shares.iter().map(|&(job, tenths)| Grant {
        job,
        share: Share::from_micro(tenths * 100_000),
        term: 0,
        sequence,
        expires: None,
    });
    Ok(device.grant_all(&grants.collect::<Vec<_>>())?)
}
