//! Students and teachers in libtorch, as a configuration names them, and those that are built in for the
//! procedural scene.

use std::path::Path;

use ekya_models::{
    Classifier, DetectorKind, DetectorWeights, ModelError, Normalisation, OnnxOptions, OnnxTeacher,
    Placement, Student, Teacher, YoloxTeacher,
};

use super::NodeError;
use crate::config::{
    BUILT_IN_WEIGHTS, ClassifierConfig, DetectorConfig, OnnxTeacherConfig, StudentConfig,
    TeacherConfig,
};
use crate::learn::Kept;
use crate::train;

/// Neurons of a new classifier's hidden layer.
const HEAD_WIDTH: usize = 64;

/// Loads the student of a stream with that many classes; also, how many of these, the first ones, it has
/// been trained on.
pub(super) fn load_student(
    student: &StudentConfig,
    classes: usize,
    placement: Placement,
    seed: u64,
) -> Result<(Box<dyn Student>, usize), ModelError> {
    let detector = |kind, config: &DetectorConfig| -> Result<_, ModelError> {
        let known = config.weights.as_ref().map_or(0, |_| classes);
        Ok((load_detector(kind, config, placement, seed)?, known))
    };
    match student {
        StudentConfig::Classifier(student) => match &student.weights {
            Some(path) => {
                let (student, known) = trained_classifier(path, classes, placement, seed)?;
                Ok((Box::new(student), known))
            }
            None => {
                let student = new_classifier(student, classes, placement, seed)?;
                Ok((Box::new(student), 0))
            }
        },
        StudentConfig::FastestDet(config) => detector(DetectorKind::FastestDet, config),
        StudentConfig::TinyYoloV3(config) => detector(DetectorKind::TinyYoloV3, config),
        StudentConfig::SsdLite(config) => detector(DetectorKind::SsdLite, config),
        StudentConfig::Own(own) => Err(no_network("student", &own.name)),
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

/// A classifier from a checkpoint, and how many classes that knows; those that it does not know are
/// the stream's last ones.
fn trained_classifier(
    path: &Path,
    classes: usize,
    placement: Placement,
    seed: u64,
) -> Result<(Classifier, usize), ModelError> {
    let student = if path.as_os_str() == BUILT_IN_WEIGHTS {
        builtin_student(placement)?
    } else {
        Classifier::load(path, placement)?
    };
    match student.classes() {
        known if known == classes => Ok((student, known)),
        known if known < classes => {
            tracing::info!(path = %path.display(), known, classes, "the student learns more classes");
            Ok((student.with_classes(classes, seed)?, known))
        }
        known => Err(other_classes(path, known, classes)),
    }
}

/// Loads weights that a retraining of such a student has given.
pub(super) fn load_checkpoint(
    student: &StudentConfig,
    path: &Path,
    placement: Placement,
) -> Result<Box<dyn Student>, ModelError> {
    match (student, student.detector()) {
        (StudentConfig::Own(own), _) => Err(no_network("student", &own.name)),
        (_, None) => Ok(Box::new(Classifier::load(path, placement)?)),
        (_, Some((kind, config))) => {
            let weights = DetectorWeights::File(path);
            kind.open(weights, &config.classes, config.input_side, placement)
        }
    }
}

/// Takes over such a student from another process, which has
/// [handed it over](Student::hand_over).
pub(crate) fn take_over(
    student: &StudentConfig,
    path: &Path,
    placement: Placement,
) -> Result<Box<dyn Student>, ModelError> {
    match student {
        StudentConfig::Classifier(_) => Ok(Box::new(Classifier::take_over(path, placement)?)),
        // These load files without a digest, too.
        _ => load_checkpoint(student, path, placement),
    }
}

/// A classifier whose head has learnt nothing yet.
fn new_classifier(
    config: &ClassifierConfig,
    classes: usize,
    placement: Placement,
    seed: u64,
) -> Result<Classifier, ModelError> {
    let architecture = config.architecture;
    let mut student = Classifier::new(architecture, classes, HEAD_WIDTH, placement, seed)?;
    if let Some(side) = config.input_side {
        student = student.with_input_side(side)?;
    }
    let Some(path) = &config.backbone else {
        return Ok(student);
    };
    let (student, report) = student.with_backbone(path)?;
    tracing::info!(path = %path.display(), %report, "the student begins with a pretrained backbone");
    Ok(student)
}

fn other_classes(path: &Path, found: usize, expected: usize) -> ModelError {
    ModelError::BadFile {
        path: path.to_owned(),
        reason: format!(
            "it knows {found} classes, the stream has {expected}; train one with `ekya train`"
        ),
    }
}

/// That it is none of these, but the program's: whoever asks has looked for it there.
fn no_network(what: &str, name: &str) -> ModelError {
    ModelError::BadInput(format!(
        "the {what} '{name}' lives in the node's process only"
    ))
}

/// A teacher of streams of `classes`.
pub(crate) fn load_teacher(
    teacher: &TeacherConfig,
    classes: &[String],
    placement: Placement,
) -> Result<Box<dyn Teacher>, ModelError> {
    Ok(match teacher {
        TeacherConfig::Labels => return Err(no_network("teacher", "labels")),
        TeacherConfig::Own(name) => return Err(no_network("teacher", name)),
        TeacherConfig::Scene => Box::new(builtin_teacher(placement)?),
        TeacherConfig::Classifier { weights } => {
            let teacher = Classifier::load(weights, placement)?;
            if teacher.classes() != classes.len() {
                return Err(other_classes(weights, teacher.classes(), classes.len()));
            }
            Box::new(teacher)
        }
        TeacherConfig::Onnx(onnx) => Box::new(onnx_teacher(onnx, classes)?),
        TeacherConfig::Yolox { model } => Box::new(YoloxTeacher::load(model, classes)?),
        TeacherConfig::Detector(teacher) => {
            let weights = DetectorWeights::File(&teacher.weights);
            let network = teacher.network;
            Box::new(network.open(weights, classes, teacher.input_side, placement)?)
        }
    })
}

fn onnx_teacher(config: &OnnxTeacherConfig, classes: &[String]) -> Result<OnnxTeacher, ModelError> {
    let options = OnnxOptions {
        pixels: Normalisation {
            mean: config.mean,
            deviation: config.deviation,
        },
        softmax: config.softmax,
    };
    OnnxTeacher::load(&config.model, &config.classes, classes, options)
}

/// What a student was first trained on, where that is known: the built-in one's.
pub(super) fn exemplars(student: &StudentConfig) -> Result<Vec<Kept>, NodeError> {
    if !student.is_built_in() {
        return Ok(Vec::new());
    }
    train::exemplars().map_err(|error| NodeError::Start {
        reason: error.to_string(),
    })
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
    use ekya_models::Architecture;

    /// A checkpoint of that many classes, in a folder that goes with the test.
    fn checkpoint(classes: usize) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first.safetensors");
        let student = Classifier::new(Architecture::Small, classes, 8, Placement::Cpu, 1).unwrap();
        student.save(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn a_student_learns_more_classes_and_never_fewer() {
        let (_folder, path) = checkpoint(3);
        for classes in [3, 5] {
            let (student, known) = trained_classifier(&path, classes, Placement::Cpu, 1).unwrap();
            assert_eq!((student.classes(), known), (classes, 3));
        }
        let refused = trained_classifier(&path, 2, Placement::Cpu, 1).unwrap_err();
        let expected = "it knows 3 classes, the stream has 2";
        assert!(refused.to_string().contains(expected), "{refused}");
    }

    #[test]
    fn a_new_student_takes_the_side_and_the_backbone_of_its_configuration() {
        let (_folder, path) = checkpoint(3);
        let config = ClassifierConfig {
            backbone: Some(path.clone()),
            input_side: Some(48),
            ..ClassifierConfig::default()
        };
        let student = new_classifier(&config, 5, Placement::Cpu, 1).unwrap();
        assert_eq!((student.classes(), student.input_side()), (5, 48));
        let other = ClassifierConfig {
            architecture: Architecture::ResNet18,
            input_side: None,
            ..config
        };
        let refused = new_classifier(&other, 5, Placement::Cpu, 1).unwrap_err();
        assert!(matches!(refused, ModelError::Backbone { .. }), "{refused}");
    }

    #[test]
    fn a_teacher_knows_the_classes_of_its_streams() {
        let (_folder, weights) = checkpoint(3);
        let teacher = TeacherConfig::Classifier { weights };
        let load = |count: usize| {
            let classes = vec!["car".to_owned(); count];
            load_teacher(&teacher, &classes, Placement::Cpu)
        };
        assert!(load(3).is_ok());
        for count in [2, 4] {
            let refused = load(count).err().unwrap();
            assert!(matches!(refused, ModelError::BadFile { .. }), "{refused}");
        }
    }
}
