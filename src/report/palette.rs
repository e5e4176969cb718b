//! Colours of the charts, told apart by people with any colour vision, on white and on black.
//!
//! The hues are those of Okabe and Ito (2008). An SVG carries the colours for a light page; a dark
//! page replaces them with the rules of [`dark_rules`].

use plotters::style::RGBColor;

/// A colour on a light page and the one that stands for it on a dark page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour {
    light: (u8, u8, u8),
    dark: (u8, u8, u8),
}

const fn colour(light: (u8, u8, u8), dark: (u8, u8, u8)) -> Colour {
    Colour { light, dark }
}

/// Text and axes.
pub(super) const INK: Colour = colour((0x3D, 0x44, 0x4D), (0xB7, 0xBD, 0xC8));
/// Grid.
pub(super) const GRID: Colour = colour((0xE4, 0xE7, 0xEB), (0x2E, 0x34, 0x3D));
/// Window boundaries.
pub(super) const BOUNDARY: Colour = colour((0x9A, 0xA3, 0xAE), (0x6B, 0x74, 0x80));
/// Ekya, and inference.
pub(super) const BLUE: Colour = colour((0x00, 0x6B, 0xB8), (0x4F, 0xA8, 0xEE));
/// Training.
pub(super) const VERMILLION: Colour = colour((0xD5, 0x5E, 0x00), (0xF0, 0x80, 0x30));
/// No retraining.
pub(super) const GREY: Colour = colour((0x6E, 0x76, 0x81), (0x9A, 0xA1, 0xAC));

/// Schedulers that have no colour of their own.
const OTHERS: [Colour; 6] = [
    colour((0xE0, 0x96, 0x00), (0xE6, 0x9F, 0x00)),
    colour((0x00, 0x9E, 0x73), (0x1D, 0xC2, 0x94)),
    colour((0xC4, 0x63, 0x98), (0xE0, 0x8F, 0xBC)),
    VERMILLION,
    colour((0x3F, 0xA3, 0xD9), (0x6C, 0xC4, 0xF2)),
    colour((0x9C, 0x8B, 0x00), (0xE8, 0xDA, 0x4A)),
];

impl Colour {
    /// For the drawing library, which draws for a light page.
    pub(super) fn rgb(self) -> RGBColor {
        let (red, green, blue) = self.light;
        RGBColor(red, green, blue)
    }

    /// As the drawing library writes it into the SVG.
    pub(super) fn light_hex(self) -> String {
        hex(self.light)
    }
}

/// Colour of the `index`-th of the schedulers that have none of their own; they repeat after six.
pub(super) fn other(index: usize) -> Colour {
    OTHERS[index % OTHERS.len()]
}

/// Style rules that turn the SVGs of a page into those for a dark page.
pub(super) fn dark_rules() -> String {
    let own = [INK, GRID, BOUNDARY, BLUE, GREY];
    let mut rules = String::new();
    for colour in own.into_iter().chain(OTHERS) {
        let (light, dark) = (hex(colour.light), hex(colour.dark));
        rules.push_str(&format!(
            "svg [stroke=\"{light}\"]{{stroke:{dark}}}svg [fill=\"{light}\"]{{fill:{dark}}}\n"
        ));
    }
    rules
}

fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Rules select by colour, so that a colour that stands for two things would be ambiguous.
    #[test]
    fn colours_are_distinct_on_either_page() {
        let all: Vec<Colour> = [INK, GRID, BOUNDARY, BLUE, GREY]
            .into_iter()
            .chain(OTHERS)
            .collect();
        let light: BTreeSet<_> = all.iter().map(|colour| colour.light).collect();
        assert_eq!(light.len(), all.len());
    }
}
