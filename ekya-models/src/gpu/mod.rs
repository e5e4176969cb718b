//! What libtorch can do with a GPU beside computing: streams, events, memory. `tch` passes none of it
//! on, so that a small C++ file, `shim.cpp`, does; it is built wherever libtorch's headers are.
//!
//! Nothing in here does anything until [`Placement::best`](crate::Placement::best) has found a GPU,
//! and then all of it is about that one. Functions that may be called anywhere are then quiet; those
//! that want a figure say [`GpuError::None`].

#[cfg(ekya_gpu)]
mod ffi;
#[cfg(not(ekya_gpu))]
#[path = "absent.rs"]
mod ffi;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

/// Whether a GPU was found.
static IN_USE: AtomicBool = AtomicBool::new(false);
/// The one that is used.
const INDEX: i32 = 0;

/// Why a GPU did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No GPU is in use.
    #[error("no GPU is in use")]
    None,
    /// The program was built where libtorch's headers were missing.
    #[error("this program was built without libtorch's headers, so it cannot ask the GPU")]
    NotBuilt,
    /// libtorch or the driver failed.
    #[error("the GPU: {0}")]
    Failed(String),
}

/// Memory of the GPU, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemory {
    /// Of this process's tensors.
    pub tensors: u64,
    /// The most that tensors took since [`GpuMemory::since_last`] was last called.
    pub peak: u64,
    /// What libtorch holds for this process, tensors included.
    pub held: u64,
    /// What no process has.
    pub free: u64,
    /// What there is.
    pub total: u64,
}

impl GpuMemory {
    /// As it is now; peaks count from here on.
    ///
    /// # Errors
    /// [`GpuError`].
    pub fn since_last() -> Result<Self, GpuError> {
        let [tensors, peak, held, free, total] = in_use()
            .then(|| ffi::memory(INDEX))
            .ok_or(GpuError::None)??
            .map(|bytes| u64::try_from(bytes).unwrap_or(0));
        Ok(Self {
            tensors,
            peak,
            held,
            free,
            total,
        })
    }
}

/// A moment in the calling thread's stream.
pub struct Mark(ffi::Mark);

impl Mark {
    /// When the stream has done what it was given so far. `None` where no GPU is in use, or where it
    /// fails: what computes next will fail, too, and say so.
    #[must_use]
    pub fn now() -> Option<Self> {
        in_use().then(|| ffi::Mark::new(INDEX).ok().map(Self))?
    }

    /// The time that the stream took from one mark to a later one, which this waits for.
    ///
    /// # Errors
    /// [`GpuError::Failed`], also for what was computed in between.
    pub fn until(&self, later: &Self) -> Result<Duration, GpuError> {
        let milliseconds = self.0.until(&later.0)?;
        Ok(Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default())
    }
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mark").finish_non_exhaustive()
    }
}

/// Waits until the GPU has done what the calling thread has given it, so that the time until now is
/// that of the work, and what was computed can be read by other threads. Where no GPU is in use this
/// does nothing.
///
/// # Errors
/// [`GpuError::Failed`] with what went wrong in the work.
pub fn finish() -> Result<(), GpuError> {
    if in_use() {
        ffi::synchronise(INDEX)
    } else {
        Ok(())
    }
}

/// The same for the work of all threads.
///
/// # Errors
/// [`GpuError::Failed`] with what went wrong in the work.
pub fn finish_all() -> Result<(), GpuError> {
    if in_use() {
        ffi::synchronise_all(INDEX)
    } else {
        Ok(())
    }
}

/// Gives memory that no tensor uses back to the GPU, for other processes or larger tensors.
pub fn empty_cache() {
    if in_use() {
        // Whoever needs the memory is told when there is none.
        let _ = ffi::empty_cache();
    }
}

/// From now on a GPU is in use.
pub(crate) fn put_to_use() {
    IN_USE.store(true, Ordering::Relaxed);
}

/// Gives the calling thread a stream of its own, so that what it computes may run beside what other
/// threads do. Without one it computes in the stream that all share, one after another.
pub(crate) fn take_stream() {
    if in_use() {
        // Where it cannot be had, the thread computes all the same.
        let _ = ffi::take_stream(INDEX);
    }
}

fn in_use() -> bool {
    IN_USE.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_nothing_happens_and_no_figure_is_made_up() {
        assert_eq!(finish(), Ok(()));
        assert_eq!(finish_all(), Ok(()));
        empty_cache();
        assert!(Mark::now().is_none());
        assert_eq!(GpuMemory::since_last(), Err(GpuError::None));
    }

    /// The libtorch of the project knows no CUDA: every call must come back with an error.
    #[cfg(ekya_gpu)]
    #[test]
    fn exceptions_come_back_as_errors() {
        if tch::Cuda::is_available() {
            eprintln!("skipped: there is a GPU");
            return;
        }
        let failures = [
            ffi::take_stream(INDEX),
            ffi::synchronise(INDEX),
            ffi::synchronise_all(INDEX),
            ffi::Mark::new(INDEX).map(drop),
            ffi::memory(INDEX).map(drop),
            ffi::empty_cache(),
        ];
        for failure in failures {
            match failure {
                Err(GpuError::Failed(reason)) => assert!(!reason.contains('\n'), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
