//! Fine-tunes FastestDet on a fixed camera's first minutes and scores it on what follows.
//!
//! `cargo run -p ekya-models --example finetune_detector -- DATA [CONFIGURATION…]`
//!
//! DATA is a folder with `models/` (FastestDet's and YOLOX's weights) and `videos/`; a configuration
//! is JSON such as `{"epochs":4,"batch_size":8,"layers_frozen":4,"learning_rate":6e-4}`. Of each
//! clip at 5 frames a second, 48 evenly spaced frames of the first 60 % are labelled by the teacher and
//! trained on; printed is F1 at IoU 0.3 against the teacher on the rest, before and after.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use ekya_models::{
    Example, FastestDet, Image, Placement, Student, Teacher, YoloxTeacher, f1_at,
    set_compute_threads,
};
use ekya_sched::RetrainingConfig;

const CLIPS: [&str; 3] = ["vtest.avi", "bgs-video02.avi", "ckuhn-traffic.mp4"];
const CLASSES: [&str; 5] = ["person", "bicycle", "car", "bus", "truck"];
const TRAINED_ON: usize = 48;
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    set_compute_threads(1);
    let mut arguments = std::env::args().skip(1);
    let data = PathBuf::from(
        arguments
            .next()
            .ok_or("name the folder with models/ and videos/")?,
    );
    let configurations = arguments.map(|json| serde_json::from_str(&json));
    let mut configurations: Vec<RetrainingConfig> = configurations.collect::<Result<_, _>>()?;
    if configurations.is_empty() {
        configurations = vec![cheap(), costly()];
    }
    let classes = CLASSES.map(str::to_owned);
    let student = FastestDet::load(
        &data.join("models/FastestDet_AP05_0.253.safetensors"),
        &classes,
        Placement::best(),
    )?;
    let teacher = YoloxTeacher::load(&data.join("models/yolox_nano.onnx"), &classes)?;
    println!(
        "{:<18} {:>6}  after each of {} configurations",
        "clip",
        "before",
        configurations.len()
    );
    let mut gains = vec![0.0; configurations.len()];
    for clip in CLIPS {
        let (train, test) = label(&teacher, frames(&data.join("videos").join(clip))?)?;
        let before = f1(&student, &test)?;
        print!("{clip:<18} {before:>6.3}");
        for (gain, configuration) in gains.iter_mut().zip(&configurations) {
            let start = Instant::now();
            let mut training = student.train(&train, configuration, SEED)?;
            for _ in 0..training.steps() {
                training.step()?;
            }
            let seconds = start.elapsed().as_secs_f64();
            let after = f1(training.student()?.as_ref(), &test)?;
            *gain += (after - before) / CLIPS.len() as f64;
            print!(
                "  {after:.3} in {seconds:.1} s ({} steps)",
                training.steps()
            );
        }
        println!();
    }
    for (gain, configuration) in gains.iter().zip(&configurations) {
        println!(
            "mean gain {gain:+.3}: {}",
            serde_json::to_string(configuration)?
        );
    }
    Ok(())
}

/// The backbone stays as it is; a few seconds on one core.
fn cheap() -> RetrainingConfig {
    RetrainingConfig {
        epochs: 4,
        batch_size: 8,
        layers_frozen: 4,
        learning_rate: 6e-4,
        ..Default::default()
    }
}

/// Only the stem stays as it is.
fn costly() -> RetrainingConfig {
    RetrainingConfig {
        epochs: 8,
        batch_size: 8,
        layers_frozen: 1,
        learning_rate: 5e-4,
        ..Default::default()
    }
}

/// The teacher's labels for the frames trained on and for every second one of those scored on.
fn label(
    teacher: &dyn Teacher,
    frames: Vec<Image>,
) -> Result<(Vec<Example>, Vec<Example>), Box<dyn Error>> {
    let cut = frames.len() * 6 / 10;
    let frames: Vec<Arc<Image>> = frames.into_iter().map(Arc::new).collect();
    let label = |image: &Arc<Image>| -> Result<Example, Box<dyn Error>> {
        Ok(Example {
            image: image.clone(),
            objects: teacher.label(image, &[])?,
        })
    };
    let count = TRAINED_ON.min(cut);
    let train = (0..count)
        .map(|i| label(&frames[i * cut / count]))
        .collect::<Result<_, _>>()?;
    let test = frames[cut..]
        .iter()
        .step_by(2)
        .map(label)
        .collect::<Result<_, _>>()?;
    Ok((train, test))
}

fn f1(student: &dyn Student, examples: &[Example]) -> Result<f64, Box<dyn Error>> {
    let mut scores = Vec::new();
    for example in examples {
        scores.extend(f1_at(
            &example.objects,
            &student.infer(&example.image, &[], 1.0)?,
        ));
    }
    Ok(scores.iter().sum::<f64>() / scores.len().max(1) as f64)
}

/// The clip at 5 frames a second, as ffmpeg writes it: one PPM after another.
fn frames(clip: &Path) -> Result<Vec<Image>, Box<dyn Error>> {
    let arguments = ["-vf", "fps=5", "-f", "image2pipe", "-c:v", "ppm", "-"];
    let output = Command::new(ffmpeg())
        .args(["-v", "error", "-i"])
        .arg(clip)
        .args(arguments)
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "{}: {}",
            clip.display(),
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    let mut rest = output.stdout.as_slice();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (image, after) = ppm(rest).ok_or("ffmpeg wrote something else than PPM")?;
        frames.push(image);
        rest = after;
    }
    Ok(frames)
}

/// `ffmpeg` of the cache that the project's set-up fills, else the one on the PATH.
fn ffmpeg() -> PathBuf {
    let cached = std::env::home_dir().map(|home| home.join(".cache/ekya/ffmpeg-9.0.2/ffmpeg"));
    cached
        .filter(|path| path.exists())
        .unwrap_or_else(|| "ffmpeg".into())
}

/// The first picture of some PPM bytes (`P6\nwidth height\n255\n`, then RGB), and the bytes after it.
fn ppm(bytes: &[u8]) -> Option<(Image, &[u8])> {
    let mut lines = bytes.splitn(4, |&byte| byte == b'\n');
    let (magic, size, _depth, pixels) =
        (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let (width, height) = std::str::from_utf8(size).ok()?.split_once(' ')?;
    let (width, height): (usize, usize) = (width.parse().ok()?, height.parse().ok()?);
    let (rgb, after) = pixels.split_at_checked(width * height * 3)?;
    let image = Image::new(width, height, rgb.to_vec()).ok()?;
    (magic == b"P6").then_some((image, after))
}
