//! A student of one's own: a classifier in plain Rust with a training of its own. Needs no libtorch:
//!
//! ```text
//! cargo run --no-default-features --example custom_student
//! ```
//!
//! It knows for each class what such objects look like in the mean, and answers with the class whose mean
//! is nearest. Retraining moves the means. The camera is synthetic, and says itself what is there.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use ekya::models::{Example, Step, Training, TrainingOptions};
use ekya::sched::RetrainingConfig;
use ekya::{BBox, Image, ModelError, Object, RunOptions, Student, ValidConfig, node};
use serde::{Deserialize, Serialize};

const SITE: &str = r#"
run = { windows = 3, window_seconds = 3.0 }

[[stream]]
name = "gate"
source.scene = { fps = 15.0, preset = "nightfall", drift_seconds = 6.0 }
student.own = { name = "nearest mean" }
teacher = "labels"
"#;

/// Each region is looked at in so many places along each side.
const SIDE: usize = 5;
/// How far a training step moves the mean of a class towards an example.
const RATE: f32 = 0.1;

/// Answers with the class whose mean is nearest.
#[derive(Clone, Serialize, Deserialize)]
struct NearestMean {
    /// By class; none before the first example.
    means: Vec<Option<Vec<f32>>>,
}

/// What is seen of an object: colours in some places, and how large it is.
fn look(image: &Image, region: &BBox) -> Vec<f32> {
    let (width, height) = (image.width(), image.height());
    let place = |from: f32, to: f32, step: usize, end: usize| {
        let at = from + (to - from) * (step as f32 + 0.5) / SIDE as f32;
        (at as usize).min(end - 1)
    };
    let colours = (0..SIDE * SIDE).flat_map(|index| {
        let x = place(region.x1, region.x2, index % SIDE, width);
        let y = place(region.y1, region.y2, index / SIDE, height);
        let pixel = (y * width + x) * 3;
        &image.rgb()[pixel..pixel + 3]
    });
    let colours = colours.map(|value| f32::from(*value) / 255.0);
    let size = [
        (region.x2 - region.x1) / width as f32,
        (region.y2 - region.y1) / height as f32,
    ];
    colours.chain(size.map(|side| side * 10.0)).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

impl NearestMean {
    /// The nearest class, and how far it is.
    fn nearest(&self, seen: &[f32]) -> Option<(usize, f32)> {
        let means = self.means.iter().enumerate();
        let known = means.filter_map(|(class, mean)| Some((class, distance(mean.as_ref()?, seen))));
        known.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Moves the mean of a class; returns how far the example was from it.
    fn learn(&mut self, class: usize, seen: &[f32]) -> f32 {
        let mean = self.means[class].get_or_insert_with(|| seen.to_vec());
        let loss = distance(mean, seen);
        for (mean, seen) in mean.iter_mut().zip(seen) {
            *mean += RATE * (seen - *mean);
        }
        loss
    }
}

impl Student for NearestMean {
    fn infer(&self, image: &Image, regions: &[BBox], _: f64) -> Result<Vec<Object>, ModelError> {
        let answer = |bbox: &BBox| {
            let (class, distance) = self.nearest(&look(image, bbox)).unwrap_or_default();
            Object {
                class,
                score: 1.0 / (1.0 + distance),
                bbox: *bbox,
            }
        };
        Ok(regions.iter().map(answer).collect())
    }

    fn network(&self) -> String {
        format!("nearest mean of {SIDE} x {SIDE}")
    }

    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(self.clone()))
    }

    fn train_with(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        _: &TrainingOptions,
        _: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        if examples.is_empty() {
            return Err(ModelError::NoExamples);
        }
        let count = (examples.len() as f64 * config.data_fraction).ceil() as usize;
        let looks = examples.iter().take(count).flat_map(|example| {
            let objects = example.objects.iter();
            objects.map(|object| (object.class, look(&example.image, &object.bbox)))
        });
        Ok(Box::new(Lessons {
            student: self.clone(),
            looks: looks.collect(),
            batch: config.batch_size,
            epochs: config.epochs,
            done: 0,
        }))
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        let json = serde_json::to_vec(self).map_err(|error| bad(path, &error))?;
        fs::write(path, json).map_err(|source| ModelError::Io {
            path: path.to_owned(),
            source,
        })
    }
}

/// A training in progress.
struct Lessons {
    student: NearestMean,
    looks: Vec<(usize, Vec<f32>)>,
    batch: usize,
    epochs: usize,
    done: usize,
}

impl Training for Lessons {
    fn steps(&self) -> usize {
        self.epochs * self.steps_per_epoch()
    }

    fn steps_per_epoch(&self) -> usize {
        self.looks.len().div_ceil(self.batch).max(1)
    }

    /// The node decides when a step is taken, and what else the device does in between.
    fn step(&mut self) -> Result<Step, ModelError> {
        let from = self.done % self.steps_per_epoch() * self.batch;
        let batch = &self.looks[from..self.looks.len().min(from + self.batch)];
        let learn = |(class, seen): &(usize, Vec<f32>)| self.student.learn(*class, seen);
        let loss: f32 = batch.iter().map(learn).sum();
        self.done += 1;
        Ok(Step {
            loss: f64::from(loss) / batch.len().max(1) as f64,
            done: self.done,
            examples: batch.len(),
        })
    }

    fn student(&self) -> Result<Box<dyn Student>, ModelError> {
        self.student.fork()
    }
}

/// A new one, or one that was saved.
fn open(classes: &[String], saved: Option<&Path>) -> Result<Box<dyn Student>, ModelError> {
    let Some(path) = saved else {
        let means = vec![None; classes.len()];
        return Ok(Box::new(NearestMean { means }));
    };
    let json = fs::read(path).map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })?;
    let student: NearestMean = serde_json::from_slice(&json).map_err(|error| bad(path, &error))?;
    Ok(Box::new(student))
}

fn bad(path: &Path, error: &serde_json::Error) -> ModelError {
    ModelError::BadFile {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn main() -> Result<()> {
    let options = RunOptions::new().student("nearest mean", open);
    let record = node::run(&ValidConfig::parse(SITE)?, options)?;
    let mut promoted = 0;
    for window in &record.windows {
        let entry = &window.streams[0];
        promoted += entry.retrainings.iter().filter(|one| one.promoted).count();
        let right = entry.true_accuracy.unwrap_or_default() * 100.0;
        println!("window {}: {right:.0} % right", window.index);
    }
    println!("{promoted} retrained students were promoted");
    ensure!(promoted > 0, "it has learnt nothing");
    Ok(())
}

/// The example is a test, too: `cargo test --no-default-features --example custom_student`.
#[test]
fn runs() -> Result<()> {
    main()
}
