//! A street seen from the pavement across.

use rand::Rng;

use super::super::class::Class;
use super::{Easel, Path, Way};

const RIDING: &[Class] = &[
    Class::Car,
    Class::Van,
    Class::Bus,
    Class::Truck,
    Class::Motorbike,
    Class::Bicycle,
];
const CYCLING: &[Class] = &[Class::Bicycle, Class::Cart];
const WALKING: &[Class] = &[Class::Pedestrian, Class::Cart];

/// Far pavement, far lane, near lane, cycle track, near pavement.
pub(super) const PATHS: [Path; 5] = [
    Path {
        y: 54.0,
        rise: 0.0,
        scale: 0.72,
        way: Way::Both,
        users: WALKING,
    },
    Path {
        y: 68.0,
        rise: 0.0,
        scale: 0.8,
        way: Way::Left,
        users: RIDING,
    },
    Path {
        y: 86.0,
        rise: 0.0,
        scale: 0.92,
        way: Way::Right,
        users: RIDING,
    },
    Path {
        y: 99.0,
        rise: 0.0,
        scale: 0.96,
        way: Way::Right,
        users: CYCLING,
    },
    Path {
        y: 114.0,
        rise: 0.0,
        scale: 1.02,
        way: Way::Both,
        users: WALKING,
    },
];

/// Paints the street; returns the foot of the houses.
pub(super) fn paint(easel: &mut Easel, rng: &mut impl Rng) -> f32 {
    const GROUND: f32 = 46.0;
    easel.gradient(-12.0, 46.0, [128, 172, 214], [214, 224, 230]);
    easel.houses(GROUND, 2.0, 20.0, rng);
    easel.band(GROUND, 57.0, [160, 156, 150]);
    easel.band(57.0, 58.0, [196, 194, 188]);
    easel.gradient(58.0, 91.0, [92, 94, 98], [80, 82, 86]);
    easel.band(91.0, 92.4, [190, 188, 182]);
    easel.gradient(92.4, 102.0, [150, 106, 92], [140, 96, 84]);
    easel.band(102.0, 103.2, [188, 186, 180]);
    easel.gradient(103.2, 134.0, [164, 160, 154], [150, 146, 140]);
    markings(easel);
    let offset = 20.0 * rng.random::<f32>();
    for (i, x) in [12.0, 62.0, 118.0, 160.0, 214.0].into_iter().enumerate() {
        if rng.random::<f32>() < 0.7 {
            easel.tree(x + offset, 50.0, 22.0 + 3.0 * (i % 3) as f32, rng);
        }
    }
    let mut x = 24.0 + 40.0 * rng.random::<f32>();
    while x < easel.right {
        easel.lamp(x, 103.0, 84.0, (x + 5.0, 82.0));
        easel.sign(x + 34.0 + 10.0 * rng.random::<f32>(), 103.0, 30.0);
        x += 88.0;
    }
    GROUND
}

fn markings(easel: &mut Easel) {
    const PAINT: [u8; 3] = [206, 206, 200];
    let mut x = (easel.left / 16.0).floor() * 16.0;
    while x < easel.right {
        easel.day.rect((x, 74.2), (x + 9.0, 75.4), PAINT);
        x += 16.0;
    }
    easel.band(60.0, 60.6, PAINT);
    easel.band(88.8, 89.6, PAINT);
    let mut x = (easel.left / 13.0).floor() * 13.0;
    while x < easel.right {
        let lean = (x - (easel.left + easel.right) / 2.0) * 0.25;
        easel
            .day
            .line((x, 103.2), (x + lean, 134.0), 0.4, [132, 128, 122]);
        x += 13.0;
    }
    easel.band(112.0, 112.4, [134, 130, 124]);
}
