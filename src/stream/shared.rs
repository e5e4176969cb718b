//! Students that answer for one stream or for several.

use std::sync::Arc;

use ekya_models::{ModelError, Student, gpu};
use parking_lot::{Mutex, MutexGuard};

/// A student for every stream that begins with the same weights, until one of them is given another. A
/// student computes on one thread at a time, so there is a copy for each thread that answers.
pub struct SharedStudent {
    copies: Vec<Mutex<Box<dyn Student>>>,
    pass_max: usize,
}

impl SharedStudent {
    /// Shares a student between so many threads (at least one).
    ///
    /// # Errors
    /// When it cannot be copied; one thread needs no copy.
    pub fn new(student: Box<dyn Student>, threads: usize) -> Result<Arc<Self>, ModelError> {
        let pass_max = student.pass_max();
        let mut copies = Vec::with_capacity(threads.max(1));
        for _ in 1..threads {
            copies.push(Mutex::new(student.fork()?));
        }
        if threads > 1 {
            // What this thread has copied is read by others.
            gpu::finish_all().map_err(|error| ModelError::of_runtime(&error.to_string()))?;
        }
        copies.push(Mutex::new(student));
        Ok(Arc::new(Self { copies, pass_max }))
    }

    /// How many frames one pass is good for.
    pub(super) const fn pass_max(&self) -> usize {
        self.pass_max
    }

    /// The copy of one of the threads, counted from 0.
    pub(super) fn of_thread(&self, thread: usize) -> MutexGuard<'_, Box<dyn Student>> {
        self.copies[thread % self.copies.len()].lock()
    }
}

impl std::fmt::Debug for SharedStudent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStudent")
            .field("copies", &self.copies.len())
            .finish()
    }
}
