//! How a scene changes over time: keyframes, presets, and the condition at a moment.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SceneError;
use super::class::CLASSES;

/// Largest camera shake that can be asked for, in pixels.
pub(super) const MAX_SHAKE: f64 = 8.0;
/// Most keyframes of one scene; what needs more is a recording, not a drift.
const MAX_KEYFRAMES: usize = 1000;

/// The scene at a moment. A keyframe says only what it sets: every value runs linearly between the
/// keyframes that name it, and holds before the first and after the last of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keyframe {
    /// When, in seconds from the start of the stream.
    pub at: f64,
    /// Light, from 0 (night) over 0.5 (low sun) to 1 (noon); 1 when never named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lighting: Option<f64>,
    /// Rain, from 0 (dry) to 1 (downpour); 0 when never named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rain: Option<f64>,
    /// Fog, from 0 (clear) to 1 (the far side of the street almost gone); 0 when never named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fog: Option<f64>,
    /// Amplitude of the camera's shake in pixels, at most 8; 0 when never named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shake: Option<f64>,
    /// Population of looks, from 0 (the usual fleet) to 1 (another city's); 0 when never named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<f64>,
    /// Relative frequency of new objects by class name, 0 to 1000000, as in `{ car = 3.0, bus = 1.0 }`; a
    /// class left out does not appear. The usual mix when never named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_mix: Option<BTreeMap<String, f64>>,
}

/// A ready-made drift, stretched over the scene's `drift_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preset {
    /// Nothing changes.
    Steady,
    /// From noon over dusk to night.
    Nightfall,
    /// Rain, fog and wind come up.
    Storm,
    /// Four of the eight classes are absent at first, then take over.
    Newcomers,
    /// The class mix turns from cars and bicycles to buses, vans and motorbikes, towards evening.
    Rush,
    /// The vehicles and people of one city give way to those of another.
    Fleet,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 6] = [
        Self::Steady,
        Self::Nightfall,
        Self::Storm,
        Self::Newcomers,
        Self::Rush,
        Self::Fleet,
    ];

    /// The name that a configuration uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Nightfall => "nightfall",
            Self::Storm => "storm",
            Self::Newcomers => "newcomers",
            Self::Rush => "rush",
            Self::Fleet => "fleet",
        }
    }

    /// The drift, stretched over `seconds`.
    #[must_use]
    pub fn keyframes(self, seconds: f64) -> Vec<Keyframe> {
        let at = |part: f64| Keyframe {
            at: part * seconds,
            ..Keyframe::default()
        };
        match self {
            Self::Steady => vec![],
            Self::Nightfall => vec![
                Keyframe {
                    lighting: Some(1.0),
                    ..at(0.1)
                },
                Keyframe {
                    lighting: Some(0.5),
                    ..at(0.45)
                },
                Keyframe {
                    lighting: Some(0.0),
                    ..at(0.9)
                },
            ],
            Self::Storm => vec![
                Keyframe {
                    lighting: Some(0.95),
                    rain: Some(0.0),
                    fog: Some(0.0),
                    shake: Some(0.0),
                    ..at(0.1)
                },
                Keyframe {
                    lighting: Some(0.6),
                    rain: Some(0.7),
                    fog: Some(0.2),
                    ..at(0.5)
                },
                Keyframe {
                    lighting: Some(0.5),
                    rain: Some(1.0),
                    fog: Some(0.5),
                    shake: Some(2.5),
                    ..at(0.9)
                },
            ],
            Self::Newcomers => vec![
                Keyframe {
                    class_mix: Some(mix([4.0, 1.5, 0.0, 0.0, 0.0, 2.0, 2.5, 0.0])),
                    ..at(0.15)
                },
                Keyframe {
                    class_mix: Some(mix([2.5, 1.5, 2.0, 2.0, 0.0, 1.0, 1.5, 0.0])),
                    ..at(0.45)
                },
                Keyframe {
                    class_mix: Some(mix([1.0, 0.7, 2.0, 2.0, 2.0, 0.6, 0.7, 2.0])),
                    ..at(0.8)
                },
            ],
            Self::Rush => vec![
                Keyframe {
                    class_mix: Some(mix([4.0, 0.6, 0.4, 0.6, 0.4, 2.0, 2.0, 0.3])),
                    lighting: Some(1.0),
                    look: Some(0.0),
                    ..at(0.1)
                },
                Keyframe {
                    class_mix: Some(mix([0.8, 2.5, 2.2, 2.0, 2.2, 0.7, 0.8, 1.2])),
                    lighting: Some(0.45),
                    look: Some(0.5),
                    ..at(0.8)
                },
            ],
            Self::Fleet => vec![
                Keyframe {
                    look: Some(0.0),
                    ..at(0.1)
                },
                Keyframe {
                    look: Some(1.0),
                    ..at(0.85)
                },
            ],
        }
    }
}

