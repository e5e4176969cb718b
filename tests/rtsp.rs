//! Cameras that speak RTSP, over a real server (`rtsp/server.py`, GStreamer's): each way to lose one,
//! and that the stream goes on by itself while another does not notice.
//!
//! Everything stays on 127.0.0.1. Waiting is for frames, with a limit that only a hang reaches. How long
//! each recovery took is printed; `EKYA_RTSP_SECONDS` makes the test of rates longer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ekya::source::fault::Fault;
use ekya::source::ffmpeg;
use ekya::source::health::SourceHealth;
use ekya::source::video::{VideoConfig, VideoSource};
use ekya::source::{Source, StopFlag};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);
/// What connecting takes on a busy machine: ffmpeg starts, looks at the stream, the server begins to
/// encode.
const CONNECTING: Duration = Duration::from_secs(8);
/// Seconds without a frame after which a stream connects again here.
const SILENT_SECONDS: u32 = 3;
/// A stream that does not notice what another suffers has no longer gap between frames.
const UNNOTICED: Duration = Duration::from_secs(2);
/// Exit code of the server where it lacks something.
const LACKING: i32 = 77;

/// A camera that runs until it is dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts one on `port`; `None`, with a message, where there is no GStreamer.
    fn start(port: u16, options: &[&str]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rtsp/server.py");
        let process = Command::new("/usr/bin/python3")
            .arg(script)
            .args(["--port", &port.to_string()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| eprintln!("skipped: /usr/bin/python3: {error}"))
            .ok()?;
        let mut server = Self { process, port };
        let mut line = String::new();
        let stdout = server.process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        if line == "ready\n" {
            return Some(server);
        }
        let status = server.process.wait().unwrap();
        assert_eq!(status.code(), Some(LACKING), "the server failed");
        eprintln!("skipped: GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0)");
        None
    }

    /// The URL of its camera.
    fn url(&self) -> String {
        url(self.port)
    }

    fn signal(&self, signal: Signal) {
        kill(pid(self.process.id()), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn url(port: u16) -> String {
    format!("rtsp://127.0.0.1:{port}/cam")
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A frame, as the thread of a stream has seen it.
#[derive(Clone, Copy)]
struct Seen {
    index: u64,
    at: Duration,
    came: Instant,
    decoder: u32,
    restarts: u64,
}

/// A stream that takes frames on a thread of its own, as a node's does.
struct Stream {
    frames: Receiver<Seen>,
    health: Arc<SourceHealth>,
    stop: StopFlag,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    fn open(url: &str, fps: f64) -> Self {
        let config = VideoConfig {
            width: 160,
            height: 120,
            fps,
            silent_seconds: SILENT_SECONDS,
            ..VideoConfig::new(url)
        };
        let stop = StopFlag::default();
        let mut source = VideoSource::open(config, stop.clone()).unwrap_or_else(|e| panic!("{e}"));
        let health = source.health().unwrap();
        let (send, frames) = channel();
        let thread = std::thread::spawn(move || {
            while let Some(frame) = source.next_frame().unwrap() {
                assert_eq!((frame.image.width(), frame.image.height()), (160, 120));
                let seen = Seen {
                    index: frame.index,
                    at: frame.at,
                    came: Instant::now(),
                    decoder: source.decoder_pid().unwrap(),
                    restarts: source.restarts(),
                };
                if send.send(seen).is_err() {
                    break;
                }
            }
        });
        Self {
            frames,
            health,
            stop,
            thread: Some(thread),
        }
    }

    /// The next frame.
    fn next(&self) -> Seen {
        self.frames.recv_timeout(HANG).unwrap()
    }

    /// The first frame of which `holds` is true; those before it are checked to be without holes.
    fn until(&self, mut holds: impl FnMut(&Seen) -> bool) -> Seen {
        let mut last = self.next();
        while !holds(&last) {
            let next = self.next();
            assert_eq!(next.index, last.index + 1);
            assert!(next.at >= last.at);
            last = next;
        }
        last
    }

    /// Waits until the stream reports `fault`, and returns what it says of it.
    fn until_lost(&self, fault: Fault) -> String {
        let deadline = Instant::now() + HANG;
        loop {
            let report = self.health.report();
            if !report.connected && report.fault == Some(fault) {
                return report.reason;
            }
            assert!(Instant::now() < deadline, "{report:?}");
            let waited = self.frames.recv_timeout(Duration::from_millis(50));
            assert_ne!(waited.err(), Some(RecvTimeoutError::Disconnected));
        }
    }

    /// Waits for the first frame of another connection than that of `before`; says how long after
    /// `from` it came, which must be within twice the pause that was due, beside `more`.
    fn recovers(&self, what: &str, before: u64, from: Instant, more: Duration) {
        let back = self.until(|seen| seen.restarts > before && seen.came > from);
        let took = back.came - from;
        // No stream here is well for long enough to begin its pauses anew.
        let pause = Duration::from_secs((1 << (back.restarts - 1).min(5)).min(30));
        eprintln!("{what}: back after {took:.1?}, the last pause was up to {pause:?}");
        assert!(took <= 2 * pause + CONNECTING + more, "{took:?}");
        assert!(self.health.report().connected);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.set();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// A stream of another camera, which must not notice what happens beside it.
struct Bystander {
    stream: Stream,
    first: Seen,
    _server: Server,
}

impl Bystander {
    fn start() -> Option<Self> {
        let server = Server::start(free_port(), &[])?;
        let stream = Stream::open(&server.url(), 5.0);
        let first = stream.next();
        Some(Self {
            stream,
            first,
            _server: server,
        })
    }

    fn has_not_noticed(self) {
        let mut last = self.first;
        for next in self.stream.frames.try_iter() {
            let gap = next.came - last.came;
            assert!(gap < UNNOTICED, "another stream waited for {gap:?}");
            assert_eq!(next.restarts, self.first.restarts);
            last = next;
        }
        assert!(last.index > self.first.index && last.came.elapsed() < UNNOTICED);
    }
}

fn has_ffmpeg() -> bool {
    let found = ffmpeg::find().map_err(|error| eprintln!("skipped: {error}"));
    found.is_ok()
}

/// A camera, a stream of it that has frames, and a stream beside it; `None` where a test is skipped.
fn camera() -> Option<(Server, Stream, Bystander)> {
    if !has_ffmpeg() {
        return None;
    }
    let bystander = Bystander::start()?;
    let server = Server::start(free_port(), &[])?;
    let stream = Stream::open(&server.url(), 5.0);
    stream.next();
    Some((server, stream, bystander))
}

#[test]
fn a_camera_that_comes_late_is_found() {
    if !has_ffmpeg() {
        return;
    }
    let Some(bystander) = Bystander::start() else {
        return;
    };
    let port = free_port();
    let stream = Stream::open(&url(port), 5.0);
    stream.until_lost(Fault::Unreachable);
    let Some(_server) = Server::start(port, &[]) else {
        return;
    };
    stream.recovers("down at start", 0, Instant::now(), Duration::ZERO);
    bystander.has_not_noticed();
}

#[test]
fn a_camera_that_reboots_is_found_again_whatever_its_resolution() {
    let Some((server, stream, bystander)) = camera() else {
        return;
    };
    let port = server.port;
    let before = stream.next().restarts;
    drop(server);
    stream.until_lost(Fault::Unreachable);
    let server = Server::start(port, &[]).unwrap();
    stream.recovers("reboot", before, Instant::now(), Duration::ZERO);

    let before = stream.next().restarts;
    drop(server);
    stream.until_lost(Fault::Unreachable);
    let _server = Server::start(port, &["--width", "640", "--height", "360"]).unwrap();
    stream.recovers("another resolution", before, Instant::now(), Duration::ZERO);
    bystander.has_not_noticed();
}

#[test]
fn a_camera_that_hangs_is_given_up_and_found_again() {
    let Some((server, stream, bystander)) = camera() else {
        return;
    };
    let before = stream.next().restarts;
    server.signal(Signal::SIGSTOP);
    stream.until_lost(Fault::Silent);
    server.signal(Signal::SIGCONT);
    stream.recovers("server stopped", before, Instant::now(), Duration::ZERO);
    bystander.has_not_noticed();
}

#[test]
fn a_decoder_that_dies_is_replaced() {
    let Some((_server, stream, bystander)) = camera() else {
        return;
    };
    let seen = stream.next();
    let from = Instant::now();
    kill(pid(seen.decoder), Signal::SIGKILL).unwrap();
    stream.recovers("ffmpeg killed", seen.restarts, from, Duration::ZERO);
    assert_eq!(stream.health.report().fault, Some(Fault::Decoder));
    bystander.has_not_noticed();
}

#[test]
fn a_decoder_that_hangs_is_killed_and_replaced() {
    let Some((_server, stream, bystander)) = camera() else {
        return;
    };
    let seen = stream.next();
    let from = Instant::now();
    kill(pid(seen.decoder), Signal::SIGSTOP).unwrap();
    let silence = Duration::from_secs(SILENT_SECONDS.into());
    stream.recovers("ffmpeg stopped", seen.restarts, from, silence);
    assert_eq!(stream.health.report().fault, Some(Fault::Silent));
    assert!(!Path::new(&format!("/proc/{}", seen.decoder)).exists());
    bystander.has_not_noticed();
}

#[test]
fn damaged_video_gives_frames_all_the_same() {
    if !has_ffmpeg() {
        return;
    }
    let Some(server) = Server::start(free_port(), &["--damage", "0.0005"]) else {
        return;
    };
    let stream = Stream::open(&server.url(), 5.0);
    let last = stream.until(|seen| seen.index == 50);
    eprintln!("damaged: 50 frames with {} restarts", last.restarts);
    assert!(last.restarts <= 2);
}

#[test]
fn a_wrong_password_is_told_from_a_wrong_address_and_neither_is_shown() {
    if !has_ffmpeg() {
        return;
    }
    let Some(server) = Server::start(free_port(), &["--login", "joe:s3cret"]) else {
        return;
    };
    let with = |login: &str, path: &str| {
        Stream::open(
            &format!("rtsp://{login}@127.0.0.1:{}{path}", server.port),
            5.0,
        )
    };
    let reason = with("joe:wr0ng", "/cam").until_lost(Fault::Login);
    assert!(
        !reason.contains("wr0ng") && !reason.contains("joe"),
        "{reason}"
    );
    let reason = with("joe:s3cret", "/other").until_lost(Fault::Address);
    assert!(!reason.contains("s3cret"), "{reason}");

    let right = with("joe:s3cret", "/cam");
    let seen = right.next();
    let arguments = fs::read(format!("/proc/{}/cmdline", seen.decoder)).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    assert!(
        arguments.contains("rawvideo") && !arguments.contains("s3cret"),
        "{arguments}"
    );
}

/// Resident memory of a process in KiB.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn frames_come_at_the_camera_s_rate_without_drift_or_growth() {
    if !has_ffmpeg() {
        return;
    }
    let Some(server) = Server::start(free_port(), &[]) else {
        return;
    };
    let seconds = std::env::var("EKYA_RTSP_SECONDS").map_or(10, |text| text.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let stream = Stream::open(&server.url(), 24.0);
    // What was read while ffmpeg looked at the stream comes at once.
    let first = stream.until(|seen| seen.index == 48);
    let memory = resident(first.decoder);
    let last = stream.until(|seen| seen.at >= first.at + length);
    assert_eq!(last.restarts, first.restarts);
    let expected = (last.at - first.at).as_secs_f64() * 24.0;
    let frames = (last.index - first.index) as f64;
    let growth = resident(last.decoder).saturating_sub(memory);
    eprintln!("{seconds} s: {frames} frames of {expected:.0}, ffmpeg grew by {growth} KiB");
    assert!((frames - expected).abs() <= 24.0 + expected * 0.005);
    assert!(growth < 32 * 1024);
}
