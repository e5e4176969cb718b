//! Values as bytes and back: the one module that names bincode.
//!
//! What is read here may come from a hostile peer. Bytes come from slices whose length the framing
//! has checked, never from a reader; a length inside them cannot make the decoder allocate or read
//! more than they hold, and bytes left over are an error. That does not hold for recursive types nor
//! for collections of values that take no bytes, such as `Vec<()>`: no message may contain them.

use bincode::{DefaultOptions, Options};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Names the encoding in a [`Hello`](crate::hello::Hello), so that another one may come.
pub(crate) const CODEC: u8 = 1;

/// A value that cannot be encoded, or bytes that are none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CodecError(String);

impl From<bincode::Error> for CodecError {
    fn from(error: bincode::Error) -> Self {
        Self(error.to_string())
    }
}

fn options(limit: usize) -> impl Options {
    DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(limit as u64)
}

/// Appends a value to `out`, at most `limit` bytes.
///
/// # Errors
/// When it is longer or cannot be encoded; `out` is as before then.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), CodecError> {
    let before = out.len();
    let encoded = options(limit).serialize_into(&mut *out, value);
    if encoded.is_err() {
        out.truncate(before);
    }
    Ok(encoded?)
}

/// The value that `bytes` are.
///
/// # Errors
/// When they are no such value, or more than one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let options = options(bytes.len()).reject_trailing_bytes();
    Ok(options.deserialize(bytes)?)
}

/// The value that `bytes` begin with, and what comes after it.
///
/// # Errors
/// When they begin with no such value.
pub(crate) fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let mut rest = bytes;
    // A slice as a reader: the limit stands before every allocation.
    let value = options(bytes.len()).deserialize_from(&mut rest)?;
    Ok((value, rest))
}

/// A value as bytes, for another process of the same program.
///
/// # Errors
/// When it cannot be encoded.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes, usize::MAX)?;
    Ok(bytes)
}

/// The value that [`to_bytes`] made these bytes of.
///
/// # Errors
/// When they are no such value, or more than one.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let value = (7_u16, "text".to_owned(), Some(vec![1_u64, 2]));
        let mut bytes = vec![9];
        encode(&value, &mut bytes, 100).unwrap();
        assert_eq!(
            decode::<(u16, String, Option<Vec<u64>>)>(&bytes[1..]),
            Ok(value)
        );
    }

    #[test]
    fn what_follows_a_value_is_left() {
        let mut bytes = Vec::new();
        encode(&5_u32, &mut bytes, 100).unwrap();
        bytes.extend(b"rest");
        assert_eq!(decode_first::<u32>(&bytes), Ok((5, &b"rest"[..])));
        assert!(decode::<u32>(&bytes).is_err());
    }

    #[test]
    fn a_value_too_long_leaves_nothing_behind() {
        let mut bytes = vec![1, 2];
        assert!(encode(&[0_u8; 40][..], &mut bytes, 39).is_err());
        assert_eq!(bytes, [1, 2]);
    }

    /// Nine bytes that abort a decoder without a limit.
    #[test]
    fn a_huge_length_is_an_error_and_no_allocation() {
        let mut bytes = vec![0xff; 8];
        bytes.push(0);
        assert!(decode::<Vec<u8>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode_first::<Vec<u64>>(&bytes).is_err());
        let half = (u64::MAX / 2).to_le_bytes();
        assert!(decode::<Vec<[u64; 32]>>(&half).is_err());
    }
}
