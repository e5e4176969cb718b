//! From a world to a picture: backdrop, objects from far to near, lights, weather, noise.

use rand::Rng;

use super::backdrop::{Post, Stage};
use super::drift::Condition;
use super::looks::{Light, LightKind};
use super::motion::{Mover, World};
use super::raster::Sprite;
use super::weather::{Camera, Grade, Noise, Tone, streaks};

/// Everything needed to draw frames of one scene.
#[derive(Debug, Clone)]
pub(super) struct Renderer {
    width: usize,
    height: usize,
    stage: Stage,
    noise: Noise,
    camera: Camera,
}

/// How far the camera is off, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shake {
    pub(super) dx: i32,
    pub(super) dy: i32,
}

impl Renderer {
    pub(super) fn new(width: usize, height: usize, stage: Stage, rng: &mut impl Rng) -> Self {
        Self {
            width,
            height,
            noise: Noise::new(width * 3, rng),
            camera: Camera::random(rng),
            stage,
        }
    }

    /// One frame, taken `seconds` after the start: RGB, row by row.
    pub(super) fn frame(
        &self,
        world: &World,
        condition: &Condition,
        seconds: f64,
        shake: Shake,
        rng: &mut impl Rng,
    ) -> Vec<u8> {
        let grade = Grade::new(condition, &self.camera, seconds);
        let mut sheet = Sheet {
            width: self.width as i32,
            height: self.height as i32,
            rgb: self.background(&grade, shake),
            shake,
        };
        let mut posts: Vec<&Post> = self.stage.posts.iter().collect();
        posts.sort_by(|a, b| a.y.total_cmp(&b.y));
        let mut posts = posts.into_iter().peekable();
        for mover in world.movers() {
            while let Some(post) = posts.next_if(|post| post.y <= mover.ground()) {
                self.draw_post(&mut sheet, post, &grade);
            }
            self.draw_mover(&mut sheet, mover, &grade);
        }
        for post in posts {
            self.draw_post(&mut sheet, post, &grade);
        }
        let mut rgb = sheet.rgb;
        if condition.rain > 0.0 {
            let (rain, exposure) = (condition.rain, grade.exposure);
            streaks(&mut rgb, self.width, self.height, rain, exposure, rng);
        }
        self.noise.add(&mut rgb, self.width * 3, grade.noise, rng);
        rgb
    }

    /// The backdrop under the light and the fog of the moment.
    fn background(&self, grade: &Grade, shake: Shake) -> Vec<u8> {
        let Stage {
            margin,
            stride,
            albedo,
            glow,
            depth,
            ..
        } = &self.stage;
        let offset =
            |shaken: i32, max: usize| (*margin as i32 - shaken).clamp(0, max as i32) as usize;
        let (left, top) = (offset(shake.dx, 2 * margin), offset(shake.dy, 2 * margin));
        let night = (grade.night * 256.0) as i32;
        let mut rgb = vec![0; self.width * self.height * 3];
        for (y, row) in rgb.chunks_exact_mut(self.width * 3).enumerate() {
            let Tone { gain, lift } = grade.tone(depth[y + top], 0.0);
            let start = ((y + top) * stride + left) * 3;
            let albedo = &albedo[start..start + row.len()];
            let glow = &glow[start..start + row.len()];
            let pixels = row.chunks_exact_mut(3).zip(albedo.chunks_exact(3));
            for ((out, albedo), glow) in pixels.zip(glow.chunks_exact(3)) {
                for c in 0..3 {
                    // Lamps shine on what they light: their light is coloured by the ground.
                    let lit = (i32::from(glow[c]) * night * (96 + i32::from(albedo[c]))) >> 8;
                    let value = (i32::from(albedo[c]) * gain[c] + lift[c] + lit) >> 8;
                    out[c] = value.clamp(0, 255) as u8;
                }
            }
        }
        rgb
    }

    fn draw_post(&self, sheet: &mut Sheet, post: &Post, grade: &Grade) {
        let lamplight = self.stage.lamplight(post.x, post.y);
        let tone = grade.tone(self.stage.depth_at(post.y), lamplight);
        sheet.lay(&post.sprite, post.x, post.y, &tone);
    }

    fn draw_mover(&self, sheet: &mut Sheet, mover: &Mover, grade: &Grade) {
        let (x, ground) = (mover.x, mover.ground());
        let sprite = mover.sprite();
        let depth = self.stage.depth_at(ground);
        let tone = grade.tone(depth, self.stage.lamplight(x, ground - 2.0));
        let extent = mover.costume.extent;
        let half = (extent.right - extent.left) / 2.0;
        if grade.shadow > 0.02 {
            let center = x + (extent.left + extent.right) / 2.0 + half * 0.15;
            sheet.darken(
                center,
                ground,
                half * 1.05,
                half.min(12.0) * 0.22,
                grade.shadow,
            );
        }
        if grade.wet > 0.02 {
            sheet.mirror(sprite, x, ground, &tone, grade.wet);
        }
        sheet.lay(sprite, x, ground, &tone);
        if grade.night > 0.0 {
            let unit = sheet.height as f32 / 120.0;
            let towards = if mover.faces_left() { -1.0 } else { 1.0 };
            for light in &mover.costume.lights {
                sheet.shine(light, (x, ground), unit, towards, grade.night);
            }
        }
    }
}

/// A picture being drawn; places are those of the unshaken picture.
struct Sheet {
    width: i32,
    height: i32,
    rgb: Vec<u8>,
    shake: Shake,
}

