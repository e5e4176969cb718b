//! Names of the classifiers' networks, as configurations and checkpoints spell them.
//!
//! Only names and what follows from them: the layers are built where libtorch is.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Larger crops than any object of a camera fills, in pixels.
const INPUT_SIDE_MAX: usize = 1024;

/// A network for object crops. All end in a mean over the picture, a hidden layer and an output,
/// so they take square crops of many sizes.
///
/// Its name in configurations and checkpoints is what `Display` writes and `FromStr`
/// reads; `mobilenetv2` and `shufflenetv2` may be followed by a width, as in `mobilenetv2:0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// `small`: four convolutions; trains in seconds on a CPU core.
    #[default]
    Small,
    /// `teacher`: a residual network more than ten times as expensive as `small`; the teacher of
    /// the procedural scene.
    Teacher,
    /// `mobilenetv2`: MobileNetV2 (Sandler et al. 2018), narrower or wider.
    MobileNetV2(Width),
    /// `shufflenetv2`: ShuffleNetV2 (Ma et al. 2018), in the published widths.
    ShuffleNetV2(ShuffleWidth),
    /// `resnet18` (He et al. 2016).
    ResNet18,
    /// `resnet101` (He et al. 2016).
    ResNet101,
    /// `resnext101`: ResNeXt101 with 32 groups of 8 channels (Xie et al. 2017).
    ResNeXt101,
}

impl Architecture {
    /// Side of the square crops that the network is meant for, in pixels; a classifier may be given
    /// another of [`Architecture::input_sides`].
    #[must_use]
    pub const fn input_side(self) -> usize {
        match self {
            Self::Small | Self::Teacher => 32,
            Self::MobileNetV2(_) | Self::ShuffleNetV2(_) | Self::ResNet18 => 64,
            Self::ResNet101 | Self::ResNeXt101 => 224,
        }
    }

    /// Sides of crops that it can be made for. In smaller ones its last map would have less than
    /// 2 × 2 values, too few for the statistics of a single crop.
    #[must_use]
    pub const fn input_sides(self) -> RangeInclusive<usize> {
        let smallest = match self {
            Self::Teacher => 8,
            Self::Small => 16,
            _ => 64,
        };
        smallest..=INPUT_SIDE_MAX
    }
}

/// What the channels of a network are multiplied with, in hundredths: 10 to 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width(u16);

impl Width {
    /// The published network.
    pub const ONE: Self = Self(100);

    /// That many hundredths; `None` below 10 and above 200.
    #[must_use]
    pub const fn from_hundredths(hundredths: u16) -> Option<Self> {
        match hundredths {
            10..=200 => Some(Self(hundredths)),
            _ => None,
        }
    }

    /// The width in hundredths.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.0
    }
}

/// Widths of ShuffleNetV2 that are published; their channels are no simple multiples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShuffleWidth {
    /// 0.5
    Half,
    /// 1.0
    One,
    /// 1.5
    OneAndHalf,
    /// 2.0
    Two,
}

impl ShuffleWidth {
    const ALL: [Self; 4] = [Self::Half, Self::One, Self::OneAndHalf, Self::Two];

    const fn hundredths(self) -> u16 {
        match self {
            Self::Half => 50,
            Self::One => 100,
            Self::OneAndHalf => 150,
            Self::Two => 200,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, width) = match self {
            Self::Small => ("small", None),
            Self::Teacher => ("teacher", None),
            Self::MobileNetV2(width) => ("mobilenetv2", Some(width.hundredths())),
            Self::ShuffleNetV2(width) => ("shufflenetv2", Some(width.hundredths())),
            Self::ResNet18 => ("resnet18", None),
            Self::ResNet101 => ("resnet101", None),
            Self::ResNeXt101 => ("resnext101", None),
        };
        match width {
            None => f.pad(name),
            // At least one decimal: 0.5, 1.0, 0.35.
            Some(width) => f.pad(&format!("{name}:{:?}", f64::from(width) / 100.0)),
        }
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.to_string()
    }
}

