//! A video file, or a camera behind a URL, decoded by an `ffmpeg` process.
//!
//! Raw video in a pipe carries no timestamps: frame `i` of a file was taken at `i / fps`, a frame
//! of a camera when it arrived.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekya_models::Image;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::ffmpeg::{self, Decoder, Event};
pub use super::input::VideoInput;
use super::{Frame, Source, SourceError, StopFlag};

/// How long the decoder may work on one frame of a file. Seeking through a damaged one takes a
/// while; nothing takes a minute but a hang.
const FILE_PATIENCE: Duration = Duration::from_secs(60);
/// First pause before a camera's decoder is started again; doubled by every failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause. A decoder that ran for longer than this was healthy: pauses start anew.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a pause looks at the stop flag.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// Lines of the decoder that an error quotes.
const QUOTED_LINES: usize = 5;
/// Largest side of a picture, in pixels: 8K.
const MAX_SIDE: usize = 8192;

/// A video source, as configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoConfig {
    /// Path of a file, or URL of a camera (`rtsp://…`; also what else ffmpeg reads). A URL is taken
    /// to be live: frames come when they come, and its end is a fault to recover from.
    pub input: VideoInput,
    /// Width in pixels that pictures are scaled to, whatever the video's shape.
    #[serde(default = "default_width")]
    pub width: usize,
    /// Height in pixels, likewise.
    #[serde(default = "default_height")]
    pub height: usize,
    /// Frames a second of video, 0.1 to 240; frames are left out or repeated to reach it.
    #[serde(default = "default_fps")]
    pub fps: f64,
    /// Files only: by what factor the replay is slower than the video, at least 1. The source hands
    /// frames over as they are asked for; whoever paces it applies this.
    #[serde(default = "default_slowdown")]
    pub slowdown: f64,
    /// Cameras only: seconds without a frame after which the connection is taken to be dead and
    /// made again, 1 to 86400. A camera that sends on motion only is silent without being dead.
    #[serde(default = "default_silent_seconds")]
    pub silent_seconds: u32,
}

fn default_width() -> usize {
    640
}

fn default_height() -> usize {
    360
}

fn default_fps() -> f64 {
    5.0
}

fn default_slowdown() -> f64 {
    1.0
}

fn default_silent_seconds() -> u32 {
    10
}

impl VideoConfig {
    /// `input` with every default.
    #[must_use]
    pub fn new(input: &str) -> Self {
        Self {
            input: input.into(),
            width: default_width(),
            height: default_height(),
            fps: default_fps(),
            slowdown: default_slowdown(),
            silent_seconds: default_silent_seconds(),
        }
    }

