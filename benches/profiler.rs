//! How well the profiler predicts retrainings that are really done: `cargo xtask bench profiler`.
//!
//! Streams are cut into rounds. In each, a learner does what it does in a running node: it takes the
//! labels in, profiles all configurations, and retrains with the one that promises most, through the
//! gate. Besides, to know the truth, every configuration is trained to its end from the same student
//! on the same data, and measured against the true labels: of the crops, on all frames of the latest
//! stretch of the round, which is held out; of a scene, whose latest stretch shows too few objects to
//! tell configurations apart, on frames of other traffic at that time. That truth reaches no learner.
//!
//! Prints its figures as one JSON document; progress goes to stderr.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use ekya::config::{InferenceConfig, LearningConfig};
use ekya::learn::{Beginning, Experience, Kept, Learner, Prepare, Turn, Work};
use ekya::node::{builtin_history, builtin_student, builtin_teacher};
use ekya::report::chart::CalibrationChart;
use ekya::source::folder::{FolderConfig, FolderSource};
use ekya::source::scene::Preset;
use ekya::stream::Metric;
use ekya::trial::{Round, SceneRounds, accuracy, folder_rounds};
use ekya_actors::{Device, JobHandle};
use ekya_models::{Classifier, Placement, Student};
use ekya_profiler::quality::{Judged, Quality, median};
use ekya_profiler::{Estimate, Profile};
use ekya_sched::{RetrainingConfig, Share};
use parking_lot::Mutex;
use serde_json::json;

/// Seeds of the scenes, which nothing else draws.
const SEEDS: u64 = 5_000_000;
/// Frames of a round of the crops, and every how many of them one is labelled.
const CROPS_ROUND: (usize, usize) = (100, 2);
/// GPU-seconds that a profile may take where costs are known, as a node gives for such rounds.
const PROFILING: f64 = 0.03;
/// Classes of the crops, in the order that the first student was trained in.
const CROPS_CLASSES: [&str; 6] = ["car", "person", "truck", "bus", "bicycle", "motorcycle"];
/// Streams of the crops.
const CROPS_STREAMS: [&str; 3] = ["road", "campus", "mixed"];

/// How well the profiler predicts retrainings that are really done.
#[derive(Parser)]
struct Args {
    /// Folder that the example traffic_crops has written, with first.safetensors in it
    #[arg(long, value_name = "DIR")]
    crops: Option<PathBuf>,
    /// Folder for profiler.csv (every prediction and its truth) and profiler.svg (whether intervals
    /// hold)
    #[arg(long, value_name = "DIR", default_value = "out/bench")]
    out: PathBuf,
    /// Half of the scenes, fewer rounds
    #[arg(long)]
    quick: bool,
    /// Cargo says that this is a bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ekya_models::set_compute_threads(1);
    let mut tried = Tried::default();
    let history = Arc::new(Experience::new(builtin_history()?));
    let presets = if args.quick { 2 } else { 4 };
    for (index, preset) in Preset::ALL.into_iter().take(presets).enumerate() {
        let name = format!("scene-{preset:?}").to_lowercase();
        let seed = SEEDS + index as u64;
        let rounds = scene(args.quick).of(preset, seed, &builtin_teacher(Placement::Cpu)?)?;
        let student = Box::new(builtin_student(Placement::Cpu)?);
        let exemplars = ekya::train::exemplars()?;
        Trial::new(&name, student, history.clone(), exemplars, seed)?.run(&rounds, &mut tried)?;
    }
    if let Some(crops) = &args.crops {
        let history = Arc::new(Experience::default());
        for (index, name) in CROPS_STREAMS.into_iter().enumerate() {
            let rounds = crops_rounds(crops, name, args.quick)?;
            let first = crops.join("first.safetensors");
            let student = Box::new(Classifier::load(&first, Placement::Cpu)?);
            let seed = SEEDS + 100 + index as u64;
            let name = format!("crops-{name}");
            Trial::new(&name, student, history.clone(), vec![], seed)?.run(&rounds, &mut tried)?;
        }
    }
    tried.write(&args.out)?;
    println!("{}", tried.figures());
    Ok(())
}

