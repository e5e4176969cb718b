//! The procedural scene: a fixed camera over a street or a square, drawn frame by frame.
//!
//! Everything in it is known, everything in it can drift, and the same configuration draws the same
//! bytes. Drawn in plain Rust: an eighth of a millisecond a frame of 160 x 120, optimised.

mod backdrop;
mod class;
mod drift;
mod looks;
mod motion;
mod raster;
mod render;
#[cfg(test)]
mod tests;
mod weather;

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use ekya_models::{BBox, Image, Object};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use class::CLASSES;
pub use drift::{Keyframe, Preset};

use super::{Frame, Source, SourceError, StopFlag};
use drift::{Condition, Drift, MAX_SHAKE};
use motion::{MIN_VISIBLE, World};
use render::{Renderer, Shake};

/// What a scene looks like and how it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SceneConfig {
    /// Frames a second, 1 to 60.
    pub fps: f64,
    /// Width of the picture in pixels, 64 to 640, at least three quarters of the height.
    pub width: usize,
    /// Height of the picture in pixels, 48 to 480. Everything is drawn relative to it.
    pub height: usize,
    /// Seed of everything random: the backdrop, who comes when, looks, noise.
    pub seed: u64,
    /// Where the camera stands.
    pub backdrop: Backdrop,
    /// Mean number of objects in view, 1 to 3.5. There is always one, never more than five.
    pub busyness: f64,
    /// Seconds of traffic that pass in one second of the stream, 1 to 20: a time lapse, so that a
    /// short run sees as many objects as a long one. Drift goes by the stream's own time.
    pub pace: f64,
    /// How the scene drifts: keyframes in order of time, at most 1000; empty for none. Each says only
    /// what it sets: every value runs linearly between the keyframes that name it, and holds before the
    /// first and after the last of them. Not together with `preset`.
    pub drift: Vec<Keyframe>,
    /// A ready-made drift instead of `drift`; absent is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// How long the drift of the preset takes, in seconds, above 0; it stays at its end after that.
    pub drift_seconds: f64,
}

impl Default for SceneConfig {
    fn default() -> Self {
        Self {
            fps: 20.0,
            width: 160,
            height: 120,
            seed: 1,
            backdrop: Backdrop::Road,
            busyness: 2.0,
            pace: 1.0,
            drift: vec![],
            preset: None,
            drift_seconds: 60.0,
        }
    }
}

/// Where the camera stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Backdrop {
    /// A street with two lanes, a cycle track and two pavements.
    Road,
    /// A square in an old town.
    Square,
}

/// What is wrong with a scene's configuration.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SceneError {
    /// A number is outside its range, or not a number.
    #[error("{key} = {value}: expected {min} to {max}")]
    Range {
        /// The key of the configuration.
        key: &'static str,
        /// Its value.
        value: f64,
        /// Smallest value allowed.
        min: f64,
        /// Largest value allowed.
        max: f64,
    },
    /// The picture is too narrow for its height.
    #[error("width = {width}: expected at least {min} for a height of {height}")]
    Narrow {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Smallest width for that height.
        min: usize,
    },
    /// Both a preset and keyframes are given.
    #[error("preset = \"{preset}\" together with drift: expected one of them, leave out the other")]
    PresetAndDrift {
        /// Name of the preset.
        preset: &'static str,
    },
    /// More keyframes than a drift can have.
    #[error("{count} keyframes: expected at most {max}")]
    TooManyKeyframes {
        /// Keyframes given.
        count: usize,
        /// Most keyframes allowed.
        max: usize,
    },
    /// A keyframe's time is not a number or before that of the one ahead of it.
    #[error("keyframe {index}: at = {at}: expected seconds, not before {previous}")]
    Time {
        /// Which keyframe, from 0.
        index: usize,
        /// Its time in seconds.
        at: f64,
        /// Time of the keyframe ahead of it.
        previous: f64,
    },
    /// A value of a keyframe is outside its range, or not a number.
    #[error("keyframe {index}: {key} = {value}: expected 0 to {max}")]
    Keyframe {
        /// Which keyframe, from 0.
        index: usize,
        /// The value's key.
        key: &'static str,
        /// The value.
        value: f64,
        /// Largest value allowed.
        max: f64,
    },
    /// A class mix names a class that a scene does not have.
    #[error("keyframe {index}: class_mix: unknown class \"{name}\": expected one of {}", CLASSES.join(", "))]
    UnknownClass {
        /// Which keyframe, from 0.
        index: usize,
        /// The name.
        name: String,
    },
    /// A weight of a class mix is negative, too large or not a number.
    #[error("keyframe {index}: class_mix: {name} = {value}: expected a weight from 0 to 1000000")]
    Weight {
        /// Which keyframe, from 0.
        index: usize,
        /// The class.
        name: String,
        /// Its weight.
        value: f64,
    },
    /// A class mix without any class.
    #[error(
        "keyframe {index}: class_mix: every weight is 0: expected at least one class to appear"
    )]
    EmptyMix {
        /// Which keyframe, from 0.
        index: usize,
    },
}

