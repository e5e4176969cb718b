//! Loads the source, the student and the teacher that a stream's configuration names.

use std::path::Path;

use ekya_models::{
    Architecture, Classifier, DetectorKind, DetectorWeights, ModelError, Placement, Student,
    Teacher, YoloxTeacher,
};
use ekya_profiler::History;

use crate::config::{
    BUILT_IN_WEIGHTS, ClassifierArchitecture, ClassifierConfig, DetectorConfig, SourceConfig,
    StreamConfig, StudentConfig, TeacherConfig,
};
use crate::source::folder::FolderSource;
use crate::source::scene::{CLASSES, SceneSource};
use crate::source::video::VideoSource;
use crate::source::{Source, SourceError, StopFlag};
use crate::stream::Metric;

/// Neurons of a new classifier's hidden layer.
const HEAD_WIDTH: usize = 64;

/// A source and what is known of its frames.
pub(super) struct Opened {
    pub(super) source: Box<dyn Source>,
    pub(super) classes: Vec<String>,
    /// Frames a second, at the pace of the run.
    pub(super) rate: f64,
    pub(super) slowdown: f64,
}

/// Opens the source of a stream.
pub(super) fn open_source(stream: &StreamConfig, stop: &StopFlag) -> Result<Opened, SourceError> {
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
            classes: detected(stream).to_vec(),
            rate: video.fps / video.slowdown,
            slowdown: video.slowdown,
        }),
    }
}

/// Classes that the stream's student finds by itself.
fn detected(stream: &StreamConfig) -> &[String] {
    let detector = stream.student.detector();
    detector.map_or(&[], |(_, config)| &config.classes)
}

/// Loads the student of a stream.
pub(super) fn load_student(
    stream: &StreamConfig,
    classes: usize,
    placement: Placement,
    seed: u64,
) -> Result<Box<dyn Student>, ModelError> {
    match &stream.student {
        StudentConfig::Classifier(ClassifierConfig {
            weights: Some(path),
            ..
        }) => {
            let student = if path.as_os_str() == BUILT_IN_WEIGHTS {
                builtin_student(placement)?
            } else {
                Classifier::load(path, placement)?
            };
            check_classes(path, student.classes(), classes)?;
            Ok(Box::new(student))
        }
        StudentConfig::Classifier(ClassifierConfig {
            architecture,
            weights: None,
        }) => {
            let architecture = match architecture {
                ClassifierArchitecture::Small => Architecture::Small,
                ClassifierArchitecture::ResNet18 => Architecture::ResNet18,
            };
            Ok(Box::new(Classifier::new(
                architecture,
                classes,
                HEAD_WIDTH,
                placement,
                seed,
            )?))
        }
        StudentConfig::FastestDet(config) => {
            load_detector(DetectorKind::FastestDet, config, placement, seed)
        }
        StudentConfig::TinyYoloV3(config) => {
            load_detector(DetectorKind::TinyYoloV3, config, placement, seed)
        }
        StudentConfig::SsdLite(config) => {
            load_detector(DetectorKind::SsdLite, config, placement, seed)
        }
    }
}

fn load_detector(
    kind: DetectorKind,
    config: &DetectorConfig,
    placement: Placement,
    seed: u64,
) -> Result<Box<dyn Student>, ModelError> {
    let weights = match (&config.weights, &config.backbone) {
        (Some(path), _) => DetectorWeights::File(path),
        (None, Some(path)) => DetectorWeights::Backbone(path, seed),
        (None, None) => DetectorWeights::New(seed),
    };
    kind.open(weights, &config.classes, config.input_side, placement)
}

fn check_classes(path: &Path, found: usize, expected: usize) -> Result<(), ModelError> {
    if found == expected {
        return Ok(());
    }
    Err(ModelError::BadFile {
        path: path.to_owned(),
        reason: format!(
            "it knows {found} classes, the stream has {expected}; train one with `ekya train`"
        ),
    })
}

/// How the teacher of a stream is done; `None` for labels that the source brings along.
pub(super) fn load_teacher(
    stream: &StreamConfig,
    placement: Placement,
) -> Result<Option<Box<dyn Teacher>>, ModelError> {
    match &stream.teacher {
        TeacherConfig::Labels => Ok(None),
        TeacherConfig::Scene => Ok(Some(Box::new(builtin_teacher(placement)?))),
        TeacherConfig::Yolox { model } => {
            Ok(Some(Box::new(YoloxTeacher::load(model, detected(stream))?)))
        }
        TeacherConfig::Detector(teacher) => {
            let weights = DetectorWeights::File(&teacher.weights);
            let classes = detected(stream);
            let network = teacher.network;
            let model = network.open(weights, classes, teacher.input_side, placement)?;
            Ok(Some(Box::new(model)))
        }
    }
}

/// How a stream's answers are scored.
pub(super) fn metric(stream: &StreamConfig) -> Metric {
    match stream.student.detector() {
        None => Metric::Accuracy,
        Some(_) => Metric::F1,
    }
}

/// Outcomes of a configuration that the built-in history weighs as much as.
const REHEARSED_OUTCOMES: f64 = 16.0;

/// What retrainings of the built-in student are known to give; `ekya rehearse` found it out.
pub(super) fn builtin_history() -> Result<History, serde_json::Error> {
    let history: History = serde_json::from_str(include_str!("weights/scene-history.json"))?;
    Ok(history.as_prior(REHEARSED_OUTCOMES))
}

/// The student that is built in for the procedural scene; `ekya train-scene` made its weights.
///
/// # Errors
/// [`ModelError`] when libtorch cannot hold it.
pub fn builtin_student(placement: Placement) -> Result<Classifier, ModelError> {
    Classifier::from_bytes(
        include_bytes!("weights/scene-student.safetensors"),
        "the built-in student",
        placement,
    )
}

/// The teacher that is built in for the procedural scene; `ekya train-scene` made its weights.
///
/// # Errors
/// [`ModelError`] when libtorch cannot hold it.
pub fn builtin_teacher(placement: Placement) -> Result<Classifier, ModelError> {
    Classifier::from_bytes(
        include_bytes!("weights/scene-teacher.safetensors"),
        "the built-in teacher",
        placement,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LearningConfig;

    #[test]
    fn the_built_in_history_knows_every_default_configuration() {
        let history = builtin_history().unwrap();
        for config in LearningConfig::default().configurations {
            assert_eq!(
                history.outcomes(&config),
                REHEARSED_OUTCOMES,
                "{config:?}: make it again with `ekya rehearse`"
            );
            // It found that a student that errs much has more to gain.
            let [weak, strong] = [0.4, 0.95].map(|start| history.gain(&config, start).mean);
            assert!(weak > strong, "{config:?}");
        }
    }
}
