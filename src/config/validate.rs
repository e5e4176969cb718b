//! What a configuration must hold beyond its types.

use std::collections::BTreeSet;

use ekya_models::DetectorKind;
use ekya_sched::{RetrainingConfig, Share};

use super::flaw::Flaws;
use super::near::did_you_mean;
use super::{
    ClassifierConfig, Config, DetectorConfig, DeviceConfig, InferenceConfig, Isolation,
    LearningConfig, OnnxTeacherConfig, RunConfig, SchedulerConfig, SourceConfig, StreamConfig,
    StudentConfig, TeacherConfig, cluster, output, serve,
};

/// A hundred years.
const RETENTION_HOURS_MAX: f64 = 876_600.0;

/// Less, and a worker ends before it has learnt anything: libtorch alone takes half of it.
const WORKER_MEMORY_MIN: u64 = 256 << 20;

/// Checks everything.
pub(super) fn check(config: &Config) -> Flaws {
    let mut flaws = Flaws::default();
    run(
        &config.run,
        config.learning.configurations.len(),
        &mut flaws,
    );
    devices(config, &mut flaws);
    learning(&config.learning, &mut flaws);
    cluster::check(config, &mut flaws);
    serve::check(config, &mut flaws);
    flaws.require(
        !config.streams.is_empty() || config.cluster.is_some(),
        "stream",
        "name at least one [[stream]]",
    );
    let mut names = BTreeSet::new();
    for (index, one) in config.streams.iter().enumerate() {
        flaws.require(
            names.insert(one.name.as_str()),
            &format!("stream.{index}.name"),
            format!("'{}' names two streams", one.name),
        );
        stream(config, index, one, &mut flaws);
    }
    output::check(config, &mut flaws);
    flaws
}

fn run(run: &RunConfig, configurations: usize, flaws: &mut Flaws) {
    let window = run.window_seconds;
    flaws.require(
        window.is_finite() && (1.0..=86_400.0).contains(&window),
        "run.window_seconds",
        format!("a window lasts from 1 to 86400 seconds, got {window}"),
    );
    flaws.require(
        (0.0..=1.0).contains(&run.min_accuracy),
        "run.min_accuracy",
        format!("an accuracy lies in 0..=1, got {}", run.min_accuracy),
    );
    flaws.require(
        run.quantum > Share::ZERO && run.quantum <= Share::WHOLE,
        "run.quantum",
        format!(
            "the scheduler's step is a share above 0 and at most 1, got {}",
            run.quantum.as_f64()
        ),
    );
    let checkpoints = run.checkpoints;
    flaws.require(
        (1..=1000).contains(&checkpoints),
        "run.checkpoints",
        format!("keep 1 to 1000 checkpoints of a stream, got {checkpoints}"),
    );
    if let SchedulerConfig::Uniform { configuration, .. } = run.scheduler {
        flaws.require(
            configuration < configurations,
            "run.scheduler",
            format!(
                "there are {configurations} retraining configurations, counted from 0; got {configuration}"
            ),
        );
    }
}

fn devices(config: &Config, flaws: &mut Flaws) {
    flaws.require(
        !config.devices.is_empty(),
        "device",
        "name at least one [[device]], or leave the key out",
    );
    let mut names = BTreeSet::new();
    for (index, device) in config.devices.iter().enumerate() {
        let key = format!("device.{index}.name");
        flaws.require(!device.name.is_empty(), &key, "a device needs a name");
        flaws.require(
            names.insert(&device.name),
            &key,
            format!("'{}' names two devices", device.name),
        );
        worker_memory(
            device,
            &format!("device.{index}.worker_memory_bytes"),
            flaws,
        );
        let depth = device.depth.unwrap_or(1);
        flaws.require(
            (1..=16).contains(&depth),
            &format!("device.{index}.depth"),
            format!("1 to 16 minibatches run side by side, got {depth}"),
        );
        let fraction = device.gpu_memory_fraction;
        flaws.require(
            fraction > 0.0 && fraction <= 1.0,
            &format!("device.{index}.gpu_memory_fraction"),
            format!("a part of a GPU's memory lies above 0 and is at most 1, got {fraction}"),
        );
        let percentage = device.mps_percentage.unwrap_or(100);
        flaws.require(
            (1..=100).contains(&percentage),
            &format!("device.{index}.mps_percentage"),
            format!("1 to 100 percent of a GPU's multiprocessors, got {percentage}"),
        );
    }
}

