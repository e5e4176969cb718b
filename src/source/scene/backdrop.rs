//! What does not move: sky, houses, ground, posts; and the paths across it.
//!
//! Places are in units: the picture is 120 units high, x and y grow rightwards and downwards.

mod road;
mod square;

use rand::Rng;

use super::class::Class;
use super::raster::{Canvas, Point, Rgb, Sprite, blend, hsv, shade};
use super::{Backdrop, SceneConfig};

/// Height of every picture, in units.
pub(super) const UNITS: f32 = 120.0;

/// Which way a path is travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Left,
    Right,
    /// Either way; people evade each other there, so nobody waits for who is ahead.
    Both,
}

/// A line that objects follow from one edge to the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// Where feet and wheels are in the middle of the view.
    pub(super) y: f32,
    /// How much lower that is at the right edge than at the left.
    pub(super) rise: f32,
    /// Size of objects relative to scale 1.
    pub(super) scale: f32,
    pub(super) way: Way,
    pub(super) users: &'static [Class],
}

/// Something that stands before a part of the paths.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) sprite: Sprite,
    /// Pixels of the unshaken picture.
    pub(super) x: f32,
    pub(super) y: f32,
    /// Half of its width and its height, where it hides what is behind; pixels.
    pub(super) half_width: f32,
    pub(super) height: f32,
}

/// The scene without its objects.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Pixels around the picture that shaking can bring into view.
    pub(super) margin: usize,
    /// Width of `albedo` and `glow` in pixels.
    pub(super) stride: usize,
    /// RGB under noon light, with margins.
    pub(super) albedo: Vec<u8>,
    /// RGB of what shines at night, with margins.
    pub(super) glow: Vec<u8>,
    /// Distance from the camera by row, 1 at the lower edge; with margins.
    pub(super) depth: Vec<f32>,
    pub(super) posts: Vec<Post>,
    pub(super) paths: &'static [Path],
}

/// The two pictures being painted.
struct Easel {
    day: Canvas,
    night: Canvas,
    /// Lamps that light the ground: centre and radii.
    pools: Vec<(Point, Point)>,
    posts: Vec<Post>,
    /// Pixels a unit.
    unit: f32,
    /// Left and right edge of what can be seen, in units.
    left: f32,
    right: f32,
}

impl Stage {
    /// Paints a backdrop; the same generator state paints the same one.
    pub(super) fn paint(config: &SceneConfig, max_shake: f32, rng: &mut impl Rng) -> Self {
        let margin = max_shake.ceil() as usize + 1;
        let unit = config.height as f32 / UNITS;
        let (width, height) = (config.width + 2 * margin, config.height + 2 * margin);
        let canvas = || Canvas::picture(width, height, unit, (margin as f32, margin as f32));
        let reach = margin as f32 / unit;
        let mut easel = Easel {
            day: canvas(),
            night: canvas(),
            pools: vec![],
            posts: vec![],
            unit,
            left: -reach,
            right: config.width as f32 / unit + reach,
        };
        let (ground, paths) = match config.backdrop {
            Backdrop::Road => (road::paint(&mut easel, rng), &road::PATHS[..]),
            Backdrop::Square => (square::paint(&mut easel, rng), &square::PATHS[..]),
        };
        let row_units = |row: usize| (row as f32 + 0.5 - margin as f32) / unit;
        let mut stage = Self {
            margin,
            stride: width,
            albedo: rgb(&easel.day.shrink()),
            glow: rgb(&easel.night.shrink()),
            depth: (0..height)
                .map(|row| depth(row_units(row), ground))
                .collect(),
            posts: easel.posts,
            paths,
        };
        stage.add_pools(&easel.pools, unit);
        stage.add_grain(ground, unit, rng);
        stage
    }

    fn add_pools(&mut self, pools: &[(Point, Point)], unit: f32) {
        const SODIUM: [f32; 3] = [150.0, 112.0, 62.0];
        for (i, px) in self.glow.chunks_exact_mut(3).enumerate() {
            let x = ((i % self.stride) as f32 - self.margin as f32) / unit;
            let y = ((i / self.stride) as f32 - self.margin as f32) / unit;
            for (center, radii) in pools {
                let (dx, dy) = ((x - center.0) / radii.0, (y - center.1) / radii.1);
                let near = (1.0 - dx * dx - dy * dy).max(0.0);
                for (value, color) in px.iter_mut().zip(SODIUM) {
                    *value = value.saturating_add((near * near * color) as u8);
                }
            }
        }
    }

