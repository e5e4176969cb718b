//! Video through a real ffmpeg: good files, bad files, cameras that fail, processes that die.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ekya::source::ffmpeg;
use ekya::source::video::{VideoConfig, VideoSource};
use ekya::source::{Frame, Source, SourceError, StopFlag};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Longer than anything here takes on a busy machine; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);
/// How soon after the stop flag is set `next_frame` returns, by its contract.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// ffmpeg, or `None` with a message that the test is skipped.
fn ffmpeg_or_skip() -> Option<PathBuf> {
    ffmpeg::find()
        .map_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

/// Makes `seconds` of a moving test picture, 25 frames a second.
fn synthetic(ffmpeg: &Path, to: &Path, size: &str, seconds: u32) {
    let picture = format!("testsrc=size={size}:rate=25:duration={seconds}");
    let status = Command::new(ffmpeg)
        .args([
            "-loglevel",
            "error",
            "-nostdin",
            "-y",
            "-f",
            "lavfi",
            "-i",
            &picture,
            "-c:v",
            "mpeg4",
        ])
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

fn small(input: &Path) -> VideoConfig {
    VideoConfig {
        width: 160,
        height: 120,
        ..VideoConfig::new(input.to_str().unwrap())
    }
}

fn open(config: VideoConfig) -> VideoSource {
    VideoSource::open(config, StopFlag::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// All frames, and how the stream ended.
fn drain(source: &mut VideoSource) -> (Vec<Frame>, Result<(), SourceError>) {
    let mut frames = Vec::new();
    loop {
        match source.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, Ok(())),
            Err(error) => return (frames, Err(error)),
        }
    }
}

/// Runs `body` on a thread of its own and fails the test when it hangs.
fn without_hang<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(body()));
    match result.recv_timeout(HANG) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().map(drop).unwrap_err())
        }
    }
}

fn pid_of(source: &VideoSource) -> Pid {
    Pid::from_raw(i32::try_from(source.decoder_pid().unwrap()).unwrap())
}

/// Neither running nor a zombie.
fn is_gone(pid: Pid) -> bool {
    kill(pid, None) == Err(Errno::ESRCH)
}

#[test]
fn a_file_gives_its_frames_once_at_the_rate_asked_for() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // A name that would be taken for a protocol and an option.
    let clip = dir.path().join("-a:b c.mp4");
    synthetic(&ffmpeg, &clip, "320x240", 3);
    let mut source = open(small(&clip));
    assert!(!source.is_live());
    let (frames, end) = drain(&mut source);
    end.unwrap();
    assert_eq!(frames.len(), 15);
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(frame.index, i as u64);
        assert_eq!(frame.at, Duration::from_millis(200 * i as u64));
        assert_eq!((frame.image.width(), frame.image.height()), (160, 120));
        assert!(frame.regions.is_empty() && frame.truth.is_none());
    }
    assert!(
        frames.windows(2).all(|pair| pair[0].image != pair[1].image),
        "the picture does not move"
    );
    assert!(source.next_frame().unwrap().is_none());
    assert_eq!(source.decoder_pid(), None);
}

#[test]
fn bad_files_are_refused_with_what_is_wrong() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty.mp4"), "").unwrap();
    for (input, wrong) in [
        ("missing.mp4", "No such file"),
        ("empty.mp4", "is empty"),
        ("", "not a file"),
    ] {
        let refused = VideoSource::open(small(&path(input)), StopFlag::default())
            .err()
            .unwrap();
        assert!(
            matches!(&refused, SourceError::File { reason, .. } if reason.contains(wrong)),
            "{refused}"
        );
    }

    fs::write(path("text.mp4"), "this is no video\n".repeat(100)).unwrap();
    synthetic(&ffmpeg, &path("whole.mp4"), "320x240", 2);
    let whole = fs::read(path("whole.mp4")).unwrap();
    // The index of an MP4 is at its end: half of one cannot be played at all.
    fs::write(path("half.mp4"), &whole[..whole.len() / 2]).unwrap();
    for input in ["text.mp4", "half.mp4"] {
        let (frames, end) = drain(&mut open(small(&path(input))));
        assert!(frames.is_empty());
        let error = end.unwrap_err();
        assert!(
            matches!(&error, SourceError::Decoder { reason, .. } if reason.contains("Invalid data")),
            "{error}"
        );
    }
}

