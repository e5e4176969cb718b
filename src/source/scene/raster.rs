//! Shapes on a small supersampled canvas, and the sprites that come out of it.

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];
/// A point in the canvas's own units.
pub(super) type Point = (f32, f32);

/// Canvas pixels per picture pixel and axis: shapes are drawn hard and smoothed by shrinking.
const SUPERSAMPLING: usize = 3;

/// A picture being drawn, in units that its view maps to pixels.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    /// Colour and coverage (0 or 255).
    px: Vec<[u8; 4]>,
    scale_x: f32,
    scale_y: f32,
    origin_x: f32,
    origin_y: f32,
}

impl Canvas {
    /// A canvas for a picture of `width` x `height` pixels with y downwards, `scale` pixels a unit
    /// and the unit origin at `(left, top)` pixels.
    pub(super) fn picture(width: usize, height: usize, scale: f32, origin: Point) -> Self {
        let ss = SUPERSAMPLING as f32;
        Self {
            width: width * SUPERSAMPLING,
            height: height * SUPERSAMPLING,
            px: vec![[0; 4]; width * height * SUPERSAMPLING * SUPERSAMPLING],
            scale_x: scale * ss,
            scale_y: scale * ss,
            origin_x: origin.0 * ss,
            origin_y: origin.1 * ss,
        }
    }

    /// A canvas for a sprite that fills `half_width` units to both sides of its anchor and `height`
    /// units above the ground, y upwards, `scale` pixels a unit, mirrored when it faces left.
    pub(super) fn sprite(half_width: f32, height: f32, scale: f32, faces_left: bool) -> Self {
        let half = (half_width * scale).ceil().max(1.0);
        let up = (height * scale).ceil().max(1.0);
        let mut canvas = Self::picture(2 * half as usize, up as usize, scale, (half, up));
        canvas.scale_y = -canvas.scale_y;
        if faces_left {
            canvas.scale_x = -canvas.scale_x;
        }
        canvas
    }

    fn to_px(&self, (x, y): Point) -> Point {
        (
            self.origin_x + x * self.scale_x,
            self.origin_y + y * self.scale_y,
        )
    }

    fn span(&mut self, row: usize, from: f32, to: f32, color: Rgb) {
        // A pixel belongs to a shape when its centre does.
        let from = (from - 0.5).ceil().max(0.0) as usize;
        let to = ((to - 0.5).ceil().max(0.0) as usize).min(self.width);
        if from < to {
            let [r, g, b] = color;
            self.px[row * self.width + from..row * self.width + to].fill([r, g, b, 255]);
        }
    }

    fn rows(&self, top: f32, bottom: f32) -> std::ops::Range<usize> {
        let from = (top - 0.5).ceil().max(0.0) as usize;
        let to = ((bottom - 0.5).ceil().max(0.0) as usize).min(self.height);
        from..to
    }

    /// An upright rectangle between two corners.
    pub(super) fn rect(&mut self, a: Point, b: Point, color: Rgb) {
        let (a, b) = (self.to_px(a), self.to_px(b));
        for row in self.rows(a.1.min(b.1), a.1.max(b.1)) {
            self.span(row, a.0.min(b.0), a.0.max(b.0), color);
        }
    }

    /// A polygon, even-odd where it crosses itself.
    pub(super) fn polygon(&mut self, points: &[Point], color: Rgb) {
        let points: Vec<Point> = points.iter().map(|&point| self.to_px(point)).collect();
        let top = points.iter().map(|p| p.1).fold(f32::INFINITY, f32::min);
        let bottom = points.iter().map(|p| p.1).fold(f32::NEG_INFINITY, f32::max);
        let mut crossings = Vec::with_capacity(points.len());
        for row in self.rows(top, bottom) {
            let y = row as f32 + 0.5;
            crossings.clear();
            for (i, &(x0, y0)) in points.iter().enumerate() {
                let (x1, y1) = points[(i + 1) % points.len()];
                if (y0 <= y) != (y1 <= y) {
                    crossings.push(x0 + (x1 - x0) * (y - y0) / (y1 - y0));
                }
            }
            crossings.sort_by(f32::total_cmp);
            for pair in crossings.chunks_exact(2) {
                self.span(row, pair[0], pair[1], color);
            }
        }
    }

    /// A filled ellipse.
    pub(super) fn ellipse(&mut self, center: Point, radii: Point, color: Rgb) {
        self.ring(center, radii, 0.0, color);
    }

