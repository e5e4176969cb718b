//! The side of the worker.

use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::dup2_stdin;

use super::frames::{self, Hello, PROTOCOL};
use super::limits;

/// Set for a process that was started as a worker, to the protocol of who started it.
pub(super) const VARIABLE: &str = "EKYA_WORKER";

/// What the exit status of a panic is in Rust.
const PANICKED: i32 = 101;

/// Whether this process was started as a worker. To be asked first thing in `main`: such a process
/// must call [`serve`] and nothing else.
#[must_use]
pub fn is_worker() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Answers requests until the process that asks them ends, then ends this one. Never call it in a
/// process that is no [worker](is_worker).
///
/// `version` is that of the program, such as `CARGO_PKG_VERSION`; the asking side must have the
/// same. What `handle` prints goes nowhere, errors go to the standard error of the asking process. A
/// panic in `handle` ends the process; what the worker cannot do but survives should be told in the
/// answer.
pub fn serve(version: &str, mut handle: impl FnMut(&[u8]) -> Vec<u8>) -> ! {
    match answer_all(version, &mut handle) {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("worker {}: {error}", process::id());
            process::exit(1)
        }
    }
}

fn answer_all(
    version: &str,
    handle: &mut dyn FnMut(&[u8]) -> Vec<u8>,
) -> Result<(), Box<dyn Error>> {
    // Where the other process has died before this line, the socket has ended instead.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // Started through /proc/self/exe, it would be called "exe" in lists of processes.
    prctl::set_name(c"ekya-worker")?;
    limits::limit_self()?;
    // When the machine runs out of memory, this process goes and not the one that it works for.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut socket = take_socket()?;
    let hello = Hello {
        protocol: PROTOCOL,
        pid: process::id(),
        version: version.to_owned(),
    };
    send(&mut socket, &hello.to_bytes())?;
    while let Some(request) = frames::read(&mut socket)? {
        let answer = catch_unwind(AssertUnwindSafe(|| handle(&request)));
        // The message has been printed by the panic hook.
        let answer = answer.unwrap_or_else(|_| process::exit(PANICKED));
        send(&mut socket, &answer)?;
    }
    Ok(())
}

/// Takes the socket away from standard input, so that no library reads from it, and no process
/// started from here keeps it open.
fn take_socket() -> Result<UnixStream, Box<dyn Error>> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr().map_err(|error| {
        format!(
            "{VARIABLE} is set, but standard input is no socket of a node ({error}): unset it to run as a node"
        )
    })?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

fn send(socket: &mut UnixStream, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let frame = frames::frame(bytes).ok_or_else(|| {
        let (bytes, most) = (bytes.len(), frames::MOST);
        format!(
            "an answer of {bytes} bytes is longer than {most}: send large data through the exchange"
        )
    })?;
    match socket.write_all(&frame) {
        // Nobody reads any more: neither will there be another request.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        sent => Ok(sent?),
    }
}
