//! In place of the calls into `shim.cpp` where that could not be built.

use super::GpuError;

pub(super) fn take_stream(_: i32) -> Result<(), GpuError> {
    Err(GpuError::NotBuilt)
}

/// Waits for all streams, which `tch` can: it must be known when a minibatch is over.
pub(super) fn synchronise(index: i32) -> Result<(), GpuError> {
    #[cfg(feature = "torch")]
    tch::Cuda::synchronize(i64::from(index));
    // Without libtorch nothing computes there.
    #[cfg(not(feature = "torch"))]
    let _ = index;
    Ok(())
}

pub(super) fn synchronise_all(index: i32) -> Result<(), GpuError> {
    synchronise(index)
}

pub(super) fn empty_cache() -> Result<(), GpuError> {
    Err(GpuError::NotBuilt)
}

pub(super) fn memory(_: i32) -> Result<[i64; 5], GpuError> {
    Err(GpuError::NotBuilt)
}

pub(super) struct Mark;

impl Mark {
    pub(super) fn new(_: i32) -> Result<Self, GpuError> {
        Err(GpuError::NotBuilt)
    }

    pub(super) fn until(&self, _: &Self) -> Result<f64, GpuError> {
        Err(GpuError::NotBuilt)
    }
}
