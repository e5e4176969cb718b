//! Cars, vans, buses and trucks.

use rand::Rng;

use super::super::raster::{Canvas, Point, Rgb, blend, hsv, shade};
use super::{DARK, Individual, LightKind, Lot, between, pick, wheel};

const GLASS: Rgb = [70, 92, 112];
const HEADLIGHT: Rgb = [238, 236, 214];
const TAILLIGHT: Rgb = [176, 34, 30];

/// Paint as it is sold: mostly white, grey and black, some colour.
fn paint_shop(rng: &mut impl Rng) -> Rgb {
    match rng.random_range(0..10) {
        0..=2 => hsv(0.6, 0.04, between(rng, 0.75, 0.95)),
        3..=4 => hsv(0.6, 0.06, between(rng, 0.4, 0.65)),
        5 => hsv(0.6, 0.1, between(rng, 0.14, 0.25)),
        _ => {
            let (saturation, value) = (between(rng, 0.55, 0.9), between(rng, 0.4, 0.8));
            hsv(
                pick(rng, [0.0, 0.02, 0.33, 0.57, 0.6, 0.63]),
                saturation,
                value,
            )
        }
    }
}

/// A body from its outline, darker towards the sills.
fn body(canvas: &mut Canvas, outline: &[Point], sill: f32, color: Rgb) {
    canvas.polygon(outline, color);
    let left = outline.iter().map(|p| p.0).fold(f32::INFINITY, f32::min);
    let right = outline
        .iter()
        .map(|p| p.0)
        .fold(f32::NEG_INFINITY, f32::max);
    canvas.rect((left + 0.4, 1.6), (right - 0.4, sill), shade(color, 0.72));
}

fn end_lights(canvas: &mut Canvas, half: f32, y: f32) {
    canvas.rect((half - 1.5, y), (half, y + 1.5), HEADLIGHT);
    canvas.rect((-half, y), (-half + 1.1, y + 1.6), TAILLIGHT);
}

