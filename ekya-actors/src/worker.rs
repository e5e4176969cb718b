//! Worker processes: heavy work that may crash, abort, hang or run out of memory without touching
//! the process that wants it done.
//!
//! A [`Worker`] is a child process, by default this same program started again. It is asked through
//! [`Worker::call`] and answers; it begins nothing by itself. Whoever holds the lease of a device
//! asks for one minibatch, so that only holders of leases launch work; the worker knows nothing of
//! leases. Whatever becomes of it is a [`WorkerError`], and the next one comes from the [`Pool`],
//! which starts some in advance.
//!
//! ```no_run
//! use std::time::Duration;
//! use ekya_actors::worker::{self, Limits, Patience, Pool, Program};
//!
//! fn main() -> Result<(), worker::WorkerError> {
//!     // First of all: this program is the worker, too.
//!     if worker::is_worker() {
//!         worker::serve("1.2.0", |request| request.to_ascii_uppercase());
//!     }
//!     let pool = Pool::start(Program::this("1.2.0"), Limits::default(), 1)?;
//!     let mut worker = pool.take(Duration::from_secs(10))?;
//!     let patience = Patience { slice: Duration::from_millis(40), at_most: Duration::from_secs(60) };
//!     // Here the caller holds its lease, and gives it back and takes it anew when it is told to.
//!     let answer = worker.call(b"a minibatch", patience, &mut || Ok(()))?;
//!     assert_eq!(answer, b"A MINIBATCH");
//!     Ok(())
//! }
//! ```
//!
//! # What holds the two together
//! The worker's standard input is one end of a pair of sockets, so that there is no path that could
//! be left over or opened by others. Requests and answers go over it, each as a length and as many
//! bytes; what is large (weights, pictures) goes through a file in an [`Exchange`].
//!
//! A worker ends with the process that started it: the kernel kills it (`PR_SET_PDEATHSIG`), also
//! while it is stopped or hangs in C++, where reading the end of the socket would not be enough.
//! That signal comes when the *thread* that started the worker ends, therefore the thread of the
//! pool starts them all and lives as long as the last of them.
//!
//! # What this does not do
//! It confines accidents, not attackers: a worker runs as the same user, with the same files and
//! network. [`Limits`] bound its memory and its CPU by the best means that the system offers.

mod cgroup;
mod error;
mod exchange;
mod frames;
mod limits;
mod pool;
mod process;
mod serve;

pub use error::WorkerError;
pub use exchange::{Exchange, Parcel};
pub use limits::Limits;
pub use pool::{Pool, Program};
pub use process::{Overrun, Patience, Worker, cpu_time};
pub use serve::{is_worker, serve};