    /// Whether the input is a camera rather than a file.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.input.file().is_none()
    }

    /// Checks every setting, without touching the input.
    ///
    /// # Errors
    /// [`SourceError::Setting`] for the first that is out of range.
    pub fn validate(&self) -> Result<(), SourceError> {
        let slowest = if self.is_live() { 1.0 } else { f64::MAX };
        let sides = 1..=MAX_SIDE;
        check(
            "width",
            self.width,
            sides.contains(&self.width),
            "1 to 8192 pixels",
        )?;
        check(
            "height",
            self.height,
            sides.contains(&self.height),
            "1 to 8192 pixels",
        )?;
        check(
            "fps",
            self.fps,
            (0.1..=240.0).contains(&self.fps),
            "0.1 to 240 frames a second",
        )?;
        let slowdown_fits = (1.0..=slowest).contains(&self.slowdown);
        check(
            "slowdown",
            self.slowdown,
            slowdown_fits,
            "at least 1, and 1 for a camera",
        )?;
        let silence_fits = (1..=86_400).contains(&self.silent_seconds);
        check(
            "silent_seconds",
            self.silent_seconds,
            silence_fits,
            "1 to 86400",
        )
    }

    /// Arguments of ffmpeg for this input.
    fn ffmpeg_args(&self) -> Vec<String> {
        let mut args = words("-hide_banner -nostdin -loglevel level+warning -threads 2");
        match self.input.file() {
            // With its protocol named, a file called "a:b.mp4" or "-.mp4" is still a file.
            Some(path) => args.extend(["-i".to_owned(), format!("file:{}", path.display())]),
            None => {
                if self
                    .input
                    .scheme()
                    .is_some_and(|scheme| scheme.starts_with("rtsp"))
                {
                    args.extend(words("-rtsp_transport tcp"));
                }
                // Cameras' clocks jump; arrival does not. Time limits are not left to ffmpeg: their
                // option has other names and meanings from version to version.
                args.extend(words(
                    "-fflags +genpts+discardcorrupt -use_wallclock_as_timestamps 1",
                ));
                args.extend(["-i".to_owned(), self.input.raw().to_owned()]);
            }
        }
        args.extend(words("-map 0:v:0 -vf"));
        args.push(format!(
            "fps={},scale={}:{}",
            self.fps, self.width, self.height
        ));
        args.extend(words("-f rawvideo -pix_fmt rgb24 pipe:1"));
        args
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn check(
    setting: &'static str,
    value: impl ToString,
    fits: bool,
    expected: &'static str,
) -> Result<(), SourceError> {
    if fits {
        Ok(())
    } else {
        Err(SourceError::Setting {
            setting,
            value: value.to_string(),
            expected,
        })
    }
}

/// Frames of a video file or camera.
///
/// The decoder starts with the first [`Source::next_frame`], on the thread that calls it, and dies
/// with that thread; it is killed when this value is dropped.
pub struct VideoSource {
    config: VideoConfig,
    program: PathBuf,
    stop: StopFlag,
    decoder: Option<Decoder>,
    ended: bool,
    frames: u64,
    opened: Instant,
    started: Instant,
    pauses: Pauses,
    restarts: u64,
}

impl VideoSource {
    /// Opens an input with the `ffmpeg` that [`ffmpeg::find`] finds. A file must be there; a
    /// camera may be down.
    ///
    /// # Errors
    /// [`SourceError::Setting`], [`SourceError::NoDecoder`], or [`SourceError::File`] when the file
    /// is missing, empty or unreadable.
    pub fn open(config: VideoConfig, stop: StopFlag) -> Result<Self, SourceError> {
        config.validate()?;
        if let Some(path) = config.input.file() {
            check_file(&path)?;
        }
        Ok(Self {
            pauses: Pauses::new(&config.input.to_string()),
            program: ffmpeg::find()?,
            config,
            stop,
            decoder: None,
            ended: false,
            frames: 0,
            opened: Instant::now(),
            started: Instant::now(),
            restarts: 0,
        })
    }

    /// How often the decoder of a camera was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Process id of the decoder while it runs.
    #[must_use]
    pub fn decoder_pid(&self) -> Option<u32> {
        self.decoder.as_ref().map(Decoder::pid)
    }

    /// Waits for what the decoder does next, starting it when there is none.
    fn next_event(&mut self) -> std::io::Result<Event> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => {
                self.started = Instant::now();
                let bytes = self.config.width * self.config.height * 3;
                none.insert(Decoder::start(
                    &self.program,
                    &self.config.ffmpeg_args(),
                    bytes,
                )?)
            }
        };
        let patience = if self.config.is_live() {
            Duration::from_secs(self.config.silent_seconds.into())
        } else {
            FILE_PATIENCE
        };
        decoder.next(patience, &self.stop)
    }

    fn next_of_file(&mut self) -> Result<Option<Frame>, SourceError> {
        match self.next_event() {
            Ok(Event::Frame(rgb)) => {
                let at = Duration::from_secs_f64(self.frames as f64 / self.config.fps);
                self.frame(rgb, at).map(Some)
            }
            Ok(Event::Stopped) => Ok(None),
            Ok(Event::Ended) => self.end_of_file().map(|()| None),
            Ok(Event::Silent) => Err(self.failed(&format!(
                "no frame for {} s, decoder killed",
                FILE_PATIENCE.as_secs()
            ))),
            Err(error) => Err(self.failed(&format!("{}: {error}", self.program.display()))),
        }
    }

    /// What the end of the decoder's output means for a file.
    fn end_of_file(&mut self) -> Result<(), SourceError> {
        let reason = self.end_of_decoder();
        let Some(decoder) = &self.decoder else {
            return Ok(());
        };
        if let Some(reason) = reason {
            return Err(self.failed(&reason));
        }
        if self.frames == 0 {
            return Err(self.failed("no frame in it"));
        }
        if decoder.said().complained() {
            let said = self.config.input.redact(&decoder.said().last(QUOTED_LINES));
            tracing::warn!(input = %self.config.input, frames = self.frames, %said, "the video is damaged or cut off");
        }
        Ok(())
    }

    /// Waits for the decoder to exit; what was wrong with its end, if anything was.
    fn end_of_decoder(&mut self) -> Option<String> {
        let decoder = self.decoder.as_mut()?;
        match decoder.finish() {
            Ok(status) if !status.success() => {
                Some(format!("the decoder failed ({})", describe(status)))
            }
            Ok(_) if decoder.partial_bytes() > 0 => {
                Some("the decoder stopped inside a frame".to_owned())
            }
            Ok(_) => None,
            Err(error) => Some(format!("cannot wait for the decoder: {error}")),
        }
    }

    fn next_of_camera(&mut self) -> Result<Option<Frame>, SourceError> {
        while !self.stop.is_set() {
            let reason = match self.next_event() {
                Ok(Event::Frame(rgb)) => return self.frame(rgb, self.opened.elapsed()).map(Some),
                Ok(Event::Stopped) => break,
                Ok(Event::Ended) => self
                    .end_of_decoder()
                    .unwrap_or_else(|| "the stream ended".to_owned()),
                Ok(Event::Silent) => format!("no frame for {} s", self.config.silent_seconds),
                Err(error) => format!("{}: {error}", self.program.display()),
            };
            self.restart(&reason);
        }
        Ok(None)
    }

    /// Ends the decoder and pauses before the next one.
    fn restart(&mut self, reason: &str) {
        let error = self.failed(reason);
        self.decoder = None;
        self.restarts += 1;
        if self.started.elapsed() > LONGEST_PAUSE {
            self.pauses.reset();
        }
        let pause = self.pauses.next();
        tracing::warn!(%error, frames = self.frames, pause_ms = pause.as_millis(), "camera lost, connecting again");
        let until = Instant::now() + pause;
        while !self.stop.is_set() && Instant::now() < until {
            std::thread::sleep(STOP_CHECK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn frame(&mut self, rgb: Vec<u8>, at: Duration) -> Result<Frame, SourceError> {
        let image = Image::new(self.config.width, self.config.height, rgb)
            .map_err(|error| self.failed(&error.to_string()))?;
        let index = self.frames;
        self.frames += 1;
        Ok(Frame {
            index,
            at,
            image: Arc::new(image),
            regions: Vec::new(),
            truth: None,
        })
    }

    /// An error that quotes the decoder; all its words go to the debug log.
    fn failed(&self, reason: &str) -> SourceError {
        let mut reason = reason.to_owned();
        if let Some(decoder) = &self.decoder {
            for line in decoder.said().lines() {
                tracing::debug!(input = %self.config.input, line = %self.config.input.redact(line), "decoder");
            }
            let said = decoder.said().last(QUOTED_LINES);
            if !said.is_empty() {
                reason = format!("{reason}; ffmpeg: {}", self.config.input.redact(&said));
            }
        }
        SourceError::Decoder {
            input: self.config.input.to_string(),
            reason,
        }
    }
}

impl Source for VideoSource {
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        let next = if self.is_live() {
            self.next_of_camera()
        } else {
            self.next_of_file()
        };
        if !matches!(next, Ok(Some(_))) {
            self.ended = true;
            self.decoder = None;
        }
        next
    }

    fn is_live(&self) -> bool {
        self.config.is_live()
    }
}

fn describe(status: ExitStatus) -> String {
    status.to_string().replace("exit status: ", "exit code ")
}

/// Says at once what ffmpeg would say late and in other words.
fn check_file(path: &Path) -> Result<(), SourceError> {
    let failed = |reason: &str| SourceError::File {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    };
    let meta = fs::metadata(path).map_err(|error| failed(&error.to_string()))?;
    if !meta.is_file() {
        return Err(failed("not a file"));
    }
    if meta.len() == 0 {
        return Err(failed("the file is empty"));
    }
    fs::File::open(path)
        .map(drop)
        .map_err(|error| failed(&error.to_string()))
}

/// Pauses between restarts: doubled from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`], each up to a quarter
/// shorter, so that cameras lost together do not come back in step.
struct Pauses {
    random: ChaCha8Rng,
    next: Duration,
}

impl Pauses {
    /// Different for each `name`, the same in each run.
    fn new(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self {
            random: ChaCha8Rng::seed_from_u64(hasher.finish()),
            next: FIRST_PAUSE,
        }
    }

    fn reset(&mut self) {
        self.next = FIRST_PAUSE;
    }

    fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(LONGEST_PAUSE);
        full.mul_f64(self.random.random_range(0.75..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_anew() {
        let mut pauses = Pauses::new("cam");
        for full in [1, 2, 4, 8, 16, 30, 30] {
            let full = Duration::from_secs(full);
            let pause = pauses.next();
            assert!(
                pause <= full && pause >= full.mul_f64(0.74),
                "{pause:?} of {full:?}"
            );
        }
        pauses.reset();
        assert!(pauses.next() <= FIRST_PAUSE);
    }

    #[test]
    fn input_options_go_only_to_the_inputs_they_fit() {
        let args = |input: &str| VideoConfig::new(input).ffmpeg_args().join(" ");
        assert!(args("a.mp4").contains("-i file:a.mp4 "));
        assert!(!args("a.mp4").contains("wallclock"));
        assert!(args("rtsp://cam/1").contains("-rtsp_transport tcp"));
        assert!(args("http://cam/1").contains("wallclock"));
        assert!(!args("http://cam/1").contains("rtsp_transport"));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let file = VideoConfig::new("a.mp4");
        let camera = VideoConfig::new("rtsp://cam/1");
        for (config, setting) in [
            (
                VideoConfig {
                    width: 0,
                    ..file.clone()
                },
                "width",
            ),
            (
                VideoConfig {
                    height: 100_000,
                    ..file.clone()
                },
                "height",
            ),
            (
                VideoConfig {
                    fps: f64::NAN,
                    ..file.clone()
                },
                "fps",
            ),
            (
                VideoConfig {
                    slowdown: 0.5,
                    ..file.clone()
                },
                "slowdown",
            ),
            (
                VideoConfig {
                    slowdown: 2.0,
                    ..camera.clone()
                },
                "slowdown",
            ),
            (
                VideoConfig {
                    silent_seconds: 0,
                    ..camera.clone()
                },
                "silent_seconds",
            ),
        ] {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(setting), "{error}");
        }
        assert!(
            VideoConfig {
                slowdown: 4.0,
                ..file
            }
            .validate()
            .is_ok()
        );
        assert!(camera.validate().is_ok());
    }

    #[test]
    fn a_debugged_config_hides_the_password() {
        let config = VideoConfig::new("rtsp://admin:s3cret@cam/1");
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