impl SceneConfig {
    /// Whether [`SceneSource::new`] would take it.
    ///
    /// # Errors
    /// [`SceneError`] for the first thing that is wrong.
    pub fn validate(&self) -> Result<(), SceneError> {
        self.parse().map(|_| ())
    }

    fn parse(&self) -> Result<Drift, SceneError> {
        check("fps", self.fps, 1.0, 60.0)?;
        check("width", self.width as f64, 64.0, 640.0)?;
        check("height", self.height as f64, 48.0, 480.0)?;
        check("busyness", self.busyness, 1.0, 3.5)?;
        check("pace", self.pace, 1.0, 20.0)?;
        check("drift_seconds", self.drift_seconds, 0.001, 1e9)?;
        let min = (self.height * 3).div_ceil(4);
        if self.width < min {
            return Err(SceneError::Narrow {
                width: self.width,
                height: self.height,
                min,
            });
        }
        match self.preset {
            Some(preset) if !self.drift.is_empty() => Err(SceneError::PresetAndDrift {
                preset: preset.name(),
            }),
            Some(preset) => Drift::new(&preset.keyframes(self.drift_seconds)),
            None => Drift::new(&self.drift),
        }
    }
}

fn check(key: &'static str, value: f64, min: f64, max: f64) -> Result<(), SceneError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(SceneError::Range {
            key,
            value,
            min,
            max,
        })
    }
}

/// The scene as a source of frames; it never ends.
pub struct SceneSource {
    fps: f64,
    pace: f64,
    width: usize,
    height: usize,
    drift: Drift,
    world: World,
    renderer: Renderer,
    next: u64,
    /// Who comes and how they look.
    fate: ChaCha8Rng,
    /// Noise, rain, and the jitter of regions: apart from fate, so that a change of light does not
    /// change who comes.
    sensor: ChaCha8Rng,
}

/// What is random, each with a stream of numbers of its own under a scene's seed.
const BACKDROP: u64 = 0;
const FATE: u64 = 1;
const SENSOR: u64 = 2;
const OTHER_FATES: u64 = 1 << 32;

impl SceneSource {
    /// Paints the backdrop and puts the first objects on it; takes a few milliseconds.
    ///
    /// # Errors
    /// [`SceneError`] when the configuration is wrong.
    pub fn new(config: SceneConfig) -> Result<Self, SceneError> {
        Self::begin(config, FATE, 0)
    }

    /// The same place from `frame` on, in the same light and weather, with other traffic: what the
    /// scene might as well have shown. Each `traffic` is another.
    ///
    /// # Errors
    /// [`SceneError`] when the configuration is wrong.
    pub fn with_other_traffic(
        config: SceneConfig,
        traffic: u32,
        frame: u64,
    ) -> Result<Self, SceneError> {
        Self::begin(config, OTHER_FATES + u64::from(traffic), frame)
    }

    fn begin(config: SceneConfig, fate: u64, frame: u64) -> Result<Self, SceneError> {
        let drift = config.parse()?;
        let stream = |number| {
            let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
            rng.set_stream(number);
            rng
        };
        let (mut fate, mut sensor) = (stream(fate), stream(SENSOR));
        let max_shake = drift.max_shake();
        let stage = backdrop::Stage::paint(&config, max_shake, &mut stream(BACKDROP));
        let condition = drift.at(frame as f64 / config.fps);
        let world = World::new(&config, &stage, max_shake, &condition, &mut fate);
        let renderer = Renderer::new(config.width, config.height, stage, &mut sensor);
        Ok(Self {
            fps: config.fps,
            pace: config.pace,
            width: config.width,
            height: config.height,
            drift,
            world,
            renderer,
            next: frame,
            fate,
            sensor,
        })
    }

