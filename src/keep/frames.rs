//! Labelled frames on disk: `ID.png` is the picture, `ID.json` its labels with class names and when
//! it was taken; ID is the picture's [`FrameId`].
//!
//! The labels are written last and removed first. Nothing is synchronised: what a crash cuts short
//! is found by its digests, and costs one frame. A picture that is kept twice is one file.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekya_models::{BBox, Example, FrameId, Image, Object, seal, unseal};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageFormat, ImageReader};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::learn::Kept;
use crate::write::advice;

/// Version of the labels' file; newer ones are refused.
const VERSION: u32 = 1;

/// Extensions of the two files of a frame.
const PICTURE: &str = "png";
const LABELS: &str = "json";

/// Longest file of labels that is read, and longest picture.
const LABELS_BYTES_MAX: u64 = 4 << 20;
const PICTURE_BYTES_MAX: u64 = 512 << 20;

/// The frames of one stream.
#[derive(Debug)]
pub struct FrameStore {
    folder: PathBuf,
    /// Class names, by class index.
    classes: Vec<String>,
    /// What is on disk, whole or not, and when it was taken (Unix seconds) where that is known.
    there: BTreeMap<FrameId, Option<u64>>,
}

/// A frame that is on disk and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id.
    pub id: FrameId,
    /// What is wrong with it.
    pub reason: String,
}

/// A frame could not be written or removed.
#[derive(Debug, Error)]
#[error("{}: {reason}{}", path.display(), advice(reason))]
pub struct FrameError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub reason: io::Error,
}

#[derive(Serialize, Deserialize)]
struct Labels {
    frame: FrameId,
    taken_at: u64,
    objects: Vec<Labelled>,
}

/// An object with the name of its class, since the order of classes may change between runs.
#[derive(Serialize, Deserialize)]
struct Labelled {
    class: String,
    score: f32,
    bbox: BBox,
}

impl FrameStore {
    /// The frames in `folder`, which is made when absent.
    ///
    /// # Errors
    /// [`FrameError`] when it cannot be made or read.
    pub fn open(folder: &Path, classes: Vec<String>) -> Result<Self, FrameError> {
        let failed = |reason| FrameError {
            path: folder.to_owned(),
            reason,
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let ids = ids(folder).map_err(failed)?;
        let mut store = Self {
            folder: folder.to_owned(),
            classes,
            there: BTreeMap::new(),
        };
        let dated = |id| (id, store.labels(id).ok().map(|labels| labels.taken_at));
        store.there = ids.into_iter().map(dated).collect();
        Ok(store)
    }

    /// The frames on disk, the latest taken first, read when asked for. Pictures without labels are
    /// what a crash has left, and left out.
    pub fn load(&self) -> impl Iterator<Item = Result<Kept, Unreadable>> + '_ {
        let mut order: Vec<_> = self.there.iter().collect();
        order.sort_by_key(|(_, taken_at)| std::cmp::Reverse(**taken_at));
        let whole = order
            .into_iter()
            .filter(|(id, _)| self.path(**id, LABELS).exists());
        whole.map(|(id, _)| {
            let read = self.read(*id);
            read.map_err(|reason| Unreadable { id: *id, reason })
        })
    }

    /// Makes the folder hold `wanted` and nothing else. Of a picture that is wanted twice the later
    /// one counts.
    ///
    /// # Errors
    /// [`FrameError`] at the first file that cannot be removed or written; the next call goes on
    /// from there.
    pub fn sync<'a>(
        &mut self,
        wanted: impl IntoIterator<Item = (FrameId, &'a Kept)>,
    ) -> Result<(), FrameError> {
        let mut latest: BTreeMap<FrameId, &Kept> = BTreeMap::new();
        for (id, kept) in wanted {
            let known = latest.entry(id).or_insert(kept);
            if known.taken_at < kept.taken_at {
                *known = kept;
            }
        }
        let gone: Vec<FrameId> = self.ids().filter(|id| !latest.contains_key(id)).collect();
        for id in gone {
            self.remove(id)?;
        }
        for (id, kept) in latest {
            if self.there.get(&id) != Some(&Some(kept.taken_at)) {
                self.write(id, kept)?;
            }
        }
        Ok(())
    }

