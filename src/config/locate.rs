//! Finds the line of a key in a TOML text.

use toml::Spanned;
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

/// The same without the numbers of elements, as the heading of a table has it: `stream.source.video`.
pub(super) fn keys_of(path: &[Step]) -> String {
    let keys = path.iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    keys.collect::<Vec<_>>().join(".")
}

/// The line, from 1, that `offset` (in bytes) lies in.
pub(super) fn line_at(text: &str, offset: usize) -> Option<usize> {
    Some(text.get(..offset)?.matches('\n').count() + 1)
}

/// The key whose value begins at `offset`.
pub(super) fn key_at(text: &str, offset: usize) -> Option<Vec<Step>> {
    fn within(value: &DeValue<'_>, offset: usize) -> Option<Vec<Step>> {
        let found = |step: Step, value: &Spanned<DeValue<'_>>| {
            let below = if value.span().start == offset {
                Some(Vec::new())
            } else {
                within(value.get_ref(), offset)
            };
            below.map(|below| [vec![step], below].concat())
        };
        match value {
            DeValue::Table(table) => table
                .iter()
                .find_map(|(key, value)| found(Step::Key(key.get_ref().to_string()), value)),
            DeValue::Array(values) => (0..)
                .zip(values)
                .find_map(|(index, value)| found(Step::Index(index), value)),
            _ => None,
        }
    }
    let document = DeTable::parse(text).ok()?.into_inner();
    within(&DeValue::Table(document), offset)
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
    line_at(text, start)
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
    fn values_are_found_by_where_they_begin() {
        let text = "[run]\nseed = 1\n[[stream]]\nsource = { video = { fps = [1, 20] } }\n";
        let key = |value: &str| key_at(text, text.find(value).unwrap());
        assert_eq!(key("1"), Some(path("run.seed")));
        assert_eq!(key("20"), Some(path("stream.0.source.video.fps.1")));
        assert_eq!(key("video"), None, "a key, not a value");
        assert_eq!(key_at("no = toml = ", 5), None);
    }

    #[test]
    fn keys_are_spelt_as_in_the_file() {
        assert_eq!(spell(&path("stream.1.source.fps")), "stream[1].source.fps");
    }
}
