//! Where tensors live, and with how many threads a thread computes.

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
        static LOADED: std::sync::Once = std::sync::Once::new();
        LOADED.call_once(load_cuda_kernels);
        if tch::Cuda::is_available() {
            gpu::put_to_use();
            Self::Cuda(0)
        } else {
            Self::Cpu
        }
    }

    pub(crate) fn device(self) -> tch::Device {
        match self {
            Self::Cpu => tch::Device::Cpu,
            Self::Cuda(index) => tch::Device::Cuda(index),
        }
    }
}

/// Sets how many threads a minibatch of the calling thread may use on the CPU (0 counts as 1), and
/// where [`Placement::best`] has found a GPU gives the thread a stream of its own there. libtorch keeps
/// both for each thread, so call it first thing on every compute thread.
pub fn set_compute_threads(threads: usize) {
    // A thread's first look takes over what any thread has set last, so it has to come before.
    let _ = tch::get_num_threads();
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
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

/// Loads libtorch's CUDA half where there is one. A program linked against `tch` does not name it as
/// needed, so its kernels would not register; where it is absent nothing happens, and one program
/// serves machines with and without a GPU.
fn load_cuda_kernels() {
    // SAFETY: the name is a valid C string, and loading runs nothing but the library's own
    // initialisers, which a program that names the library as needed would run before `main`.
    unsafe {
        libc::dlopen(
            c"libtorch_cuda.so".as_ptr(),
            libc::RTLD_NOW | libc::RTLD_GLOBAL,
        )
    };
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_a_thread_sets_stays_whatever_others_set_after_it() {
        let set = |threads| move || set_compute_threads(threads);
        let own = thread::spawn(move || {
            set_compute_threads(3);
            thread::spawn(set(1)).join().unwrap();
            tch::get_num_threads()
        });
        assert_eq!(own.join().unwrap(), 3);
    }
}
