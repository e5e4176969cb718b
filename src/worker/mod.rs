//! Models that live in worker processes: what trains, profiles or was imported can crash, run out of
//! memory or hang there, and inference does not notice.
//!
//! A worker is this program started again. The node holds [`HostedStudent`]s and [`HostedTeacher`]s,
//! which look like any other; each call of theirs is a request to the process, and the process does
//! nothing unasked. So whoever makes the call inside a lease has the whole process run inside it.
//! Pictures and weights go through files in shared memory, everything else through the socket. The
//! weights are [handed over](ekya_models::Student::hand_over), not saved: a checkpoint of a hosted
//! student is written by the node. A worker keeps pictures from one request to the next, so that each
//! goes there once a task, and [forgets](ekya_models::Student::forget_pictures) them afterwards.
//!
//! When a process dies, the call that waits for it fails with
//! [`ModelError::Process`](ekya_models::ModelError::Process), and what was half done there is lost.
//! The next call starts another process, into which students are loaded again from their last
//! weights.
//!
//! What a process is, how it is limited and how it ends is
//! [`ekya_actors::worker`]'s business; how a turn on the device is waited for is
//! [`Turn`](crate::learn::Turn)'s.

mod host;
mod pictures;
mod request;
mod serve;
mod student;
mod teacher;

use std::sync::atomic::{AtomicBool, Ordering};

#[doc(hidden)]
pub use host::{Host, Hosting};
#[doc(hidden)]
pub use student::HostedStudent;
#[doc(hidden)]
pub use teacher::HostedTeacher;

/// Whether this program serves as a worker when it is started as one.
static SERVES: AtomicBool = AtomicBool::new(false);

/// Lets this program be its own worker: to be called first thing in `main`. Where the process was
/// started as a worker, this never returns.
///
/// A program that does not call it trains in the node's own process.
pub fn serve_if_asked() {
    if ekya_actors::worker::is_worker() {
        serve::serve();
    }
    SERVES.store(true, Ordering::Relaxed);
}

/// Whether [`serve_if_asked`] was called.
pub(crate) fn is_possible() -> bool {
    SERVES.load(Ordering::Relaxed)
}
