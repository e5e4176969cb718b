//! Cuts objects out of pictures, scaled to the side of a network's input.

use crate::{BBox, Image};

/// What is added on each side of a box, as a part of its size: a little of the surroundings helps.
const CONTEXT: f32 = 0.1;
/// Values of a channel are shifted and scaled to about -1..1.
const MIDDLE: f32 = 127.5;

/// Appends the crop of `region` to `out`: three planes R, G, B of `side × side` values, bilinearly
/// scaled, about -1..1. What lies outside the picture repeats its edge.
pub(super) fn cut(image: &Image, region: &BBox, side: usize, out: &mut Vec<f32>) {
    let (width, height) = (region.x2 - region.x1, region.y2 - region.y1);
    let columns = samples(region.x1 - CONTEXT * width, width * (1.0 + 2.0 * CONTEXT), side, image.width());
    let rows = samples(region.y1 - CONTEXT * height, height * (1.0 + 2.0 * CONTEXT), side, image.height());
    let rgb = image.rgb();
    let stride = image.width() * 3;
    let start = out.len();
    let plane = side * side;
    out.resize(start + 3 * plane, 0.0);
    let planes = &mut out[start..];
    for (y, row) in rows.iter().enumerate() {
        let (above, below) = (&rgb[row.low * stride..], &rgb[row.high * stride..]);
        for (x, column) in columns.iter().enumerate() {
            for channel in 0..3 {
                let (left, right) = (column.low * 3 + channel, column.high * 3 + channel);
                let at = |line: &[u8]| {
                    let (left, right) = (f32::from(line[left]), f32::from(line[right]));
                    left + (right - left) * column.part
                };
                let (above, below) = (at(above), at(below));
                let value = above + (below - above) * row.part;
                planes[channel * plane + y * side + x] = (value - MIDDLE) / MIDDLE;
            }
        }
    }
}

/// Between which two pixels a sample lies, and how far from the first.
#[derive(Clone, Copy)]
struct Sample {
    low: usize,
    high: usize,
    part: f32,
}

/// `count` samples spread over `length` pixels from `from`, in a line of `limit` pixels.
fn samples(from: f32, length: f32, count: usize, limit: usize) -> Vec<Sample> {
    let last = limit.saturating_sub(1);
    let step = length / count as f32;
    let sample = |i: usize| {
        // NaN becomes 0: a box from a bad detector must not crash the cutter.
        let at = (from + (i as f32 + 0.5) * step - 0.5).clamp(0.0, last as f32).max(0.0);
        let low = (at as usize).min(last);
        Sample { low, high: (low + 1).min(last), part: at - low as f32 }
    };
    (0..count).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gradient(width: usize, height: usize) -> Image {
        let rgb = (0..width * height).flat_map(|i| [(i % width) as u8, (i / width) as u8, 7]).collect();
        Image::new(width, height, rgb).unwrap()
    }

    #[test]
    fn a_gradient_stays_one() {
        let mut out = Vec::new();
        let region = BBox { x1: 10.0, y1: 10.0, x2: 30.0, y2: 30.0 };
        cut(&gradient(40, 40), &region, 8, &mut out);
        let row = &out[..8];
        assert!(row.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(out[128..].iter().all(|value| (value - (7.0 - MIDDLE) / MIDDLE).abs() < 1e-6));
    }

    proptest! {
        #[test]
        fn any_box_gives_finite_values(x1: f32, y1: f32, x2: f32, y2: f32) {
            let mut out = Vec::new();
            cut(&gradient(9, 5), &BBox { x1, y1, x2, y2 }, 4, &mut out);
            prop_assert_eq!(out.len(), 48);
            prop_assert!(out.iter().all(|value| value.is_finite() && value.abs() <= 1.0));
        }
    }
}
