//! Frames that the program which runs a node pushes: a typed handle on its side, a [`Source`] on the
//! node's. Between them a few frames wait; whoever pushes then waits too, or is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use ekya_models::{BBox, Image};
use parking_lot::Mutex;
use thiserror::Error;

use super::{Frame, Source, SourceError, StopFlag};

/// How often waiting for a frame looks at the stop flag.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Pushes frames into a stream, from `RunOptions::push`. Clones push into the same one; a stream ends when all are gone.
#[derive(Debug, Clone)]
pub struct FramePusher {
    frames: Sender<Pushed>,
    refused: Arc<AtomicU64>,
}

/// Where they come out. It gives one [`Source`] at a time.
#[derive(Debug)]
pub(crate) struct PushedFrames {
    frames: Arc<Mutex<Receiver<Pushed>>>,
    next: Arc<AtomicU64>,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PushError {
    /// As many frames wait as may: the node is behind.
    #[error("the stream is behind: as many frames wait as may")]
    Full,
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

#[derive(Debug)]
struct Pushed {
    image: Arc<Image>,
    regions: Vec<BBox>,
}

/// A handle to push frames with, of which `room` may wait (at least 1), and where they come out.
pub(crate) fn push(room: usize) -> (FramePusher, PushedFrames) {
    let (frames, received) = bounded(room.max(1));
    let pusher = FramePusher {
        frames,
        refused: Arc::default(),
    };
    let pushed = PushedFrames {
        frames: Arc::new(Mutex::new(received)),
        next: Arc::default(),
    };
    (pusher, pushed)
}

impl FramePusher {
    /// Pushes a picture, and where a motion detector has seen something in it (for a classifier; a
    /// detector looks for itself). Waits while as many wait as may.
    ///
    /// # Errors
    /// [`PushError::Closed`].
    pub fn push(&self, image: impl Into<Arc<Image>>, regions: Vec<BBox>) -> Result<(), PushError> {
        let image = image.into();
        let sent = self.frames.send(Pushed { image, regions });
        sent.map_err(|_| PushError::Closed)
    }

    /// The same, and never waits: a camera that cannot wait drops the frame, which is counted.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn try_push(
        &self,
        image: impl Into<Arc<Image>>,
        regions: Vec<BBox>,
    ) -> Result<(), PushError> {
        let image = image.into();
        let sent = self.frames.try_send(Pushed { image, regions });
        sent.map_err(|error| match error {
            TrySendError::Full(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                PushError::Full
            }
            TrySendError::Disconnected(_) => PushError::Closed,
        })
    }

    /// Frames that [`FramePusher::try_push`] has refused because the stream was behind.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl PushedFrames {
    /// The source of these frames, until `stop` is set.
    pub(crate) fn source(&self, stop: &StopFlag) -> PushSource {
        PushSource {
            frames: Arc::clone(&self.frames),
            next: Arc::clone(&self.next),
            stop: stop.clone(),
        }
    }
}

/// A [`Source`] of pushed frames: live, each comes when it was pushed.
#[derive(Debug)]
pub(crate) struct PushSource {
    frames: Arc<Mutex<Receiver<Pushed>>>,
    next: Arc<AtomicU64>,
    stop: StopFlag,
}

impl Source for PushSource {
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        while !self.stop.is_set() {
            let received = self.frames.lock().recv_timeout(STOP_CHECK);
            match received {
                Ok(Pushed { image, regions }) => {
                    return Ok(Some(Frame {
                        index: self.next.fetch_add(1, Ordering::Relaxed),
                        // Of a live source the time of arrival counts.
                        at: Duration::ZERO,
                        image,
                        regions,
                        truth: None,
                    }));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
        Ok(None)
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Arc<Image> {
        Arc::new(Image::new(2, 2, vec![0; 12]).unwrap())
    }

    #[test]
    fn frames_come_out_in_order_and_the_stream_ends_with_its_handles() {
        let (pusher, frames) = push(2);
        let mut source = frames.source(&StopFlag::default());
        pusher.push(picture(), Vec::new()).unwrap();
        pusher.clone().push(picture(), Vec::new()).unwrap();
        drop(pusher);
        let index = |frame: Option<Frame>| frame.map(|frame| frame.index);
        assert_eq!(index(source.next_frame().unwrap()), Some(0));
        assert_eq!(index(source.next_frame().unwrap()), Some(1));
        assert_eq!(index(source.next_frame().unwrap()), None);
    }

    #[test]
    fn whoever_cannot_wait_is_told() {
        let (pusher, frames) = push(1);
        assert_eq!(pusher.try_push(picture(), Vec::new()), Ok(()));
        let full = pusher.try_push(picture(), Vec::new());
        assert_eq!((full, pusher.refused()), (Err(PushError::Full), 1));
        drop(frames);
        let closed = pusher.try_push(picture(), Vec::new());
        assert_eq!(closed, Err(PushError::Closed));
    }

    #[test]
    fn waiting_for_a_frame_ends_with_the_flag() {
        let (_pusher, frames) = push(1);
        let stop = StopFlag::default();
        stop.set();
        assert!(frames.source(&stop).next_frame().unwrap().is_none());
    }
}
