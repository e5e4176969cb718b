//! The first thing that each side says on a connection: which protocol it speaks, which incarnation
//! it is, and how far their session has come.
//!
//! Its first eleven bytes keep their meaning in every version, so that a node of another one is
//! refused with a reason and not for nonsense. A newer minor version may append fields to the rest.

use bytes::Buf;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec::{self, CODEC, CodecError, decode_first};

const MAGIC: &[u8; 4] = b"EKYA";
/// Versions with another one cannot talk to each other.
pub(crate) const MAJOR: u16 = 1;
/// Versions with a lower one are still talked to, without what came since.
pub(crate) const MINOR: u16 = 2;
/// The first that has streams of replies, and tells an answer that was left out from an actor's end.
pub(crate) const WITH_STREAMS: u16 = 2;
/// Magic, versions, codec, length.
pub(crate) const PREFIX: usize = 11;
/// Bytes of the rest.
pub(crate) const REST_MAX: usize = 1024;

/// What a node says of itself and of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Increased at every start of the node.
    pub(crate) incarnation: u64,
    /// Where it is reached, as `host:port`; empty for one that only dials.
    pub(crate) address: String,
    /// The session that it has with the other side.
    pub(crate) session: Option<SessionId>,
    /// Whether it has begun that session in answer to the other side's greeting.
    pub(crate) is_new: bool,
    /// The newest frame of that session that it has taken in.
    pub(crate) taken_in: u64,
}

/// Names a session for both sides: a session goes on when both mean the same one. Incarnations alone
/// do not name it: of two sides that dial each other at once, one may have begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionId {
    /// Whether the side whose name comes first has begun it.
    pub(crate) by_first: bool,
    /// The incarnation of the side that has begun it.
    pub(crate) incarnation: u64,
    /// How many that side had begun with the other.
    pub(crate) number: u64,
}

/// The start of a [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Of the other side; the lower of the two is spoken.
    pub(crate) minor: u16,
    /// Bytes that follow.
    pub(crate) length: usize,
}

/// Why a node cannot be talked to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HelloError {
    /// It is no ekya node.
    #[error("it does not speak this protocol")]
    Foreign,
    /// It speaks another major version.
    #[error(
        "it speaks version {theirs} of the protocol, here is version {ours}: upgrade the older one"
    )]
    Major {
        /// Its version.
        theirs: u16,
        /// The version here.
        ours: u16,
    },
    /// It encodes messages in another way.
    #[error("it encodes messages in the unknown way {0}")]
    Codec(u8),
    /// It says more than a node has to say.
    #[error("its greeting has {0} bytes")]
    Oversized(usize),
    /// The rest makes no sense.
    #[error("its greeting is malformed: {0}")]
    Malformed(#[from] CodecError),
}

impl Hello {
    /// # Errors
    /// When the address is too long.
    pub(crate) fn to_bytes(&self, minor: u16) -> Result<Vec<u8>, CodecError> {
        let mut rest = Vec::new();
        codec::encode(self, &mut rest, REST_MAX)?;
        let mut bytes = Vec::with_capacity(PREFIX + rest.len());
        bytes.extend(MAGIC);
        bytes.extend(MAJOR.to_le_bytes());
        bytes.extend(minor.to_le_bytes());
        bytes.push(CODEC);
        bytes.extend((rest.len() as u16).to_le_bytes());
        bytes.extend(rest);
        Ok(bytes)
    }

    /// Reads what follows the [`Prefix`].
    ///
    /// # Errors
    /// [`HelloError::Malformed`].
    pub(crate) fn from_rest(rest: &[u8]) -> Result<Self, HelloError> {
        let (hello, _newer) = decode_first(rest)?;
        Ok(hello)
    }
}

impl Prefix {
    /// # Errors
    /// [`HelloError`].
    pub(crate) fn from_bytes(bytes: [u8; PREFIX]) -> Result<Self, HelloError> {
        let mut rest = &bytes[..];
        if !rest.starts_with(MAGIC) {
            return Err(HelloError::Foreign);
        }
        rest.advance(MAGIC.len());
        let (theirs, minor) = (rest.get_u16_le(), rest.get_u16_le());
        let (codec, length) = (rest.get_u8(), usize::from(rest.get_u16_le()));
        if theirs != MAJOR {
            let ours = MAJOR;
            return Err(HelloError::Major { theirs, ours });
        }
        if codec != CODEC {
            return Err(HelloError::Codec(codec));
        }
        if length > REST_MAX {
            return Err(HelloError::Oversized(length));
        }
        Ok(Self { minor, length })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> Hello {
        Hello {
            incarnation: 3,
            address: "edge-1:7000".to_owned(),
            session: Some(SessionId {
                by_first: true,
                incarnation: 2,
                number: 9,
            }),
            is_new: false,
            taken_in: 17,
        }
    }

    fn read(bytes: &[u8]) -> Result<(Prefix, Hello), HelloError> {
        let (prefix, rest) = bytes.split_at(PREFIX);
        let prefix = Prefix::from_bytes(prefix.try_into().unwrap())?;
        Ok((prefix, Hello::from_rest(&rest[..prefix.length])?))
    }

    #[test]
    fn comes_back_and_leaves_room_for_newer_fields() {
        let mut bytes = hello().to_bytes(1).unwrap();
        let (prefix, same) = read(&bytes).unwrap();
        assert_eq!((prefix.minor, same), (1, hello()));
        bytes.extend([1, 2, 3]);
        bytes[9] += 3;
        assert_eq!(read(&bytes).unwrap().1, hello());
    }

    #[test]
    fn strangers_are_told_apart() {
        let bytes = hello().to_bytes(1).unwrap();
        let spoilt = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            read(&bytes).unwrap_err()
        };
        assert_eq!(spoilt(0, b'x'), HelloError::Foreign);
        assert_eq!(spoilt(4, 2), HelloError::Major { theirs: 2, ours: 1 });
        assert_eq!(spoilt(8, 7), HelloError::Codec(7));
        assert!(matches!(spoilt(10, 0xff), HelloError::Oversized(_)));
        assert!(matches!(spoilt(9, 3), HelloError::Malformed(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_greeting_or_an_error(
            prefix in any::<[u8; PREFIX]>(),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Prefix::from_bytes(prefix);
            let _ = Hello::from_rest(&rest);
        }
    }
}
