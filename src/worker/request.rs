//! What a node and its worker say to each other. Both are the same program, of one version.

use std::path::PathBuf;
use std::time::Duration;

use ekya_models::{BBox, ModelError, Object, Placement, Step, TrainingOptions};
use ekya_sched::RetrainingConfig;
use serde::{Deserialize, Serialize};

use crate::config::{StudentConfig, TeacherConfig};

/// Names something that lives in the worker, or a picture; never used twice.
pub(super) type Id = u64;

/// What the node asks. What lives in the worker lives until it is dropped.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Take in pictures, which the file holds one after the other; the file is removed.
    Show {
        file: PathBuf,
        pictures: Vec<Picture>,
    },
    /// Load a student.
    Open {
        student: Id,
        config: StudentConfig,
        weights: PathBuf,
        placement: Placement,
    },
    /// Load a teacher.
    OpenTeacher {
        teacher: Id,
        config: TeacherConfig,
        classes: Vec<String>,
        placement: Placement,
    },
    /// [`Student::infer`](ekya_models::Student::infer).
    Infer {
        student: Id,
        picture: Id,
        regions: Vec<BBox>,
        resolution: f64,
    },
    /// [`Student::features`](ekya_models::Student::features).
    Features {
        student: Id,
        picture: Id,
        regions: Vec<BBox>,
    },
    /// [`Teacher::label`](ekya_models::Teacher::label).
    Label {
        teacher: Id,
        picture: Id,
        regions: Vec<BBox>,
    },
    /// [`Student::train_with`](ekya_models::Student::train_with).
    Train(Train),
    /// [`Training::steps_within`](ekya_models::Training::steps_within).
    Steps {
        training: Id,
        time: Duration,
        at_most: usize,
    },
    /// [`Training::student`](ekya_models::Training::student).
    Take { training: Id, student: Id },
    /// [`Student::hand_over`](ekya_models::Student::hand_over).
    HandOver { student: Id, path: PathBuf },
    /// Forget students, teachers and trainings.
    Drop(Vec<Id>),
    /// Forget pictures.
    DropPictures(Vec<Id>),
}

/// What a training is begun with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Train {
    pub(super) training: Id,
    pub(super) student: Id,
    /// Pictures and what is in them.
    pub(super) examples: Vec<(Id, Vec<Object>)>,
    pub(super) config: RetrainingConfig,
    pub(super) options: TrainingOptions,
    pub(super) seed: u64,
}

/// A picture in a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Picture {
    pub(super) id: Id,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// What the worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Objects(Vec<Object>),
    Features(Option<Vec<Vec<f32>>>),
    /// Of a training that has begun.
    Training {
        steps: usize,
        steps_per_epoch: usize,
    },
    Steps(Vec<Step>),
    Failed(Failure),
}

/// What of a [`ModelError`] matters on the other side.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    NoExamples,
    BadInput(String),
    BadFile {
        path: PathBuf,
        reason: String,
    },
    Diverged {
        what: String,
        steps: usize,
        learning_rate: f64,
    },
    Io {
        path: PathBuf,
        /// The system's number for it, where it has one.
        code: Option<i32>,
        text: String,
    },
    OutOfMemory(String),
    Other(String),
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::NoExamples => Self::NoExamples,
            ModelError::BadInput(text) => Self::BadInput(text),
            ModelError::BadFile { path, reason } => Self::BadFile { path, reason },
            ModelError::Io { path, source } => Self::Io {
                path,
                code: source.raw_os_error(),
                text: source.to_string(),
            },
            ModelError::Diverged {
                what,
                steps,
                learning_rate,
            } => Self::Diverged {
                what,
                steps,
                learning_rate,
            },
            ModelError::OutOfMemory(text) => Self::OutOfMemory(text),
            ModelError::Torch(text) => Self::Other(text),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Failure> for ModelError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoExamples => Self::NoExamples,
            Failure::BadInput(text) => Self::BadInput(text),
            Failure::BadFile { path, reason } => Self::BadFile { path, reason },
            Failure::Diverged {
                what,
                steps,
                learning_rate,
            } => Self::Diverged {
                what,
                steps,
                learning_rate,
            },
            Failure::Io { path, code, text } => Self::Io {
                path,
                source: code.map_or_else(
                    || std::io::Error::other(text),
                    std::io::Error::from_raw_os_error,
                ),
            },
            Failure::OutOfMemory(text) => Self::OutOfMemory(text),
            Failure::Other(text) => Self::Torch(text),
        }
    }
}

/// Node and worker are one program: this is a mistake of it.
pub(super) fn unexpected() -> ModelError {
    ModelError::Process("the worker answered something else than it was asked".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    /// Who is asked for a file looks for another place then.
    #[test]
    fn want_of_room_is_told_as_such() {
        let full = Error::from(nix::errno::Errno::ENOSPC);
        let told = ModelError::Io {
            path: "file".into(),
            source: full,
        };
        match ModelError::from(Failure::from(told)) {
            ModelError::Io { path, source } => {
                assert_eq!(path, PathBuf::from("file"));
                assert_eq!(source.kind(), ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
    }
}