    /// An ellipse with a hole: `hole` is the hole's size relative to the ellipse, 0..1.
    pub(super) fn ring(&mut self, center: Point, radii: Point, hole: f32, color: Rgb) {
        let (cx, cy) = self.to_px(center);
        let (rx, ry) = (
            (radii.0 * self.scale_x).abs(),
            (radii.1 * self.scale_y).abs(),
        );
        if rx <= 0.0 || ry <= 0.0 {
            return;
        }
        for row in self.rows(cy - ry, cy + ry) {
            let dy = (row as f32 + 0.5 - cy) / ry;
            let outer = rx * (1.0 - dy * dy).max(0.0).sqrt();
            let inner = rx * (hole * hole - dy * dy).max(0.0).sqrt();
            if inner > 0.0 {
                self.span(row, cx - outer, cx - inner, color);
                self.span(row, cx + inner, cx + outer, color);
            } else {
                self.span(row, cx - outer, cx + outer, color);
            }
        }
    }

    /// A straight line of `width` units.
    pub(super) fn line(&mut self, a: Point, b: Point, width: f32, color: Rgb) {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = dx.hypot(dy).max(1e-6);
        let (nx, ny) = (-dy / length * width / 2.0, dx / length * width / 2.0);
        let quad = [
            (a.0 + nx, a.1 + ny),
            (b.0 + nx, b.1 + ny),
            (b.0 - nx, b.1 - ny),
            (a.0 - nx, a.1 - ny),
        ];
        self.polygon(&quad, color);
    }

    /// The canvas shrunk to picture pixels.
    pub(super) fn shrink(&self) -> Sprite {
        let (width, height) = (self.width / SUPERSAMPLING, self.height / SUPERSAMPLING);
        let mut px = Vec::with_capacity(width * height);
        let samples = (SUPERSAMPLING * SUPERSAMPLING) as u32;
        for y in 0..height {
            for x in 0..width {
                let mut sum = [0u32; 4];
                for sy in 0..SUPERSAMPLING {
                    let start = (y * SUPERSAMPLING + sy) * self.width + x * SUPERSAMPLING;
                    for sample in &self.px[start..start + SUPERSAMPLING] {
                        for (total, &value) in sum.iter_mut().zip(sample) {
                            *total += u32::from(value);
                        }
                    }
                }
                px.push(sum.map(|total| (total / samples) as u8));
            }
        }
        Sprite {
            width,
            height,
            px,
            anchor_x: self.origin_x / SUPERSAMPLING as f32,
            anchor_y: self.origin_y / SUPERSAMPLING as f32,
        }
    }
}

/// A small picture with coverage, ready to be laid over another.
#[derive(Debug, Clone)]
pub(super) struct Sprite {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Colour multiplied by coverage, and coverage.
    pub(super) px: Vec<[u8; 4]>,
    /// Where it stands: pixels from its left edge, and from its upper edge.
    pub(super) anchor_x: f32,
    pub(super) anchor_y: f32,
}

/// The part of a sprite that is covered, in pixels from its anchor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extent {
    pub(super) left: f32,
    pub(super) top: f32,
    pub(super) right: f32,
    pub(super) bottom: f32,
}

