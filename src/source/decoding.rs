//! A video input and the decoder that reads it: starts it, listens to it, quotes it. When to start it,
//! and what its end means, is for those that use this: a file or a camera.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use ekya_models::Image;

use super::ffmpeg::{self, Decoder, Event};
use super::invocation::{Invocation, hides_something};
use super::video::VideoConfig;
use super::{Frame, SourceError, StopFlag};

/// Lines of the decoder that an error quotes.
const QUOTED_LINES: usize = 5;

/// A video input and, while it is decoded, its decoder.
pub(super) struct Decoding {
    pub(super) config: VideoConfig,
    pub(super) stop: StopFlag,
    pub(super) decoder: Option<Decoder>,
    program: PathBuf,
    /// Whether the program takes options in a script; asked when it matters for the first time.
    scripts: Option<bool>,
    frames: u64,
}

impl Decoding {
    pub(super) fn new(config: VideoConfig, program: PathBuf, stop: StopFlag) -> Self {
        Self {
            config,
            stop,
            decoder: None,
            program,
            scripts: None,
            frames: 0,
        }
    }

    /// Frames handed over so far.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Starts a decoder.
    ///
    /// # Errors
    /// What the system says, with the program's name.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let bytes = self.config.width * self.config.height * 3;
        let scripts = hides_something(&self.config) && self.takes_scripts();
        let invocation = Invocation::new(&self.config, scripts);
        let decoder = Decoder::start(&self.program, &invocation, bytes).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.program.display()))
        })?;
        self.decoder = Some(decoder);
        Ok(())
    }

    fn takes_scripts(&mut self) -> bool {
        *self.scripts.get_or_insert_with(|| {
            let takes = ffmpeg::release(&self.program).is_none_or(|release| release >= 5);
            if !takes {
                tracing::warn!(
                    input = %self.config.input,
                    "this ffmpeg is older than version 5: the camera's password can be seen in the list of processes"
                );
            }
            takes
        })
    }

    /// Waits for what the decoder does next, for `patience` at most; without a decoder it has ended.
    ///
    /// # Errors
    /// Whatever the system says when it cannot be read.
    pub(super) fn listen(&mut self, patience: Duration) -> io::Result<Event> {
        match &mut self.decoder {
            Some(decoder) => decoder.next(patience, &self.stop),
            None => Ok(Event::Ended),
        }
    }

    /// Waits for the decoder to exit after [`Event::Ended`]; what was wrong with its end, if anything was.
    pub(super) fn end(&mut self) -> Option<String> {
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

    /// The next frame, made of the decoder's bytes.
    ///
    /// # Errors
    /// [`SourceError::Decoder`] when these are no picture.
    pub(super) fn frame(&mut self, rgb: Vec<u8>, at: Duration) -> Result<Frame, SourceError> {
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

    /// `reason` and what the decoder said last, credentials removed.
    pub(super) fn quoted(&self, reason: &str) -> String {
        match self.last_words() {
            None => reason.to_owned(),
            Some(said) => format!("{reason}; ffmpeg: {said}"),
        }
    }

    /// What the decoder said last, credentials removed.
    pub(super) fn last_words(&self) -> Option<String> {
        let said = self.decoder.as_ref()?.said().last(QUOTED_LINES);
        (!said.is_empty()).then(|| self.config.redact(&said))
    }

    /// Writes all that is kept of the decoder's words to the debug log, credentials removed.
    pub(super) fn log_words(&self) {
        for line in self
            .decoder
            .iter()
            .flat_map(|decoder| decoder.said().lines())
        {
            tracing::debug!(input = %self.config.input, line = %self.config.redact(line), "decoder");
        }
    }

    /// An error that quotes the decoder; all its words go to the debug log.
    pub(super) fn failed(&self, reason: &str) -> SourceError {
        self.log_words();
        SourceError::Decoder {
            input: self.config.input.to_string(),
            reason: self.quoted(reason),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    status.to_string().replace("exit status: ", "exit code ")
}
