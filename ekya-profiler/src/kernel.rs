//! How alike the gains of two retrainings are taken to be.
//!
//! A gain is a sum of normal effects, each shared by the retrainings that have something in common.
//! Between retrainings `i` and `j`, with errors `e` (1 − start accuracy) and
//! `k = exp(−½ · squared distance of the configurations / 2)`:
//!
//! | effect | covariance | shared by |
//! |---|---|---|
//! | any retraining's gain | `everywhere` | all |
//! | what part of the error goes | `error · e_i · e_j` | all |
//! | the configuration's | `config · k` | alike configurations |
//! | what part of the error it removes | `config_error · k · e_i · e_j` | alike configurations |
//! | the stream's | `stream` | a stream |
//! | the configuration's with it | `stream_config · k` | a stream, alike configurations |
//! | the occasion's | `occasion` | a window of a stream |
//! | the configuration's then | `occasion_config · k` | a window of a stream, alike configurations |
//! | chance | `noise` | nobody |
//!
//! So a stream never seen is predicted as the others, with a doubt as wide as they differ; its own
//! outcomes soon count more than theirs; and what one configuration shows in a window, a
//! micro-profile, say, tells something about the others in it. The expected gain before any
//! evidence is a quarter of the error.

use serde::{Deserialize, Serialize};

use crate::Point;

/// Gain that is expected of a retraining that nothing is known of, as a part of the error.
pub(crate) const PRIOR_GAIN: f64 = 0.25;

/// Variances of the effects; see the [module's table](self).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Of any retraining's gain about the expected one.
    pub everywhere: f64,
    /// Of the part of the error that goes.
    pub error: f64,
    /// Of a configuration's effect.
    pub config: f64,
    /// Of the part of the error that a configuration removes.
    pub config_error: f64,
    /// Between streams.
    pub stream: f64,
    /// Of how well a configuration suits a stream.
    pub stream_config: f64,
    /// Between the windows of a stream.
    pub occasion: f64,
    /// Of how well a configuration suits a window.
    pub occasion_config: f64,
    /// Of the same retraining done again.
    pub noise: f64,
}

impl Default for Kernel {
    /// Round numbers near the likeliest for ResNet18 on eight cities (432 outcomes); predictions
    /// hardly change when any of them is halved or doubled.
    fn default() -> Self {
        Self {
            everywhere: 0.01,
            error: 0.1,
            config: 0.001,
            config_error: 0.03,
            stream: 0.001,
            stream_config: 0.0003,
            occasion: 0.001,
            occasion_config: 0.0006,
            noise: 0.0004,
        }
    }
}

impl Kernel {
    /// Covariance of two gains, chance left out.
    #[must_use]
    pub fn covariance(&self, a: &Point, b: &Point) -> f64 {
        let alike = (-0.25 * a.config.squared_distance(&b.config)).exp();
        let errors = a.error() * b.error();
        let mut sum = self.everywhere
            + self.error * errors
            + (self.config + self.config_error * errors) * alike;
        if a.stream == b.stream {
            sum += self.stream + self.stream_config * alike;
            if a.occasion == b.occasion {
                sum += self.occasion + self.occasion_config * alike;
            }
        }
        sum
    }
}
