//! What two nodes have sent each other and taken in, across connections that break.
//!
//! A session is between two incarnations of two nodes. Each side numbers its frames from 1 and keeps
//! them until the other side has taken them in. A connection that breaks loses nothing: on the next
//! one each side says what it has taken in, and the other goes on after that. Numbers that were taken
//! in already are dropped, whichever connection they come over, so that every frame is taken in at
//! most once and in order. The session ends with either incarnation; what was not taken in by then
//! may or may not have been.
//!
//! A state machine without I/O and without a clock.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::frame::{self, Frame, HEADER, Kind};

/// Frames and bytes that wait to be taken in by the other side, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

/// The other side holds to no session. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    /// It says that it has taken in what it was never sent, or no longer what it had.
    #[error("frames up to {claimed} are said to be taken in, of {kept} to {written}")]
    Acknowledged {
        /// What it says.
        claimed: u64,
        /// The newest frame that it has taken in before.
        kept: u64,
        /// The newest frame that was written.
        written: u64,
    },
    /// A frame is missing before this one.
    #[error("frame {got} came after frame {last}")]
    Gap {
        /// The number that came.
        got: u64,
        /// The newest number before.
        last: u64,
    },
}

/// A full outbox: what was to be sent was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug)]
pub(crate) struct Session {
    bounds: Bounds,
    /// Not taken in by the other side yet, as far as is known; the oldest first.
    outbox: VecDeque<(Kind, Bytes)>,
    bytes: usize,
    /// Number of the next frame that is queued.
    next: u64,
    /// Number of the next frame to write on this connection.
    unwritten: u64,
    /// The newest frame that was written on any.
    written: u64,
    taken_in: u64,
    /// The newest `taken_in` that was written.
    told: u64,
}

impl Session {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            outbox: VecDeque::new(),
            bytes: 0,
            next: 1,
            unwritten: 1,
            written: 0,
            taken_in: 0,
            told: 0,
        }
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn queue(&mut self, kind: Kind, body: Bytes) -> Result<(), Full> {
        let bytes = self.bytes + HEADER + body.len();
        if self.outbox.len() >= self.bounds.frames || bytes > self.bounds.bytes {
            return Err(Full);
        }
        self.queue_beyond(kind, body);
        Ok(())
    }

    /// Queues a frame whatever the bounds are: one whose number and size are bounded otherwise.
    pub(crate) fn queue_beyond(&mut self, kind: Kind, body: Bytes) {
        self.bytes += HEADER + body.len();
        self.outbox.push_back((kind, body));
        self.next += 1;
    }

    /// The newest frame that was taken in.
    pub(crate) const fn taken_in(&self) -> u64 {
        self.taken_in
    }

    /// Frames that wait to be taken in by the other side.
    pub(crate) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Whether there is anything to write: a frame, or more taken in than was told by so many frames.
    pub(crate) const fn has_to_write(&self, untold: u64) -> bool {
        self.unwritten < self.next || self.taken_in - self.told >= untold
    }

    /// Whether what was taken in is not told yet.
    pub(crate) const fn is_untold(&self) -> bool {
        self.told < self.taken_in
    }

    /// Appends frames to `out` until it is about `full` bytes long. Without any, an acknowledgement
    /// where one is due.
    pub(crate) fn write(&mut self, out: &mut BytesMut, full: usize) {
        while self.unwritten < self.next && out.len() < full {
            let place = (self.unwritten - self.oldest()) as usize;
            let Some((kind, body)) = self.outbox.get(place) else {
                break;
            };
            frame::put(out, *kind, self.unwritten, self.taken_in, body);
            self.written = self.written.max(self.unwritten);
            self.unwritten += 1;
            self.told = self.taken_in;
        }
        if self.is_untold() {
            frame::put(out, Kind::Ack, 0, self.taken_in, &[]);
            self.told = self.taken_in;
        }
    }

    /// Takes in a frame's header. Whether the frame is news.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn take_in(&mut self, frame: &Frame) -> Result<bool, Violation> {
        self.acknowledge(frame.taken_in)?;
        let (got, last) = (frame.number, self.taken_in);
        let is_news = got > last || crate::plant::is(crate::plant::Bug::LostDedupe);
        if got == 0 || !is_news {
            return Ok(false);
        }
        if got > last + 1 {
            return Err(Violation::Gap { got, last });
        }
        self.taken_in = got;
        Ok(true)
    }

    /// Goes on over a new connection, after what the other side says that it has taken in.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn resume(&mut self, taken_in: u64) -> Result<(), Violation> {
        self.acknowledge(taken_in)?;
        self.unwritten = self.oldest();
        self.told = self.taken_in;
        Ok(())
    }

    fn oldest(&self) -> u64 {
        self.next - self.outbox.len() as u64
    }

    /// Frames up to this number need not be kept. A lower number than before is old news, which an
    /// older connection may bring.
    fn acknowledge(&mut self, taken_in: u64) -> Result<(), Violation> {
        let (kept, written) = (self.oldest() - 1, self.written);
        if taken_in > written {
            return Err(Violation::Acknowledged {
                claimed: taken_in,
                kept,
                written,
            });
        }
        for _ in kept..taken_in {
            if let Some((_, body)) = self.outbox.pop_front() {
                self.bytes -= HEADER + body.len();
            }
        }
        // An older connection may have brought what this one has not written.
        self.unwritten = self.unwritten.max(self.oldest());
        Ok(())
    }
}
