//! A video file, or a camera behind a URL or a device, decoded by an `ffmpeg` process.
//!
//! Raw video in a pipe carries no timestamps: frame `i` of a file was taken at `i / fps`, a frame
//! of a camera when it arrived.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::camera::Camera;
use super::decoding::Decoding;
use super::ffmpeg::{self, Decoder, Event};
use super::health::SourceHealth;
pub use super::input::VideoInput;
pub use super::options::{Hwaccel, InputOptions};
use super::{Frame, Source, SourceError, StopFlag};

/// How long the decoder may work on one frame of a file. Seeking through a damaged one takes a
/// while; nothing takes a minute but a hang.
const FILE_PATIENCE: Duration = Duration::from_secs(60);
/// Largest side of a picture, in pixels: 8K.
const MAX_SIDE: usize = 8192;
/// Longest URL of a camera.
const MAX_URL_BYTES: usize = 2048;

/// A video source, as configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoConfig {
    /// Path of a file, URL of a camera (`rtsp://…`; also what else ffmpeg reads), or a webcam's device
    /// (`/dev/video0`). `${NAME}` in it stands for an environment variable. URLs and devices are taken to be live: frames come when they come, and an end
    /// is a fault to recover from.
    pub input: VideoInput,
    /// Width in pixels that pictures are scaled to, whatever the video's shape, 1 to 8192.
    #[serde(default = "default_width")]
    pub width: usize,
    /// Height in pixels that pictures are scaled to, 1 to 8192.
    #[serde(default = "default_height")]
    pub height: usize,
    /// Frames a second of video, 0.1 to 240. Frames are left out to reach it, and those of a file
    /// repeated; a camera that gives fewer gives fewer.
    #[serde(default = "default_fps")]
    pub fps: f64,
    /// Files only: by what factor the replay is slower than the video, at least 1.
    #[serde(default = "default_slowdown")]
    pub slowdown: f64,
    /// Cameras only: seconds without a frame after which the connection is taken to be dead and
    /// made again, 1 to 86400. A camera that sends on motion only is silent without being dead.
    #[serde(default = "default_silent_seconds")]
    pub silent_seconds: u32,
    /// Decoding in hardware; absent is on the CPU. One of `auto`, `amf`, `cuda`, `drm`, `qsv`, `rkmpp`,
    /// `vaapi`, `vdpau`, `vulkan`, or ffmpeg's options before its input, as in
    /// `["-hwaccel", "cuda", "-hwaccel_device", "1"]`. Where the hardware is lacking, a file fails and a
    /// camera gives no frames, with a warning that says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hwaccel: Option<Hwaccel>,
    /// More options of ffmpeg for reading the input, at most 16, by name without the dash, as in
    /// `{ rtsp_transport = "udp" }`; they win over those that are set without asking.
    #[serde(default)]
    pub input_options: InputOptions,
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
            hwaccel: None,
            input_options: InputOptions::default(),
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
        )?;
        self.validate_reading()
    }

    /// The settings that become ffmpeg's arguments.
    fn validate_reading(&self) -> Result<(), SourceError> {
        let url = self.input.raw();
        let is_line = url.len() <= MAX_URL_BYTES && !url.contains(char::is_control);
        let fits = is_line || !self.is_live();
        check(
            "input",
            &self.input,
            fits,
            "a URL of one line, up to 2048 bytes",
        )?;
        if let Some(hwaccel) = &self.hwaccel {
            let expected = "the name of a method (auto, amf, cuda, drm, qsv, rkmpp, vaapi, vdpau, \
                            vulkan) or a list of ffmpeg's options before its input";
            check("hwaccel", hwaccel, hwaccel.is_valid(), expected)?;
        }
        check(
            "input_options",
            format!("{:?}", self.input_options),
            self.input_options.are_valid(),
            "ffmpeg's options by name, as in { rtsp_transport = \"udp\" }, with values of one line",
        )
    }

    /// `text` (of the decoder) without anything secret.
    pub(super) fn redact(&self, text: &str) -> String {
        let text = self.input.redact(text);
        self.input_options.redact(text)
    }
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
/// with that thread; it is killed when this value is dropped. A camera is never given up: it is
/// connected to again until the stop flag is set.
pub struct VideoSource {
    decoding: Decoding,
    /// `None` for a file.
    camera: Option<Camera>,
    ended: bool,
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
        let program = ffmpeg::find()?;
        Ok(Self {
            camera: config.is_live().then(|| Camera::new(&config)),
            decoding: Decoding::new(config, program, stop),
            ended: false,
        })
    }

    /// How often the decoder of a camera was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.health().map_or(0, |health| health.report().reconnects)
    }

    /// Process id of the decoder while it runs.
    #[must_use]
    pub fn decoder_pid(&self) -> Option<u32> {
        self.decoding.decoder.as_ref().map(Decoder::pid)
    }
}

