//! People: riding, walking, pushing.

use std::f32::consts::TAU;

use rand::Rng;

use super::super::raster::{Canvas, Point, Rgb, hsv, shade};
use super::{DARK, Individual, LightKind, Lot, RIM, TYRE, between, cloth, pick};

const SKINS: [Rgb; 4] = [
    [232, 190, 160],
    [204, 154, 120],
    [150, 104, 76],
    [104, 70, 52],
];
const HAIRS: [Rgb; 4] = [[34, 26, 22], [84, 56, 34], [170, 130, 80], [120, 120, 120]];

/// What a person wears.
struct Person {
    top: Rgb,
    trousers: Rgb,
    skin: Rgb,
    hair: Rgb,
}

impl Person {
    fn random(rng: &mut impl Rng) -> Self {
        Self {
            top: cloth(rng),
            trousers: hsv(0.6, between(rng, 0.1, 0.5), between(rng, 0.12, 0.5)),
            skin: pick(rng, SKINS),
            hair: pick(rng, HAIRS),
        }
    }

    fn head(&self, canvas: &mut Canvas, center: Point, r: f32) {
        canvas.ellipse(center, (r, r * 1.1), self.skin);
        canvas.polygon(
            &[
                (center.0 - r, center.1 - r * 0.5),
                (center.0 - r, center.1 + r * 1.1),
                (center.0 + r * 0.8, center.1 + r * 1.1),
                (center.0 + r * 0.8, center.1 + r * 0.5),
                (center.0 - r * 0.2, center.1 + r * 0.4),
            ],
            self.hair,
        );
    }

    /// Two legs under a hip, striding.
    fn legs(&self, canvas: &mut Canvas, hip: Point, stride: f32, phase: f32) {
        let swing = (phase * TAU).sin() * stride;
        for (side, color) in [(-1.0, shade(self.trousers, 0.75)), (1.0, self.trousers)] {
            let foot = hip.0 + side * swing;
            canvas.line(hip, (foot, 0.5), 1.9, color);
            canvas.rect((foot - 0.9, 0.0), (foot + 1.4, 0.9), DARK);
        }
    }
}

/// Somebody on foot.
pub(super) struct Pedestrian {
    person: Person,
    height: f32,
    width: f32,
    /// A coat down to here, as a part of the height.
    coat: Option<f32>,
    backpack: Option<Rgb>,
    bag: Option<Rgb>,
    /// A suitcase on wheels behind.
    suitcase: Option<Rgb>,
    /// A pram ahead.
    pram: Option<Rgb>,
    umbrella: Option<Rgb>,
    hat: Option<Rgb>,
}

impl Pedestrian {
    pub(super) fn random(lot: Lot, rng: &mut impl Rng) -> Self {
        let chance = |rng: &mut _, p: f32| Rng::random::<f32>(rng) < p;
        let other = lot.other_city;
        Self {
            person: Person::random(rng),
            height: between(rng, 17.5, 21.5),
            width: between(rng, 4.2, 5.8) + if other { 0.8 } else { 0.0 },
            coat: chance(rng, if other { 0.75 } else { 0.15 }).then(|| between(rng, 0.14, 0.32)),
            backpack: chance(rng, if other { 0.5 } else { 0.15 }).then(|| cloth(rng)),
            bag: chance(rng, 0.3).then(|| cloth(rng)),
            suitcase: chance(rng, if other { 0.5 } else { 0.15 }).then(|| cloth(rng)),
            pram: chance(rng, if other { 0.45 } else { 0.2 }).then(|| cloth(rng)),
            umbrella: lot.raining.then(|| cloth(rng)),
            hat: chance(rng, if other { 0.5 } else { 0.1 }).then(|| cloth(rng)),
        }
    }
}

impl Individual for Pedestrian {
    const PHASES: usize = 4;