fn road_lights(half: f32, y: f32) -> Vec<(LightKind, Point)> {
    vec![
        (LightKind::Head, (half, y + 0.7)),
        (LightKind::Tail, (-half, y + 0.8)),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum CarShape {
    Saloon,
    Hatchback,
    Suv,
    Kombi,
    Pickup,
}

/// A passenger car.
pub(super) struct Car {
    shape: CarShape,
    half: f32,
    height: f32,
    paint: Rgb,
    roof: Rgb,
    glass: Rgb,
    /// A delivery car: no windows behind the driver's.
    panelled: bool,
}

impl Car {
    pub(super) fn random(lot: Lot, rng: &mut impl Rng) -> Self {
        let shape = if lot.other_city {
            pick(
                rng,
                [
                    CarShape::Suv,
                    CarShape::Kombi,
                    CarShape::Kombi,
                    CarShape::Pickup,
                ],
            )
        } else {
            pick(
                rng,
                [
                    CarShape::Saloon,
                    CarShape::Hatchback,
                    CarShape::Suv,
                    CarShape::Kombi,
                ],
            )
        };
        let (length, height) = match shape {
            CarShape::Saloon => (between(rng, 27.0, 31.0), between(rng, 9.8, 11.2)),
            CarShape::Hatchback => (between(rng, 23.0, 28.0), between(rng, 10.4, 13.0)),
            CarShape::Suv => (between(rng, 27.0, 31.0), between(rng, 12.0, 14.4)),
            CarShape::Kombi => (between(rng, 26.0, 31.0), between(rng, 12.8, 15.2)),
            CarShape::Pickup => (between(rng, 30.0, 34.0), between(rng, 12.4, 14.2)),
        };
        let paint = if lot.other_city && rng.random::<f32>() < 0.55 {
            pick(
                rng,
                [
                    [226, 182, 30],
                    [230, 190, 60],
                    [40, 110, 96],
                    [206, 196, 176],
                    [150, 90, 50],
                ],
            )
        } else {
            paint_shop(rng)
        };
        let two_tone = lot.other_city && rng.random::<f32>() < 0.4;
        Self {
            shape,
            half: length / 2.0,
            height,
            paint,
            roof: if two_tone {
                pick(rng, [[235, 235, 230], [30, 30, 34]])
            } else {
                paint
            },
            glass: shade(GLASS, between(rng, 0.6, 1.25)),
            panelled: shape == CarShape::Kombi
                && rng.random::<f32>() < if lot.other_city { 0.7 } else { 0.4 },
        }
    }

    /// Cabin: foot of the rear window, roof from rear to front, foot of the windscreen, as parts of
    /// the length from -0.5 (rear) to 0.5 (front).
    fn cabin(&self) -> [f32; 4] {
        match self.shape {
            CarShape::Saloon => [-0.34, -0.2, 0.08, 0.24],
            CarShape::Hatchback => [-0.48, -0.4, 0.08, 0.27],
            CarShape::Kombi => [-0.5, -0.48, 0.14, 0.28],
            CarShape::Suv => [-0.49, -0.44, 0.12, 0.26],
            CarShape::Pickup => [-0.1, -0.06, 0.14, 0.26],
        }
    }
}

impl Individual for Car {
    const PHASES: usize = 1;

    fn paint(&self, canvas: &mut Canvas, _phase: f32) {
        let (half, h) = (self.half, self.height);
        let belt = h * 0.56;
        let [rear, roof_rear, roof_front, front] = self.cabin().map(|part| part * 2.0 * half);
        canvas.polygon(
            &[(rear, belt), (roof_rear, h), (roof_front, h), (front, belt)],
            self.roof,
        );
        let lower = [
            (-half, 1.8),
            (-half, belt * 0.9),
            (-half + 1.2, belt),
            (front, belt),
            (half - 1.4, belt * 0.84),
            (half, belt * 0.6),
            (half, 1.8),
        ];
        body(canvas, &lower, 3.2, self.paint);
        let pillar = (roof_rear + roof_front) / 2.0;
        let glass_top = h - 1.0;
        let slope = 0.85;
        let rear_glass = if self.panelled {
            self.paint
        } else {
            self.glass
        };
        canvas.polygon(
            &[
                (rear + slope + 0.6, belt),
                (roof_rear + 0.7, glass_top),
                (pillar - 0.4, glass_top),
                (pillar - 0.4, belt),
            ],
            rear_glass,
        );
        canvas.polygon(
            &[
                (pillar + 0.5, belt),
                (pillar + 0.5, glass_top),
                (roof_front - 0.3, glass_top),
                (front - slope - 0.4, belt),
            ],
            self.glass,
        );
        canvas.line((pillar, 2.4), (pillar, belt), 0.4, shade(self.paint, 0.6));
        if self.shape == CarShape::Pickup {
            canvas.rect(
                (-half + 1.0, belt - 0.2),
                (rear - 0.6, belt + 0.5),
                shade(self.paint, 0.45),
            );
        }
        end_lights(canvas, half, belt * 0.58);
        let r = if self.shape == CarShape::Saloon {
            2.35
        } else {
            2.55
        };
        wheel(canvas, -half * 0.6, r);
        wheel(canvas, half * 0.62, r);
    }

    fn lights(&self) -> Vec<(LightKind, Point)> {
        road_lights(self.half, self.height * 0.32)
    }
}

/// A delivery van, or in the other city a minibus.
pub(super) struct Van {
    half: f32,
    height: f32,
    /// Length of the bonnet.
    nose: f32,
    paint: Rgb,
    stripe: Option<Rgb>,
    /// Side windows behind the driver's.
    windows: usize,
    glass: Rgb,
}

impl Van {
    pub(super) fn random(lot: Lot, rng: &mut impl Rng) -> Self {
        let length = if lot.other_city {
            between(rng, 28.0, 33.0)
        } else {
            between(rng, 27.0, 34.0)
        };
        let height = if lot.other_city {
            between(rng, 11.2, 13.8)
        } else {
            between(rng, 13.2, 16.6)
        };
        let paint = if lot.other_city {
            let (saturation, value) = (between(rng, 0.2, 0.6), between(rng, 0.6, 0.9));
            hsv(rng.random(), saturation, value)
        } else if rng.random::<f32>() < 0.45 {
            hsv(0.6, 0.03, between(rng, 0.78, 0.96))
        } else {
            paint_shop(rng)
        };
        Self {
            half: length / 2.0,
            height,
            nose: if lot.other_city {
                between(rng, 1.0, 5.0)
            } else {
                between(rng, 2.4, 7.0)
            },
            paint,
            stripe: (rng.random::<f32>() < 0.5).then(|| hsv(rng.random(), 0.8, 0.7)),
            windows: if lot.other_city {
                3
            } else {
                pick(rng, [0, 0, 1, 1, 3])
            },
            glass: shade(GLASS, between(rng, 0.6, 1.25)),
        }
    }
}

impl Individual for Van {
    const PHASES: usize = 1;

    fn paint(&self, canvas: &mut Canvas, _phase: f32) {
        let (half, h, nose) = (self.half, self.height, self.nose);
        let belt = h * 0.5;
        let screen = half - nose;
        let outline = [
            (-half, 1.8),
            (-half, h - 1.0),
            (-half + 1.0, h),
            (screen - 4.4, h),
            (screen - 3.0, h - 0.6),
            (screen, belt + 0.4),
            (half - 0.4, belt * 0.82),
            (half, belt * 0.6),
            (half, 1.8),
        ];
        body(canvas, &outline, 3.4, self.paint);
        if let Some(stripe) = self.stripe {
            canvas.rect(
                (-half + 0.3, belt - 1.6),
                (screen - 8.5, belt + 0.2),
                stripe,
            );
        }
        let top = h - 1.6;
        canvas.polygon(
            &[
                (screen - 8.0, belt),
                (screen - 8.0, top),
                (screen - 4.0, top),
                (screen - 1.0, belt),
            ],
            self.glass,
        );
        let bay = (screen - 9.0 + half - 1.4) / self.windows.max(1) as f32;
        for i in 0..self.windows {
            let right = screen - 9.0 - i as f32 * bay;
            let left = if self.windows == 1 {
                right - 6.0
            } else {
                right - bay + 0.9
            };
            canvas.rect((left, belt), (right, top), self.glass);
        }
        canvas.line(
            (screen - 8.5, 2.4),
            (screen - 8.5, top),
            0.4,
            shade(self.paint, 0.62),
        );
        end_lights(canvas, half, belt * 0.55);
        wheel(canvas, -half * 0.6, 2.5);
        wheel(canvas, half * 0.6, 2.5);
    }

    fn lights(&self) -> Vec<(LightKind, Point)> {
        road_lights(self.half, self.height * 0.28)
    }
}

/// A city bus.
pub(super) struct Bus {
    half: f32,
    height: f32,
    paint: Rgb,
    band: Rgb,
    windows: usize,
    /// One band of glass instead of single windows.
    band_of_glass: bool,
    /// A lit sign over the windscreen.
    sign: bool,
    glass: Rgb,
}

impl Bus {
    pub(super) fn random(lot: Lot, rng: &mut impl Rng) -> Self {
        let length = if lot.other_city {
            between(rng, 30.0, 37.0)
        } else {
            between(rng, 34.0, 44.0)
        };
        let paint = if lot.other_city {
            pick(
                rng,
                [
                    [228, 230, 226],
                    [92, 140, 92],
                    [214, 206, 180],
                    [96, 128, 150],
                ],
            )
        } else {
            pick(
                rng,
                [
                    [186, 34, 34],
                    [30, 80, 160],
                    [206, 152, 30],
                    [34, 120, 70],
                    [220, 222, 220],
                ],
            )
        };
        Self {
            half: length / 2.0,
            height: between(rng, 15.2, 18.8),
            paint: shade(paint, between(rng, 0.8, 1.1)),
            band: if rng.random() {
                [226, 226, 220]
            } else {
                shade(paint, 0.55)
            },
            windows: rng.random_range(4..8),
            band_of_glass: lot.other_city || rng.random::<f32>() < 0.15,
            sign: rng.random::<f32>() < 0.6,
            glass: shade(GLASS, between(rng, 0.6, 1.3)),
        }
    }

    /// Lower and upper edge of the windows.
    fn window_rows(&self) -> (f32, f32) {
        (self.height * 0.5, self.height * 0.84)
    }
}

impl Individual for Bus {
    const PHASES: usize = 1;

    fn paint(&self, canvas: &mut Canvas, _phase: f32) {
        let (half, h) = (self.half, self.height);
        let outline = [
            (-half, 1.6),
            (-half, h - 0.8),
            (-half + 0.8, h),
            (half - 1.2, h),
            (half - 0.2, h - 1.4),
            (half, h * 0.4),
            (half, 1.6),
        ];
        body(canvas, &outline, 3.0, self.paint);
        canvas.rect((-half, h * 0.28), (half, h * 0.36), self.band);
        let (low, high) = self.window_rows();
        if self.band_of_glass {
            canvas.rect((-half + 1.0, low), (half - 4.0, high), self.glass);
        } else {
            let bay = (2.0 * half - 7.0) / self.windows as f32;
            for i in 0..self.windows {
                let left = -half + 1.2 + i as f32 * bay;
                canvas.rect((left, low), (left + bay - 1.1, high), self.glass);
            }
        }
        canvas.polygon(
            &[
                (half - 3.4, h * 0.38),
                (half - 3.4, high),
                (half - 0.5, high),
                (half - 0.2, h * 0.42),
            ],
            blend(self.glass, [200, 215, 225], 0.25),
        );
        canvas.rect(
            (half - 8.4, 2.2),
            (half - 5.4, high),
            shade(self.glass, 0.75),
        );
        if self.sign {
            canvas.rect((half - 9.0, h - 2.0), (half - 2.0, h - 0.8), [236, 170, 60]);
        }
        end_lights(canvas, half, h * 0.17);
        wheel(canvas, -half * 0.58, 2.7);
        wheel(canvas, half * 0.6, 2.7);
    }

    fn lights(&self) -> Vec<(LightKind, Point)> {
        let (low, high) = self.window_rows();
        let mut lights = road_lights(self.half, self.height * 0.17);
        for part in [-0.7, -0.35, 0.0, 0.35, 0.7] {
            lights.push((LightKind::Window, (part * self.half, (low + high) / 2.0)));
        }
        lights
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Load {
    Box,
    Canvas,
    Tank,
    Tipper,
}

/// A lorry: a cab and a load.
pub(super) struct Truck {
    half: f32,
    height: f32,
    cab: f32,
    cab_height: f32,
    gap: f32,
    load: Load,
    cab_paint: Rgb,
    load_paint: Rgb,
    glass: Rgb,
}

impl Truck {
    pub(super) fn random(lot: Lot, rng: &mut impl Rng) -> Self {
        let height = between(rng, 14.2, 18.4);
        let load = if lot.other_city {
            pick(rng, [Load::Box, Load::Tipper, Load::Tipper])
        } else {
            pick(rng, [Load::Box, Load::Box, Load::Canvas, Load::Tank])
        };
        let load_paint = match (load, lot.other_city) {
            (Load::Tank, _) => hsv(0.6, 0.05, between(rng, 0.65, 0.85)),
            (Load::Tipper, _) => pick(rng, [[200, 140, 40], [120, 110, 96], [150, 60, 40]]),
            (Load::Canvas, _) => pick(rng, [[44, 88, 120], [110, 112, 84], [150, 60, 50]]),
            (Load::Box, true) => pick(rng, [[186, 40, 40], [40, 90, 160], [210, 160, 40]]),
            (Load::Box, false) if rng.random() => hsv(0.1, 0.08, between(rng, 0.6, 0.92)),
            (Load::Box, false) => paint_shop(rng),
        };
        Self {
            half: between(rng, 30.0, 42.0) / 2.0,
            height,
            cab: between(rng, 7.2, 9.2),
            cab_height: height
                * if lot.other_city {
                    0.95
                } else {
                    between(rng, 0.68, 0.98)
                },
            gap: if lot.other_city {
                0.3
            } else {
                between(rng, 0.0, 1.4)
            },
            load,
            cab_paint: paint_shop(rng),
            load_paint,
            glass: shade(GLASS, between(rng, 0.6, 1.25)),
        }
    }

    fn paint_load(&self, canvas: &mut Canvas, front: f32) {
        let (rear, h, color) = (-self.half, self.height, self.load_paint);
        match self.load {
            Load::Box => {
                canvas.rect((rear, 4.4), (front, h), color);
                canvas.rect((rear, 4.4), (front, 5.2), shade(color, 0.6));
                canvas.rect((rear + 0.2, 4.6), (rear + 0.8, h - 0.2), shade(color, 0.75));
            }
            Load::Canvas => {
                canvas.rect((rear, 4.4), (front, h - 0.6), color);
                for i in 1..6 {
                    let x = rear + (front - rear) * i as f32 / 6.0;
                    canvas.line((x, 5.0), (x, h - 0.8), 0.5, shade(color, 0.7));
                }
                canvas.rect((rear, h - 1.4), (front, h - 0.4), shade(color, 1.25));
            }
            Load::Tank => {
                let middle = ((rear + front) / 2.0, 4.6 + (h - 5.6) / 2.0);
                canvas.ellipse(middle, ((front - rear) / 2.0, (h - 5.4) / 2.0), color);
                canvas.rect((rear + 4.0, 5.0), (front - 4.0, h - 1.0), color);
                canvas.rect(
                    (rear + 3.0, h * 0.45),
                    (front - 3.0, h * 0.52),
                    shade(color, 0.6),
                );
            }
            Load::Tipper => {
                let top = h - 3.0;
                canvas.polygon(
                    &[(rear + 1.5, 4.4), (rear, top), (front, top), (front, 4.4)],
                    color,
                );
                canvas.polygon(
                    &[
                        (rear + 3.0, top),
                        ((rear + front) / 2.0, h - 0.6),
                        (front - 2.0, top),
                    ],
                    [110, 92, 70],
                );
            }
        }
    }
}

impl Individual for Truck {
    const PHASES: usize = 1;

    fn paint(&self, canvas: &mut Canvas, _phase: f32) {
        let (half, ch) = (self.half, self.cab_height);
        let cab_rear = half - self.cab;
        canvas.rect((-half, 2.6), (half - 1.0, 4.4), DARK);
        self.paint_load(canvas, cab_rear - self.gap);
        let outline = [
            (cab_rear, 1.8),
            (cab_rear, ch),
            (half - 2.2, ch),
            (half - 0.4, ch * 0.56),
            (half, ch * 0.5),
            (half, 1.8),
        ];
        body(canvas, &outline, 3.4, self.cab_paint);
        canvas.polygon(
            &[
                (half - 5.4, ch * 0.56),
                (half - 5.4, ch - 1.4),
                (half - 2.6, ch - 1.4),
                (half - 1.2, ch * 0.56),
            ],
            self.glass,
        );
        end_lights(canvas, half, ch * 0.24);
        for x in [-half * 0.78, -half * 0.52, half * 0.74] {
            wheel(canvas, x, 2.8);
        }
    }

    fn lights(&self) -> Vec<(LightKind, Point)> {
        road_lights(self.half, self.cab_height * 0.24)
    }
}
