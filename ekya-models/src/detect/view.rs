//! Which part of a picture a network sees, and the pixels it gets.

use crate::{BBox, Image, ModelError};

/// A rectangle of a picture that is stretched over a network's square input. It may reach beyond
/// the picture; a negative width mirrors it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct View {
    /// Where the input's left edge lies, in pixels of the picture.
    pub(super) x: f32,
    /// Where the input's upper edge lies, in pixels of the picture.
    pub(super) y: f32,
    /// From the input's left edge to its right edge, in pixels of the picture.
    pub(super) width: f32,
    /// From the input's upper edge to its lower edge, in pixels of the picture.
    pub(super) height: f32,
}

/// How a network wants its input values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    /// Factor from 0..=255 to the network's scale.
    pub(super) scale: f32,
    /// Value (0..=255) outside the picture.
    pub(super) outside: f32,
}

impl View {
    /// The whole picture, stretched to a square.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for a picture without pixels.
    pub(super) fn whole(image: &Image) -> Result<Self, ModelError> {
        let (width, height) = size(image)?;
        Ok(Self {
            x: 0.0,
            y: 0.0,
            width,
            height,
        })
    }

    /// The whole picture at the upper left of a square, its proportions kept.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for a picture without pixels.
    pub(super) fn letterbox(image: &Image) -> Result<Self, ModelError> {
        let (width, height) = size(image)?;
        let side = width.max(height);
        Ok(Self {
            x: 0.0,
            y: 0.0,
            width: side,
            height: side,
        })
    }

    /// A box in fractions of the input's side, in pixels of the picture.
    pub(super) fn to_picture(self, unit: BBox) -> BBox {
        let (a, b) = (self.x + unit.x1 * self.width, self.x + unit.x2 * self.width);
        BBox {
            x1: a.min(b),
            y1: self.y + unit.y1 * self.height,
            x2: a.max(b),
            y2: self.y + unit.y2 * self.height,
        }
    }

    /// A box in pixels of the picture, in fractions of the input's side.
    pub(super) fn to_unit(self, bbox: BBox) -> BBox {
        let (a, b) = (
            (bbox.x1 - self.x) / self.width,
            (bbox.x2 - self.x) / self.width,
        );
        BBox {
            x1: a.min(b),
            y1: (bbox.y1 - self.y) / self.height,
            x2: a.max(b),
            y2: (bbox.y2 - self.y) / self.height,
        }
    }

    /// Samples the picture bilinearly (no smoothing, as the networks were trained) into `out`: three
    /// planes B, G, R of `side * side` values each.
    pub(super) fn sample(self, image: &Image, side: usize, levels: Levels, out: &mut [f32]) {
        debug_assert_eq!(out.len(), 3 * side * side);
        out.fill(levels.outside * levels.scale);
        let columns = taps(self.x, self.width, image.width(), side);
        // Taps inside the picture are neighbours, so only the ends are cut off.
        let Some(first) = columns.iter().position(Option::is_some) else {
            return;
        };
        let columns: Vec<Tap> = columns.into_iter().flatten().collect();
        let mut lines = Lines::new(image, &columns);
        for (row, tap) in taps(self.y, self.height, image.height(), side)
            .iter()
            .enumerate()
        {
            let Some(tap) = tap else { continue };
            let (above, below) = lines.pair(tap);
            for (plane, (above, below)) in above.iter().zip(below).enumerate() {
                let start = (plane * side + row) * side + first;
                let values = &mut out[start..start + columns.len()];
                for ((value, above), below) in values.iter_mut().zip(above).zip(below) {
                    *value = (above + (below - above) * tap.weight) * levels.scale;
                }
            }
        }
    }
}

/// Rows of a picture stretched to the width of the input. Two are kept, because an input row lies
/// between two neighbours and the next input row often between the same.
struct Lines<'a> {
    image: &'a Image,
    columns: &'a [Tap],
    /// The row last stretched among the even ones and among the odd ones, planes B, G, R.
    kept: [(Option<usize>, [Vec<f32>; 3]); 2],
}

impl<'a> Lines<'a> {
    fn new(image: &'a Image, columns: &'a [Tap]) -> Self {
        let empty = || (None, [(); 3].map(|()| vec![0.0; columns.len()]));
        Self {
            image,
            columns,
            kept: [empty(), empty()],
        }
    }

    /// The two rows of a tap.
    fn pair(&mut self, tap: &Tap) -> (&[Vec<f32>; 3], &[Vec<f32>; 3]) {
        self.stretch(tap.low);
        self.stretch(tap.high);
        (&self.kept[tap.low % 2].1, &self.kept[tap.high % 2].1)
    }

