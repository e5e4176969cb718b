//! Jobs that always have work, on a device of their own, and how fast each gets on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ekya_actors::{Device, Grant, GrantError, JobId};
use ekya_models::{ModelError, gpu};
use ekya_sched::{Share, ThroughputError};
use thiserror::Error;

use crate::learn::{LearnError, Turn, Work};

/// Ends of minibatches that may wait to be counted; whoever has ended one more waits in its lease.
const WAITING: usize = 1024;
/// Minibatches of the job that is watched, after its first, at least.
const MINIBATCHES_MIN: usize = 4;

/// How long rates are watched. At the least there are five minibatches.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// For that time, at least.
    pub at_least: Duration,
    /// After so long it is given up.
    pub patience: Duration,
}

impl Effort {
    /// What the start of a node can wait for.
    pub const START: Self = Self {
        at_least: Duration::from_millis(200),
        patience: Duration::from_secs(5),
    };
}

/// Why nothing was measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ContestError {
    /// A minibatch failed.
    #[error(transparent)]
    Minibatch(#[from] LearnError),
    /// A job did too few minibatches.
    #[error("{done} minibatches in {patience:?} are too few to tell how fast they are")]
    TooSlow {
        /// Those that it did.
        done: usize,
        /// In this time.
        patience: Duration,
    },
    /// The shares cannot be granted.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// What was measured is no curve.
    #[error(transparent)]
    Curve(#[from] ThroughputError),
}

/// One minibatch of a job, again and again.
pub type Minibatch = Box<dyn FnMut() -> Result<(), ModelError> + Send>;

/// Jobs that always have work. They compute while [`Contest::rates`] is asked, and end when this is
/// dropped.
pub struct Contest {
    device: Device,
    jobs: Vec<JobId>,
    threads: Vec<JoinHandle<()>>,
    ends: Receiver<End>,
    ended: Sender<End>,
    stop: Arc<AtomicBool>,
    sequence: u64,
}

/// The job whose minibatch ended, and when; or why it does no more.
type End = (usize, Result<Instant, LearnError>);

impl Contest {
    /// A device on which so many minibatches run side by side, without jobs.
    #[must_use]
    pub fn new(depth: usize) -> Self {
        let (ended, ends) = bounded(WAITING);
        Self {
            device: Device::new("measured", depth),
            jobs: Vec::new(),
            threads: Vec::new(),
            ends,
            ended,
            stop: Arc::default(),
            sequence: 0,
        }
    }

    /// Adds a job, which waits for a share. Its minibatches, made for the turn in which they compute,
    /// are computed with so many threads.
    ///
    /// # Errors
    /// What `make` says; [`ModelError::Process`] when no thread can be had.
    pub fn enter(
        &mut self,
        threads: usize,
        make: impl FnOnce(&Arc<Turn>) -> Result<Minibatch, ModelError>,
    ) -> Result<(), ModelError> {
        let index = self.jobs.len();
        let job = self.device.job(format!("measured/{index}"));
        let id = job.id();
        let turn = Arc::new(Turn::new(Arc::new(job)));
        let mut minibatch = make(&turn)?;
        // What this thread has loaded is read by the other.
        gpu::finish_all().map_err(|error| ModelError::of_runtime(&error.to_string()))?;
        let (ended, stop) = (self.ended.clone(), self.stop.clone());
        let compute = move || {
            ekya_models::set_compute_threads(threads);
            let mut work = Work::new(turn, stop);
            loop {
                let end = work.minibatch(&mut minibatch).map(|()| Instant::now());
                let failed = end.is_err();
                // Nobody listens any more when the contest is over.
                if ended.send((index, end)).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("measured-{index}"));
        let thread = thread.spawn(compute);
        self.threads.push(
            thread.map_err(|error| {
                ModelError::Process(format!("no thread to measure with: {error}"))
            })?,
        );
        self.jobs.push(id);
        Ok(())
    }

    /// Minibatches a second of each job under these shares, which last until the job `watched` has
    /// shown its pace; 0 for a job that has not done two by then. Jobs without a share pause.
    ///
    /// # Errors
    /// [`ContestError`].
    pub fn rates(
        &mut self,
        shares: &[Share],
        watched: usize,
        effort: Effort,
    ) -> Result<Vec<f64>, ContestError> {
        self.grant(shares)?;
        for (_, end) in self.ends.try_iter() {
            end?;
        }
        let start = Instant::now();
        let mut ends: Vec<Vec<Instant>> = vec![Vec::new(); shares.len()];
        let Effort { at_least, patience } = effort;
        while !enough(&ends[watched], at_least) {
            let Ok((job, end)) = self.ends.recv_deadline(start + patience) else {
                let done = ends[watched].len();
                return Err(ContestError::TooSlow { done, patience });
            };
            ends[job].push(end?);
        }
        self.grant(&vec![Share::ZERO; shares.len()])?;
        Ok(ends.iter().map(|ends| rate(ends)).collect())
    }

    fn grant(&mut self, shares: &[Share]) -> Result<(), GrantError> {
        self.sequence += 1;
        let grants = self.jobs.iter().zip(shares).map(|(&job, &share)| Grant {
            job,
            share,
            term: 0,
            sequence: self.sequence,
            expires: None,
        });
        self.device.grant_all(&grants.collect::<Vec<_>>())
    }
}

impl Drop for Contest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.device.close();
        // Whoever waits to be counted finds that nobody counts.
        self.ends = bounded(0).1;
        for thread in self.threads.drain(..) {
            // What a minibatch panicked with has been printed.
            let _ = thread.join();
        }
    }
}