    /// The objects that can be seen, with their boxes cut to the picture.
    fn truth(&self, shake: Shake) -> Vec<Object> {
        let (dx, dy) = (shake.dx as f32, shake.dy as f32);
        let (width, height) = (self.width as f32, self.height as f32);
        let view = BBox {
            x1: -dx,
            y1: -dy,
            x2: width - dx,
            y2: height - dy,
        };
        let movers = self.world.movers().iter().enumerate();
        movers
            .filter(|(i, _)| self.world.visible(*i, &view) >= MIN_VISIBLE)
            .map(|(_, mover)| {
                let bbox = mover.bbox();
                let bbox = BBox {
                    x1: bbox.x1 + dx,
                    y1: bbox.y1 + dy,
                    x2: bbox.x2 + dx,
                    y2: bbox.y2 + dy,
                };
                let bbox = clipped(bbox, width, height);
                Object {
                    class: mover.class.index(),
                    score: 1.0,
                    bbox,
                }
            })
            .collect()
    }

    /// A box as a motion detector would give it: every edge off by up to two pixels, but by no more
    /// than a quarter of the box.
    fn jittered(&mut self, bbox: BBox) -> BBox {
        let across = ((bbox.x2 - bbox.x1) / 4.0).min(2.0);
        let down = ((bbox.y2 - bbox.y1) / 4.0).min(2.0);
        let mut off = |most: f32| most * self.sensor.random_range(-1.0..=1.0f32);
        let jittered = BBox {
            x1: bbox.x1 + off(across),
            y1: bbox.y1 + off(down),
            x2: bbox.x2 + off(across),
            y2: bbox.y2 + off(down),
        };
        clipped(jittered, self.width as f32, self.height as f32)
    }
}

fn clipped(bbox: BBox, width: f32, height: f32) -> BBox {
    BBox {
        x1: bbox.x1.clamp(0.0, width),
        y1: bbox.y1.clamp(0.0, height),
        x2: bbox.x2.clamp(0.0, width),
        y2: bbox.y2.clamp(0.0, height),
    }
}

/// Where the camera is pushed to at a time: two sways that never repeat together.
fn shake_at(seconds: f64, condition: &Condition) -> Shake {
    let sway = |slow: f64, fast: f64, phase: f64| {
        let sum = 0.6 * (TAU * slow * seconds + phase).sin() + 0.4 * (TAU * fast * seconds).sin();
        let limit = MAX_SHAKE.min(f64::from(condition.shake));
        (sum * limit) as i32
    };
    Shake {
        dx: sway(1.31, 4.7, 0.4),
        dy: sway(1.73, 5.9, 1.9),
    }
}

impl std::fmt::Debug for SceneSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the painted backdrop, which is long.
        f.debug_struct("SceneSource")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl SceneSource {
    /// Moves the world on to the next frame; its index, its time in seconds, and how it is then.
    fn advance(&mut self) -> (u64, f64, Condition) {
        let index = self.next;
        let seconds = index as f64 / self.fps;
        let condition = self.drift.at(seconds);
        if index > 0 {
            self.world
                .advance((self.pace / self.fps) as f32, &condition, &mut self.fate);
        }
        self.next += 1;
        (index, seconds, condition)
    }
}

impl Source for SceneSource {
    /// Without painting what is left out.
    fn skip_to(&mut self, at: Duration, stop: &StopFlag) -> Result<(), SourceError> {
        while self.next as f64 / self.fps < at.as_secs_f64() && !stop.is_set() {
            self.advance();
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        let (index, seconds, condition) = self.advance();
        let shake = shake_at(seconds, &condition);
        let rgb = self
            .renderer
            .frame(&self.world, &condition, seconds, shake, &mut self.sensor);
        let truth = self.truth(shake);
        let regions = truth
            .iter()
            .map(|object| self.jittered(object.bbox))
            .collect();
        let image =
            Image::new(self.width, self.height, rgb).map_err(|error| SourceError::File {
                path: "scene".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Some(Frame {
            index,
            at: Duration::from_secs_f64(seconds),
            image: Arc::new(image),
            regions,
            truth: Some(truth),
        }))
    }

    fn is_live(&self) -> bool {
        false
    }
}
