//! An RGB picture in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// A picture: 8-bit RGB, row by row, three bytes a pixel.
#[derive(Clone)]
pub struct Image {
    serial: u64,
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Why bytes are not a picture.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The byte count does not fit the size.
    #[error("{width}x{height} RGB needs {expected} bytes, got {actual}")]
    Length {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Bytes that the size asks for.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
}

impl Image {
    /// Takes `width * height * 3` bytes.
    ///
    /// # Errors
    /// [`ImageError::Length`] when there are more or fewer bytes.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, ImageError> {
        let expected = width * height * 3;
        if rgb.len() != expected {
            return Err(ImageError::Length {
                width,
                height,
                expected,
                actual: rgb.len(),
            });
        }
        static MADE: AtomicU64 = AtomicU64::new(0);
        let serial = MADE.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            serial,
            width,
            height,
            rgb,
        })
    }

    /// A number that only this picture and its clones have in this process.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes: row by row, R G B.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

impl PartialEq for Image {
    /// Whether they show the same.
    fn eq(&self, other: &Self) -> bool {
        let size = |image: &Self| (image.width, image.height);
        size(self) == size(other) && self.rgb == other.rgb
    }
}

impl Eq for Image {}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}

/// How a network wants its pixels: each channel less its mean, divided by its deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Means of red, green and blue, pixels being in 0..=1.
    pub mean: [f32; 3],
    /// Deviations of red, green and blue, above 0.
    pub deviation: [f32; 3],
}

/// What published classifiers are trained with.
pub const IMAGENET: Normalisation = Normalisation {
    mean: [0.485, 0.456, 0.406],
    deviation: [0.229, 0.224, 0.225],
};
