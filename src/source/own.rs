//! What is configured of a source that the program which runs a node brings along.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source of the program's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OwnSourceConfig {
    /// The name that the program gave it.
    pub name: String,
    /// Frames a second that it gives, about: plans count with it. Above 0 and up to 240.
    pub fps: f64,
    /// For a classifier, the names of the classes, by class index (from 0); a detector knows its own.
    #[serde(default)]
    pub classes: Vec<String>,
}

impl OwnSourceConfig {
    /// That of a source under the name that the program gave it, with so many frames a second.
    #[must_use]
    pub fn new(name: impl Into<String>, fps: f64) -> Self {
        Self {
            name: name.into(),
            fps,
            classes: Vec::new(),
        }
    }

    /// What is wrong with it: a key and what is expected.
    #[must_use]
    pub(crate) fn flaw(&self) -> Option<(&'static str, String)> {
        if self.fps.is_finite() && self.fps > 0.0 && self.fps <= 240.0 {
            return None;
        }
        let expected = format!("above 0 and up to 240 frames a second, got {}", self.fps);
        Some(("fps", expected))
    }
}