fn worker_memory(device: &DeviceConfig, key: &str, flaws: &mut Flaws) {
    let Some(bytes) = device.worker_memory_bytes else {
        return;
    };
    flaws.require(
        device.isolation == Isolation::Worker,
        key,
        "there are no workers with isolation = \"inline\"; leave the key out",
    );
    flaws.require(
        bytes >= WORKER_MEMORY_MIN,
        key,
        format!("a worker needs {WORKER_MEMORY_MIN} bytes (256 MiB) or more, got {bytes}"),
    );
}

fn learning(learning: &LearningConfig, flaws: &mut Flaws) {
    let (samples, burst) = (learning.samples, learning.burst);
    flaws.require(
        (4..=100_000).contains(&samples),
        "learning.samples",
        format!("label 4 to 100000 frames a window, got {samples}"),
    );
    flaws.require(
        burst >= 2 && burst < samples,
        "learning.burst",
        format!(
            "a burst has at least 2 frames and fewer than learning.samples ({samples}), got {burst}"
        ),
    );
    flaws.require(
        learning.holdout > 0.0 && learning.holdout < 1.0,
        "learning.holdout",
        format!(
            "hold out a fraction between 0 and 1, both excluded, got {}",
            learning.holdout
        ),
    );
    let retention = learning.retention_hours;
    flaws.require(
        retention.is_none_or(|hours| hours > 0.0 && hours <= RETENTION_HOURS_MAX),
        "learning.retention_hours",
        format!(
            "keep frames for above 0 and up to {RETENTION_HOURS_MAX} hours, or leave the key out; got {}",
            retention.unwrap_or_default()
        ),
    );
    flaws.require(
        (0.5..1.0).contains(&learning.confidence),
        "learning.confidence",
        format!(
            "a chance of being better, at least 0.5 and below 1, got {}",
            learning.confidence
        ),
    );
    flaws.require(
        (0.0..=1.0).contains(&learning.class_margin),
        "learning.class_margin",
        format!("an accuracy in 0..=1, got {}", learning.class_margin),
    );
    flaws.require(
        (0.0..=3600.0).contains(&learning.last_labels_seconds),
        "learning.last_labels_seconds",
        format!(
            "wait 0 to 3600 seconds for the last labels, got {}",
            learning.last_labels_seconds
        ),
    );
    training(learning, flaws);
    flaws.require(
        learning.overhead_share > Share::ZERO && learning.overhead_share < Share::WHOLE,
        "learning.overhead_share",
        format!(
            "labelling and profiling need a share above 0 and below 1, got {}",
            learning.overhead_share.as_f64()
        ),
    );
    flaws.require(
        learning.profile_fraction > 0.0 && learning.profile_fraction <= 1.0,
        "learning.profile_fraction",
        format!(
            "profile on a fraction in (0, 1], got {}",
            learning.profile_fraction
        ),
    );
    flaws.require(
        learning.profile_epochs >= 2,
        "learning.profile_epochs",
        format!(
            "a curve needs at least 2 epochs, got {}",
            learning.profile_epochs
        ),
    );
    flaws.require(
        !learning.configurations.is_empty(),
        "learning.configuration",
        "name at least one [[learning.configuration]], or leave the key out",
    );
    for (index, one) in learning.configurations.iter().enumerate() {
        configuration(index, one, flaws);
    }
}

fn training(learning: &LearningConfig, flaws: &mut Flaws) {
    flaws.require(
        learning.distillation_weight.is_finite() && learning.distillation_weight >= 0.0,
        "learning.distillation_weight",
        format!(
            "a weight is finite and not negative, got {}",
            learning.distillation_weight
        ),
    );
    flaws.require(
        learning.distillation_temperature.is_finite() && learning.distillation_temperature > 0.0,
        "learning.distillation_temperature",
        format!(
            "a temperature is finite and above 0, got {}",
            learning.distillation_temperature
        ),
    );
    flaws.require(
        learning.step_seconds > 0.0 && learning.step_seconds <= 60.0,
        "learning.step_seconds",
        format!(
            "a training step takes more than 0 and at most 60 seconds, got {}",
            learning.step_seconds
        ),
    );
}