fn scene(quick: bool) -> SceneRounds {
    let mut scene = SceneRounds::default();
    if quick {
        scene.rounds = 4;
    }
    scene
}

fn crops_rounds(crops: &Path, name: &str, quick: bool) -> Result<Vec<Round>> {
    let manifest = crops.join(format!("{name}.csv"));
    let mut source = FolderSource::open(&FolderConfig {
        classes: CROPS_CLASSES.map(str::to_owned).to_vec(),
        ..FolderConfig::new(manifest.clone())
    })
    .with_context(|| format!("cannot read {}", manifest.display()))?;
    let (frames, label_every) = CROPS_ROUND;
    let mut rounds = folder_rounds(&mut source, frames, label_every)?;
    rounds.truncate(if quick { 4 } else { usize::MAX });
    Ok(rounds)
}

/// What a user would try: heads alone, the later blocks, everything; briefly and at length; on a
/// third of the data and on all.
fn configurations() -> Vec<RetrainingConfig> {
    let mut all = Vec::new();
    for (layers_frozen, learning_rate) in [(usize::MAX, 2e-3), (3, 1e-3), (0, 5e-4)] {
        for data_fraction in [0.3, 1.0] {
            all.extend([3, 10].map(|epochs| RetrainingConfig {
                epochs,
                layers_frozen,
                learning_rate,
                data_fraction,
                ..RetrainingConfig::default()
            }));
        }
    }
    all
}

/// One stream with its learner.
struct Trial {
    name: String,
    learner: Learner,
    learning: LearningConfig,
    job: Alone,
    seed: u64,
}

/// The only job on a device.
struct Alone {
    job: Arc<JobHandle>,
    /// Ends its jobs when it goes.
    _device: Device,
}

impl Alone {
    fn new() -> Result<Self> {
        let device = Device::new("bench", 1);
        let job = Arc::new(device.job_with("bench", Share::WHOLE)?);
        Ok(Self {
            job,
            _device: device,
        })
    }

    /// One task; the next can begin when it is dropped.
    fn work(&self) -> Work {
        Work::new(Arc::new(Turn::new(self.job.clone())), Arc::default())
    }
}

impl Trial {
    fn new(
        name: &str,
        student: Box<dyn Student>,
        history: Arc<Experience>,
        kept: Vec<Kept>,
        seed: u64,
    ) -> Result<Self> {
        let learning = LearningConfig {
            samples: 70,
            configurations: configurations(),
            ..LearningConfig::default()
        };
        let inference = InferenceConfig::default();
        let beginning = Beginning {
            stream: name.to_owned(),
            student,
            known_classes: 0,
            kept,
        };
        let learner = Learner::new(
            beginning,
            Metric::Accuracy,
            learning.clone(),
            inference,
            history,
            seed,
        );
        Ok(Self {
            name: name.to_owned(),
            learner,
            learning,
            job: Alone::new()?,
            seed,
        })
    }

    fn run(mut self, rounds: &[Round], tried: &mut Tried) -> Result<()> {
        for (round, stretch) in rounds.iter().enumerate() {
            let order = Prepare {
                labelled: stretch.labelled.clone(),
                evaluate: true,
                profile: Some(PROFILING),
                measure_inference: false,
                seed: self.seed + round as u64,
            };
            let prepared = self.learner.prepare(order, &mut self.job.work())?;
            tried.profiling_seconds += prepared.profile_gpu_seconds;
            let profiles = self.learner.profiles().to_vec();
            let start = prepared.accuracy.unwrap_or(0.0);
            self.truth(round, start, &profiles, stretch, tried)?;
            // What a plan would choose if all cost the same: doubtful gains count more behind a gate.
            let options = prepared.options.iter();
            let best = options.max_by(|a, b| a.1.end_accuracy.total_cmp(&b.1.end_accuracy));
            let best = best.and_then(|(config, _)| profiles.iter().find(|p| p.config == *config));
            if let Some(best) = best {
                let newest = Mutex::default();
                let seed = self.seed + 1000 + round as u64;
                let mut work = self.job.work();
                let outcome =
                    self.learner
                        .retrain(best.config, &newest, seed, None, &mut work, |_| {})?;
                let cost = (best.gpu_seconds - outcome.gpu_seconds).abs() / outcome.gpu_seconds;
                tried.cost_errors.push(cost);
            }
            eprintln!(
                "{} round {round}: {} tried so far",
                self.name,
                tried.all.len()
            );
        }
        Ok(())
    }

