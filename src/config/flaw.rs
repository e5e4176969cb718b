//! What is wrong with a configuration, where it stands, and how that is said.

use std::fmt;

use serde::Serialize;

use super::locate::{self, Step};
use crate::source::input::strip_user_info;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// Line of the key, from 1, when the configuration came from a file.
    pub line: Option<usize>,
    /// The key, as in `stream[1].source.video.fps`; none where it is the file as a whole.
    pub key: Option<String>,
    /// What is wrong, what was expected, and what may have been meant.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Problem {
    /// With the file as a whole.
    pub(super) fn of_file(message: String) -> Self {
        Self {
            line: None,
            key: None,
            message,
        }
    }

    /// With a key of a configuration that is no text any more.
    pub(super) fn of_key(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            line: None,
            key: Some(key.into()),
            message: message.into(),
        }
    }

    /// What the reader of TOML says of `text`: that it is none, or that a type refuses a value.
    pub(super) fn of_toml(text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map(|span| span.start);
        let key = start.and_then(|start| locate::key_at(text, start));
        Self {
            line: start.and_then(|start| locate::line_at(text, start)),
            key: key.map(|key| locate::spell(&key)),
            // It may quote what stands there, and a camera's URL may carry its password.
            message: strip_user_info(&error.message().replace('\n', ", ")),
        }
    }
}

/// A value that makes no sense, and where it stands.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) key: Vec<Step>,
    pub(super) message: String,
}

impl Flaw {
    fn problem(self, text: Option<&str>) -> Problem {
        Problem {
            line: text.and_then(|text| locate::line_of(text, &self.key)),
            key: Some(locate::spell(&self.key)),
            message: self.message,
        }
    }
}

/// Flaws, as they are found.
#[derive(Debug, Default)]
pub(super) struct Flaws(Vec<Flaw>);

impl Flaws {
    /// Adds one at a key such as `stream.1.name`.
    pub(super) fn add(&mut self, key: &str, message: impl Into<String>) {
        let step = |part: &str| {
            part.parse()
                .map_or_else(|_| Step::Key(part.to_owned()), Step::Index)
        };
        self.0.push(Flaw {
            key: key.split('.').map(step).collect(),
            message: message.into(),
        });
    }

    /// Adds one unless that `holds`.
    pub(super) fn require(&mut self, holds: bool, key: &str, message: impl Into<String>) {
        if !holds {
            self.add(key, message);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, flaw: Flaw) {
        self.0.push(flaw);
    }

    /// All of them, by where they stand in `text`, if they came from one.
    pub(super) fn problems(self, text: Option<&str>) -> Vec<Problem> {
        let flaws = self.0.into_iter();
        let mut problems: Vec<_> = flaws.map(|flaw| flaw.problem(text)).collect();
        problems.sort_by_key(|problem| problem.line);
        problems
    }
}
