//! Which part of a picture a network sees, and the pixels it gets.

use crate::{BBox, Image, ModelError};

/// The rectangle, from a picture's upper left corner, that is stretched over a network's square
/// input. It may reach beyond the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct View {
    /// From the input's left edge to its right edge, in pixels of the picture.
    width: f32,
    /// From the input's upper edge to its lower edge, in pixels of the picture.
    height: f32,
}

/// Which colour comes first in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Blue, green, red.
    Bgr,
    /// Red, green, blue.
    Rgb,
}

/// How a network wants its input values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) order: Order,
    /// Factor from 0..=255 to the network's scale, for each colour in its order.
    pub(super) scale: [f32; 3],
    /// Added after that.
    pub(super) shift: [f32; 3],
    /// Value (0..=255) outside the picture.
    pub(super) outside: f32,
}

impl Levels {
    /// 0..=1 for every colour, grey outside the picture.
    pub(super) const fn to_one(order: Order) -> Self {
        Self {
            order,
            scale: [1.0 / 255.0; 3],
            shift: [0.0; 3],
            outside: 128.0,
        }
    }
}

impl View {
    /// The whole picture, stretched to a square.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for a picture without pixels.
    pub(super) fn whole(image: &Image) -> Result<Self, ModelError> {
        if image.width() == 0 || image.height() == 0 {
            return Err(ModelError::BadInput(format!("{image:?} has no pixels")));
        }
        Ok(Self {
            width: image.width() as f32,
            height: image.height() as f32,
        })
    }

    /// The whole picture at the upper left of a square, its proportions kept.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for a picture without pixels.
    pub(super) fn letterbox(image: &Image) -> Result<Self, ModelError> {
        let Self { width, height } = Self::whole(image)?;
        let side = width.max(height);
        Ok(Self {
            width: side,
            height: side,
        })
    }

    /// A box in fractions of the input's side, in pixels of the picture.
    pub(super) fn to_picture(self, unit: BBox) -> BBox {
        scaled(unit, self.width, self.height)
    }

    /// A box in pixels of the picture, in fractions of the input's side.
    pub(super) fn to_unit(self, bbox: BBox) -> BBox {
        scaled(bbox, 1.0 / self.width, 1.0 / self.height)
    }

    /// Samples the picture bilinearly (no smoothing, as the networks were trained) into `out`: three
    /// planes of `side * side` values each.
    pub(super) fn sample(self, image: &Image, side: usize, levels: Levels, out: &mut [f32]) {
        debug_assert_eq!(out.len(), 3 * side * side);
        for (plane, values) in out.chunks_exact_mut(side * side).enumerate() {
            values.fill(levels.outside * levels.scale[plane] + levels.shift[plane]);
        }
        let columns = taps(self.width, image.width(), side);
        let mut lines = Lines::new(image, &columns);
        for (row, tap) in taps(self.height, image.height(), side).iter().enumerate() {
            let (above, below) = lines.pair(tap);
            for (kept, (above, below)) in above.iter().zip(below).enumerate() {
                let plane = match levels.order {
                    Order::Bgr => kept,
                    Order::Rgb => 2 - kept,
                };
                let (scale, shift) = (levels.scale[plane], levels.shift[plane]);
                let start = (plane * side + row) * side;
                let values = &mut out[start..start + columns.len()];
                for ((value, above), below) in values.iter_mut().zip(above).zip(below) {
                    *value = (above + (below - above) * tap.weight) * scale + shift;
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

fn scaled(bbox: BBox, x: f32, y: f32) -> BBox {
    BBox {
        x1: bbox.x1 * x,
        y1: bbox.y1 * y,
        x2: bbox.x2 * x,
        y2: bbox.y2 * y,
    }
}

/// The two neighbours that a sample lies between.
#[derive(Debug, Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    /// Weight of `high`, 0..=1.
    weight: f32,
}

/// Where each of `side` samples over `extent` pixels falls among `length` pixels, up to the last that
/// does.
fn taps(extent: f32, length: usize, side: usize) -> Vec<Tap> {
    let last = length - 1;
    (0..side)
        .map(|i| (i as f32 + 0.5) * extent / side as f32)
        .take_while(|&position| position < length as f32)
        .map(|position| {
            let centre = (position - 0.5).clamp(0.0, last as f32);
            let low = centre as usize;
            Tap {
                low,
                high: (low + 1).min(last),
                weight: centre - low as f32,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: Levels = Levels {
        order: Order::Bgr,
        scale: [1.0; 3],
        shift: [0.0; 3],
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
    fn every_colour_is_scaled_and_shifted_in_its_place() {
        let levels = Levels {
            order: Order::Rgb,
            scale: [0.5, 2.0, 0.1],
            shift: [1.0, 2.0, -20.0],
            outside: 0.0,
        };
        let mut out = vec![f32::NAN; 12];
        View::whole(&image())
            .unwrap()
            .sample(&image(), 2, levels, &mut out);
        assert_eq!(out[..4], [3.5, 13.5, 3.5, 13.5]);
        assert_eq!(out[4..8], [2.0, 2.0, 22.0, 22.0]);
        assert_eq!(out[8..], [0.0; 4]);
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
    fn boxes_go_there_and_back() {
        let view = View::letterbox(&image()).unwrap();
        let bbox = BBox {
            x1: 1.0,
            y1: 0.5,
            x2: 3.0,
            y2: 2.0,
        };
        let unit = view.to_unit(bbox);
        assert_eq!(
            unit,
            BBox {
                x1: 0.25,
                y1: 0.125,
                x2: 0.75,
                y2: 0.5
            }
        );
        assert_eq!(view.to_picture(unit), bbox);
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