fn mix(weights: [f64; 8]) -> BTreeMap<String, f64> {
    CLASSES
        .iter()
        .zip(weights)
        .map(|(name, weight)| ((*name).to_owned(), weight))
        .collect()
}

/// Weights by class when no keyframe names any.
const DEFAULT_MIX: [f32; 8] = [0.2, 0.14, 0.11, 0.12, 0.12, 0.11, 0.11, 0.09];

/// Everything that drifts, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) lighting: f32,
    pub(super) rain: f32,
    pub(super) fog: f32,
    /// Pixels.
    pub(super) shake: f32,
    pub(super) look: f32,
    /// Sums to one.
    pub(super) mix: [f32; 8],
}

/// One drifting value: its keyframes in order of time.
#[derive(Debug, Clone)]
struct Track<T>(Vec<(f64, T)>);

impl<T: Copy> Track<T> {
    /// The keyframes around `at` and the way between them, 0..=1; `None` without keyframes.
    fn around(&self, at: f64) -> Option<(T, T, f32)> {
        let next = self.0.partition_point(|(time, _)| *time <= at);
        let (before, after) = (next.checked_sub(1), self.0.get(next));
        match (before.and_then(|i| self.0.get(i)), after) {
            (Some(&(t0, a)), Some(&(t1, b))) => Some((a, b, ((at - t0) / (t1 - t0)) as f32)),
            (Some(&(_, only)), None) | (None, Some(&(_, only))) => Some((only, only, 0.0)),
            (None, None) => None,
        }
    }
}

/// Checked keyframes, one track a value.
#[derive(Debug, Clone)]
pub(super) struct Drift {
    lighting: Track<f32>,
    rain: Track<f32>,
    fog: Track<f32>,
    shake: Track<f32>,
    look: Track<f32>,
    mix: Track<[f32; 8]>,
}

impl Drift {
    pub(super) fn new(keyframes: &[Keyframe]) -> Result<Self, SceneError> {
        if keyframes.len() > MAX_KEYFRAMES {
            return Err(SceneError::TooManyKeyframes {
                count: keyframes.len(),
                max: MAX_KEYFRAMES,
            });
        }
        check_times(keyframes)?;
        let track = |key: &'static str, max: f64, value: fn(&Keyframe) -> Option<f64>| {
            let mut points = Vec::new();
            for (index, frame) in keyframes.iter().enumerate() {
                if let Some(value) = value(frame) {
                    if !(0.0..=max).contains(&value) {
                        return Err(SceneError::Keyframe {
                            index,
                            key,
                            value,
                            max,
                        });
                    }
                    points.push((frame.at, value as f32));
                }
            }
            Ok(Track(points))
        };
        Ok(Self {
            lighting: track("lighting", 1.0, |frame| frame.lighting)?,
            rain: track("rain", 1.0, |frame| frame.rain)?,
            fog: track("fog", 1.0, |frame| frame.fog)?,
            shake: track("shake", MAX_SHAKE, |frame| frame.shake)?,
            look: track("look", 1.0, |frame| frame.look)?,
            mix: mix_track(keyframes)?,
        })
    }

    /// The condition `at` seconds from the start of the stream.
    pub(super) fn at(&self, at: f64) -> Condition {
        let value = |track: &Track<f32>, default: f32| {
            track
                .around(at)
                .map_or(default, |(a, b, part)| a + (b - a) * part)
        };
        let mix = self.mix.around(at).map_or(DEFAULT_MIX, |(a, b, part)| {
            std::array::from_fn(|i| a[i] + (b[i] - a[i]) * part)
        });
        Condition {
            lighting: value(&self.lighting, 1.0),
            rain: value(&self.rain, 0.0),
            fog: value(&self.fog, 0.0),
            shake: value(&self.shake, 0.0),
            look: value(&self.look, 0.0),
            mix,
        }
    }

    /// The largest shake of all times, in pixels.
    pub(super) fn max_shake(&self) -> f32 {
        self.shake
            .0
            .iter()
            .map(|(_, value)| *value)
            .fold(0.0, f32::max)
    }
}