#[test]
fn a_file_cut_off_gives_what_there_is() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let clip = dir.path().join("clip.avi");
    synthetic(&ffmpeg, &clip, "320x240", 10);
    let whole = fs::read(&clip).unwrap();
    fs::write(&clip, &whole[..whole.len() / 2]).unwrap();
    let (frames, end) = drain(&mut open(small(&clip)));
    end.unwrap();
    assert!(
        (10..=40).contains(&frames.len()),
        "{} of 50 frames",
        frames.len()
    );
}

#[test]
fn a_change_of_size_inside_a_stream_is_scaled_away() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["a.ts", "b.ts"].map(|name| dir.path().join(name));
    synthetic(&ffmpeg, &first, "320x240", 2);
    synthetic(&ffmpeg, &second, "640x360", 2);
    let both = [fs::read(&first).unwrap(), fs::read(&second).unwrap()].concat();
    fs::write(&first, both).unwrap();
    let (frames, end) = drain(&mut open(small(&first)));
    end.unwrap();
    assert!((18..=22).contains(&frames.len()), "{} frames", frames.len());
    assert!(
        frames
            .iter()
            .all(|frame| (frame.image.width(), frame.image.height()) == (160, 120))
    );
}

/// A source in the middle of a file that the decoder cannot have finished: the pipe is too small.
fn in_the_middle(ffmpeg: &Path, dir: &Path, stop: StopFlag) -> VideoSource {
    let clip = dir.join("long.mp4");
    synthetic(ffmpeg, &clip, "320x240", 20);
    let config = VideoConfig {
        fps: 25.0,
        ..VideoConfig::new(clip.to_str().unwrap())
    };
    let mut source = VideoSource::open(config, stop).unwrap_or_else(|error| panic!("{error}"));
    assert!(source.next_frame().unwrap().is_some());
    source
}

#[test]
fn a_killed_decoder_ends_the_stream_with_an_error() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    without_hang(move || {
        let dir = tempfile::tempdir().unwrap();
        let mut source = in_the_middle(&ffmpeg, dir.path(), StopFlag::default());
        let pid = pid_of(&source);
        kill(pid, Signal::SIGKILL).unwrap();
        let (frames, end) = drain(&mut source);
        assert!(frames.len() < 499);
        let error = end.unwrap_err().to_string();
        assert!(error.contains("SIGKILL"), "{error}");
        assert!(is_gone(pid));
    });
}

#[test]
fn the_stop_flag_ends_a_frozen_decoder_at_once() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    without_hang(move || {
        let dir = tempfile::tempdir().unwrap();
        let stop = StopFlag::default();
        let mut source = in_the_middle(&ffmpeg, dir.path(), stop.clone());
        let pid = pid_of(&source);
        kill(pid, Signal::SIGSTOP).unwrap();
        let stopper = std::thread::spawn(move || {
            stop.set();
            Instant::now()
        });
        let (_, end) = drain(&mut source);
        let ended = Instant::now();
        end.unwrap();
        assert!(ended.saturating_duration_since(stopper.join().unwrap()) < STOP_LIMIT);
        assert!(is_gone(pid));
    });
}

#[test]
fn a_dropped_source_leaves_no_process() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let source = in_the_middle(&ffmpeg, dir.path(), StopFlag::default());
    let pid = pid_of(&source);
    kill(pid, Signal::SIGSTOP).unwrap();
    drop(source);
    assert!(is_gone(pid));
}

#[test]
fn a_decoder_does_not_outlive_its_thread() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    without_hang(move || {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_owned();
        let pid = std::thread::spawn(move || {
            let source = in_the_middle(&ffmpeg, &folder, StopFlag::default());
            let pid = pid_of(&source);
            // As a process that is killed does: nothing is dropped.
            std::mem::forget(source);
            pid
        })
        .join()
        .unwrap();
        assert_eq!(
            waitpid(pid, None).unwrap(),
            WaitStatus::Signaled(pid, Signal::SIGKILL, false)
        );
    });
}