    /// The ids of what is on disk, whole or not.
    pub fn ids(&self) -> impl Iterator<Item = FrameId> + '_ {
        self.there.keys().copied()
    }

    /// The ids of frames taken before `time` (Unix seconds), and of those of which that is not
    /// known: their labels are damaged or missing.
    pub fn before(&self, time: u64) -> BTreeSet<FrameId> {
        let old = |taken_at: &Option<u64>| taken_at.is_none_or(|taken_at| taken_at < time);
        let old = self.there.iter().filter(|(_, taken_at)| old(taken_at));
        old.map(|(id, _)| *id).collect()
    }

    /// Removes a frame and returns how many bytes it took.
    ///
    /// # Errors
    /// [`FrameError`] when a file of it cannot be removed.
    pub fn remove(&mut self, id: FrameId) -> Result<u64, FrameError> {
        let mut bytes = 0;
        for extension in [LABELS, PICTURE] {
            let path = self.path(id, extension);
            bytes += remove_if_there(&path).map_err(|reason| FrameError { path, reason })?;
        }
        self.there.remove(&id);
        Ok(bytes)
    }

    fn write(&mut self, id: FrameId, kept: &Kept) -> Result<(), FrameError> {
        // Whatever is there until both files are is not whole.
        self.there.insert(id, None);
        let labels = self
            .to_labels(id, kept)
            .and_then(|labels| seal(VERSION, &labels));
        let files = [
            (PICTURE, encode_picture(&kept.example.image)),
            (LABELS, labels),
        ];
        for (extension, bytes) in files {
            let path = self.path(id, extension);
            let written = bytes
                .map_err(io::Error::other)
                .and_then(|bytes| std::fs::write(&path, bytes));
            written.map_err(|reason| FrameError { path, reason })?;
        }
        self.there.insert(id, Some(kept.taken_at));
        Ok(())
    }

    fn to_labels(&self, frame: FrameId, kept: &Kept) -> Result<Labels, String> {
        let object = |object: &Object| {
            let name = self.classes.get(object.class);
            let class = name.ok_or_else(|| format!("class {} has no name", object.class))?;
            Ok(Labelled {
                class: class.clone(),
                score: object.score,
                bbox: object.bbox,
            })
        };
        Ok(Labels {
            frame,
            taken_at: kept.taken_at,
            objects: kept
                .example
                .objects
                .iter()
                .map(object)
                .collect::<Result<_, String>>()?,
        })
    }

    fn labels(&self, id: FrameId) -> Result<Labels, String> {
        let bytes = read_bounded(&self.path(id, LABELS), LABELS_BYTES_MAX)?;
        let labels: Labels = unseal(&bytes, VERSION)?;
        if labels.frame != id {
            return Err(format!(
                "the labels of {}: files were swapped",
                labels.frame
            ));
        }
        Ok(labels)
    }

    fn read(&self, id: FrameId) -> Result<Kept, String> {
        let labels = self.labels(id)?;
        let object = |labelled: Labelled| {
            let class = self.classes.iter().position(|name| *name == labelled.class);
            let class = class.ok_or_else(|| {
                format!(
                    "class '{}' is not among those of the stream",
                    labelled.class
                )
            })?;
            Ok(Object {
                class,
                score: labelled.score,
                bbox: labelled.bbox,
            })
        };
        let objects = labels.objects.into_iter().map(object);
        let objects = objects.collect::<Result<_, String>>()?;
        let image = decode_picture(&read_bounded(&self.path(id, PICTURE), PICTURE_BYTES_MAX)?)?;
        if FrameId::of(&image) != id {
            return Err("damaged: another picture than its name says".to_owned());
        }
        let example = Example {
            image: Arc::new(image),
            objects,
        };
        Ok(Kept {
            example,
            taken_at: labels.taken_at,
        })
    }

    fn path(&self, id: FrameId, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }
}

/// The ids of which a folder holds a file.
fn ids(folder: &Path) -> io::Result<BTreeSet<FrameId>> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.split_once('.'));
        if let Some((stem, PICTURE | LABELS)) = parts {
            ids.extend(stem.parse::<FrameId>().ok());
        }
    }
    Ok(ids)
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let read = std::fs::metadata(path).and_then(|metadata| {
        if metadata.len() > bytes_max {
            let text = format!("{} bytes, expected at most {bytes_max}", metadata.len());
            return Err(io::Error::other(text));
        }
        std::fs::read(path)
    });
    read.map_err(|error| format!("{}: {error}", path.display()))
}

fn remove_if_there(path: &Path) -> io::Result<u64> {
    let removed = std::fs::metadata(path).and_then(|metadata| {
        std::fs::remove_file(path)?;
        Ok(metadata.len())
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        removed => removed,
    }
}

/// A picture as PNG. Quick rather than small: a fixed camera's noise compresses badly either way.
///
/// # Errors
/// What the encoder says.
pub(crate) fn encode_picture(image: &Image) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let side = |side: usize| u32::try_from(side).map_err(|error| error.to_string());
    let (width, height) = (side(image.width())?, side(image.height())?);
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(image.rgb(), width, height, ExtendedColorType::Rgb8)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A picture that was [encoded](encode_picture).
///
/// # Errors
/// What the decoder says.
pub(crate) fn decode_picture(bytes: &[u8]) -> Result<Image, String> {
    let reader = ImageReader::with_format(io::Cursor::new(bytes), ImageFormat::Png);
    let rgb = reader
        .decode()
        .map_err(|error| error.to_string())?
        .into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Image::new(width, height, rgb.into_raw()).map_err(|error| error.to_string())
}
