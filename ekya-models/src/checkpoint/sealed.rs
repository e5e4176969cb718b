//! JSON that proves itself undamaged: `{"sha256":"…","version":1,"content":{…}}`, where the digest
//! covers every byte behind it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What comes before the digest.
const HEAD: &[u8] = b"{\"sha256\":\"";
/// What comes between the digest and what it covers.
const NECK: &[u8] = b"\",";
/// Hexadecimal digits of the digest.
const DIGITS: usize = 64;

#[derive(Serialize, Deserialize)]
struct Body<T> {
    version: u32,
    content: T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// `content` as JSON of that version, with a digest.
///
/// # Errors
/// What JSON cannot hold, as text.
pub fn seal<T: Serialize>(version: u32, content: &T) -> Result<Vec<u8>, String> {
    let body = serde_json::to_vec(&Body { version, content }).map_err(|error| error.to_string())?;
    // The body's own opening brace stands before the digest.
    let covered = body.get(1..).unwrap_or_default();
    Ok([HEAD, hex_digest(covered).as_bytes(), NECK, covered].concat())
}

/// The content of what [`seal`] has made.
///
/// # Errors
/// Why it is none, as text: damaged, newer than version `newest`, or something else altogether.
pub fn unseal<T: DeserializeOwned>(bytes: &[u8], newest: u32) -> Result<T, String> {
    let foreign = || "not written by ekya, or damaged: it does not begin with a digest".to_owned();
    let rest = bytes.strip_prefix(HEAD).ok_or_else(foreign)?;
    let (stored, rest) = rest.split_at_checked(DIGITS).ok_or_else(foreign)?;
    let covered = rest.strip_prefix(NECK).ok_or_else(foreign)?;
    let actual = hex_digest(covered);
    if stored != actual.as_bytes() {
        return Err(format!(
            "damaged: the digest of its content is {actual}, it says {}",
            String::from_utf8_lossy(stored)
        ));
    }
    let body = [b"{", covered].concat();
    let Version { version } = parse(&body)?;
    if version > newest {
        return Err(format!(
            "version {version} is newer than {newest}, the newest known here; update ekya"
        ));
    }
    parse::<Body<T>>(&body).map(|body| body.content)
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| format!("undamaged, but not as expected: {error}"))
}

fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// In hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_sealed_is_plain_json() {
        let sealed = seal(3, &["a", "b"]).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
        assert_eq!(json["content"][1], "b");
        assert_eq!(json["version"], 3);
    }

    #[test]
    fn a_newer_version_is_refused_although_it_is_whole() {
        let sealed = seal(3, &"a form of the future").unwrap();
        let refused = unseal::<u64>(&sealed, 2).unwrap_err();
        assert!(refused.contains("version 3 is newer than 2"), "{refused}");
    }

    #[test]
    fn other_content_is_refused() {
        let sealed = seal(1, &"text").unwrap();
        let refused = unseal::<u64>(&sealed, 1).unwrap_err();
        assert!(refused.contains("undamaged, but"), "{refused}");
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_read_back_and_every_bit_counts(
            content: Vec<String>, byte: prop::sample::Index, bit in 0..8u8,
        ) {
            let mut sealed = seal(1, &content).unwrap();
            prop_assert_eq!(unseal::<Vec<String>>(&sealed, 1), Ok(content));
            let byte = byte.index(sealed.len());
            sealed[byte] ^= 1 << bit;
            prop_assert!(unseal::<Vec<String>>(&sealed, 1).is_err());
        }

        #[test]
        fn anything_may_be_read(bytes: Vec<u8>) {
            prop_assert!(unseal::<u64>(&bytes, 1).is_err());
        }
    }
}