impl Sheet {
    /// Lays a sprite over the picture, between pixels sideways and on whole rows.
    fn lay(&mut self, sprite: &Sprite, x: f32, y: f32, tone: &Tone) {
        let left = x - sprite.anchor_x + self.shake.dx as f32;
        let top = (y - sprite.anchor_y).round() as i32 + self.shake.dy;
        let whole = left.floor();
        // A sprite at 3.25 puts three quarters of its first column on column 3.
        let second = ((left - whole) * 256.0) as i32;
        let whole = whole as i32;
        let from = (-whole).clamp(0, sprite.width as i32 + 1);
        let to = (self.width - whole).clamp(from, sprite.width as i32 + 1);
        if from >= to {
            return;
        }
        for (row, pixels) in sprite.px.chunks_exact(sprite.width.max(1)).enumerate() {
            let y = top + row as i32;
            if y < 0 || y >= self.height {
                continue;
            }
            let start = ((y * self.width + whole + from) * 3) as usize;
            let out = &mut self.rgb[start..start + (to - from) as usize * 3];
            for (out, column) in out.chunks_exact_mut(3).zip(from as usize..) {
                let here = pixels.get(column).copied().unwrap_or_default();
                let before = column
                    .checked_sub(1)
                    .map_or([0; 4], |before| pixels[before]);
                if here[3] | before[3] == 0 {
                    continue;
                }
                let mixed: [i32; 4] = std::array::from_fn(|c| {
                    (i32::from(here[c]) * (256 - second) + i32::from(before[c]) * second) >> 8
                });
                for c in 0..3 {
                    let own = (mixed[c] * tone.gain[c] + (tone.lift[c] * mixed[3]) / 255) >> 8;
                    let under = i32::from(out[c]) * (255 - mixed[3]) / 255;
                    out[c] = (own + under).clamp(0, 255) as u8;
                }
            }
        }
    }

    /// Lays a sprite's mirror image on wet ground, fading downwards.
    fn mirror(&mut self, sprite: &Sprite, x: f32, y: f32, tone: &Tone, strength: f32) {
        let left = (x - sprite.anchor_x).round() as i32 + self.shake.dx;
        let top = y.round() as i32 + self.shake.dy;
        let rows = sprite.px.chunks_exact(sprite.width.max(1)).rev();
        for (row, pixels) in rows.enumerate() {
            let y = top + row as i32;
            let fade = 1.0 - row as f32 / sprite.height as f32;
            let part = (strength * fade * 256.0) as i32;
            if y < 0 || y >= self.height || part == 0 {
                continue;
            }
            // Ripples tear the picture sideways.
            let left = left + [0, 1, 0, -1][row % 4];
            for (column, px) in pixels.iter().enumerate() {
                let x = left + column as i32;
                if px[3] == 0 || x < 0 || x >= self.width {
                    continue;
                }
                let alpha = (i32::from(px[3]) * part) >> 8;
                let at = ((y * self.width + x) * 3) as usize;
                for (c, value) in self.rgb[at..at + 3].iter_mut().enumerate() {
                    let own = (i32::from(px[c]) * tone.gain[c] + tone.lift[c]) >> 8;
                    let old = i32::from(*value);
                    *value = (old + (((own - old) * alpha) >> 8)).clamp(0, 255) as u8;
                }
            }
        }
    }

    /// Calls `each` for the pixels of an ellipse with their closeness to its centre, 0..=1.
    fn ellipse(
        &mut self,
        center: (f32, f32),
        radii: (f32, f32),
        mut each: impl FnMut(&mut [u8], f32),
    ) {
        let cx = center.0 + self.shake.dx as f32;
        let cy = center.1 + self.shake.dy as f32;
        let rows = ((cy - radii.1) as i32).max(0)..((cy + radii.1).ceil() as i32).min(self.height);
        let columns =
            ((cx - radii.0) as i32).max(0)..((cx + radii.0).ceil() as i32).min(self.width);
        for y in rows {
            let dy = (y as f32 + 0.5 - cy) / radii.1;
            for x in columns.clone() {
                let dx = (x as f32 + 0.5 - cx) / radii.0;
                let near = 1.0 - dx * dx - dy * dy;
                if near > 0.0 {
                    let at = ((y * self.width + x) * 3) as usize;
                    each(&mut self.rgb[at..at + 3], near);
                }
            }
        }
    }

    /// A soft shadow on the ground.
    fn darken(&mut self, x: f32, y: f32, half_width: f32, half_height: f32, strength: f32) {
        self.ellipse(
            (x, y),
            (half_width.max(1.0), half_height.max(1.0)),
            |px, near| {
                let left = 1.0 - strength * near.min(0.5) * 2.0;
                for value in px {
                    *value = (f32::from(*value) * left) as u8;
                }
            },
        );
    }

    /// A light that shines at night.
    fn shine(&mut self, light: &Light, foot: (f32, f32), unit: f32, towards: f32, night: f32) {
        let place = (foot.0 + light.x, foot.1 + light.y);
        let mut add = |center: (f32, f32), radii: (f32, f32), color: [f32; 3]| {
            let radii = (radii.0 * unit, radii.1 * unit);
            self.ellipse(center, radii, |px, near| {
                for (value, color) in px.iter_mut().zip(color) {
                    *value = value.saturating_add((near * near * night * color) as u8);
                }
            });
        };
        match light.kind {
            LightKind::Head => {
                add(place, (5.5, 5.0), [235.0, 225.0, 190.0]);
                add(
                    (place.0 + towards * 15.0 * unit, foot.1),
                    (15.0, 3.6),
                    [110.0, 104.0, 84.0],
                );
            }
            LightKind::Tail => add(place, (3.2, 3.0), [210.0, 30.0, 24.0]),
            LightKind::Lamp => add(place, (2.6, 2.6), [200.0, 200.0, 190.0]),
            LightKind::Window => add(place, (4.6, 2.8), [110.0, 98.0, 66.0]),
        }
    }
}
