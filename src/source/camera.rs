//! A camera: frames as long as somebody asks, whatever becomes of camera, network and decoder.
//!
//! [`Recovery`] decides when a decoder is started and given up; this carries it out, says in the log
//! what is wrong, and keeps [`SourceHealth`].

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decoding::Decoding;
use super::fault::Fault;
use super::ffmpeg::Event;
use super::health::SourceHealth;
use super::recovery::{Recovery, Step};
use super::video::VideoConfig;
use super::{Frame, SourceError};

/// How often a pause looks at the stop flag.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// What is known of a camera beside its decoder.
pub(super) struct Camera {
    recovery: Recovery,
    health: Arc<SourceHealth>,
    opened: Instant,
    /// Whether the running decoder has given a frame.
    connected: bool,
    started: bool,
    news: News,
}

/// What the log was told, so that a camera that is lost again and again does not flood it.
#[derive(Default)]
struct News {
    /// The fault that was last warned of.
    warned: Option<Fault>,
    /// Whether it was warned of a loss and not yet said that the camera is back.
    missed: bool,
}

impl News {
    /// Whether to warn of `fault`: it is another one than before, or the camera `was_well` since.
    fn handle_loss(&mut self, fault: Fault, was_well: bool) -> bool {
        let warn = was_well || self.warned != Some(fault);
        self.warned = Some(fault);
        self.missed |= warn;
        warn
    }

    /// Whether to say that the camera is back.
    fn handle_found(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }
}

impl Camera {
    /// A camera that is connected to with the first [`Camera::next`].
    pub(super) fn new(config: &VideoConfig) -> Self {
        let silence = Duration::from_secs(config.silent_seconds.into());
        Self {
            recovery: Recovery::new(silence, seed(&config.input.to_string())),
            health: Arc::new(SourceHealth::new()),
            opened: Instant::now(),
            connected: false,
            started: false,
            news: News::default(),
        }
    }

    /// How it is doing.
    pub(super) fn health(&self) -> &Arc<SourceHealth> {
        &self.health
    }

    /// The next frame; `None` once the stop flag is set.
    ///
    /// # Errors
    /// [`SourceError`] when the decoder's bytes are no picture, which no camera can bring about.
    pub(super) fn next(&mut self, decoding: &mut Decoding) -> Result<Option<Frame>, SourceError> {
        self.recovery.handle_asked(self.opened.elapsed());
        while !decoding.stop.is_set() {
            match self.recovery.poll(self.opened.elapsed()) {
                Step::Pause(left) => std::thread::sleep(left.min(STOP_CHECK)),
                Step::Start => self.start(decoding),
                Step::GiveUp => {
                    let silent = format!("no frame for {} s", decoding.config.silent_seconds);
                    self.lost(decoding, Fault::Silent, &silent);
                }
                Step::Listen(left) => {
                    if let Some(rgb) = self.listen(decoding, left) {
                        return decoding.frame(rgb, self.opened.elapsed()).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }

    fn start(&mut self, decoding: &mut Decoding) {
        if std::mem::replace(&mut self.started, true) {
            self.health.reconnecting();
        }
        match decoding.start() {
            Ok(()) => self.recovery.handle_start(self.opened.elapsed()),
            Err(error) => self.lost(decoding, Fault::Decoder, &error.to_string()),
        }
    }

    /// The bytes of a frame, if one comes.
    fn listen(&mut self, decoding: &mut Decoding, patience: Duration) -> Option<Vec<u8>> {
        match decoding.listen(patience) {
            Ok(Event::Frame(rgb)) => {
                if self.recovery.handle_frame(self.opened.elapsed()) {
                    self.found(decoding);
                }
                Some(rgb)
            }
            Ok(Event::Ended) => {
                self.ended(decoding);
                None
            }
            // What follows is for the loop to decide.
            Ok(Event::Silent | Event::Stopped) => None,
            Err(error) => {
                self.lost(decoding, Fault::Decoder, &error.to_string());
                None
            }
        }
    }

    fn found(&mut self, decoding: &Decoding) {
        let down = self.health.report().since.elapsed();
        self.connected = true;
        self.health.found();
        if self.news.handle_found() {
            tracing::info!(input = %decoding.config.input, down_seconds = down.as_secs(), "the camera is back");
        }
    }

    fn ended(&mut self, decoding: &mut Decoding) {
        let wrong = decoding.end();
        let fault = self.told(decoding).unwrap_or(match wrong {
            Some(_) => Fault::Decoder,
            None => Fault::Ended,
        });
        self.lost(
            decoding,
            fault,
            &wrong.unwrap_or_else(|| "the stream ended".to_owned()),
        );
    }

    /// What the decoder's words tell of why there is no connection. Of one that was there they tell
    /// nothing: what was refused before may have been the first of several addresses.
    fn told(&self, decoding: &Decoding) -> Option<Fault> {
        let decoder = decoding.decoder.as_ref().filter(|_| !self.connected)?;
        Fault::told_by(decoder.said().lines())
    }

    /// Ends the decoder, says why, and lets the recovery decide when the next one starts.
    fn lost(&mut self, decoding: &mut Decoding, fault: Fault, reason: &str) {
        decoding.log_words();
        let reason = decoding.quoted(reason);
        decoding.decoder = None;
        self.connected = false;
        let loss = self.recovery.handle_loss(self.opened.elapsed());
        let (input, frames) = (&decoding.config.input, decoding.frames());
        let pause_ms = loss.pause.as_millis();
        if self.news.handle_loss(fault, loss.was_well) {
            tracing::warn!(%input, %fault, %reason, frames, pause_ms, "no frames from the camera, trying again for ever");
        } else {
            tracing::debug!(%input, %fault, %reason, frames, pause_ms, "no frames from the camera");
        }
        self.health.lost(fault, reason);
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.health.ended();
    }
}

/// Different for each `name`, the same in each run.
fn seed(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fault_again_is_no_news() {
        let mut news = News::default();
        assert!(news.handle_loss(Fault::Silent, false));
        assert!(!news.handle_loss(Fault::Silent, false));
        assert!(news.handle_loss(Fault::Unreachable, false));
        assert!(news.handle_found());
        // It flaps: neither the loss nor the return is said again.
        assert!(!news.handle_loss(Fault::Unreachable, false));
        assert!(!news.handle_found());
        assert!(news.handle_loss(Fault::Unreachable, true));
        assert!(news.handle_found());
    }
}
