//! Finds the line of a key in a TOML text.

use toml::de::{DeTable, DeValue};

/// One step down a TOML document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A key of a table.
    Key(String),
    /// An element of an array.
    Index(usize),
}

/// The key as a person writes it: `stream[1].source.video.fps`.
pub(super) fn spell(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The line, from 1, of the key, or of the innermost table around it that the text holds.
pub(super) fn line_of(text: &str, path: &[Step]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (first, rest) = path.split_first()?;
    let Step::Key(first) = first else { return None };
    let (key, value) = document.get_ref().get_key_value(first.as_str())?;
    let mut start = key.span().start;
    let mut value = value.get_ref();
    for step in rest {
        match (step, value) {
            (Step::Key(key), DeValue::Table(table)) => {
                let Some((key, inner)) = table.get_key_value(key.as_str()) else {
                    break;
                };
                start = key.span().start;
                value = inner.get_ref();
            }
            (Step::Index(index), DeValue::Array(array)) => {
                let Some(inner) = array.get(*index) else {
                    break;
                };
                start = inner.span().start;
                value = inner.get_ref();
            }
            _ => break,
        }
    }
    Some(text.get(..start)?.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Step> {
        text.split('.')
            .map(|part| {
                part.parse()
                    .map_or_else(|_| Step::Key(part.to_owned()), Step::Index)
            })
            .collect()
    }

    #[test]
    fn lines_of_nested_keys() {
        let text = "[run]\nseed = 1\n\n[[stream]]\nname = \"a\"\n\n[[stream]]\nname = \"b\"\n[stream.source]\nvideo = { fps = 0 }\n";
        assert_eq!(line_of(text, &path("run.seed")), Some(2));
        assert_eq!(line_of(text, &path("stream.1.name")), Some(8));
        assert_eq!(line_of(text, &path("stream.1.source.video.fps")), Some(10));
        assert_eq!(
            line_of(text, &path("stream.1.source.video.absent")),
            Some(10)
        );
        assert_eq!(line_of(text, &path("absent")), None);
    }

    #[test]
    fn keys_are_spelt_as_in_the_file() {
        assert_eq!(spell(&path("stream.1.source.fps")), "stream[1].source.fps");
    }
}
