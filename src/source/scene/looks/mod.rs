//! How objects look: a random individual of a class, drawn as a sprite.
//!
//! Units are pixels of a picture 120 high at scale 1; x runs forwards, y upwards from the ground.
//! There are two populations, the usual one and another city's; `look` is the chance to be drawn
//! from the second.

mod people;
mod vehicles;

use rand::Rng;

use super::class::Class;
use super::drift::Condition;
use super::raster::{Canvas, Extent, Point, Rgb, Sprite, hsv};

/// Room around the anchor that every individual fits into, to both sides and upwards.
const HALF_WIDTH: f32 = 26.0;
const HEIGHT: f32 = 28.0;

/// Part of the usual population that comes from the other city anyway.
const STRANGERS: f32 = 0.04;

/// Softness of the lens, in pixels.
const LENS: f32 = 2.0;

/// What shines at night.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LightKind {
    /// White, with a cone on the ground ahead.
    Head,
    /// Red.
    Tail,
    /// The small lamp of a bicycle.
    Lamp,
    /// A lit window.
    Window,
}

/// A light of an object, in pixels from its anchor, y downwards as in the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Light {
    pub(super) kind: LightKind,
    pub(super) x: f32,
    pub(super) y: f32,
}

/// An individual, ready to be laid into pictures.
#[derive(Debug, Clone)]
pub(super) struct Costume {
    /// Phases of its gait, smeared by its speed.
    pub(super) moving: Vec<Sprite>,
    /// Standing still.
    pub(super) still: Sprite,
    /// Its box, in pixels from the anchor.
    pub(super) extent: Extent,
    pub(super) lights: Vec<Light>,
}

/// How an individual is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staging {
    /// Picture pixels a unit.
    pub(super) scale: f32,
    pub(super) faces_left: bool,
    /// Motion blur at full speed, in pixels.
    pub(super) blur: f32,
}

/// An individual of a class: what was drawn by lot, before it is painted.
trait Individual {
    /// Phases of the gait; 1 for what does not visibly move.
    const PHASES: usize;

    /// Paints the individual in phase `phase` (0..1) of its gait.
    fn paint(&self, canvas: &mut Canvas, phase: f32);

    /// Its lights, in units.
    fn lights(&self) -> Vec<(LightKind, Point)>;
}

impl Costume {
    /// Draws an individual by lot.
    pub(super) fn random(
        class: Class,
        condition: &Condition,
        staging: Staging,
        rng: &mut impl Rng,
    ) -> Self {
        let lot = Lot {
            other_city: rng.random::<f32>() < STRANGERS + (1.0 - STRANGERS) * condition.look,
            raining: rng.random::<f32>() < condition.rain * 0.7,
        };
        match class {
            Class::Car => Self::of(&vehicles::Car::random(lot, rng), staging),
            Class::Van => Self::of(&vehicles::Van::random(lot, rng), staging),
            Class::Bus => Self::of(&vehicles::Bus::random(lot, rng), staging),
            Class::Truck => Self::of(&vehicles::Truck::random(lot, rng), staging),
            Class::Motorbike => Self::of(&people::Motorbike::random(lot, rng), staging),
            Class::Bicycle => Self::of(&people::Bicycle::random(lot, rng), staging),
            Class::Pedestrian => Self::of(&people::Pedestrian::random(lot, rng), staging),
            Class::Cart => Self::of(&people::Cart::random(lot, rng), staging),
        }
    }

    fn of<I: Individual>(individual: &I, staging: Staging) -> Self {
        let phases: Vec<Sprite> = (0..I::PHASES)
            .map(|phase| {
                let mut canvas =
                    Canvas::sprite(HALF_WIDTH, HEIGHT, staging.scale, staging.faces_left);
                individual.paint(&mut canvas, phase as f32 / I::PHASES as f32);
                canvas.shrink()
            })
            .collect();
        let extent = phases.iter().map(Sprite::extent).reduce(Extent::union);
        let towards = if staging.faces_left {
            -staging.scale
        } else {
            staging.scale
        };
        let lights = individual
            .lights()
            .into_iter()
            .map(|(kind, (x, y))| Light {
                kind,
                x: x * towards,
                y: -y * staging.scale,
            })
            .collect();
        Self {
            moving: phases
                .iter()
                .map(|sprite| sprite.smeared(LENS + staging.blur).trimmed())
                .collect(),
            still: phases[0].smeared(LENS).trimmed(),
            extent: extent.unwrap_or(Extent {
                left: -1.0,
                top: -1.0,
                right: 1.0,
                bottom: 0.0,
            }),
            lights,
        }
    }
}

/// What is decided before the individual itself is drawn.
#[derive(Debug, Clone, Copy)]
struct Lot {
    /// From the second population.
    other_city: bool,
    /// Dressed for rain.
    raining: bool,
}

/// A number between two, or their middle when they are turned around.
fn between(rng: &mut impl Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// One of a few.
fn pick<T: Copy, const N: usize>(rng: &mut impl Rng, options: [T; N]) -> T {
    options[rng.random_range(0..N)]
}

/// A random colour of cloth.
fn cloth(rng: &mut impl Rng) -> Rgb {
    let (saturation, value) = (between(rng, 0.1, 0.8), between(rng, 0.2, 0.9));
    hsv(rng.random(), saturation, value)
}

const TYRE: Rgb = [28, 28, 30];
const RIM: Rgb = [150, 152, 156];
const DARK: Rgb = [38, 40, 44];

/// A car's wheel of radius `r` standing on the ground at `x`.
fn wheel(canvas: &mut Canvas, x: f32, r: f32) {
    canvas.ellipse((x, r), (r, r), TYRE);
    canvas.ellipse((x, r), (r * 0.5, r * 0.5), RIM);
}