    /// Asphalt and stone are not smooth.
    fn add_grain(&mut self, ground: f32, unit: f32, rng: &mut impl Rng) {
        let first = ((ground * unit) as usize + self.margin) * self.stride * 3;
        for px in self.albedo[first..].chunks_exact_mut(3) {
            let grain = rng.random_range(-5i16..=5);
            for value in px {
                *value = (i16::from(*value) + grain).clamp(0, 255) as u8;
            }
        }
    }

    /// Distance at a row of the unshaken picture.
    pub(super) fn depth_at(&self, y: f32) -> f32 {
        let row = (y + self.margin as f32).clamp(0.0, (self.depth.len() - 1) as f32);
        self.depth[row as usize]
    }

    /// How brightly the lamps shine on a place of the unshaken picture, 0..=1.
    pub(super) fn lamplight(&self, x: f32, y: f32) -> f32 {
        let margin = self.margin as f32;
        let rows = self.depth.len();
        let column = (x + margin).clamp(0.0, (self.stride - 1) as f32) as usize;
        let row = (y + margin).clamp(0.0, (rows - 1) as f32) as usize;
        f32::from(self.glow[(row * self.stride + column) * 3]) / 255.0
    }
}

/// A ground plane from the foot of the houses to the camera; houses and sky are behind it.
fn depth(y: f32, ground: f32) -> f32 {
    let part = (y - ground) / (UNITS - ground);
    if part < -0.3 {
        4.0
    } else {
        1.0 / (0.36 + 0.64 * part.clamp(0.0, 1.0))
    }
}

fn rgb(sprite: &Sprite) -> Vec<u8> {
    sprite
        .px
        .iter()
        .flat_map(|&[r, g, b, _]| [r, g, b])
        .collect()
}

impl Easel {
    /// A band over the whole width that runs from one colour to another downwards.
    fn gradient(&mut self, top: f32, bottom: f32, from: Rgb, to: Rgb) {
        let bands = ((bottom - top).ceil() as usize).max(1);
        let step = (bottom - top) / bands as f32;
        for i in 0..bands {
            let y = top + i as f32 * step;
            let color = blend(from, to, i as f32 / bands as f32);
            self.day
                .rect((self.left, y), (self.right, y + step + 0.1), color);
        }
    }

    fn band(&mut self, top: f32, bottom: f32, color: Rgb) {
        self.day.rect((self.left, top), (self.right, bottom), color);
    }

    /// A row of houses that stand on `ground`, with windows that are lit at night.
    fn houses(&mut self, ground: f32, highest: f32, lowest: f32, rng: &mut impl Rng) {
        let mut x = self.left - 10.0 * rng.random::<f32>();
        while x < self.right {
            let width = 16.0 + 16.0 * rng.random::<f32>();
            let roof = highest + (lowest - highest) * rng.random::<f32>();
            self.house(x, x + width, roof, ground, rng);
            x += width;
        }
    }

    fn house(&mut self, left: f32, right: f32, roof: f32, ground: f32, rng: &mut impl Rng) {
        let wall = hsv(
            0.03 + 0.1 * rng.random::<f32>(),
            0.1 + 0.35 * rng.random::<f32>(),
            0.5 + 0.35 * rng.random::<f32>(),
        );
        self.day.rect((left, roof), (right, ground), wall);
        self.day
            .rect((left, roof), (right, roof + 1.2), shade(wall, 0.6));
        self.day
            .rect((right - 0.6, roof), (right, ground), shade(wall, 0.75));
        let shop = ground - 8.0;
        let columns = (((right - left) / 5.0) as usize).max(1);
        let bay = (right - left) / columns as f32;
        let glass = shade([74, 88, 104], 0.8 + 0.4 * rng.random::<f32>());
        let mut y = roof + 2.6;
        while y + 4.0 < shop {
            for column in 0..columns {
                let x = left + (column as f32 + 0.28) * bay;
                let corner = (x + bay * 0.44, y + 3.6);
                self.day.rect((x, y), corner, glass);
                if rng.random::<f32>() < 0.4 {
                    self.night.rect((x, y), corner, [190, 150, 84]);
                }
            }
            y += 6.0;
        }
        self.shop(left + 1.0, right - 1.0, shop, ground, rng);
    }

