//! Calls into `shim.cpp`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use super::GpuError;

unsafe extern "C" {
    fn ekya_gpu_take_stream(index: c_int) -> *mut c_char;
    fn ekya_gpu_synchronise(index: c_int) -> *mut c_char;
    fn ekya_gpu_synchronise_all(index: c_int) -> *mut c_char;
    fn ekya_gpu_mark(index: c_int, mark: *mut *mut c_void) -> *mut c_char;
    fn ekya_gpu_between(
        first: *const c_void,
        second: *const c_void,
        milliseconds: *mut f64,
    ) -> *mut c_char;
    fn ekya_gpu_drop_mark(mark: *mut c_void);
    fn ekya_gpu_memory(index: c_int, reset: bool, bytes: *mut i64) -> *mut c_char;
    fn ekya_gpu_empty_cache() -> *mut c_char;
}

/// What a call returned: nothing, or what went wrong.
fn result(error: *mut c_char) -> Result<(), GpuError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a string of `strdup`, which ends with a zero, and which nobody else has.
    let text = unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        libc::free(error.cast());
        text
    };
    // A trace of addresses inside libtorch follows.
    let first = text.lines().next().unwrap_or_default();
    Err(GpuError::Failed(first.to_owned()))
}

pub(super) fn take_stream(index: c_int) -> Result<(), GpuError> {
    // SAFETY: takes any number, and no exception leaves it.
    result(unsafe { ekya_gpu_take_stream(index) })
}

pub(super) fn synchronise(index: c_int) -> Result<(), GpuError> {
    // SAFETY: as above.
    result(unsafe { ekya_gpu_synchronise(index) })
}

pub(super) fn synchronise_all(index: c_int) -> Result<(), GpuError> {
    // SAFETY: as above.
    result(unsafe { ekya_gpu_synchronise_all(index) })
}

pub(super) fn empty_cache() -> Result<(), GpuError> {
    // SAFETY: as above.
    result(unsafe { ekya_gpu_empty_cache() })
}

/// Bytes of tensors, their peak, held, free and total; peaks begin anew.
pub(super) fn memory(index: c_int) -> Result<[i64; 5], GpuError> {
    let mut bytes = [0; 5];
    // SAFETY: as above, and it writes five numbers.
    result(unsafe { ekya_gpu_memory(index, true, bytes.as_mut_ptr()) })?;
    Ok(bytes)
}

/// An event, recorded.
pub(super) struct Mark(*mut c_void);

// SAFETY: an event may be waited for and asked by any thread; it is recorded once, before.
unsafe impl Send for Mark {}

impl Mark {
    pub(super) fn new(index: c_int) -> Result<Self, GpuError> {
        let mut mark = ptr::null_mut();
        // SAFETY: it writes one pointer, and only where it succeeds.
        result(unsafe { ekya_gpu_mark(index, &raw mut mark) })?;
        Ok(Self(mark))
    }

    /// Milliseconds until `later`, which is waited for.
    pub(super) fn until(&self, later: &Self) -> Result<f64, GpuError> {
        let mut milliseconds = 0.0;
        // SAFETY: both point to events, until they are dropped.
        result(unsafe { ekya_gpu_between(self.0, later.0, &raw mut milliseconds) })?;
        Ok(milliseconds)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: nobody else has it, and it is dropped once.
        unsafe { ekya_gpu_drop_mark(self.0) }
    }
}
