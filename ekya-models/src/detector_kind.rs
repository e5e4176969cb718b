//! Names of the detection networks, as configurations spell them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network that finds objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DetectorKind {
    /// A quarter of a million parameters, a few milliseconds a frame on a CPU core.
    FastestDet,
    /// Darknet's yolov3-tiny.
    TinyYoloV3,
    /// SSDLite on MobileNetV2.
    SsdLite,
}

impl DetectorKind {
    /// All of them, the cheapest first.
    pub const ALL: [Self; 3] = [Self::FastestDet, Self::SsdLite, Self::TinyYoloV3];

    /// Its name in configurations and files of weights.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FastestDet => "fastestdet",
            Self::TinyYoloV3 => "tinyyolov3",
            Self::SsdLite => "ssdlite",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_configurations() {
        for kind in DetectorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