    fn paint(&self, canvas: &mut Canvas, phase: f32) {
        let (h, half) = (self.height, self.width / 2.0);
        let (hip, shoulder) = (h * 0.46, h * 0.82);
        if let Some(color) = self.suitcase {
            canvas.rect((-half - 4.6, 0.6), (-half - 1.2, 6.4), color);
            canvas.line((-half - 2.0, 6.4), (-0.6, hip), 0.5, DARK);
        }
        self.person.legs(canvas, (0.0, hip), 2.6, phase);
        if let Some(color) = self.backpack {
            canvas.ellipse((-half - 0.6, h * 0.68), (1.5, h * 0.13), color);
        }
        let hem = self.coat.map_or(hip - 0.4, |hem| hem * h);
        let flare = if self.coat.is_some() { 0.9 } else { 0.0 };
        canvas.polygon(
            &[
                (-half - flare, hem),
                (-half, shoulder),
                (half, shoulder),
                (half + flare, hem),
            ],
            self.person.top,
        );
        let arm = (phase * TAU).cos() * 1.6;
        canvas.line(
            (0.2, shoulder - 0.8),
            (arm, hip),
            1.3,
            shade(self.person.top, 0.72),
        );
        if let Some(color) = self.bag {
            canvas.rect((arm - 1.4, hip - 4.0), (arm + 1.4, hip - 1.0), color);
        }
        self.person.head(canvas, (0.4, h * 0.91), h * 0.085);
        if let Some(color) = self.pram {
            canvas.polygon(
                &[
                    (half + 1.6, 3.4),
                    (half + 1.0, 8.0),
                    (half + 5.0, 9.4),
                    (half + 8.4, 5.6),
                    (half + 7.4, 3.4),
                ],
                color,
            );
            canvas.line(
                (0.8, shoulder - 2.0),
                (half + 1.2, 8.0),
                1.1,
                shade(self.person.top, 0.72),
            );
            for x in [half + 2.6, half + 6.6] {
                canvas.ring((x, 1.6), (1.6, 1.6), 0.5, TYRE);
            }
        }
        if let Some(color) = self.hat {
            canvas.rect((-1.8, h * 0.94), (2.6, h * 1.01), color);
        }
        if let Some(color) = self.umbrella {
            canvas.line((1.6, hip + 3.0), (1.6, h + 3.0), 0.5, DARK);
            canvas.polygon(
                &[
                    (-6.4, h + 0.6),
                    (-3.6, h + 3.4),
                    (1.0, h + 4.6),
                    (5.6, h + 3.4),
                    (8.4, h + 0.6),
                ],
                color,
            );
        }
    }

    fn lights(&self) -> Vec<(LightKind, Point)> {
        vec![]
    }
}

/// A motorbike with its rider, or in the other city a scooter.
pub(super) struct Motorbike {
    person: Person,
    half: f32,
    height: f32,
    wheel: f32,
    paint: Rgb,
    helmet: Rgb,
    scooter: bool,
    top_box: Option<Rgb>,
    /// How far the shoulders are ahead of the hip.
    lean: f32,
}

impl Motorbike {
    pub(super) fn random(lot: Lot, rng: &mut impl Rng) -> Self {
        let scooter = rng.random::<f32>() < if lot.other_city { 0.8 } else { 0.2 };
        let boxed = if scooter { 0.6 } else { 0.15 };
        Self {
            person: Person::random(rng),
            half: if scooter {
                between(rng, 16.0, 19.0)
            } else {
                between(rng, 17.5, 21.5)
            } / 2.0,
            height: if scooter {
                between(rng, 15.5, 17.5)
            } else {
                between(rng, 14.4, 17.2)
            },
            wheel: if scooter {
                between(rng, 2.0, 2.6)
            } else {
                between(rng, 2.8, 3.8)
            },
            paint: hsv(rng.random(), between(rng, 0.4, 0.9), between(rng, 0.4, 0.9)),
            helmet: pick(
                rng,
                [[230, 230, 230], [30, 30, 34], [190, 40, 36], [40, 80, 170]],
            ),
            scooter,
            top_box: (rng.random::<f32>() < boxed).then(|| cloth(rng)),
            lean: if scooter { 0.6 } else { between(rng, 0.8, 2.8) },
        }
    }
}

impl Individual for Motorbike {
    const PHASES: usize = 1;

