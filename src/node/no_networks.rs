//! In place of `networks` where the program was built without libtorch: there are no students and teachers
//! but the program's own.

use std::path::Path;

use ekya_models::{ModelError, Placement, Student, Teacher};

use super::NodeError;
use crate::config::{StudentConfig, TeacherConfig};
use crate::learn::Kept;

fn without<T>() -> Result<T, ModelError> {
    Err(ModelError::BadInput(
        "this program was built without the feature `torch`: it has no students and teachers but its own"
            .to_owned(),
    ))
}

pub(super) fn load_student(
    _: &StudentConfig,
    _: usize,
    _: Placement,
    _: u64,
) -> Result<(Box<dyn Student>, usize), ModelError> {
    without()
}

pub(super) fn load_checkpoint(
    _: &StudentConfig,
    _: &Path,
    _: Placement,
) -> Result<Box<dyn Student>, ModelError> {
    without()
}

pub(crate) fn take_over(
    _: &StudentConfig,
    _: &Path,
    _: Placement,
) -> Result<Box<dyn Student>, ModelError> {
    without()
}

pub(crate) fn load_teacher(
    _: &TeacherConfig,
    _: &[String],
    _: Placement,
) -> Result<Box<dyn Teacher>, ModelError> {
    without()
}

/// Frames of a student that is built in; there is none.
pub(super) fn exemplars(_: &StudentConfig) -> Result<Vec<Kept>, NodeError> {
    Ok(Vec::new())
}
