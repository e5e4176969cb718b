//! The demo: four procedural scenes that drift differently, each scheduler in turn.
//!
//! Drift, loads and configurations were fixed on seeds 101 and up; the demo's own seeds count
//! from 1.

use anyhow::Result;

use crate::compare::Comparison;
use ekya::config::{
    BUILT_IN_WEIGHTS, ClassifierConfig, Config, DeviceConfig, DeviceKind, RunConfig,
    SchedulerConfig, SourceConfig, StreamConfig, StudentConfig, TeacherConfig, ValidConfig,
};
use ekya::source::scene::{Preset, SceneConfig};

/// Windows of a run.
const WINDOWS: usize = 5;
/// Length of a window.
const WINDOW_SECONDS: f64 = 8.0;
/// Frames a second of every camera, by name of the load.
const LOADS: [(&str, f64); 3] = [("low", 20.0), ("medium", 40.0), ("high", 60.0)];
/// Seconds that the drift takes: two windows, then the scene stays as it has become.
const DRIFT_SECONDS: f64 = 2.0 * WINDOW_SECONDS;
/// Seconds of traffic in a second: a window sees about as many objects as one of half a minute.
const PACE: f64 = 4.0;
/// Mean number of objects in view.
const BUSYNESS: f64 = 2.5;
/// The load of the short demo.
const SHORT_LOAD: usize = 1;
/// Index of the costly configuration among the default ones, and of the cheap one.
const COSTLY: usize = 3;
/// See [`COSTLY`].
const CHEAP: usize = 0;

/// The runs of the demo: with `full`, all six uniform splits at three loads.
///
/// # Errors
/// When a configuration is not valid, which is a bug.
pub(crate) fn comparisons(full: bool, seeds: u64) -> Result<Vec<Comparison>> {
    let mut all = Vec::new();
    for seed in 1..=seeds {
        let loads = if full {
            &LOADS[..]
        } else {
            &LOADS[SHORT_LOAD..=SHORT_LOAD]
        };
        for (name, fps) in loads {
            all.push(Comparison {
                config: ValidConfig::new(config(*fps, seed))?,
                schedulers: schedulers(full),
                load: full.then(|| (*name).to_owned()),
            });
        }
    }
    Ok(all)
}

fn schedulers(full: bool) -> Vec<SchedulerConfig> {
    let uniform = |inference, configuration| SchedulerConfig::Uniform {
        inference,
        configuration,
    };
    let mut schedulers = vec![SchedulerConfig::None];
    if full {
        schedulers.extend([0.3, 0.5, 0.9].map(|inference| uniform(inference, CHEAP)));
        schedulers.extend([0.3, 0.5, 0.9].map(|inference| uniform(inference, COSTLY)));
    } else {
        // Two far apart; which of the six are worst and best, only the full demo tells.
        schedulers.extend([uniform(0.3, COSTLY), uniform(0.9, CHEAP)]);
    }
    schedulers.push(SchedulerConfig::Ekya);
    schedulers
}

/// Four cameras at `fps` on one CPU core; the other cores draw the scenes.
#[must_use]
pub(crate) fn config(fps: f64, seed: u64) -> Config {
    let drifts = [
        ("gate", Preset::Nightfall),
        ("harbour", Preset::Storm),
        ("market", Preset::Newcomers),
        ("station", Preset::Fleet),
    ];
    let stream = |(index, (name, preset)): (usize, (&str, Preset))| {
        let scene = SceneConfig {
            fps,
            seed: seed * 100 + index as u64,
            preset: Some(preset),
            drift_seconds: DRIFT_SECONDS,
            pace: PACE,
            busyness: BUSYNESS,
            ..SceneConfig::default()
        };
        let student = ClassifierConfig {
            weights: Some(BUILT_IN_WEIGHTS.into()),
            ..ClassifierConfig::default()
        };
        StreamConfig::new(
            name,
            SourceConfig::Scene(scene),
            StudentConfig::Classifier(student),
            TeacherConfig::Scene,
        )
    };
    let mut config = Config::new(drifts.into_iter().enumerate().map(stream).collect());
    config.run = RunConfig {
        windows: WINDOWS,
        window_seconds: WINDOW_SECONDS,
        seed,
        ..RunConfig::default()
    };
    config.devices = vec![DeviceConfig {
        name: "cpu0".to_owned(),
        kind: DeviceKind::Cpu,
        cores: 1,
        ..DeviceConfig::default()
    }];
    config
}