fn configuration(index: usize, config: &RetrainingConfig, flaws: &mut Flaws) {
    let key = |name: &str| format!("learning.configuration.{index}.{name}");
    flaws.require(
        config.epochs >= 1,
        &key("epochs"),
        "train for at least 1 epoch",
    );
    flaws.require(
        config.batch_size >= 1,
        &key("batch_size"),
        "a minibatch has at least 1 picture",
    );
    flaws.require(
        config.data_fraction > 0.0 && config.data_fraction <= 1.0,
        &key("data_fraction"),
        format!(
            "train on a fraction in (0, 1], got {}",
            config.data_fraction
        ),
    );
    flaws.require(
        config.learning_rate.is_finite() && config.learning_rate > 0.0,
        &key("learning_rate"),
        format!("a learning rate is above 0, got {}", config.learning_rate),
    );
}

fn stream(config: &Config, index: usize, stream: &StreamConfig, flaws: &mut Flaws) {
    let key = |name: &str| format!("stream.{index}.{name}");
    flaws.require(
        !stream.name.is_empty(),
        &key("name"),
        "a stream needs a name",
    );
    flaws.require(
        !stream.name.contains(char::is_control),
        &key("name"),
        format!(
            "a name stands in logs and names threads: no control characters, got {:?}",
            stream.name
        ),
    );
    if let Some(device) = &stream.device {
        let known: Vec<&str> = config
            .devices
            .iter()
            .map(|device| device.name.as_str())
            .collect();
        flaws.require(
            known.contains(&device.as_str()),
            &key("device"),
            format!(
                "no device '{device}'; there are {}{}",
                known.join(", "),
                did_you_mean(device, known.iter().copied())
            ),
        );
    }
    source(&stream.source, &key, flaws);
    models(stream, &key, flaws);
    inference(&stream.inference, &key, flaws);
}

fn source(source: &SourceConfig, key: &dyn Fn(&str) -> String, flaws: &mut Flaws) {
    match source {
        SourceConfig::Scene(scene) => {
            if let Err(error) = scene.validate() {
                flaws.add(&key("source.scene"), error.to_string());
            }
        }
        SourceConfig::Folder(folder) => {
            let fps = folder.fps;
            flaws.require(
                fps > 0.0 && fps <= 1000.0,
                &key("source.folder.fps"),
                format!("replay above 0 and up to 1000 frames a second, got {fps}"),
            );
        }
        SourceConfig::Video(video) => {
            if let Err(error) = video.validate() {
                flaws.add(&key("source.video"), error.to_string());
            }
        }
        SourceConfig::Own(own) => {
            if let Some((what, message)) = own.flaw() {
                flaws.add(&key(&format!("source.own.{what}")), message);
            }
        }
    }
}

fn models(stream: &StreamConfig, key: &dyn Fn(&str) -> String, flaws: &mut Flaws) {
    let scene = matches!(stream.source, SourceConfig::Scene(_));
    let video = matches!(stream.source, SourceConfig::Video(_));
    // Whose frames may be as any other's.
    let own = match &stream.source {
        SourceConfig::Own(own) => Some(own),
        _ => None,
    };
    if let StudentConfig::Classifier(student) = &stream.student {
        flaws.require(
            !video,
            &key("student"),
            "a classifier needs a source that says where objects are; for video use a detector such as student.fastestdet",
        );
        flaws.require(
            scene || !stream.student.is_built_in(),
            &key("student.classifier.weights"),
            "the built-in weights know the classes of the scene only; leave weights out to start from random ones",
        );
        flaws.require(
            own.is_none_or(|own| !own.classes.is_empty()),
            &key("source.own.classes"),
            "a classifier needs the names of the classes",
        );
        classifier(student, key, flaws);
    }
    if let Some((kind, student)) = stream.student.detector() {
        flaws.require(
            video || own.is_some(),
            &key("student"),
            "a detector is for video; for a scene or a labelled folder use student.classifier",
        );
        detector(kind, student, key, flaws);
    }
    if let StudentConfig::Own(student) = &stream.student {
        flaws.require(
            !student.name.is_empty(),
            &key("student.own.name"),
            "name a student of the program",
        );
        let finds = !student.classes.is_empty();
        flaws.require(
            finds || !video && own.is_none_or(|own| !own.classes.is_empty()),
            &key("student.own.classes"),
            "name the classes that it finds by itself; a source of the program may name them instead",
        );
        flaws.require(
            !finds || video || own.is_some(),
            &key("student.own.classes"),
            "a scene or a labelled folder says where objects are and names the classes; leave these out",
        );
    }
    let fits = match &stream.teacher {
        TeacherConfig::Scene => scene,
        TeacherConfig::Labels => !video,
        TeacherConfig::Classifier { .. } => !video,
        TeacherConfig::Onnx(teacher) => {
            onnx(teacher, key, flaws);
            !video
        }
        TeacherConfig::Yolox { .. } => video || own.is_some(),
        TeacherConfig::Own(name) => {
            flaws.require(
                !name.is_empty(),
                &key("teacher.own"),
                "name a teacher of the program",
            );
            true
        }
        TeacherConfig::Detector(teacher) => {
            input_side(
                teacher.input_side,
                &key("teacher.detector.input_side"),
                flaws,
            );
            video || own.is_some()
        }
    };
    flaws.require(
        fits,
        &key("teacher"),
        "the teacher must suit the source: scene for a scene, labels, classifier or onnx for a labelled folder (or a scene), yolox or detector for video, a program's own for any, and for a program's own any but scene",
    );
}