/// Without the first minibatch, which may have begun under other shares.
fn counted(ends: &[Instant]) -> &[Instant] {
    ends.get(1..).unwrap_or_default()
}

fn enough(ends: &[Instant], at_least: Duration) -> bool {
    let ends = counted(ends);
    ends.len() > MINIBATCHES_MIN && seconds(ends) >= at_least.as_secs_f64()
}

fn rate(ends: &[Instant]) -> f64 {
    let ends = counted(ends);
    let seconds = seconds(ends);
    if seconds > 0.0 {
        (ends.len() - 1) as f64 / seconds
    } else {
        0.0
    }
}

fn seconds(ends: &[Instant]) -> f64 {
    match ends {
        [first, .., last] => last.duration_since(*first).as_secs_f64(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spinning() -> Minibatch {
        let spin = Duration::from_millis(2);
        Box::new(move || {
            let start = Instant::now();
            while start.elapsed() < spin {
                std::hint::spin_loop();
            }
            Ok(())
        })
    }

    #[test]
    fn jobs_without_a_share_pause_and_come_back() -> Result<(), ContestError> {
        let mut contest = Contest::new(1);
        for _ in 0..2 {
            contest
                .enter(1, |_| Ok(spinning()))
                .map_err(LearnError::from)?;
        }
        let alone = contest.rates(&[Share::WHOLE, Share::ZERO], 0, Effort::START)?;
        assert!(alone[0] > 0.0 && alone[1] == 0.0, "{alone:?}");
        let half = Share::from_micro(500_000);
        let both = contest.rates(&[half, half], 0, Effort::START)?;
        assert!(both.iter().all(|rate| *rate > 0.0), "{both:?}");
        Ok(())
    }

    #[test]
    fn what_fails_is_told_and_ends() {
        let mut contest = Contest::new(1);
        let failing: Minibatch = Box::new(|| Err(ModelError::NoExamples));
        assert!(contest.enter(1, |_| Ok(failing)).is_ok());
        let failed = contest.rates(&[Share::WHOLE], 0, Effort::START);
        assert!(
            matches!(
                failed,
                Err(ContestError::Minibatch(LearnError::Model(
                    ModelError::NoExamples
                )))
            ),
            "{failed:?}"
        );
    }

    #[test]
    fn rates_leave_the_first_minibatch_out() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let ends = [at(0.0), at(5.0), at(5.5), at(6.0)];
        assert!((rate(&ends) - 2.0).abs() < 1e-9);
        assert_eq!(rate(&ends[..2]), 0.0);
        assert_eq!(rate(&[]), 0.0);
    }
}