impl Source for VideoSource {
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        let next = match &mut self.camera {
            Some(camera) => camera.next(&mut self.decoding),
            None => next_of_file(&mut self.decoding),
        };
        if !matches!(next, Ok(Some(_))) {
            self.ended = true;
            self.decoding.decoder = None;
        }
        next
    }

    fn is_live(&self) -> bool {
        self.camera.is_some()
    }

    fn health(&self) -> Option<Arc<SourceHealth>> {
        self.camera
            .as_ref()
            .map(|camera| Arc::clone(camera.health()))
    }
}

fn next_of_file(file: &mut Decoding) -> Result<Option<Frame>, SourceError> {
    if file.decoder.is_none() {
        file.start()
            .map_err(|error| file.failed(&error.to_string()))?;
    }
    match file.listen(FILE_PATIENCE) {
        Ok(Event::Frame(rgb)) => {
            let at = Duration::from_secs_f64(file.frames() as f64 / file.config.fps);
            file.frame(rgb, at).map(Some)
        }
        Ok(Event::Stopped) => Ok(None),
        Ok(Event::Ended) => end_of_file(file).map(|()| None),
        Ok(Event::Silent) => {
            let seconds = FILE_PATIENCE.as_secs();
            Err(file.failed(&format!("no frame for {seconds} s, decoder killed")))
        }
        Err(error) => Err(file.failed(&error.to_string())),
    }
}

/// What the end of the decoder's output means for a file.
fn end_of_file(file: &mut Decoding) -> Result<(), SourceError> {
    if let Some(reason) = file.end() {
        return Err(file.failed(&reason));
    }
    if file.frames() == 0 {
        return Err(file.failed("no frame in it"));
    }
    let complained = file
        .decoder
        .as_ref()
        .is_some_and(|decoder| decoder.said().complained());
    if complained {
        let said = file.last_words().unwrap_or_default();
        tracing::warn!(input = %file.config.input, frames = file.frames(), %said, "the video is damaged or cut off");
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

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
            (
                VideoConfig {
                    input: "rtsp://cam/1\nfile 'x'".into(),
                    ..camera.clone()
                },
                "input",
            ),
            (
                VideoConfig {
                    hwaccel: Some(Hwaccel::Name("gpu".to_owned())),
                    ..file.clone()
                },
                "hwaccel",
            ),
            (
                VideoConfig {
                    input_options: InputOptions([("-re".to_owned(), "1".to_owned())].into()),
                    ..file.clone()
                },
                "input_options",
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
    fn reading_and_decoding_are_read_from_toml_and_travel_as_json() {
        let text = "input = \"rtsps://cam/1\"\nhwaccel = \"vaapi\"\ninput_options = { tls_verify = \"0\" }\n";
        let config: VideoConfig = toml::from_str(text).unwrap();
        assert_eq!(config.hwaccel, Some(Hwaccel::Name("vaapi".to_owned())));
        assert_eq!(config.input_options.0["tls_verify"], "0");
        assert!(config.validate().is_ok());
        for config in [config, VideoConfig::new("a.mp4")] {
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<VideoConfig>(&json).unwrap(), config);
        }
        let list =
            toml::from_str::<VideoConfig>("input = \"a\"\nhwaccel = [\"-hwaccel\", \"cuda\"]\n");
        assert!(list.unwrap().validate().is_ok());
        let wrong = toml::from_str::<VideoConfig>("input = \"a\"\nhwaccel = 1\n").unwrap_err();
        assert!(wrong.to_string().contains("such as"), "{wrong}");
    }

    #[test]
    fn a_debugged_config_hides_the_password() {
        let config = VideoConfig::new("rtsp://admin:s3cret@cam/1");
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
