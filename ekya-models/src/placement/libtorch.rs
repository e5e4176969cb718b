//! What libtorch says of GPUs, and what it is told of threads.

use crate::Placement;

impl Placement {
    pub(crate) fn device(self) -> tch::Device {
        match self {
            Self::Cpu => tch::Device::Cpu,
            Self::Cuda(index) => tch::Device::Cuda(index),
        }
    }
}

pub(super) fn sees_a_gpu() -> bool {
    static LOADED: std::sync::Once = std::sync::Once::new();
    LOADED.call_once(load_cuda_kernels);
    tch::Cuda::is_available()
}

/// Of the calling thread, at least 1.
pub(super) fn set_threads(threads: usize) {
    // A thread's first look takes over what any thread has set last, so it has to come before.
    let _ = tch::get_num_threads();
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
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

    use crate::set_compute_threads;

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