    fn shop(&mut self, left: f32, right: f32, top: f32, ground: f32, rng: &mut impl Rng) {
        let awning = hsv(rng.random(), 0.6, 0.3 + 0.4 * rng.random::<f32>());
        self.day
            .rect((left, top + 1.8), (right - 3.4, ground - 1.4), [66, 76, 86]);
        self.day.rect(
            (right - 2.8, top + 1.8),
            (right - 0.4, ground),
            [70, 50, 38],
        );
        self.day.rect((left - 0.4, top), (right, top + 1.9), awning);
        if rng.random::<f32>() < 0.5 {
            self.night.rect(
                (left, top + 1.9),
                (right - 3.4, ground - 1.4),
                [170, 150, 110],
            );
        }
    }

    /// A tree that belongs to the backdrop.
    fn tree(&mut self, x: f32, ground: f32, height: f32, rng: &mut impl Rng) {
        self.day.rect(
            (x - 0.7, ground - height * 0.6),
            (x + 0.7, ground),
            [74, 58, 44],
        );
        for _ in 0..9 {
            let (dx, dy) = (rng.random::<f32>() - 0.5, rng.random::<f32>() - 0.5);
            let leaf = hsv(
                0.25 + 0.06 * rng.random::<f32>(),
                0.5,
                0.26 + 0.22 * rng.random::<f32>(),
            );
            let center = (
                x + dx * height * 0.5,
                ground - height * 0.72 + dy * height * 0.36,
            );
            self.day
                .ellipse(center, (height * 0.2, height * 0.17), leaf);
        }
    }

    /// A street lamp in front of the paths behind it, with its pool of light `reach` units up.
    fn lamp(&mut self, x: f32, ground: f32, height: f32, lit: Point) {
        const IRON: Rgb = [52, 56, 58];
        let mut canvas = Canvas::sprite(8.0, height + 1.0, self.unit, false);
        canvas.rect((-0.8, 0.0), (0.8, height), IRON);
        canvas.rect((-1.5, 0.0), (1.5, 3.0), IRON);
        canvas.line((0.0, height - 0.6), (5.0, height - 0.2), 0.9, IRON);
        canvas.rect((3.4, height - 1.8), (7.0, height - 0.4), [214, 210, 196]);
        self.post(&canvas, (x, ground), 0.8, height);
        self.night.ellipse(
            (x + 5.2, ground - height + 1.4),
            (2.6, 1.6),
            [255, 226, 160],
        );
        self.pools.push((lit, (40.0, 19.0)));
    }

    /// A tree in front of the paths behind it.
    fn front_tree(&mut self, x: f32, ground: f32, rng: &mut impl Rng) {
        let half = 1.3 + 0.5 * rng.random::<f32>();
        let mut canvas = Canvas::sprite(30.0, ground + 12.0, self.unit, false);
        canvas.polygon(
            &[
                (-half * 1.3, 0.0),
                (-half, ground + 8.0),
                (half, ground + 8.0),
                (half * 1.3, 0.0),
            ],
            [70, 56, 44],
        );
        canvas.rect((half * 0.2, 0.0), (half * 0.8, ground + 8.0), [88, 72, 56]);
        for _ in 0..26 {
            let leaf = hsv(
                0.25 + 0.06 * rng.random::<f32>(),
                0.5,
                0.24 + 0.2 * rng.random::<f32>(),
            );
            let (across, up) = (rng.random::<f32>() - 0.5, rng.random::<f32>());
            let center = (
                across * 40.0,
                ground - 14.0 + 22.0 * up + 14.0 * across * across,
            );
            canvas.ellipse(center, (6.0, 4.5), leaf);
        }
        self.post(&canvas, (x, ground), half, ground + 8.0);
    }

    /// A round traffic sign on its pole.
    fn sign(&mut self, x: f32, ground: f32, height: f32) {
        let mut canvas = Canvas::sprite(4.0, height + 4.0, self.unit, false);
        canvas.rect((-0.5, 0.0), (0.5, height), [120, 122, 124]);
        canvas.ellipse((0.0, height), (3.4, 3.4), [190, 36, 34]);
        canvas.ellipse((0.0, height), (2.3, 2.3), [226, 226, 222]);
        self.post(&canvas, (x, ground), 0.5, height + 3.4);
    }

    fn post(&mut self, canvas: &Canvas, (x, y): Point, half_width: f32, height: f32) {
        self.posts.push(Post {
            sprite: canvas.shrink().trimmed(),
            x: x * self.unit,
            y: y * self.unit,
            half_width: half_width * self.unit,
            height: height * self.unit,
        });
    }
}