    fn paint(&self, canvas: &mut Canvas, _phase: f32) {
        let (half, h, r) = (self.half, self.height, self.wheel);
        let (rear, front) = (-half + r, half - r);
        for x in [rear, front] {
            canvas.ellipse((x, r), (r, r), TYRE);
            canvas.ellipse((x, r), (r * 0.42, r * 0.42), RIM);
        }
        if self.scooter {
            canvas.polygon(
                &[(rear - 1.5, 3.0), (rear - 1.0, 7.0), (1.4, 7.0), (0.6, 3.0)],
                self.paint,
            );
            canvas.rect((0.0, 2.4), (front - 1.0, 3.6), shade(self.paint, 0.7));
            canvas.line((front, r), (front - 2.4, 9.6), 1.8, self.paint);
        } else {
            canvas.polygon(
                &[
                    (rear + 0.4, 3.4),
                    (-2.0, 6.2),
                    (3.4, 6.0),
                    (3.0, 2.6),
                    (-2.0, 2.2),
                ],
                DARK,
            );
            canvas.polygon(
                &[(-1.6, 6.0), (-0.6, 8.2), (3.4, 8.6), (front - 0.2, 6.0)],
                self.paint,
            );
            canvas.polygon(
                &[
                    (rear - 1.2, 7.2),
                    (rear + 0.8, 5.6),
                    (-0.6, 6.0),
                    (-1.0, 7.6),
                ],
                self.paint,
            );
            canvas.line((front, r), (front - 2.2, 8.8), 1.1, RIM);
        }
        if let Some(color) = self.top_box {
            canvas.rect((rear - 2.4, 7.2), (rear + 1.2, 11.0), color);
        }
        let (hip, shoulder) = ((-2.4, 7.4), (-2.0 + self.lean, h * 0.78));
        canvas.line(hip, (1.8, 5.0), 2.2, self.person.trousers);
        canvas.line(
            (1.8, 5.2),
            (0.8, 2.6),
            1.8,
            shade(self.person.trousers, 0.8),
        );
        canvas.line(hip, shoulder, 3.8, self.person.top);
        canvas.line(
            shoulder,
            (front - 2.4, 9.2),
            1.4,
            shade(self.person.top, 0.75),
        );
        let head = (shoulder.0 + 0.7, h - 2.1);
        canvas.ellipse(head, (2.2, 2.1), self.helmet);
        canvas.rect(
            (head.0 + 0.7, head.1 - 0.7),
            (head.0 + 2.2, head.1 + 0.5),
            DARK,
        );
        canvas.rect((front - 1.6, 7.4), (front + 0.2, 9.0), [230, 228, 210]);
    }

    fn lights(&self) -> Vec<(LightKind, Point)> {
        vec![
            (LightKind::Head, (self.half - 1.8, 8.2)),
            (LightKind::Tail, (-self.half + 1.0, 7.0)),
        ]
    }
}

/// A bicycle with its rider, or in the other city often a cargo bike.
pub(super) struct Bicycle {
    person: Person,
    half: f32,
    height: f32,
    wheel: f32,
    tyre: f32,
    frame: Rgb,
    helmet: Option<Rgb>,
    cargo: Option<Rgb>,
    /// How far the shoulders are ahead of the hip.
    lean: f32,
}

impl Bicycle {
    pub(super) fn random(lot: Lot, rng: &mut impl Rng) -> Self {
        let other = lot.other_city;
        Self {
            person: Person::random(rng),
            half: between(rng, 17.5, 20.5) / 2.0,
            height: between(rng, 15.8, 18.4),
            wheel: if other {
                between(rng, 2.9, 3.5)
            } else {
                between(rng, 3.3, 4.2)
            },
            tyre: if other { 0.5 } else { between(rng, 0.56, 0.78) },
            lean: between(rng, 0.0, 2.4),
            frame: hsv(rng.random(), 0.7, between(rng, 0.3, 0.8)),
            helmet: (rng.random::<f32>() < 0.6).then(|| cloth(rng)),
            cargo: (rng.random::<f32>() < if other { 0.55 } else { 0.12 }).then(|| cloth(rng)),
        }
    }
}

impl Individual for Bicycle {
    const PHASES: usize = 4;

    fn paint(&self, canvas: &mut Canvas, phase: f32) {
        let (half, h, r) = (self.half, self.height, self.wheel);
        let (rear, front) = (-half + r, half - r);
        for x in [rear, front] {
            canvas.ring((x, r), (r, r), self.tyre, TYRE);
        }
        let (crank, saddle, bar) = ((-0.6, r * 0.85), (-2.6, 8.2), (front - 1.4, 9.0));
        for (a, b) in [
            ((rear, r), crank),
            (crank, saddle),
            (crank, (bar.0, 7.2)),
            ((rear, r), saddle),
            (saddle, (bar.0, 7.6)),
            ((front, r), bar),
        ] {
            canvas.line(a, b, 0.75, self.frame);
        }
        if let Some(color) = self.cargo {
            canvas.rect((front - 2.2, 3.4), (front + r, 8.2), color);
            canvas.rect((front - 2.2, 7.6), (front + r, 8.4), shade(color, 0.6));
        }
        for (offset, color) in [
            (0.5, shade(self.person.trousers, 0.75)),
            (0.0, self.person.trousers),
        ] {
            let turn = (phase + offset) * TAU;
            let pedal = (crank.0 + 1.5 * turn.cos(), crank.1 + 1.5 * turn.sin());
            let knee = (1.6 + 0.8 * turn.cos(), 5.9 + 0.8 * turn.sin());
            canvas.line(saddle, knee, 1.6, color);
            canvas.line(knee, pedal, 1.3, color);
        }
        let shoulder = (-1.2 + self.lean, h * 0.78);
        canvas.line((saddle.0, saddle.1 + 0.4), shoulder, 3.0, self.person.top);
        canvas.line(
            (shoulder.0, shoulder.1 - 0.6),
            bar,
            1.1,
            shade(self.person.top, 0.75),
        );
        let head = (shoulder.0 + 0.6, h - 1.7);
        self.person.head(canvas, head, 1.55);
        if let Some(color) = self.helmet {
            canvas.ellipse((head.0, head.1 + 0.5), (2.0, 1.6), color);
        }
    }

