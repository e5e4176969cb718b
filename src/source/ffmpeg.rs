//! The `ffmpeg` program: where it is found, and one run of it that writes raw frames into a pipe.
//!
//! A decoder that crashes, hangs or leaks does so in a process of its own; ending it is a kill.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid, getppid};

use super::invocation::Invocation;
use super::{SourceError, StopFlag};

/// Where `cargo xtask setup` puts the program, below the cache folder.
pub const CACHED_FFMPEG: &str = "ffmpeg-9.0.2/ffmpeg";

/// How often a wait looks at the stop flag.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// How long a process that has closed its output, or was killed, may take to be gone.
const EXIT_LIMIT: Duration = Duration::from_secs(3);
/// How often a wait for an exit looks.
const EXIT_CHECK: Duration = Duration::from_millis(5);
/// Lines of the decoder's messages that are kept.
const SAID_LINES: usize = 100;
/// Bytes of a line that are kept; a damaged file can make long ones.
const SAID_LINE_BYTES: usize = 500;
/// Size asked for the frame pipe: the most that Linux gives to everybody. Ten times fewer switches
/// between decoder and reader than with the 64 KiB of default.
const PIPE_BYTES: i32 = 1 << 20;

/// Finds the program: `$EKYA_FFMPEG`, else `ffmpeg` on the PATH, else the one in the cache
/// (`$EKYA_CACHE`, `$XDG_CACHE_HOME/ekya` or `~/.cache/ekya`).
///
/// # Errors
/// [`SourceError::NoDecoder`], which says how to get one.
pub fn find() -> Result<PathBuf, SourceError> {
    find_in(|name| env::var_os(name))
}

