//! One worker, seen from the process that asks.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::error::WorkerError;
use super::frames::{self, Hello, Incoming, MOST, PROTOCOL, Unread};
use super::limits::{Confinement, Means};
use super::pool::Program;
use super::serve::VARIABLE;
use crate::device::LeaseError;

/// How long a worker that has closed its socket may take to end: its status tells why.
const END_WITHIN: Duration = Duration::from_secs(1);

/// A slice shorter than this would be over before the worker ran at all.
const SHORTEST_SLICE: Duration = Duration::from_millis(1);

/// No wait is longer, so that every one fits the kernel's types; it is begun again then.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How long a request may run. Time for which the worker is stopped does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// At a stretch, before others get their turn; at least a millisecond.
    pub slice: Duration,
    /// In all, before the worker counts as hung.
    pub at_most: Duration,
}

/// In whose turn on a device a request runs. A closure is one that waits for each next turn.
pub trait Overrun {
    /// A slice has passed without an answer: whether the process may go straight on, as in the next
    /// turn, because nobody else waits for one. Where it may not, nothing has changed.
    fn go_on(&mut self) -> bool {
        false
    }

    /// The process stands. Ends the turn and waits for the next.
    ///
    /// # Errors
    /// [`LeaseError`] when there is none any more.
    fn next_turn(&mut self) -> Result<(), LeaseError>;
}

impl<F: FnMut() -> Result<(), LeaseError>> Overrun for F {
    fn next_turn(&mut self) -> Result<(), LeaseError> {
        self()
    }
}

/// One worker process. Dropped, it is killed and reaped, whatever it does.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    socket: UnixStream,
    incoming: Incoming,
    /// How it ended, once it has been reaped.
    ended: Option<String>,
    /// Dropped once it has ended.
    confinement: Confinement,
    /// Whether it must stand whenever no request runs.
    duty: bool,
    /// Keeps the thread that started it alive, with which the kernel would end it.
    _life: Sender<()>,
}