fn check_times(keyframes: &[Keyframe]) -> Result<(), SceneError> {
    let mut previous = 0.0;
    for (index, frame) in keyframes.iter().enumerate() {
        if !frame.at.is_finite() || frame.at < previous {
            return Err(SceneError::Time {
                index,
                at: frame.at,
                previous,
            });
        }
        previous = frame.at;
    }
    Ok(())
}

fn mix_track(keyframes: &[Keyframe]) -> Result<Track<[f32; 8]>, SceneError> {
    let mut points = Vec::new();
    for (index, frame) in keyframes.iter().enumerate() {
        if let Some(mix) = &frame.class_mix {
            points.push((frame.at, normalised(index, mix)?));
        }
    }
    Ok(Track(points))
}

/// Weights by class index that sum to one.
fn normalised(index: usize, mix: &BTreeMap<String, f64>) -> Result<[f32; 8], SceneError> {
    let mut weights = [0.0f64; 8];
    for (name, &weight) in mix {
        let class = CLASSES
            .iter()
            .position(|class| class == name)
            .ok_or_else(|| SceneError::UnknownClass {
                index,
                name: name.clone(),
            })?;
        // The upper bound keeps the sum finite; only ratios matter.
        if !(0.0..=1e6).contains(&weight) {
            return Err(SceneError::Weight {
                index,
                name: name.clone(),
                value: weight,
            });
        }
        weights[class] = weight;
    }
    let sum: f64 = weights.iter().sum();
    if sum < 1e-6 {
        return Err(SceneError::EmptyMix { index });
    }
    Ok(weights.map(|weight| (weight / sum) as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lit(at: f64, lighting: f64) -> Keyframe {
        Keyframe {
            at,
            lighting: Some(lighting),
            ..Keyframe::default()
        }
    }

    #[test]
    fn values_run_linearly_and_hold_outside() {
        let drift = Drift::new(&[lit(10.0, 1.0), lit(20.0, 0.0)]).unwrap();
        let light = |at| drift.at(at).lighting;
        assert_eq!(
            [
                light(0.0),
                light(10.0),
                light(15.0),
                light(20.0),
                light(99.0)
            ],
            [1.0, 1.0, 0.5, 0.0, 0.0]
        );
        assert_eq!(drift.at(15.0).rain, 0.0);
    }

    #[test]
    fn two_keyframes_at_one_time_are_a_jump() {
        let drift = Drift::new(&[lit(0.0, 1.0), lit(5.0, 1.0), lit(5.0, 0.2)]).unwrap();
        assert_eq!(drift.at(4.999_999).lighting, 1.0);
        assert_eq!(drift.at(5.0).lighting, 0.2);
    }

    #[test]
    fn a_mix_sums_to_one_and_leaves_out_what_it_does_not_name() {
        let frame = Keyframe {
            class_mix: Some(BTreeMap::from([
                ("bus".to_owned(), 3.0),
                ("cart".to_owned(), 1.0),
            ])),
            ..Keyframe::default()
        };
        let mix = Drift::new(&[frame]).unwrap().at(0.0).mix;
        assert_eq!(mix, [0.0, 0.0, 0.75, 0.0, 0.0, 0.0, 0.0, 0.25]);
        assert!((DEFAULT_MIX.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn presets_are_valid_at_every_length_and_know_their_names() {
        for preset in Preset::ALL {
            for seconds in [1.0, 60.0, 1e6] {
                assert!(Drift::new(&preset.keyframes(seconds)).is_ok());
            }
            let json = serde_json::to_string(&preset).unwrap();
            assert_eq!(json, format!("{:?}", preset.name()));
        }
    }

    #[test]
    fn errors_say_what_was_expected() {
        let error = Drift::new(&[lit(0.0, 1.5)]).unwrap_err().to_string();
        assert!(
            error.contains("lighting") && error.contains("1.5") && error.contains("0 to 1"),
            "{error}"
        );
        let error = Drift::new(&[lit(3.0, 1.0), lit(2.0, 1.0)])
            .unwrap_err()
            .to_string();
        assert!(error.contains("keyframe 1"), "{error}");
        let named = Keyframe {
            class_mix: Some(BTreeMap::from([("tram".to_owned(), 1.0)])),
            ..Keyframe::default()
        };
        let error = Drift::new(&[named]).unwrap_err().to_string();
        assert!(
            error.contains("tram") && error.contains("motorbike"),
            "{error}"
        );
    }
}