/// An ffmpeg that plays a camera on `port` for one viewer; killed when dropped.
struct Camera(Child);

impl Camera {
    fn start(ffmpeg: &Path, port: u16) -> Self {
        let mut command = Command::new(ffmpeg);
        command.args([
            "-loglevel",
            "quiet",
            "-nostdin",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=160x120:rate=25",
        ]);
        command.args(["-c:v", "mpeg2video", "-g", "5", "-f", "mpegts"]);
        command.arg(format!("tcp://127.0.0.1:{port}?listen=1"));
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn a_camera_that_goes_away_and_comes_back_goes_on() {
    let Some(ffmpeg) = ffmpeg_or_skip() else {
        return;
    };
    without_hang(move || {
        let port = free_port();
        let mut source = open(small(Path::new(&format!("tcp://127.0.0.1:{port}"))));
        assert!(source.is_live());
        // The first connection may come before the camera listens, which is a loss like any other.
        let camera = Camera::start(&ffmpeg, port);
        let mut frames = vec![source.next_frame().unwrap().unwrap()];
        let lost = source.restarts();
        drop(camera);
        let _again = Camera::start(&ffmpeg, port);
        while source.restarts() == lost {
            frames.push(source.next_frame().unwrap().unwrap());
        }
        frames.push(source.next_frame().unwrap().unwrap());
        assert!(
            frames
                .iter()
                .map(|frame| frame.index)
                .eq(0..frames.len() as u64)
        );
        assert!(frames.is_sorted_by_key(|frame| frame.at));
    });
}

#[test]
fn a_camera_that_is_down_does_not_delay_the_stop() {
    let Some(_) = ffmpeg_or_skip() else { return };
    without_hang(|| {
        let stop = StopFlag::default();
        let config = small(Path::new(&format!("tcp://127.0.0.1:{}", free_port())));
        let mut source =
            VideoSource::open(config, stop.clone()).unwrap_or_else(|error| panic!("{error}"));
        let stopper = std::thread::spawn(move || {
            stop.set();
            Instant::now()
        });
        assert!(source.next_frame().unwrap().is_none());
        let ended = Instant::now();
        assert!(ended.saturating_duration_since(stopper.join().unwrap()) < STOP_LIMIT);
        assert_eq!(source.decoder_pid(), None);
    });
}

#[test]
fn a_silent_camera_is_connected_again() {
    let Some(_) = ffmpeg_or_skip() else { return };
    without_hang(|| {
        let camera = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://admin:s3cret@{}/", camera.local_addr().unwrap());
        let stop = StopFlag::default();
        let at_second_visit = stop.clone();
        let visits = std::thread::spawn(move || {
            let (mut first, _) = camera.accept().unwrap();
            let second = camera.accept().unwrap();
            // The first connection is over: what is left to read comes to an end.
            let mut request = Vec::new();
            let _ = first.read_to_end(&mut request);
            at_second_visit.set();
            drop(second);
        });
        let config = VideoConfig {
            silent_seconds: 1,
            ..small(Path::new(&url))
        };
        let mut source = VideoSource::open(config, stop).unwrap_or_else(|error| panic!("{error}"));
        assert!(source.next_frame().unwrap().is_none());
        visits.join().unwrap();
        assert!(source.restarts() >= 1);
    });
}

#[test]
fn recorded_cameras_are_read_to_the_end() {
    let Some(_) = ffmpeg_or_skip() else { return };
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        eprintln!("skipped: EKYA_DATA is not set");
        return;
    };
    for (name, seconds) in [
        ("vtest.avi", 79.5),
        ("bgs-video02.avi", 30.0),
        ("ckuhn-traffic.mp4", 73.2),
    ] {
        let (frames, end) = drain(&mut open(small(
            &Path::new(&data).join("videos").join(name),
        )));
        end.unwrap();
        let expected = seconds * 5.0;
        let difference = (frames.len() as f64 - expected).abs();
        assert!(
            difference <= 3.0,
            "{name}: {} frames, {expected} expected",
            frames.len()
        );
    }
}
