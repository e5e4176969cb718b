//! In place of libtorch where there is none: no GPU, and threads are whoever's business that computes.

pub(super) fn sees_a_gpu() -> bool {
    false
}

pub(super) fn set_threads(_: usize) {}