impl Worker {
    /// Starts the process. Its end is tied to that of the calling thread.
    pub(super) fn spawn(program: &Program, means: &Means, life: Sender<()>) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let mut command = Command::new(&program.path);
        command
            .args(&program.args)
            .envs(program.envs.iter().map(|(name, value)| (name, value)))
            .env(VARIABLE, PROTOCOL.to_string())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A group of its own: Ctrl-C at a terminal is for the node, which then ends in order,
            // and what the worker starts is stopped and killed with it.
            .process_group(0);
        means.tell(&mut command);
        let mut worker = Self {
            child: command.spawn()?,
            socket,
            incoming: Incoming::default(),
            ended: None,
            confinement: Confinement::default(),
            duty: means.is_duty(),
            _life: life,
        };
        match means.confine(worker.pid()) {
            Ok(confinement) => worker.confinement = confinement,
            // Of what has ended already, the socket tells more.
            Err(_) if worker.has_ended() => {}
            Err(error) => return Err(error),
        }
        Ok(worker)
    }

    /// Waits for the hello, and checks that it is of the same build.
    pub(super) fn greet(&mut self, program: &Program, within: Duration) -> Result<(), WorkerError> {
        let path = || program.path.clone();
        let silent = || WorkerError::Silent {
            program: path(),
            within,
        };
        let bytes = self.hear(&mut &[][..], within)?.ok_or_else(silent)?;
        let hello = Hello::from_bytes(&bytes)
            .ok_or_else(|| WorkerError::Garbage("its first frame is no greeting".into()))?;
        let node = describe(&program.version, PROTOCOL);
        let worker = describe(&hello.version, hello.protocol);
        if node != worker {
            let program = path();
            return Err(WorkerError::Version {
                program,
                node,
                worker,
            });
        }
        self.rest();
        Ok(())
    }

    /// A second hold of the socket, through which a wait for the worker can be ended.
    pub(super) fn socket(&self) -> io::Result<UnixStream> {
        self.socket.try_clone()
    }

    /// Sends a request and waits for its answer. Blocks the calling thread: never call it from an
    /// actor.
    ///
    /// Whenever a slice has passed without an answer and others wait for the device, the process is
    /// stopped in the middle of what it does, the lease is given back and the next turn waited for;
    /// then the process goes on.
    ///
    /// # Errors
    /// [`WorkerError`]; the process is dead then, and every further call returns an error.
    pub fn call(
        &mut self,
        request: &[u8],
        patience: Patience,
        overrun: &mut dyn Overrun,
    ) -> Result<Vec<u8>, WorkerError> {
        let answer = self.try_call(request, patience, overrun);
        match answer {
            Ok(_) => self.rest(),
            Err(_) => drop(self.kill()),
        }
        answer
    }

    fn try_call(
        &mut self,
        request: &[u8],
        patience: Patience,
        overrun: &mut dyn Overrun,
    ) -> Result<Vec<u8>, WorkerError> {
        self.expect_silence()?;
        let bytes = request.len();
        let frame = frames::frame(request).ok_or(WorkerError::TooLong { bytes, most: MOST })?;
        let mut rest = &frame[..];
        let mut left = patience.at_most;
        self.signal(Signal::SIGCONT);
        loop {
            let slice = patience.slice.max(SHORTEST_SLICE).min(left);
            let since = Instant::now();
            if let Some(answer) = self.hear(&mut rest, slice)? {
                return Ok(answer);
            }
            left = left.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(WorkerError::Hung(patience.at_most));
            }
            if overrun.go_on() {
                continue;
            }
            self.stop()?;
            // It may have answered before it stopped.
            let late = self.hear(&mut rest, Duration::ZERO)?;
            if late.is_none() {
                overrun.next_turn().map_err(WorkerError::Stopped)?;
            }
            self.signal(Signal::SIGCONT);
            if let Some(answer) = late {
                return Ok(answer);
            }
        }
    }

    /// Whether the process has ended. It is not reaped, so that its number remains its own.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let state = waitid(Id::Pid(self.group()), ended);
        !matches!(state, Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
    }

    /// The process, as others see it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The time that all its threads together have been running on the cores, since its start. None
    /// once it is dead.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        self.ended.is_none().then(|| cpu_time(self.pid()))?
    }

    /// Nothing may have come that was not asked for.
    fn expect_silence(&mut self) -> Result<(), WorkerError> {
        if let Some(how) = &self.ended {
            let how = how.clone();
            return Err(WorkerError::Died { how });
        }
        let filled = self.incoming.fill(&self.socket);
        filled.map_err(unread)?;
        if !self.incoming.is_empty() {
            return Err(WorkerError::Garbage(
                "an answer that nobody asked for".into(),
            ));
        }
        if self.incoming.ended {
            return Err(self.died());
        }
        Ok(())
    }

    /// Sends what is left of a request and waits for a frame; none when it takes longer.
    fn hear(&mut self, rest: &mut &[u8], within: Duration) -> Result<Option<Vec<u8>>, WorkerError> {
        let since = Instant::now();
        loop {
            let heard = frames::send_some(&self.socket, rest)?;
            self.incoming.fill(&self.socket).map_err(unread)?;
            if let Some(frame) = self.incoming.take().map_err(unread)? {
                return Ok(Some(frame));
            }
            if self.incoming.ended || !heard {
                return Err(self.died());
            }
            let left = within.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait_for_socket(!rest.is_empty(), left)?;
        }
    }

    fn wait_for_socket(&self, to_send: bool, within: Duration) -> io::Result<()> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, to_send);
        let mut sockets = [PollFd::new(self.socket.as_fd(), events)];
        let within = TimeSpec::from_duration(within.min(LONGEST_WAIT));
        match ppoll(&mut sockets, Some(within), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Nothing is to be done until the next request.
    fn rest(&self) {
        if self.duty {
            self.signal(Signal::SIGSTOP);
        }
    }

    /// Stops the process, and returns once it really stands: from then on another may have the
    /// device.
    fn stop(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP);
        self.wait_until_stopped()
    }

    pub(super) fn wait_until_stopped(&self) -> io::Result<()> {
        let changed = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        loop {
            match waitid(Id::Pid(self.group()), changed) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                // It stands; or it has ended, which the socket tells.
                Ok(_) => return Ok(()),
            }
        }
    }

    /// To all of its group, which is as old as the process and lasts until it is reaped.
    fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // There is no process any more, or none that listens: the socket tells.
            let _ = killpg(self.group(), signal);
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its socket has ended: finds out why.
    fn died(&mut self) -> WorkerError {
        let since = Instant::now();
        while !self.has_ended() {
            if since.elapsed() > END_WITHIN {
                self.kill();
                let how = "it closed its socket and ran on".to_owned();
                return WorkerError::Died { how };
            }
            thread::sleep(Duration::from_millis(1));
        }
        let how = self.kill();
        match self.confinement.exceeded() {
            Some(limit) => WorkerError::OutOfMemory { limit },
            None => WorkerError::Died { how },
        }
    }

    /// Ends the process in any case, and says how it ended.
    fn kill(&mut self) -> String {
        self.signal(Signal::SIGKILL);
        let how = match self.child.wait() {
            Ok(status) => describe_end(status),
            Err(error) => format!("in an unknown way ({error})"),
        };
        self.ended.get_or_insert(how).clone()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The same of any process by its number, for who does not have the [`Worker`]: one that is asked is
/// borrowed meanwhile. None once the process has been reaped.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed())).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

fn unread(error: Unread) -> WorkerError {
    match error {
        Unread::Garbage(what) => WorkerError::Garbage(what),
        Unread::Failed(error) => WorkerError::System(error),
    }
}

fn describe(version: &str, protocol: u32) -> String {
    format!("version {version} (protocol {protocol})")
}

fn describe_end(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(number), _) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by signal {number} ({signal})"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, Some(code)) => format!("exit status {code}"),
        (None, None) => format!("{status}"),
    }
}