fn find_in(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, SourceError> {
    let folder = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(named) = folder("EKYA_FFMPEG") {
        return if is_program(&named) {
            Ok(named)
        } else {
            Err(SourceError::NoDecoder(format!(
                "EKYA_FFMPEG={}: not a program",
                named.display()
            )))
        };
    }
    let cache = folder("EKYA_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("ekya")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/ekya")));
    let path = variable("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("ffmpeg"))
        .chain(cache.map(|cache| cache.join(CACHED_FFMPEG)))
        .find(|candidate| is_program(candidate))
        .ok_or_else(|| {
            SourceError::NoDecoder(
                "no ffmpeg on the PATH or in the cache: `cargo xtask setup` fetches one, or set EKYA_FFMPEG"
                    .to_owned(),
            )
        })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The major version of `program`, or `None` where it does not say: development builds have none.
pub(super) fn release(program: &Path) -> Option<u32> {
    let said = Command::new(program)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    release_in(&String::from_utf8_lossy(&said.stdout))
}

/// As in "ffmpeg version 5.1.9-0+deb12u1 …" or "ffmpeg version n9.0.2-…"; "N-109741-…" is a count of commits.
fn release_in(said: &str) -> Option<u32> {
    let version = said.strip_prefix("ffmpeg version ")?;
    let version = version.strip_prefix('n').unwrap_or(version);
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// One run of the decoder. It lives no longer than this value, this process, and the thread that
/// started it (Linux sends the death signal when that thread ends). Not `Debug`: what the decoder
/// said may hold a camera's password.
pub(super) struct Decoder {
    child: Child,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    said: Said,
    frame: Vec<u8>,
    filled: usize,
}

/// What came out of a wait for the next frame.
pub(super) enum Event {
    /// A whole frame, as many bytes as asked for.
    Frame(Vec<u8>),
    /// The decoder has closed its output; [`Decoder::finish`] says how it ended.
    Ended,
    /// No whole frame in the time given.
    Silent,
    /// The stop flag was set.
    Stopped,
}

impl Decoder {
    /// Starts `program` and hands it its script; frames of `frame_bytes` are expected on its standard
    /// output.
    ///
    /// # Errors
    /// Whatever the system says when it cannot be started.
    pub(super) fn start(
        program: &Path,
        invocation: &Invocation,
        frame_bytes: usize,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(&invocation.args)
            .stdin(match invocation.script {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own: Ctrl-C at the terminal is ours to handle, and a kill takes helpers along.
        command.process_group(0);
        let parent = getpid();
        // SAFETY: between fork and exec the closure makes two system calls; it neither allocates
        // nor takes a lock.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the line above.
                if getppid() == parent {
                    Ok(())
                } else {
                    Err(io::ErrorKind::BrokenPipe.into())
                }
            });
        }
        let mut child = command.spawn()?;
        if let (Some(mut stdin), Some(script)) = (child.stdin.take(), &invocation.script) {
            // A script is smaller than a pipe, so this does not wait. One that has died at once does
            // not read it; how it ended says more than this error would.
            let _ = stdin.write_all(script.as_bytes());
        }
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let stderr = child.stderr.take();
        // Refused where the limit is lower; the default size works too.
        let _ = fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        Ok(Self {
            child,
            stdout,
            stderr,
            said: Said::default(),
            frame: vec![0; frame_bytes],
            filled: 0,
        })
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> &Said {
        &self.said
    }

    /// Bytes of a frame that has begun and is not whole.
    pub(super) fn partial_bytes(&self) -> usize {
        self.filled
    }

    /// Waits for the next frame, for `patience` at most.
    ///
    /// # Errors
    /// Whatever the system says when the pipe cannot be read.
    pub(super) fn next(&mut self, patience: Duration, stop: &StopFlag) -> io::Result<Event> {
        let deadline = Instant::now() + patience;
        loop {
            if stop.is_set() {
                return Ok(Event::Stopped);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // Looks once more when the time is over: this process may have been stopped meanwhile.
            let (frames, messages) = self.wait_readable(left.min(STOP_CHECK))?;
            let late = left.is_zero();
            if messages {
                self.read_messages();
            }
            if frames && let Some(event) = self.read_frame()? {
                return Ok(event);
            }
            if late {
                return Ok(Event::Silent);
            }
        }
    }

    /// Waits for the process to be gone after [`Event::Ended`], and collects its last words. One
    /// that lingers is killed.
    ///
    /// # Errors
    /// Whatever the system says when it cannot be waited for.
    pub(super) fn finish(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + EXIT_LIMIT;
        loop {
            let exited = self.child.try_wait()?;
            // After the exit there may still be words in the pipe.
            while self.message_waiting(if exited.is_some() {
                Duration::ZERO
            } else {
                EXIT_CHECK
            }) {
                self.read_messages();
            }
            if let Some(status) = exited {
                self.said.end_line();
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill();
                return self.child.wait();
            }
            if self.stderr.is_none() {
                std::thread::sleep(EXIT_CHECK);
            }
        }
    }

    /// Which of frames and messages can be read now or within `timeout`.
    fn wait_readable(&self, timeout: Duration) -> io::Result<(bool, bool)> {
        let stdout = PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN);
        match &self.stderr {
            None => {
                let mut fds = [stdout];
                wait(&mut fds, timeout)?;
                Ok((is_ready(&fds[0]), false))
            }
            Some(stderr) => {
                let mut fds = [stdout, PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
                wait(&mut fds, timeout)?;
                Ok((is_ready(&fds[0]), is_ready(&fds[1])))
            }
        }
    }

    fn message_waiting(&self, timeout: Duration) -> bool {
        let Some(stderr) = &self.stderr else {
            return false;
        };
        let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
        wait(&mut fds, timeout).is_ok() && is_ready(&fds[0])
    }

    /// Reads what is there; an event when that ends a frame or the stream.
    fn read_frame(&mut self) -> io::Result<Option<Event>> {
        let count = match self.stdout.read(&mut self.frame[self.filled..]) {
            Ok(0) => return Ok(Some(Event::Ended)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        self.filled += count;
        if self.filled < self.frame.len() {
            return Ok(None);
        }
        self.filled = 0;
        let next = vec![0; self.frame.len()];
        Ok(Some(Event::Frame(std::mem::replace(&mut self.frame, next))))
    }

    fn read_messages(&mut self) {
        let Some(stderr) = &mut self.stderr else {
            return;
        };
        let mut bytes = [0; 4096];
        match stderr.read(&mut bytes) {
            Ok(0) => self.stderr = None,
            Ok(count) => self.said.push(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.stderr = None,
        }
    }

    /// Kills the process and its group and waits until it is gone, [`EXIT_LIMIT`] at most.
    fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Not yet waited for, so the id is still its own. A process id fits i32 on Linux.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let deadline = Instant::now() + EXIT_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                tracing::warn!(
                    pid = self.child.id(),
                    "the decoder survives SIGKILL: it waits for a disk or network"
                );
                return;
            }
            std::thread::sleep(EXIT_CHECK);
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until one of `fds` is ready; an interrupted wait counts as over.
fn wait(fds: &mut [PollFd<'_>], timeout: Duration) -> io::Result<()> {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    match poll(fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Readable, or at its end.
fn is_ready(fd: &PollFd<'_>) -> bool {
    fd.any().unwrap_or(false)
}

/// The last lines that the decoder wrote to its standard error, credentials included.
#[derive(Default)]
pub(super) struct Said {
    lines: VecDeque<String>,
    line: Vec<u8>,
    complained: bool,
}

impl Said {
    /// The lines kept, oldest first.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> + Clone {
        self.lines.iter().map(String::as_str)
    }

    /// The last `count` lines as one.
    pub(super) fn last(&self, count: usize) -> String {
        let from = self.lines.len().saturating_sub(count);
        self.lines
            .range(from..)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Whether anything but warnings was said, or that something is corrupt.
    pub(super) fn complained(&self) -> bool {
        self.complained
    }

    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                _ if self.line.len() < SAID_LINE_BYTES => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let mut bytes = std::mem::take(&mut self.line);
        if bytes.len() == SAID_LINE_BYTES {
            // A word cut in two could be half a password, which nothing would recognise as one.
            bytes.truncate(bytes.iter().rposition(|byte| *byte == b' ').unwrap_or(0));
            bytes.extend_from_slice(b" ...");
        }
        let line = String::from_utf8_lossy(&bytes).trim().to_owned();
        if line.is_empty() {
            return;
        }
        self.complained |= ["[error]", "[fatal]", "[panic]", "corrupt"]
            .iter()
            .any(|word| line.contains(word));
        if self.lines.len() == SAID_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join("ffmpeg");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_variable_wins_then_the_path_then_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let find = |variables: &[(&str, PathBuf)]| {
            find_in(|name| {
                variables
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| v.clone().into_os_string())
            })
        };
        let cache = ("EKYA_CACHE", root.join("cache"));
        assert!(
            find(std::slice::from_ref(&cache))
                .is_err_and(|error| error.to_string().contains("cargo xtask setup"))
        );

        let cached = program(&root.join("cache/ffmpeg-9.0.2"));
        assert_eq!(find(std::slice::from_ref(&cache)).unwrap(), cached);
        let home = root.join("home");
        let at_home = program(&home.join(".cache/ekya/ffmpeg-9.0.2"));
        assert_eq!(
            find(&[("XDG_CACHE_HOME", PathBuf::new()), ("HOME", home)]).unwrap(),
            at_home
        );

        let path = ("PATH", root.join("bin"));
        assert_eq!(find(&[cache.clone(), path.clone()]).unwrap(), cached);
        let on_path = program(&root.join("bin"));
        assert_eq!(find(&[cache.clone(), path.clone()]).unwrap(), on_path);

        let named = program(&root.join("own"));
        assert_eq!(
            find(&[path.clone(), ("EKYA_FFMPEG", named.clone())]).unwrap(),
            named
        );
        let wrong = find(&[path, ("EKYA_FFMPEG", root.join("none"))]);
        assert!(wrong.is_err_and(|error| error.to_string().contains("EKYA_FFMPEG")));
    }

    #[test]
    fn a_release_is_read_from_its_version() {
        for (said, release) in [
            ("ffmpeg version 5.1.9-0+deb12u1 Copyright (c)", Some(5)),
            ("ffmpeg version n9.0.2-17-g2a571b6068 Copyright", Some(9)),
            ("ffmpeg version 4.4.2-0ubuntu0.22.04.1", Some(4)),
            ("ffmpeg version N-109741-gbbe95f7353", None),
            ("", None),
        ] {
            assert_eq!(release_in(said), release, "{said}");
        }
    }

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_cut() {
        let mut said = Said::default();
        for i in 0..250 {
            said.push(format!("[warning] line {i}\r\n").as_bytes());
        }
        assert_eq!(said.lines().count(), SAID_LINES);
        assert_eq!(said.last(2), "[warning] line 248; [warning] line 249");
        assert!(!said.complained());
        said.push(b"[error] of ");
        said.push(&[b'x'; 10_000]);
        said.end_line();
        assert_eq!(said.last(1), "[error] of ...");
        assert!(said.complained());
    }
}