fn classifier(student: &ClassifierConfig, key: &dyn Fn(&str) -> String, flaws: &mut Flaws) {
    let key = |name: &str| key(&format!("student.classifier.{name}"));
    let fresh = student.weights.is_none();
    flaws.require(
        fresh || student.backbone.is_none(),
        &key("backbone"),
        "weights hold a backbone, too: leave one of the two out",
    );
    let Some(side) = student.input_side else {
        return;
    };
    flaws.require(
        fresh,
        &key("input_side"),
        "weights say themselves which crops they are for; leave input_side out",
    );
    let sides = student.architecture.input_sides();
    flaws.require(
        sides.contains(&side),
        &key("input_side"),
        format!(
            "{} takes crops of {} to {} pixels a side, got {side}",
            student.architecture,
            sides.start(),
            sides.end()
        ),
    );
}

fn onnx(teacher: &OnnxTeacherConfig, key: &dyn Fn(&str) -> String, flaws: &mut Flaws) {
    let key = |name: &str| key(&format!("teacher.onnx.{name}"));
    let OnnxTeacherConfig {
        classes,
        mean,
        deviation,
        ..
    } = teacher;
    flaws.require(
        !classes.is_empty(),
        &key("classes"),
        "name the network's outputs, in their order",
    );
    flaws.require(
        mean.iter().all(|mean| mean.is_finite()),
        &key("mean"),
        format!("red, green and blue have a mean each, got {mean:?}"),
    );
    flaws.require(
        deviation.iter().all(|one| one.is_finite() && *one > 0.0),
        &key("deviation"),
        format!("red, green and blue are divided by numbers above 0, got {deviation:?}"),
    );
}

fn detector(
    kind: DetectorKind,
    config: &DetectorConfig,
    key: &dyn Fn(&str) -> String,
    flaws: &mut Flaws,
) {
    let name = kind.name();
    let key = |part: &str| key(&format!("student.{name}.{part}"));
    flaws.require(
        !config.classes.is_empty(),
        &key("classes"),
        "name at least one class to look for",
    );
    flaws.require(
        config.weights.is_some() || kind != DetectorKind::FastestDet,
        &key("weights"),
        "fastestdet learns too slowly from random weights; name the published ones",
    );
    flaws.require(
        config.backbone.is_none() || (kind == DetectorKind::SsdLite && config.weights.is_none()),
        &key("backbone"),
        "only an ssdlite without weights begins with a backbone",
    );
    input_side(config.input_side, &key("input_side"), flaws);
}

fn input_side(side: Option<usize>, key: &str, flaws: &mut Flaws) {
    let Some(side) = side else { return };
    flaws.require(
        side.is_multiple_of(32) && (32..=4096).contains(&side),
        key,
        format!("an input's side is a multiple of 32 from 32 to 4096 pixels, got {side}"),
    );
}

fn inference(inference: &InferenceConfig, key: &dyn Fn(&str) -> String, flaws: &mut Flaws) {
    let every = &inference.sample_every;
    flaws.require(
        every.contains(&1) && every.iter().all(|n| (1..=1000).contains(n)),
        &key("inference.sample_every"),
        "list numbers from 1 to 1000, 1 among them",
    );
    let sides = &inference.resolution;
    flaws.require(
        sides.contains(&1.0) && sides.iter().all(|side| *side > 0.0 && *side <= 1.0),
        &key("inference.resolution"),
        "list numbers above 0 and up to 1, 1 among them",
    );
    let deadline = inference.deadline_seconds;
    flaws.require(
        deadline > 0.0 && deadline <= 3600.0,
        &key("inference.deadline_seconds"),
        format!("a frame may wait above 0 and up to 3600 seconds, got {deadline}"),
    );
}
