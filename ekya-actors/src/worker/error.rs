//! What can become of a worker.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::device::LeaseError;

/// Why there is no worker, or no answer of one.
///
/// A worker whose [`call`](super::Worker::call) returned any of these is dead and must be dropped:
/// whatever it knew is lost, and the next one comes from [`Pool::take`](super::Pool::take).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// Workers start none: a program that serves nothing when started as one would start itself for
    /// ever.
    #[error(
        "this process was started as a worker and may start none: its main must begin with `if is_worker() {{ serve(…) }}`"
    )]
    Inside,
    /// The program cannot be started.
    #[error("cannot start {program} as a worker: {source}")]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// The process runs, but did not greet in time.
    #[error(
        "{program} did not greet as a worker within {within:?}: does its main begin with `if is_worker() {{ serve(…) }}`?"
    )]
    Silent {
        /// What was started.
        program: PathBuf,
        /// How long it had.
        within: Duration,
    },
    /// None was ready in time.
    #[error("no worker was ready within {0:?}")]
    NotReady(Duration),
    /// Whoever wanted workers has [closed](super::Pool::close) the pool.
    #[error("no more workers are started: their pool is closed")]
    Closed,
    /// The worker is another build.
    #[error(
        "{program} is {worker}, this process is {node}: install the same build of both and restart this process"
    )]
    Version {
        /// What was started.
        program: PathBuf,
        /// Version and protocol of this process.
        node: String,
        /// Version and protocol of the worker.
        worker: String,
    },
    /// It ended by itself, crashed or was killed by somebody else.
    #[error("the worker died: {how}")]
    Died {
        /// Such as "killed by signal 9 (SIGKILL)" or "exit status 1".
        how: String,
    },
    /// The kernel killed it at its memory limit.
    #[error("the worker ran out of memory: its limit is {limit} bytes")]
    OutOfMemory {
        /// In bytes.
        limit: u64,
    },
    /// It had not answered after all the time it may run, and has been killed.
    #[error("the worker had not answered after running for {0:?}, and was killed")]
    Hung(Duration),
    /// It sent what is no answer, and has been killed.
    #[error("the worker broke the protocol, and was killed: {0}")]
    Garbage(String),
    /// The request is longer than a request may be.
    #[error(
        "a request of {bytes} bytes is longer than {most}: send large data through the exchange"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest there may be.
        most: usize,
    },
    /// It was stopped in the middle of its work because its lease ended for good, and has been
    /// killed.
    #[error("the worker was given no further turn, and was killed: {0}")]
    Stopped(#[source] LeaseError),
    /// The operating system refused something.
    #[error("cannot control the worker: {0}")]
    System(#[from] io::Error),
}