    fn lights(&self) -> Vec<(LightKind, Point)> {
        vec![(LightKind::Lamp, (self.half - self.wheel, 8.6))]
    }
}

/// A barrow that somebody pushes, or in the other city a stall with a roof.
pub(super) struct Cart {
    person: Person,
    half: f32,
    height: f32,
    /// Height of the barrow's bed and its side.
    bed: f32,
    side: f32,
    wood: Rgb,
    goods: [Rgb; 3],
    roof: Option<Rgb>,
    wheel: f32,
}

impl Cart {
    pub(super) fn random(lot: Lot, rng: &mut impl Rng) -> Self {
        let roofed = rng.random::<f32>() < if lot.other_city { 0.75 } else { 0.08 };
        Self {
            person: Person::random(rng),
            half: between(rng, 17.0, 24.0) / 2.0,
            height: between(rng, 16.5, 19.5),
            bed: between(rng, 3.0, 5.2),
            side: between(rng, 2.6, 4.4),
            wood: if lot.other_city {
                cloth(rng)
            } else {
                pick(
                    rng,
                    [[134, 92, 52], [160, 120, 76], [96, 76, 56], [110, 116, 120]],
                )
            },
            goods: std::array::from_fn(|_| hsv(rng.random(), 0.7, between(rng, 0.5, 0.9))),
            roof: roofed.then(|| hsv(rng.random(), 0.7, 0.8)),
            wheel: if lot.other_city {
                between(rng, 1.4, 2.0)
            } else {
                between(rng, 2.2, 3.0)
            },
        }
    }
}

impl Individual for Cart {
    const PHASES: usize = 4;

    fn paint(&self, canvas: &mut Canvas, phase: f32) {
        let (half, h) = (self.half, self.height);
        let walker = -half + 3.0;
        let (hip, shoulder) = (h * 0.46, h * 0.8);
        self.person.legs(canvas, (walker, hip), 2.2, phase);
        canvas.polygon(
            &[
                (walker - 2.0, hip - 0.4),
                (walker - 1.6, shoulder),
                (walker + 2.4, shoulder),
                (walker + 1.8, hip - 0.4),
            ],
            self.person.top,
        );
        self.person.head(canvas, (walker + 1.0, h * 0.9), h * 0.085);
        let (rear, top) = (walker + 4.2, self.bed + self.side);
        canvas.line(
            (walker + 0.8, shoulder - 1.4),
            (rear, top - 0.6),
            1.2,
            shade(self.person.top, 0.75),
        );
        let width = half - rear;
        for (i, color) in self.goods.into_iter().enumerate() {
            let x = rear + width * (i as f32 + 0.5) / 3.0;
            canvas.ellipse((x, top), (width / 5.2, 2.0), color);
        }
        canvas.rect((rear, self.bed), (half, top), self.wood);
        canvas.rect(
            (rear, self.bed),
            (half, self.bed + 0.8),
            shade(self.wood, 0.6),
        );
        canvas.line(
            (rear + 1.0, self.bed),
            (rear + 1.0, 1.0),
            0.8,
            shade(self.wood, 0.6),
        );
        if let Some(color) = self.roof {
            for x in [rear + 0.8, half - 0.8] {
                canvas.line((x, top), (x, h - 1.5), 0.6, DARK);
            }
            canvas.polygon(
                &[
                    (rear - 1.6, h - 2.0),
                    (rear + 1.0, h),
                    (half - 1.0, h),
                    (half + 0.8, h - 2.0),
                ],
                color,
            );
        }
        for x in [rear + width * 0.36, half - self.wheel] {
            canvas.ring((x, self.wheel), (self.wheel, self.wheel), 0.55, TYRE);
        }
    }

    fn lights(&self) -> Vec<(LightKind, Point)> {
        vec![]
    }
}
