//! Measures students on labelled frames, in leases like all other work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ekya_models::{ModelError, Student, gpu};
use ekya_profiler::inference::{Measurement, inherited_accuracy};
use thiserror::Error;

use super::split::Labelled;
use super::turn::Turn;
use crate::config::InferenceConfig;
use crate::stream::Metric;

/// Why learning stopped before its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LearnError {
    /// It was told to: the window or the run is over.
    #[error("cut off")]
    Cancelled,
    /// The task panicked; the serving student is untouched.
    #[error("{0}")]
    Panicked(String),
    /// A teacher gave labels that nothing can be learnt from.
    #[error("unusable labels: {0}")]
    Labels(String),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It was trained on another node, or was to be, and nothing has come of it.
    #[error("trained elsewhere: {0}")]
    Elsewhere(String),
}

/// The right to compute as a job on a device, and the account of it. One a task: cancelling it
/// ends that task at its next minibatch, or where a minibatch of a worker process has taken too long.
///
/// Between two minibatches the turn is kept. So drop this when the task is over; what lies between
/// two minibatches counts as device time.
#[derive(Debug)]
pub struct Work {
    turn: Arc<Turn>,
    cancelled: Arc<AtomicBool>,
    spent: f64,
}

impl Work {
    /// Work in this turn until `cancelled` is set.
    #[must_use]
    pub fn new(turn: Arc<Turn>, cancelled: Arc<AtomicBool>) -> Self {
        turn.begin(cancelled.clone());
        Self {
            turn,
            cancelled,
            spent: 0.0,
        }
    }

    /// Does one minibatch inside a lease; counts its device seconds.
    ///
    /// # Errors
    /// [`LearnError::Cancelled`] when told to stop before the minibatch began or in its middle; the
    /// model's own.
    pub fn minibatch<R, E: Into<LearnError>>(
        &mut self,
        compute: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, LearnError> {
        self.go_on()?;
        // A closed device means that the run is over.
        self.turn.next().map_err(|_| LearnError::Cancelled)?;
        self.go_on()?;
        let before = self.turn.spent();
        let result = compute();
        // A GPU is asked to compute, and does so later.
        let finished = gpu::finish();
        self.spent += self.turn.spent().saturating_sub(before).as_secs_f64();
        // What has failed for want of another turn has been cut off.
        if result.is_err() && !self.turn.is_held() {
            return Err(LearnError::Cancelled);
        }
        let result = result.map_err(Into::into)?;
        finished.map_err(|error| ModelError::of_runtime(&error.to_string()))?;
        Ok(result)
    }

    /// Whether to go on at all.
    ///
    /// # Errors
    /// [`LearnError::Cancelled`] when told to stop.
    pub fn go_on(&self) -> Result<(), LearnError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(LearnError::Cancelled);
        }
        Ok(())
    }

    /// Lets the device go until the next minibatch, and says what to look at meanwhile: it is set when
    /// the task is to end.
    pub(super) fn pause(&self) -> &AtomicBool {
        self.turn.end();
        &self.cancelled
    }

    /// Device seconds spent so far.
    #[must_use]
    pub fn spent(&self) -> f64 {
        self.spent
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.turn.end();
    }
}

/// Mean accuracy of `student` on labelled frames, every one answered at full resolution; `None`
/// when no frame has anything to score.
///
/// # Errors
/// See [`Work::minibatch`].
pub fn accuracy<'a>(
    student: &dyn Student,
    frames: impl IntoIterator<Item = &'a Labelled>,
    metric: Metric,
    work: &mut Work,
) -> Result<Option<f64>, LearnError> {
    let (mut sum, mut count) = (0.0, 0u32);
    for labelled in frames {
        let frame = &labelled.frame;
        let answers = work.minibatch(|| student.infer(&frame.image, &frame.regions, 1.0))?;
        if let Some(score) = metric.score(&labelled.labels, &answers) {
            sum += score;
            count += 1;
        }
    }
    Ok((count > 0).then(|| sum / f64::from(count)))
}

/// Measures every sampling with every resolution on consecutive labelled frames: each frame is
/// answered once a resolution, then each sampling is played over the answers. A frame with nothing
/// to score counts as right. Nothing is measured on an empty burst.
///
/// # Errors
/// See [`Work::minibatch`].
pub fn profile_inference(
    student: &dyn Student,
    burst: &[Labelled],
    metric: Metric,
    configurations: &InferenceConfig,
    work: &mut Work,
) -> Result<Vec<Measurement>, LearnError> {
    let mut measured = Vec::new();
    if burst.is_empty() {
        return Ok(measured);
    }
    for &resolution in &configurations.resolution {
        let before = work.spent();
        let mut answers = Vec::with_capacity(burst.len());
        for labelled in burst {
            let frame = &labelled.frame;
            answers
                .push(work.minibatch(|| student.infer(&frame.image, &frame.regions, resolution))?);
        }
        let seconds_per_answer = (work.spent() - before) / burst.len() as f64;
        let score = |answered: usize, shown: usize| {
            metric
                .score(&burst[shown].labels, &answers[answered])
                .unwrap_or(1.0)
        };
        measured.extend(
            configurations
                .sample_every
                .iter()
                .map(|&sample_every| Measurement {
                    sample_every,
                    resolution,
                    accuracy: inherited_accuracy(burst.len(), sample_every, score),
                    seconds_per_answer,
                }),
        );
    }
    Ok(measured)
}
