//! What a picture is known by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Image;

/// The first eight bytes of the SHA-256 of a picture's size and pixels, written in sixteen
/// hexadecimal digits. It tells frames apart and says nothing about what they show; whoever wants
/// to can make two pictures of one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FrameId(u64);

impl FrameId {
    /// The id of a picture.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        let mut hash = Sha256::new();
        hash.update((image.width() as u64).to_le_bytes());
        hash.update((image.height() as u64).to_le_bytes());
        hash.update(image.rgb());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        Self(u64::from_be_bytes(first))
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for FrameId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not the id of a frame: 16 hexadecimal digits");
        let id = Self(u64::from_str_radix(text, 16).map_err(|_| wrong())?);
        // One spelling: neither a sign nor capitals.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<String> for FrameId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<FrameId> for String {
    fn from(id: FrameId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(width: usize, height: usize, rgb: &[u8]) -> FrameId {
        FrameId::of(&Image::new(width, height, rgb.to_vec()).unwrap())
    }

    #[test]
    fn size_and_pixels_count() {
        let one = id(2, 1, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(one, id(2, 1, &[1, 2, 3, 4, 5, 6]));
        assert_ne!(one, id(1, 2, &[1, 2, 3, 4, 5, 6]));
        assert_ne!(one, id(2, 1, &[1, 2, 3, 4, 5, 7]));
    }

    #[test]
    fn an_id_is_read_back_in_one_spelling_only() {
        let one = id(1, 1, &[1, 2, 3]);
        assert_eq!(one.to_string().parse(), Ok(one));
        for wrong in [
            "",
            "12",
            "+00000000000000f",
            "00000000000000FF",
            "x000000000000000",
        ] {
            assert!(wrong.parse::<FrameId>().is_err(), "{wrong}");
        }
    }
}