/// A name that is no network's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// There is no network of that name.
    #[error(
        "no network '{0}'; there are small, teacher, mobilenetv2, shufflenetv2, resnet18, resnet101 and resnext101"
    )]
    Unknown(String),
    /// The network is not made in that width, or in one width only.
    #[error("no width '{width}' of {network}; {expected}")]
    Width {
        /// The network, as written.
        network: String,
        /// The width, as written.
        width: String,
        /// Widths that there are.
        expected: &'static str,
    },
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(text: &str) -> Result<Self, ArchitectureError> {
        let (network, width) = match text.split_once(':') {
            Some((network, width)) => (network, Some(width)),
            None => (text, None),
        };
        let hundredths = width.map_or(Some(100), hundredths);
        let (found, expected) = match network {
            "mobilenetv2" => (
                hundredths
                    .and_then(Width::from_hundredths)
                    .map(Self::MobileNetV2),
                "it goes from 0.1 to 2.0 in steps of 0.01",
            ),
            "shufflenetv2" => (
                ShuffleWidth::ALL
                    .into_iter()
                    .find(|width| hundredths == Some(width.hundredths()))
                    .map(Self::ShuffleNetV2),
                "there are 0.5, 1.0, 1.5 and 2.0",
            ),
            _ => (
                width.is_none().then(|| plain(network)).transpose()?,
                "it has one width only",
            ),
        };
        found.ok_or_else(|| ArchitectureError::Width {
            network: network.to_owned(),
            width: width.unwrap_or_default().to_owned(),
            expected,
        })
    }
}

/// The network of a name without a width.
fn plain(name: &str) -> Result<Architecture, ArchitectureError> {
    match name {
        "small" => Ok(Architecture::Small),
        "teacher" => Ok(Architecture::Teacher),
        "resnet18" => Ok(Architecture::ResNet18),
        "resnet101" => Ok(Architecture::ResNet101),
        "resnext101" => Ok(Architecture::ResNeXt101),
        _ => Err(ArchitectureError::Unknown(name.to_owned())),
    }
}

/// A decimal number in hundredths, if it is a whole number of them.
fn hundredths(text: &str) -> Option<u16> {
    let hundredths = text.parse::<f64>().ok()? * 100.0;
    let whole = hundredths.round();
    let exact = (hundredths - whole).abs() < 1e-6 && (0.0..=1e4).contains(&whole);
    exact.then_some(whole as u16)
}

impl TryFrom<String> for Architecture {
    type Error = ArchitectureError;

    fn try_from(text: String) -> Result<Self, ArchitectureError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_back() {
        for (name, network) in [
            ("small", Architecture::Small),
            ("teacher", Architecture::Teacher),
            ("resnet18", Architecture::ResNet18),
            ("resnet101", Architecture::ResNet101),
            ("resnext101", Architecture::ResNeXt101),
            ("mobilenetv2:0.35", Architecture::MobileNetV2(Width(35))),
            ("mobilenetv2:1.0", Architecture::MobileNetV2(Width::ONE)),
            (
                "shufflenetv2:1.5",
                Architecture::ShuffleNetV2(ShuffleWidth::OneAndHalf),
            ),
        ] {
            assert_eq!(name.parse(), Ok(network));
            assert_eq!(network.to_string(), name);
            assert_eq!(serde_json::to_value(network).unwrap(), name);
        }
    }

    #[test]
    fn a_width_may_be_left_out() {
        let one = [
            Architecture::MobileNetV2(Width::ONE),
            Architecture::ShuffleNetV2(ShuffleWidth::One),
        ];
        for (name, network) in ["mobilenetv2", "shufflenetv2"].into_iter().zip(one) {
            assert_eq!(name.parse(), Ok(network));
            assert_eq!(format!("{name}:1").parse(), Ok(network));
        }
    }

    #[test]
    fn names_of_no_network_say_what_there_is() {
        for (name, expected) in [
            ("resnet50", "no network 'resnet50'; there are small"),
            (
                "small:0.5",
                "no width '0.5' of small; it has one width only",
            ),
            ("mobilenetv2:0.05", "it goes from 0.1 to 2.0"),
            ("mobilenetv2:0.123", "in steps of 0.01"),
            ("mobilenetv2:nan", "no width 'nan'"),
            ("mobilenetv2:", "no width ''"),
            ("shufflenetv2:0.75", "there are 0.5, 1.0, 1.5 and 2.0"),
        ] {
            let refused = name.parse::<Architecture>().unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn every_width_is_read_back(hundredths in 10u16..=200) {
            let network = Architecture::MobileNetV2(Width::from_hundredths(hundredths).unwrap());
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,12}", width in ".{0,8}") {
            let _ = text.parse::<Architecture>();
            let _ = format!("mobilenetv2:{width}").parse::<Architecture>();
        }
    }
}
