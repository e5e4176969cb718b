//! A retraining on another node's device: what goes there, and what comes back. How it travels is not
//! known here.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ekya_models::{Example, ModelError, Object, Student, TrainingOptions};
use ekya_profiler::Progress;
use ekya_sched::RetrainingConfig;

use super::evaluate::LearnError;
use crate::keep::{decode_picture, encode_picture};

/// Pictures of a sample, at most: many times what a stream trains on.
const PICTURES_MAX: usize = 16_384;
/// Bytes of one picture, and of all labels.
const FILE_MAX: u64 = 64 << 20;
/// Name of the file of labels.
const LABELS: &str = "labels.json";

/// What is to be trained.
pub struct Errand {
    /// The serving student, as [handed over](Student::hand_over).
    pub weights: Vec<u8>,
    /// What to train on, packed.
    pub sample: Vec<u8>,
    /// How to train.
    pub config: RetrainingConfig,
    /// How to carry it out.
    pub options: TrainingOptions,
    /// Seed of order, augmentation and new weights.
    pub seed: u64,
}

/// What came back.
pub struct Brought {
    /// The retrained student, which computes where the serving one does.
    pub student: Box<dyn Student>,
    /// Device seconds that it took there.
    pub gpu_seconds: f64,
}

/// Has a student trained, and waits for that; ends early when told to by the flag.
pub type Lend = Box<
    dyn Fn(Errand, &AtomicBool, &mut dyn FnMut(Progress)) -> Result<Brought, LearnError> + Send,
>;

/// Loads a student that computes where the serving one does.
pub type Find = Box<dyn Fn() -> Result<Box<dyn Student>, ModelError> + Send>;

/// Where a retrained student comes from, when it is not trained on the own device.
pub enum Elsewhere {
    /// It is trained on a device of another node.
    Lent(Lend),
    /// Another node has trained it before, while it ran the stream.
    Found(Find),
}

/// Where a student was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// On a device of another node, for this one.
    Lent,
    /// By another node, for itself.
    Found,
}

impl Elsewhere {
    /// Which it is.
    #[must_use]
    pub const fn kind(&self) -> Origin {
        match self {
            Self::Lent(_) => Origin::Lent,
            Self::Found(_) => Origin::Found,
        }
    }
}

/// Packs labelled pictures, without loss, for another node (a tar archive).
///
/// # Errors
/// When a picture cannot be encoded.
pub(super) fn pack(examples: &[Example]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let labels: Vec<_> = examples.iter().map(|example| &example.objects).collect();
    append(&mut archive, LABELS, &serde_json::to_vec(&labels)?)?;
    for (index, example) in examples.iter().enumerate() {
        let picture = encode_picture(&example.image).map_err(io::Error::other)?;
        append(&mut archive, &index.to_string(), &picture)?;
    }
    archive.into_inner()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, name, bytes)
}

/// What was [packed](pack).
///
/// # Errors
/// When it is something else.
pub(crate) fn unpack(sample: &[u8]) -> io::Result<Vec<Example>> {
    let mut archive = tar::Archive::new(sample);
    let mut files = archive.entries()?;
    let first = files.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let labels: Vec<Vec<Object>> = serde_json::from_slice(&read(first)?)?;
    if labels.len() > PICTURES_MAX {
        let text = format!("{} pictures, more than {PICTURES_MAX}", labels.len());
        return Err(io::Error::other(text));
    }
    let example = |objects| {
        let file = files.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let picture = decode_picture(&read(file)?).map_err(io::Error::other)?;
        Ok(Example {
            image: Arc::new(picture),
            objects,
        })
    };
    labels.into_iter().map(example).collect()
}

fn read(file: tar::Entry<'_, &[u8]>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.size() > FILE_MAX {
        return Err(io::Error::other(format!("a file of {} bytes", file.size())));
    }
    file.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use ekya_models::{BBox, Image};

    use super::*;

    fn example(level: u8) -> Example {
        let object = Object {
            class: usize::from(level),
            score: 1.0,
            bbox: BBox {
                x1: 0.0,
                y1: 0.0,
                x2: 1.0,
                y2: 1.0,
            },
        };
        Example {
            image: Arc::new(Image::new(2, 1, vec![level; 6]).unwrap()),
            objects: vec![object; usize::from(level)],
        }
    }

    #[test]
    fn a_sample_arrives_as_it_was() {
        for count in [0, 1, 3] {
            let examples: Vec<_> = (0..count).map(example).collect();
            let arrived = unpack(&pack(&examples).unwrap()).unwrap();
            assert_eq!(arrived.len(), examples.len());
            for (before, after) in examples.iter().zip(&arrived) {
                assert_eq!(before.objects, after.objects);
                assert_eq!(before.image.rgb(), after.image.rgb());
            }
        }
    }

    #[test]
    fn half_a_sample_is_none() {
        let sample = pack(&[example(1), example(2)]).unwrap();
        for length in [0, 600, 1600, 2600] {
            unpack(&sample[..length]).unwrap_err();
        }
        unpack(&[7; 4096]).unwrap_err();
    }
}
