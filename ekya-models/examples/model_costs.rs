//! Prints what the classifiers and detectors cost on one CPU core: `cargo run -p ekya-models --example model_costs`.
//!
//! Times are those of the fastest of many calls, because other work of the machine only adds to them;
//! cutting and scaling of the crops is included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ekya_models::{
    Architecture, ArchitectureError, BBox, Classifier, DetectorKind, DetectorWeights, Example,
    Image, ModelError, Object, Picture, Placement, Student, set_compute_threads,
};
use ekya_sched::RetrainingConfig;

/// Students first, each kind from cheap to dear.
const NETWORKS: [&str; 11] = [
    "small",
    "shufflenetv2:0.5",
    "shufflenetv2:1.0",
    "shufflenetv2:1.5",
    "shufflenetv2:2.0",
    "mobilenetv2:0.5",
    "mobilenetv2:1.0",
    "resnet18",
    "teacher",
    "resnet101",
    "resnext101",
];
const CLASSES: usize = 8;
const HEAD_WIDTH: usize = 64;
/// Width and height of the picture that crops are cut from.
const PICTURE: (usize, usize) = (640, 360);
/// Crops of a training step.
const BATCH: usize = 32;
/// Pictures of a detector's training step, and of a pass that answers several.
const PICTURES: usize = 4;

fn main() -> Result<(), ModelError> {
    set_compute_threads(1);
    println!(
        "one thread; {CLASSES} classes, head of {HEAD_WIDTH} neurons, fastest calls in milliseconds"
    );
    println!(
        "{:>16} {:>4} {:>11} {:>8} {:>15} {:>12} {:>13} {:>13} {:>15}",
        "network",
        "side",
        "M mult-adds",
        "3 crops",
        format!("of {PICTURES} pictures"),
        "32 crops",
        "crop (of 3)",
        "crop (of 32)",
        "step of 32"
    );
    for name in NETWORKS {
        let architecture = name
            .parse()
            .map_err(|error: ArchitectureError| ModelError::BadInput(error.to_string()))?;
        print_costs(architecture)?;
    }
    println!(
        "\n{:>10} {:>10} {:>15} {:>18}",
        "network",
        "a picture",
        format!("of {PICTURES} pictures"),
        format!("step of {PICTURES} pictures")
    );
    for kind in DetectorKind::ALL {
        print_detector_costs(kind)?;
    }
    Ok(())
}

/// What a detector with new weights costs at its own side.
fn print_detector_costs(kind: DetectorKind) -> Result<(), ModelError> {
    let classes: Vec<String> = (0..CLASSES).map(|class| format!("class{class}")).collect();
    let student = kind.open(DetectorWeights::New(1), &classes, None, Placement::Cpu)?;
    let (image, objects) = scene(BATCH)?;
    let picture = fastest(|| student.infer(&image, &[], 1.0).map(drop))?;
    let together = together(&*student, &image, &[])?;
    let image = Arc::new(image);
    let example = Example { image, objects };
    let examples = vec![example; PICTURES];
    let mut training = student.train(&examples, &endless(PICTURES), 1)?;
    let step = fastest(|| training.step().map(drop))?;
    println!(
        "{:>10} {picture:>10.1} {together:>15.1} {step:>18.0}",
        kind.name()
    );
    Ok(())
}

/// A configuration that trains everything for longer than anybody waits.
fn endless(batch_size: usize) -> RetrainingConfig {
    RetrainingConfig {
        epochs: 1_000_000,
        batch_size,
        ..RetrainingConfig::default()
    }
}

fn print_costs(architecture: Architecture) -> Result<(), ModelError> {
    let model = Classifier::new(architecture, CLASSES, HEAD_WIDTH, Placement::Cpu, 1)?;
    let three = inference(&model, 3)?;
    let (image, objects) = scene(3)?;
    let regions: Vec<BBox> = objects.iter().map(|object| object.bbox).collect();
    let together = together(&model, &image, &regions)?;
    let many = inference(&model, BATCH)?;
    let step = training_step(&model)?;
    println!(
        "{:>16} {:>4} {:>11.2} {three:>8.2} {together:>15.2} {many:>12.2} {:>13.3} {:>13.3} {step:>15.1}",
        architecture,
        model.input_side(),
        model.multiply_adds() as f64 / 1e6,
        three / 3.0,
        many / BATCH as f64,
    );
    Ok(())
}

/// Milliseconds of an answer about `count` objects.
fn inference(model: &Classifier, count: usize) -> Result<f64, ModelError> {
    let (image, objects) = scene(count)?;
    let regions: Vec<BBox> = objects.iter().map(|object| object.bbox).collect();
    fastest(|| model.infer(&image, &regions, 1.0).map(drop))
}

/// Milliseconds a picture where [`PICTURES`] are answered in one pass.
fn together(student: &dyn Student, image: &Image, regions: &[BBox]) -> Result<f64, ModelError> {
    let pictures = [Picture { image, regions }; PICTURES];
    let all = fastest(|| student.infer_all(&pictures, 1.0).map(drop))?;
    Ok(all / PICTURES as f64)
}

/// Milliseconds of a minibatch of [`BATCH`] crops with nothing frozen.
fn training_step(model: &Classifier) -> Result<f64, ModelError> {
    let (image, objects) = scene(BATCH)?;
    let mut training = model.train(
        &[Example {
            image: Arc::new(image),
            objects,
        }],
        &endless(BATCH),
        1,
    )?;
    fastest(|| training.step().map(drop))
}

/// Milliseconds of the fastest call, of at least five and for about two seconds, after two that
/// warm up.
fn fastest(mut call: impl FnMut() -> Result<(), ModelError>) -> Result<f64, ModelError> {
    call()?;
    call()?;
    let start = Instant::now();
    let mut fastest = f64::INFINITY;
    let mut calls = 0;
    while calls < 5 || start.elapsed() < Duration::from_secs(2) {
        let begun = Instant::now();
        call()?;
        fastest = fastest.min(begun.elapsed().as_secs_f64() * 1e3);
        calls += 1;
    }
    Ok(fastest)
}

/// A picture and `count` objects of 40 × 40 pixels in it.
fn scene(count: usize) -> Result<(Image, Vec<Object>), ModelError> {
    let (width, height) = PICTURE;
    let rgb = (0..width * height * 3)
        .map(|i| (i * 31 % 251) as u8)
        .collect();
    let image =
        Image::new(width, height, rgb).map_err(|error| ModelError::BadInput(error.to_string()))?;
    let object = |i: usize| {
        let (x, y) = ((i % 8) as f32 * 70.0 + 10.0, (i / 8) as f32 * 70.0 + 10.0);
        Object {
            class: i % CLASSES,
            score: 1.0,
            bbox: BBox {
                x1: x,
                y1: y,
                x2: x + 40.0,
                y2: y + 40.0,
            },
        }
    };
    Ok((image, (0..count).map(object).collect()))
}
