//! Opens the source, the student and the teacher that a stream's configuration names: those of the program
//! that runs the node here, those in libtorch by [`networks`].

use std::path::Path;

use ekya_models::{ModelError, Placement, Student};
use ekya_profiler::History;

use super::networks;
use super::options::Brought;
use crate::config::{SourceConfig, StreamConfig, StudentConfig, TeacherConfig};
use crate::learn::Golden;
use crate::source::folder::FolderSource;
use crate::source::scene::{CLASSES, SceneSource};
use crate::source::video::VideoSource;
use crate::source::{Source, SourceError, StopFlag};
use crate::stream::Metric;

/// A source and what is known of its frames.
pub(super) struct Opened {
    pub(super) source: Box<dyn Source>,
    pub(super) classes: Vec<String>,
    /// Frames a second, at the pace of the run.
    pub(super) rate: f64,
    pub(super) slowdown: f64,
}

/// Opens the source of a stream.
pub(super) fn open_source(
    stream: &StreamConfig,
    brought: &Brought,
    stop: &StopFlag,
) -> Result<Opened, SourceError> {
    match &stream.source {
        SourceConfig::Scene(scene) => Ok(Opened {
            rate: scene.fps,
            source: Box::new(SceneSource::new(scene.clone())?),
            classes: CLASSES.map(str::to_owned).to_vec(),
            slowdown: 1.0,
        }),
        SourceConfig::Folder(folder) => {
            let source = FolderSource::open(folder)?;
            let classes = source.classes().to_vec();
            Ok(Opened {
                source: Box::new(source),
                classes,
                rate: folder.fps,
                slowdown: 1.0,
            })
        }
        SourceConfig::Video(video) => Ok(Opened {
            source: Box::new(VideoSource::open(video.clone(), stop.clone())?),
            classes: stream.student.finds().to_vec(),
            rate: video.fps / video.slowdown,
            slowdown: video.slowdown,
        }),
        SourceConfig::Own(config) => {
            // That it is there was checked before the run, but a stream may come later.
            let open = brought
                .sources
                .get(&config.name)
                .ok_or_else(|| SourceError::NotHere {
                    name: config.name.clone(),
                })?;
            let classes = match stream.student.finds() {
                [] => config.classes.clone(),
                found => found.to_vec(),
            };
            Ok(Opened {
                source: open(stop)?,
                classes,
                rate: config.fps,
                slowdown: 1.0,
            })
        }
    }
}

/// Loads the student of a stream of these classes; also, how many of them, the first ones, it has been
/// trained on. Of a student of the program that is not known.
pub(super) fn load_student(
    stream: &StreamConfig,
    classes: &[String],
    brought: &Brought,
    placement: Placement,
    seed: u64,
) -> Result<(Box<dyn Student>, usize), ModelError> {
    match &stream.student {
        StudentConfig::Own(own) => Ok((open_own(&own.name, classes, None, brought)?, 0)),
        student => networks::load_student(student, classes.len(), placement, seed),
    }
}

/// Loads weights that a retraining of such a student has given.
pub(super) fn load_checkpoint(
    student: &StudentConfig,
    classes: &[String],
    path: &Path,
    brought: &Brought,
    placement: Placement,
) -> Result<Box<dyn Student>, ModelError> {
    match student {
        StudentConfig::Own(own) => open_own(&own.name, classes, Some(path), brought),
        student => networks::load_checkpoint(student, path, placement),
    }
}

fn open_own(
    name: &str,
    classes: &[String],
    weights: Option<&Path>,
    brought: &Brought,
) -> Result<Box<dyn Student>, ModelError> {
    let open = brought.students.get(name);
    open.ok_or_else(|| not_brought("student", name))?(classes, weights)
}

// That it is there was checked before the run, but a stream may come later.
fn not_brought(what: &str, name: &str) -> ModelError {
    ModelError::BadInput(format!("the program has no {what} '{name}'"))
}

/// The teacher of a stream of `classes`, which computes in this process.
pub(super) fn load_teacher(
    teacher: &TeacherConfig,
    classes: &[String],
    brought: &Brought,
    placement: Placement,
) -> Result<Golden, ModelError> {
    match teacher {
        TeacherConfig::Labels => Ok(Golden::Truth),
        TeacherConfig::Own(name) => {
            let open = brought.teachers.get(name);
            let open = open.ok_or_else(|| not_brought("teacher", name))?;
            Ok(Golden::Own(open(classes)?))
        }
        teacher => Ok(Golden::Model(networks::load_teacher(
            teacher, classes, placement,
        )?)),
    }
}

/// How a stream's answers are scored.
pub(super) fn metric(stream: &StreamConfig) -> Metric {
    if stream.student.finds().is_empty() {
        Metric::Accuracy
    } else {
        Metric::F1
    }
}

/// What retrainings of the built-in student are known to give; `ekya rehearse` found it out.
///
/// # Errors
/// When it is of another version than this program, which is a bug.
pub fn builtin_history() -> Result<History, serde_json::Error> {
    serde_json::from_str(include_str!("weights/scene-history.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LearningConfig;
    use ekya_profiler::{Features, Point};

    #[test]
    fn the_built_in_history_knows_every_default_configuration() {
        let history = builtin_history().unwrap();
        for config in LearningConfig::default().configurations {
            let gain = |start_accuracy| {
                let point = Point {
                    stream: "new".to_owned(),
                    occasion: 0,
                    config: Features::from(&config),
                    start_accuracy,
                };
                history.expect(&[point]).gain(0)
            };
            // Surer than nothing known, and a student that errs much has more to gain.
            let [weak, strong] = [0.4, 0.95].map(gain);
            assert!(
                weak.sd < 0.12,
                "{config:?} {weak:?}: make it again with `ekya rehearse`"
            );
            assert!(weak.mean > strong.mean, "{config:?}");
        }
    }
}
