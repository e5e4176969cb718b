//! Frames: what the ordered stream between two nodes is made of.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | length of the body |
//! | 1 | kind |
//! | 3 | zero |
//! | 8 | number of the frame; 0 for one that is not numbered |
//! | 8 | number of the newest frame that the sender has taken in |
//!
//! All integers are little-endian; the body follows. Here is what bytes mean, not what the numbers
//! are good for (see `session`), nor what is in a body (see `peer`).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Bytes of a frame before its body.
pub(crate) const HEADER: usize = 24;

/// Bytes that a message or an answer may have; more goes as a payload on a stream of its own.
pub(crate) const MESSAGE_MAX: usize = 64 * 1024;

/// Bytes of a body: a message and what says where it goes.
pub(crate) const BODY_MAX: usize = MESSAGE_MAX + 256;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only says what has been taken in.
    Ack,
    /// A message whose answer nobody waits for.
    Tell,
    /// A message that is to be answered.
    Ask,
    /// The asker waits no longer.
    Cancel,
    /// The answer, or why there is none.
    Reply,
    /// A message that could not be accepted, and was not an ask.
    Refusal,
    /// A message that is to be answered by a stream of items. Since minor version 2, as the next two.
    Stream,
    /// One of them.
    Item,
    /// There is room for more of them.
    More,
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    pub(crate) taken_in: u64,
    pub(crate) body: Bytes,
}

/// Bytes that are no frame. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    /// The length is beyond the limit.
    #[error("a frame of {0} bytes")]
    Oversized(usize),
    /// A kind that this version does not know.
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// Bits that must be zero are not.
    #[error("a frame with reserved bits set")]
    Reserved,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Ack,
        Self::Tell,
        Self::Ask,
        Self::Cancel,
        Self::Reply,
        Self::Refusal,
        Self::Stream,
        Self::Item,
        Self::More,
    ];

    fn of(byte: u8) -> Result<Self, FrameError> {
        let kind = Self::ALL.get(usize::from(byte)).copied();
        kind.ok_or(FrameError::UnknownKind(byte))
    }
}

/// Appends a frame to `out`. The body has at most [`BODY_MAX`] bytes.
pub(crate) fn put(out: &mut BytesMut, kind: Kind, number: u64, taken_in: u64, body: &[u8]) {
    out.reserve(HEADER + body.len());
    out.put_u32_le(body.len() as u32);
    out.put_u8(kind as u8);
    out.put_bytes(0, 3);
    out.put_u64_le(number);
    out.put_u64_le(taken_in);
    out.put_slice(body);
}

/// Takes the first frame off what has been read; `None` while it is not complete.
///
/// # Errors
/// [`FrameError`], as soon as the header shows it.
pub(crate) fn take(read: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(mut header) = read.get(..HEADER) else {
        return Ok(None);
    };
    let length = header.get_u32_le() as usize;
    if length > BODY_MAX {
        return Err(FrameError::Oversized(length));
    }
    let kind = Kind::of(header.get_u8())?;
    if header.get_uint_le(3) != 0 {
        return Err(FrameError::Reserved);
    }
    let (number, taken_in) = (header.get_u64_le(), header.get_u64_le());
    if read.len() < HEADER + length {
        return Ok(None);
    }
    read.advance(HEADER);
    let body = read.split_to(length).freeze();
    Ok(Some(Frame {
        kind,
        number,
        taken_in,
        body,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(frames: &[Frame]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for frame in frames {
            put(
                &mut bytes,
                frame.kind,
                frame.number,
                frame.taken_in,
                &frame.body,
            );
        }
        bytes
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let body = prop::collection::vec(any::<u8>(), 0..200);
        (0..Kind::ALL.len(), any::<u64>(), any::<u64>(), body).prop_map(
            |(kind, number, taken_in, body)| Frame {
                kind: Kind::ALL[kind],
                number,
                taken_in,
                body: body.into(),
            },
        )
    }

    #[test]
    fn kinds_have_fixed_bytes() {
        for (byte, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, byte);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_at_its_header() {
        let frame = Frame {
            kind: Kind::Tell,
            number: 1,
            taken_in: 0,
            body: Bytes::new(),
        };
        let spoilt = |at: usize, byte: u8| {
            let mut bytes = written(std::slice::from_ref(&frame));
            bytes[at] = byte;
            take(&mut bytes)
        };
        assert_eq!(spoilt(3, 1), Err(FrameError::Oversized(1 << 24)));
        assert_eq!(spoilt(4, 99), Err(FrameError::UnknownKind(99)));
        assert_eq!(spoilt(6, 1), Err(FrameError::Reserved));
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            frames in prop::collection::vec(any_frame(), 0..6),
            cuts in prop::collection::vec(1..90_usize, 1..8),
        ) {
            let mut bytes = written(&frames);
            let (mut read, mut taken) = (BytesMut::new(), Vec::new());
            let mut cuts = cuts.iter().cycle();
            while let Some(&cut) = cuts.next().filter(|_| !bytes.is_empty()) {
                read.unsplit(bytes.split_to(cut.min(bytes.len())));
                while let Some(frame) = take(&mut read).unwrap() {
                    taken.push(frame);
                }
            }
            prop_assert_eq!(taken, frames);
            prop_assert!(read.is_empty());
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut read = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = take(&mut read) {
                prop_assert!(frame.body.len() <= BODY_MAX);
            }
        }
    }
}