    fn stretch(&mut self, row: usize) {
        let (kept, planes) = &mut self.kept[row % 2];
        if kept.replace(row) == Some(row) {
            return;
        }
        let stride = self.image.width() * 3;
        let pixels = &self.image.rgb()[row * stride..][..stride];
        let [blue, green, red] = planes;
        for (channel, plane) in [red, green, blue].into_iter().enumerate() {
            for (value, tap) in plane.iter_mut().zip(self.columns) {
                let low = f32::from(pixels[tap.low * 3 + channel]);
                let high = f32::from(pixels[tap.high * 3 + channel]);
                *value = low + (high - low) * tap.weight;
            }
        }
    }
}

/// Width and height of a picture that has pixels.
fn size(image: &Image) -> Result<(f32, f32), ModelError> {
    if image.width() == 0 || image.height() == 0 {
        return Err(ModelError::BadInput(format!("{image:?} has no pixels")));
    }
    Ok((image.width() as f32, image.height() as f32))
}

/// The two neighbours that a sample lies between.
#[derive(Debug, Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    /// Weight of `high`, 0..=1.
    weight: f32,
}

/// Where each of `side` samples falls among `length` pixels; `None` outside the picture.
fn taps(start: f32, extent: f32, length: usize, side: usize) -> Vec<Option<Tap>> {
    let last = length - 1;
    (0..side)
        .map(|i| {
            let edge = start + (i as f32 + 0.5) * extent / side as f32;
            if edge < 0.0 || edge >= length as f32 {
                return None;
            }
            let centre = (edge - 0.5).clamp(0.0, last as f32);
            let low = centre as usize;
            Some(Tap {
                low,
                high: (low + 1).min(last),
                weight: centre - low as f32,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: Levels = Levels {
        scale: 1.0,
        outside: 114.0,
    };

    /// 4×2 pixels; red counts columns in tens, green rows in tens, blue is 200.
    fn image() -> Image {
        let mut rgb = Vec::new();
        for y in 0..2u8 {
            for x in 0..4u8 {
                rgb.extend([x * 10, y * 10, 200]);
            }
        }
        Image::new(4, 2, rgb).unwrap()
    }

    fn sampled(view: View, side: usize) -> Vec<f32> {
        let mut out = vec![-1.0; 3 * side * side];
        view.sample(&image(), side, RAW, &mut out);
        out
    }

    #[test]
    fn planes_are_blue_green_red() {
        let out = sampled(View::whole(&image()).unwrap(), 2);
        assert_eq!(out[..4], [200.0; 4]);
        assert_eq!(out[4..8], [0.0, 0.0, 10.0, 10.0]);
        assert_eq!(out[8..], [5.0, 25.0, 5.0, 25.0]);
    }

    #[test]
    fn letterbox_pads_below() {
        let out = sampled(View::letterbox(&image()).unwrap(), 4);
        assert_eq!(out[32..40], [0.0, 10.0, 20.0, 30.0, 0.0, 10.0, 20.0, 30.0]);
        assert_eq!(out[40..], [114.0; 8]);
    }

    #[test]
    fn negative_width_mirrors() {
        let view = View {
            x: 4.0,
            y: 0.0,
            width: -4.0,
            height: 2.0,
        };
        let out = sampled(view, 4);
        assert_eq!(out[32..36], [30.0, 20.0, 10.0, 0.0]);
        let unit = view.to_unit(BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        });
        assert_eq!(
            unit,
            BBox {
                x1: 0.75,
                y1: 0.0,
                x2: 1.0,
                y2: 0.5
            }
        );
    }

    #[test]
    fn boxes_go_there_and_back() {
        let bbox = BBox {
            x1: 3.0,
            y1: 1.0,
            x2: 20.0,
            y2: 9.0,
        };
        for width in [31.0, -31.0] {
            let view = View {
                x: 5.0,
                y: -2.0,
                width,
                height: 17.0,
            };
            let back = view.to_picture(view.to_unit(bbox));
            assert!(
                (back.x1 - 3.0).abs() < 1e-5 && (back.x2 - 20.0).abs() < 1e-5,
                "{back:?}"
            );
            assert!(
                (back.y1 - 1.0).abs() < 1e-5 && (back.y2 - 9.0).abs() < 1e-5,
                "{back:?}"
            );
        }
    }

    #[test]
    fn a_picture_without_pixels_is_refused() {
        let empty = Image::new(0, 5, Vec::new()).unwrap();
        assert!(matches!(View::whole(&empty), Err(ModelError::BadInput(_))));
        assert!(matches!(
            View::letterbox(&empty),
            Err(ModelError::BadInput(_))
        ));
    }
}