    /// Trains every profiled configuration to its end.
    fn truth(
        &self,
        round: usize,
        start: f64,
        profiles: &[Profile],
        stretch: &Round,
        tried: &mut Tried,
    ) -> Result<()> {
        let examples = self.learner.examples();
        for profile in profiles {
            let config = &self.learning.configurations[profile.config];
            let mut work = self.job.work();
            let seed = self.seed + 2000 + round as u64;
            let mut training =
                work.minibatch(|| self.learner.student().train(&examples, config, seed))?;
            for _ in 0..training.steps() {
                work.minibatch(|| training.step())?;
            }
            let retrained = work.minibatch(|| training.student())?;
            tried.training_seconds += work.spent();
            tried.all.push(Judged {
                group: (self.name.clone(), round),
                predicted: Estimate {
                    mean: (start + profile.gain.mean).clamp(0.0, 1.0),
                    sd: profile.end_sd,
                },
                truth: accuracy(&*retrained, &stretch.judged)?,
            });
            tried.configs.push(profile.config);
        }
        Ok(())
    }
}

/// Everything that was predicted and tried.
#[derive(Default)]
struct Tried {
    all: Vec<Judged<(String, usize)>>,
    /// Configurations of `all`.
    configs: Vec<usize>,
    profiling_seconds: f64,
    training_seconds: f64,
    /// Of the retrainings that a node would have done, relative.
    cost_errors: Vec<f64>,
}

impl Tried {
    fn figures(&self) -> serde_json::Value {
        let quality = Quality::of(&self.all);
        json!({
            "outcomes": self.all.len(),
            "median_error": quality.map(|q| q.median_error),
            "mean_error": quality.map(|q| q.mean_error),
            "spearman": quality.map(|q| q.spearman),
            "regret": quality.map(|q| q.regret),
            "coverage": quality.map(|q| q.coverage),
            "cost_of_training_everything": self.profiling_seconds / self.training_seconds,
            "median_cost_error": median(self.cost_errors.clone()),
        })
    }

    fn write(&self, out: &Path) -> Result<()> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let mut csv = csv::Writer::from_path(out.join("profiler.csv"))?;
        csv.write_record([
            "stream",
            "round",
            "config",
            "predicted",
            "low",
            "high",
            "truth",
        ])?;
        for (one, config) in self.all.iter().zip(&self.configs) {
            let (low, high) = one.predicted.interval();
            let numbers = [one.predicted.mean, low, high, one.truth];
            let numbers = numbers.map(|number| format!("{number:.4}"));
            let (stream, round) = &one.group;
            let mut line = vec![stream.clone(), round.to_string(), config.to_string()];
            line.extend(numbers);
            csv.write_record(line)?;
        }
        csv.flush()?;
        let levels = |of: &str| {
            let of = self.all.iter().filter(|one| one.group.0.starts_with(of));
            of.map(Judged::level).collect::<Vec<f64>>()
        };
        let drawn = ["scene", "crops"].map(|name| (name.to_owned(), levels(name)));
        let chart = CalibrationChart {
            title: "Truths inside intervals, against their level".to_owned(),
            predictions: drawn
                .into_iter()
                .filter(|(_, levels)| !levels.is_empty())
                .collect(),
        };
        fs::write(out.join("profiler.svg"), chart.svg()?)?;
        Ok(())
    }
}
