//! Schedulers as a configuration names them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who decides about shares and retrainings: `ekya`, `ekya:optimal`, `none`, or `uniform:F:C` with the
/// fraction F of every device for inference and the C-th retraining configuration (from 0) for every stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum SchedulerConfig {
    /// Thief scheduler on micro-profiles.
    Ekya,
    /// The best plan found on micro-profiles, retrainings mostly one after another.
    EkyaOptimal,
    /// No retraining.
    None,
    /// Fixed split and fixed configuration.
    Uniform {
        /// Fraction of every device that inference gets, in (0, 1).
        inference: f64,
        /// Index into `learning.configurations`.
        configuration: usize,
    },
}

impl TryFrom<String> for SchedulerConfig {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "unknown scheduler '{text}': use ekya, ekya:optimal, none or uniform:F:C (as in uniform:0.5:0)"
            )
        };
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("ekya"), None, ..) => Ok(Self::Ekya),
            (Some("ekya"), Some("optimal"), None, _) => Ok(Self::EkyaOptimal),
            (Some("none"), None, ..) => Ok(Self::None),
            (Some("uniform"), Some(fraction), Some(index), None) => {
                let inference: f64 = fraction.parse().map_err(|_| wrong())?;
                let configuration = index.parse().map_err(|_| wrong())?;
                if !(inference > 0.0 && inference < 1.0) {
                    return Err(format!(
                        "in '{text}' the inference fraction must lie between 0 and 1, both excluded"
                    ));
                }
                Ok(Self::Uniform {
                    inference,
                    configuration,
                })
            }
            _ => Err(wrong()),
        }
    }
}

impl From<SchedulerConfig> for String {
    fn from(scheduler: SchedulerConfig) -> Self {
        scheduler.to_string()
    }
}

impl std::str::FromStr for SchedulerConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl std::fmt::Display for SchedulerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ekya => write!(f, "ekya"),
            Self::EkyaOptimal => write!(f, "ekya:optimal"),
            Self::None => write!(f, "none"),
            Self::Uniform {
                inference,
                configuration,
            } => write!(f, "uniform:{inference}:{configuration}"),
        }
    }
}
