//! Cuts objects out of pictures, scaled to the side of a network's input.

use crate::{BBox, Image};

/// What is added on each side of a box, as a part of its size: a little of the surroundings helps.
const CONTEXT: f32 = 0.1;
/// Values of a channel are shifted and scaled to about -1..1.
const MIDDLE: f32 = 127.5;

/// About how many pixels on each side of a sample are looked at in a line. Where more lie there, some
/// are skipped, so that a crop costs about the same however large its object is.
const REACH: f32 = 2.0;

/// Appends the crop of `region` to `out`: three planes R, G, B of `side × side` values, about -1..1.
/// Scaling weighs pixels by a triangle as wide as two steps: bilinear when the crop grows, and with
/// little aliasing when it shrinks. What lies outside the picture repeats its edge; a picture without
/// pixels is grey.
pub(super) fn cut(image: &Image, region: &BBox, side: usize, out: &mut Vec<f32>) {
    let plane = side * side;
    let start = out.len();
    out.resize(start + 3 * plane, 0.0);
    if image.rgb().is_empty() {
        return;
    }
    let (width, height) = (region.x2 - region.x1, region.y2 - region.y1);
    let columns = Line::new(
        region.x1 - CONTEXT * width,
        width * (1.0 + 2.0 * CONTEXT),
        side,
        image.width(),
    );
    let rows = Line::new(
        region.y1 - CONTEXT * height,
        height * (1.0 + 2.0 * CONTEXT),
        side,
        image.height(),
    );
    let (pixels, _) = image.rgb().as_chunks::<3>();
    let (red, rest) = out[start..].split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for y in 0..side {
        for x in 0..side {
            let [r, g, b] = weigh(pixels, image.width(), rows.taps(y), columns.taps(x));
            let at = y * side + x;
            red[at] = r / MIDDLE - 1.0;
            green[at] = g / MIDDLE - 1.0;
            blue[at] = b / MIDDLE - 1.0;
        }
    }
}

/// Weighted mean of the pixels where the taps cross.
fn weigh(pixels: &[[u8; 3]], width: usize, rows: &[Tap], columns: &[Tap]) -> [f32; 3] {
    let mut sum = [0.0; 3];
    for row in rows {
        let line = &pixels[row.at * width..][..width];
        for column in columns {
            let weight = row.weight * column.weight;
            let [r, g, b] = line[column.at];
            sum[0] += weight * f32::from(r);
            sum[1] += weight * f32::from(g);
            sum[2] += weight * f32::from(b);
        }
    }
    sum
}

/// A pixel of a line and its part in a sample.
#[derive(Debug, Clone, Copy)]
struct Tap {
    at: usize,
    weight: f32,
}

/// Samples spread evenly over a piece of a line of pixels.
struct Line {
    taps: Vec<Tap>,
    /// Where the taps of each sample end.
    ends: Vec<usize>,
}

impl Line {
    /// `count` samples over `length` pixels from `from`, in a line of `limit` pixels (at least 1).
    fn new(from: f32, length: f32, count: usize, limit: usize) -> Self {
        let mut line = Self {
            taps: Vec::with_capacity(4 * count),
            ends: Vec::with_capacity(count),
        };
        // Boxes from a bad detector (NaN, infinite, inside out) must not crash the cutter: each of
        // them gives some sample within the line.
        let last = (limit - 1) as f32;
        let bound = 4.0 * limit as f32;
        let step = length.max(0.0).min(bound) / count as f32;
        let from = from.max(-bound).min(bound);
        for i in 0..count {
            line.push(
                (from + (i as f32 + 0.5) * step - 0.5).clamp(0.0, last),
                step.max(1.0),
                last,
            );
        }
        line
    }

    /// A sample at `middle` (within the line), of pixels less than `radius` away.
    fn push(&mut self, middle: f32, radius: f32, last: f32) {
        let stride = (radius / REACH).ceil().max(1.0);
        let begin = self.taps.len();
        let mut at = middle.floor() - ((radius - 1.0) / stride).ceil() * stride;
        while at < middle + radius {
            let weight = 1.0 - (at - middle).abs() / radius;
            if weight > 0.0 {
                self.taps.push(Tap {
                    at: at.clamp(0.0, last) as usize,
                    weight,
                });
            }
            at += stride;
        }
        let sum: f32 = self.taps[begin..].iter().map(|tap| tap.weight).sum();
        self.taps[begin..]
            .iter_mut()
            .for_each(|tap| tap.weight /= sum);
        self.ends.push(self.taps.len());
    }

    fn taps(&self, sample: usize) -> &[Tap] {
        let begin = if sample == 0 {
            0
        } else {
            self.ends[sample - 1]
        };
        &self.taps[begin..self.ends[sample]]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gradient(width: usize, height: usize) -> Image {
        let rgb = (0..width * height)
            .flat_map(|i| [(i % width) as u8, (i / width) as u8, 7])
            .collect();
        Image::new(width, height, rgb).unwrap()
    }

    #[test]
    fn a_gradient_stays_one() {
        let mut out = Vec::new();
        let region = BBox {
            x1: 10.0,
            y1: 10.0,
            x2: 30.0,
            y2: 30.0,
        };
        cut(&gradient(40, 40), &region, 8, &mut out);
        let row = &out[..8];
        assert!(row.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            out[128..]
                .iter()
                .all(|value| (value - (7.0 - MIDDLE) / MIDDLE).abs() < 1e-6)
        );
    }

    /// Stripes one pixel wide turn grey when they shrink, instead of into wider stripes.
    #[test]
    fn fine_stripes_turn_grey() {
        let rgb = (0..200 * 200)
            .flat_map(|i| [if i % 2 == 0 { 255 } else { 0 }; 3])
            .collect();
        let mut out = Vec::new();
        let region = BBox {
            x1: 20.0,
            y1: 20.0,
            x2: 130.0,
            y2: 130.0,
        };
        cut(&Image::new(200, 200, rgb).unwrap(), &region, 32, &mut out);
        let farthest = out.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        assert!(farthest < 0.35, "{farthest}");
    }

    #[test]
    fn a_crop_of_its_own_size_is_copied() {
        // 10 pixels with a tenth more on each side are 12.
        let mut out = Vec::new();
        cut(
            &gradient(20, 20),
            &BBox {
                x1: 5.0,
                y1: 5.0,
                x2: 15.0,
                y2: 15.0,
            },
            12,
            &mut out,
        );
        let expected = (0..12).map(|x| (4 + x) as f32 / MIDDLE - 1.0);
        assert!(
            out.iter()
                .zip(expected)
                .all(|(value, expected)| (value - expected).abs() < 1e-5)
        );
    }

    proptest! {
        #[test]
        fn any_box_gives_finite_values(x1: f32, y1: f32, x2: f32, y2: f32) {
            let mut out = Vec::new();
            cut(&gradient(9, 5), &BBox { x1, y1, x2, y2 }, 4, &mut out);
            prop_assert_eq!(out.len(), 48);
            prop_assert!(out.iter().all(|value| value.is_finite() && value.abs() <= 1.0 + 1e-5));
        }
    }
}