impl Extent {
    /// The smallest extent that holds both.
    pub(super) fn union(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

impl Sprite {
    /// The same without its empty margins.
    pub(super) fn trimmed(&self) -> Self {
        let (mut left, mut top, mut right, mut bottom) = (self.width, self.height, 0, 0);
        for (i, px) in self.px.iter().enumerate() {
            if px[3] > 0 {
                let (x, y) = (i % self.width, i / self.width);
                (left, top) = (left.min(x), top.min(y));
                (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
            }
        }
        let px = (top..bottom)
            .flat_map(|y| &self.px[y * self.width + left..y * self.width + right])
            .copied()
            .collect();
        Self {
            width: right.saturating_sub(left),
            height: bottom.saturating_sub(top),
            px,
            anchor_x: self.anchor_x - left as f32,
            anchor_y: self.anchor_y - top as f32,
        }
    }

    /// The part that is at least half covered.
    pub(super) fn extent(&self) -> Extent {
        let (mut left, mut top, mut right, mut bottom) = (self.width, self.height, 0, 0);
        for (i, px) in self.px.iter().enumerate() {
            if px[3] >= 128 {
                let (x, y) = (i % self.width, i / self.width);
                (left, top) = (left.min(x), top.min(y));
                (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
            }
        }
        Extent {
            left: left as f32 - self.anchor_x,
            top: top as f32 - self.anchor_y,
            right: right as f32 - self.anchor_x,
            bottom: bottom as f32 - self.anchor_y,
        }
    }

    /// The sprite smeared sideways over `length` pixels; less than one and a half leaves it sharp.
    pub(super) fn smeared(&self, length: f32) -> Self {
        let taps = (length.round().max(0.0) as usize).min(9);
        if taps < 2 {
            return self.clone();
        }
        let width = self.width + taps - 1;
        let mut px = Vec::with_capacity(width * self.height);
        for row in self.px.chunks_exact(self.width) {
            for x in 0..width {
                let from = x.saturating_sub(taps - 1);
                let to = (x + 1).min(self.width);
                let mut sum = [0u32; 4];
                for sample in &row[from..to] {
                    for (total, &value) in sum.iter_mut().zip(sample) {
                        *total += u32::from(value);
                    }
                }
                px.push(sum.map(|total| (total / taps as u32) as u8));
            }
        }
        Self {
            width,
            height: self.height,
            px,
            anchor_x: self.anchor_x + (taps - 1) as f32 / 2.0,
            anchor_y: self.anchor_y,
        }
    }
}

/// `color` with every channel multiplied.
pub(super) fn shade(color: Rgb, factor: f32) -> Rgb {
    color.map(|channel| (f32::from(channel) * factor).clamp(0.0, 255.0) as u8)
}

/// The way from `a` to `b`, `part` 0..=1.
pub(super) fn blend(a: Rgb, b: Rgb, part: f32) -> Rgb {
    std::array::from_fn(|i| {
        (f32::from(a[i]) + (f32::from(b[i]) - f32::from(a[i])) * part).clamp(0.0, 255.0) as u8
    })
}

/// A colour from hue (0..1, around the circle), saturation and value (0..=1).
pub(super) fn hsv(hue: f32, saturation: f32, value: f32) -> Rgb {
    std::array::from_fn(|i| {
        // Each channel is a trapezoid over the hue, a third of the circle apart.
        let offset = [0.0, 2.0 / 3.0, 1.0 / 3.0][i];
        let angle = ((hue + offset).fract() * 6.0 - 3.0).abs() - 1.0;
        let pure = angle.clamp(0.0, 1.0);
        (255.0 * value * (1.0 - saturation * (1.0 - pure))) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_their_areas() {
        let area = |draw: fn(&mut Canvas)| {
            let mut canvas = Canvas::picture(40, 40, 1.0, (0.0, 0.0));
            draw(&mut canvas);
            let covered: u32 = canvas.shrink().px.iter().map(|px| u32::from(px[3])).sum();
            covered as f32 / 255.0
        };
        assert!((area(|c| c.rect((2.0, 2.0), (12.0, 22.0), [9; 3])) - 200.0).abs() < 1.0);
        assert!((area(|c| c.ellipse((20.0, 20.0), (10.0, 5.0), [9; 3])) - 157.0).abs() < 3.0);
        assert!((area(|c| c.ring((20.0, 20.0), (10.0, 10.0), 0.5, [9; 3])) - 235.6).abs() < 4.0);
        let triangle = |c: &mut Canvas| c.polygon(&[(0.0, 0.0), (21.0, 0.0), (0.0, 20.0)], [9; 3]);
        assert!((area(triangle) - 210.0).abs() < 3.0);
    }

    #[test]
    fn nothing_is_drawn_outside() {
        let mut canvas = Canvas::picture(4, 4, 1.0, (0.0, 0.0));
        canvas.rect((-9.0, -9.0), (99.0, 99.0), [200; 3]);
        canvas.ellipse((50.0, -50.0), (10.0, 10.0), [0; 3]);
        assert!(
            canvas
                .shrink()
                .px
                .iter()
                .all(|px| *px == [200, 200, 200, 255])
        );
    }

    #[test]
    fn smearing_keeps_the_light_and_the_middle() {
        let mut canvas = Canvas::sprite(5.0, 5.0, 1.0, false);
        canvas.rect((-2.0, 0.0), (2.0, 4.0), [100; 3]);
        let (sharp, smeared) = (canvas.shrink(), canvas.shrink().smeared(3.0));
        let light = |s: &Sprite| s.px.iter().map(|px| f32::from(px[3])).sum::<f32>();
        assert!((light(&sharp) - light(&smeared)).abs() / light(&sharp) < 0.02);
        let middle = |s: &Sprite| s.extent().left + s.extent().right;
        assert!((middle(&sharp) - middle(&smeared)).abs() < 0.01);
    }

    #[test]
    fn hues_go_round() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [255, 0, 0]);
        assert_eq!(hsv(1.0 / 3.0, 1.0, 1.0), [0, 255, 0]);
        assert_eq!(hsv(0.7, 0.0, 0.5), [127, 127, 127]);
    }
}
