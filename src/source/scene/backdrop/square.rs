//! A square in an old town, shared by everybody.

use rand::Rng;

use super::super::class::Class;
use super::super::raster::{hsv, shade};
use super::{Easel, Path, Way};

const RIDING: &[Class] = &[
    Class::Car,
    Class::Van,
    Class::Bus,
    Class::Truck,
    Class::Motorbike,
    Class::Bicycle,
];
const SLOW: &[Class] = &[Class::Pedestrian, Class::Cart, Class::Bicycle];

/// Back street, promenade, shared lane across, two ways over the stones.
pub(super) const PATHS: [Path; 5] = [
    Path {
        y: 56.0,
        rise: 0.0,
        scale: 0.74,
        way: Way::Left,
        users: RIDING,
    },
    Path {
        y: 66.0,
        rise: 2.0,
        scale: 0.8,
        way: Way::Both,
        users: SLOW,
    },
    Path {
        y: 82.0,
        rise: 5.0,
        scale: 0.9,
        way: Way::Right,
        users: RIDING,
    },
    Path {
        y: 97.0,
        rise: -6.0,
        scale: 0.96,
        way: Way::Both,
        users: SLOW,
    },
    Path {
        y: 113.0,
        rise: -3.0,
        scale: 1.02,
        way: Way::Both,
        users: SLOW,
    },
];

/// Paints the square; returns the foot of the houses.
pub(super) fn paint(easel: &mut Easel, rng: &mut impl Rng) -> f32 {
    const GROUND: f32 = 45.0;
    easel.gradient(-12.0, 45.0, [136, 178, 216], [222, 226, 226]);
    easel.houses(GROUND, 8.0, 22.0, rng);
    church(easel, 30.0 + 80.0 * rng.random::<f32>(), GROUND);
    easel.gradient(GROUND, 60.0, [138, 132, 124], [146, 140, 130]);
    easel.gradient(60.0, 134.0, [178, 166, 146], [192, 180, 158]);
    stones(easel);
    fountain(easel, 40.0 + 80.0 * rng.random::<f32>(), 61.5);
    let side = if rng.random() { 6.0 } else { 128.0 };
    for i in 0..3 {
        parasol(
            easel,
            side + 11.0 * i as f32,
            50.0,
            hsv(rng.random(), 0.6, 0.75),
        );
    }
    let x = 20.0 + 30.0 * rng.random::<f32>();
    easel.lamp(x, 89.0, 58.0, (x + 5.0, 80.0));
    easel.lamp(x + 78.0, 89.0, 58.0, (x + 83.0, 80.0));
    easel.front_tree(x + 44.0, 103.0, rng);
    GROUND
}

fn church(easel: &mut Easel, x: f32, ground: f32) {
    let stone = [186, 176, 158];
    easel.day.rect((x - 7.0, 6.0), (x + 7.0, ground), stone);
    easel
        .day
        .rect((x + 4.6, 6.0), (x + 7.0, ground), shade(stone, 0.82));
    easel
        .day
        .polygon(&[(x - 8.0, 6.0), (x, -11.0), (x + 8.0, 6.0)], [92, 74, 66]);
    easel.day.ellipse((x, 13.0), (3.2, 3.2), [236, 232, 214]);
    easel.night.ellipse((x, 13.0), (3.2, 3.2), [200, 190, 140]);
    easel.day.line((x, 13.0), (x, 10.8), 0.5, [30, 30, 30]);
    easel
        .day
        .line((x, 13.0), (x + 1.8, 13.6), 0.5, [30, 30, 30]);
    for dx in [-4.0, 3.0] {
        easel
            .day
            .rect((x + dx, 20.0), (x + dx + 1.8, 26.0), [70, 66, 62]);
    }
    easel
        .day
        .ellipse((x, ground - 5.0), (3.0, 4.0), [64, 46, 36]);
    easel
        .day
        .rect((x - 3.0, ground - 5.0), (x + 3.0, ground), [64, 46, 36]);
}

/// Rows of slabs that run towards the horizon.
fn stones(easel: &mut Easel) {
    const JOINT: [u8; 3] = [156, 144, 126];
    let middle = (easel.left + easel.right) / 2.0;
    let mut x = -20.0;
    while x <= 20.0 {
        easel.day.line(
            (middle + x * 9.0, 60.0),
            (middle + x * 20.0, 134.0),
            0.5,
            JOINT,
        );
        x += 1.0;
    }
    for y in [
        60.0, 64.0, 69.0, 75.0, 82.0, 90.0, 99.0, 109.0, 120.0, 131.0,
    ] {
        easel.band(y, y + 0.5, JOINT);
    }
}

fn fountain(easel: &mut Easel, x: f32, ground: f32) {
    let stone = [150, 146, 140];
    easel
        .day
        .rect((x - 0.9, ground - 12.0), (x + 0.9, ground - 2.0), stone);
    easel.day.ellipse((x, ground - 8.0), (4.6, 1.2), stone);
    easel.day.ellipse((x, ground - 1.8), (10.0, 2.2), stone);
    easel
        .day
        .ellipse((x, ground - 2.6), (8.8, 1.4), [120, 168, 190]);
    easel.day.rect(
        (x - 0.3, ground - 14.0),
        (x + 0.3, ground - 8.6),
        [206, 224, 232],
    );
}

fn parasol(easel: &mut Easel, x: f32, ground: f32, color: [u8; 3]) {
    easel
        .day
        .rect((x - 0.3, ground - 9.0), (x + 0.3, ground), [90, 80, 70]);
    easel.day.polygon(
        &[
            (x - 5.0, ground - 7.0),
            (x, ground - 11.0),
            (x + 5.0, ground - 7.0),
        ],
        color,
    );
    easel.day.rect(
        (x - 2.6, ground - 3.0),
        (x + 2.6, ground - 2.2),
        [120, 90, 64],
    );
}
