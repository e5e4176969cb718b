//! Light, fog, rain and the noise of the sensor.

use rand::Rng;

use super::drift::Condition;

/// How colours come out in one frame.
#[derive(Debug, Clone)]
pub(super) struct Grade {
    gain: [f32; 3],
    lift: [f32; 3],
    fog: f32,
    fog_color: [f32; 3],
    /// Strength of lamps and lit windows, 0..=1.
    pub(super) night: f32,
    /// Strength of shadows, 0..=1.
    pub(super) shadow: f32,
    /// Strength of reflections on the ground, 0..=1.
    pub(super) wet: f32,
    /// Standard deviation of the noise, in grey levels.
    pub(super) noise: f32,
    /// Overall brightness, for what is drawn last.
    pub(super) exposure: f32,
}

/// What becomes of a colour at a distance: `(color * gain + lift) / 256`, channel by channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tone {
    pub(super) gain: [i32; 3],
    pub(super) lift: [i32; 3],
}

/// Between the points of a curve at 0, 1/4, 1/2 and 1.
fn curve(points: [f32; 4], at: f32) -> f32 {
    let (a, b, part) = if at < 0.25 {
        (points[0], points[1], at * 4.0)
    } else if at < 0.5 {
        (points[1], points[2], at * 4.0 - 1.0)
    } else {
        (points[2], points[3], at * 2.0 - 1.0)
    };
    a + (b - a) * part
}

/// What differs from camera to camera and from minute to minute without being drift: the camera's
/// own exposure and white balance, and clouds that pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Camera {
    exposure: f32,
    balance: [f32; 3],
    contrast: f32,
    /// Two periods in seconds, and their phases, of the clouds.
    clouds: [(f32, f32); 2],
}

impl Camera {
    pub(super) fn random(rng: &mut impl Rng) -> Self {
        let mut about_one = |spread: f32| 1.0 + spread * (2.0 * rng.random::<f32>() - 1.0);
        Self {
            exposure: about_one(0.12),
            balance: [about_one(0.08), 1.0, about_one(0.1)],
            contrast: about_one(0.08),
            clouds: [
                (11.0 * about_one(0.4), about_one(1.0)),
                (29.0 * about_one(0.4), about_one(1.0)),
            ],
        }
    }

    /// What clouds leave of the light at a time, 0..=1.
    fn sunshine(&self, seconds: f64) -> f32 {
        let cover = self.clouds.map(|(period, phase)| {
            let turn = seconds / f64::from(period) + f64::from(phase);
            0.5 + 0.5 * (turn * std::f64::consts::TAU).sin() as f32
        });
        1.0 - 0.16 * cover[0] - 0.16 * cover[1]
    }
}

impl Grade {
    /// The grade of a frame taken `seconds` after the start.
    pub(super) fn new(condition: &Condition, camera: &Camera, seconds: f64) -> Self {
        let Condition {
            lighting,
            rain,
            fog,
            ..
        } = *condition;
        let daylight = curve([0.44, 0.57, 0.8, 1.1], lighting) * (1.0 - 0.15 * rain);
        let exposure = daylight * camera.exposure * camera.sunshine(seconds);
        let red = curve([0.85, 1.0, 1.1, 1.0], lighting);
        let blue = curve([1.2, 1.03, 0.86, 1.0], lighting);
        let contrast = camera.contrast * (1.0 - 0.1 * rain) * (0.88 + 0.12 * lighting);
        let veil = (18.0 * rain + 9.0 * (1.0 - lighting)) * (0.4 + 0.6 * exposure);
        let overcast = (rain + fog).min(1.0);
        Self {
            gain: std::array::from_fn(|c| {
                let tint = [red, 1.0, blue][c];
                let tint = tint + (1.0 - tint) * 0.5 * overcast;
                exposure * contrast * tint * camera.balance[c]
            }),
            lift: [veil * 0.95, veil, veil * 1.1],
            fog: 0.5 * fog,
            fog_color: [206.0, 210.0, 214.0].map(|value| value * (0.12 + 0.88 * exposure)),
            night: ((0.55 - lighting) / 0.4).clamp(0.0, 1.0),
            shadow: 0.5 * lighting * (1.0 - overcast),
            wet: 0.55 * rain,
            noise: 6.5 + 2.5 * (1.0 - lighting) + 1.5 * rain,
            exposure,
        }
    }

    /// The tone of things at `depth`, lit by lamps with `lamplight` (0..=1).
    pub(super) fn tone(&self, depth: f32, lamplight: f32) -> Tone {
        let clear = (-self.fog * depth).exp();
        let lamp = [1.5, 1.2, 0.75].map(|tint| lamplight * self.night * tint * 0.6);
        Tone {
            gain: std::array::from_fn(|c| (256.0 * clear * (self.gain[c] + lamp[c])) as i32),
            lift: std::array::from_fn(|c| {
                (256.0 * (clear * self.lift[c] + (1.0 - clear) * self.fog_color[c])) as i32
            }),
        }
    }
}

/// Gaussian noise made once and read at random places.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    /// Standard deviation 32.
    table: Vec<i8>,
}

impl Noise {
    /// A table for pictures of `row_bytes` bytes a row.
    pub(super) fn new(row_bytes: usize, rng: &mut impl Rng) -> Self {
        // The sum of twelve uniform numbers has a variance of one.
        let gauss = |rng: &mut _| (0..12).map(|_| Rng::random::<f32>(rng)).sum::<f32>() - 6.0;
        let table = (0..row_bytes + 4096)
            .map(|_| (32.0 * gauss(rng)).clamp(-127.0, 127.0) as i8)
            .collect();
        Self { table }
    }

    /// Adds noise of standard deviation `sigma` grey levels, row by row.
    pub(super) fn add(&self, rgb: &mut [u8], row_bytes: usize, sigma: f32, rng: &mut impl Rng) {
        let strength = (sigma * 8.0) as i16;
        for row in rgb.chunks_exact_mut(row_bytes) {
            let start = rng.random_range(0..4096);
            for (value, noise) in row.iter_mut().zip(&self.table[start..]) {
                let noise = (i16::from(*noise) * strength) >> 8;
                *value = (i16::from(*value) + noise).clamp(0, 255) as u8;
            }
        }
    }
}

/// Draws falling rain over a picture.
pub(super) fn streaks(
    rgb: &mut [u8],
    width: usize,
    height: usize,
    rain: f32,
    exposure: f32,
    rng: &mut impl Rng,
) {
    let unit = height as f32 / 120.0;
    let count = rain * 130.0 * (width as f32 / unit) / 160.0;
    let color = (70.0 + 150.0 * exposure) as i32;
    for _ in 0..count as usize {
        let x = rng.random_range(0..width);
        let y = rng.random_range(0..height);
        let length = (unit * (4.0 + 8.0 * rng.random::<f32>())) as usize;
        let alpha = 50 + (60.0 * rng.random::<f32>()) as i32;
        for i in 0..length.max(2) {
            let (px, py) = (x.wrapping_sub(i / 4), y + i);
            if px < width && py < height {
                let at = (py * width + px) * 3;
                for value in &mut rgb[at..at + 3] {
                    let old = i32::from(*value);
                    *value = (old + (((color - old) * alpha) >> 8)).clamp(0, 255) as u8;
                }
            }
        }
    }
}
