//! Where tensors live, and with how many threads a thread computes.

#[cfg(feature = "torch")]
mod libtorch;
#[cfg(not(feature = "torch"))]
#[path = "placement/absent.rs"]
mod libtorch;

use serde::{Deserialize, Serialize};

use crate::gpu;

/// Where a model's tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Placement {
    /// Main memory.
    #[default]
    Cpu,
    /// The CUDA GPU of that index.
    Cuda(usize),
}

impl Placement {
    /// The first CUDA GPU where libtorch sees one, else the CPU.
    #[must_use]
    pub fn best() -> Self {
        if libtorch::sees_a_gpu() {
            gpu::put_to_use();
            Self::Cuda(0)
        } else {
            Self::Cpu
        }
    }
}

/// Sets how many threads a minibatch of the calling thread may use on the CPU (0 counts as 1), and
/// where [`Placement::best`] has found a GPU gives the thread a stream of its own there. libtorch keeps
/// both for each thread, so call it first thing on every compute thread.
pub fn set_compute_threads(threads: usize) {
    libtorch::set_threads(threads.max(1));
    gpu::take_stream();
}

/// Gives memory that no tensor uses back: the GPU's, and with glibc the machine's.
pub fn give_memory_back() {
    gpu::empty_cache();
    // SAFETY: takes a number, and may be called at any time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
