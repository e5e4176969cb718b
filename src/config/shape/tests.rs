//! The shapes against the types: files with every key are written from the shapes and read by the types.

use std::collections::BTreeSet;

use super::*;
use crate::config::misfit;
use crate::config::reference::toml;

/// Which keys a file is given, beside those that are required.
#[derive(Clone, Copy, PartialEq)]
enum Keys {
    Required,
    /// And those with a default, at that.
    Defaults,
    /// And all others.
    All,
}

/// Writes files by the shapes.
#[derive(Clone, Copy)]
struct Writer<'a> {
    keys: Keys,
    /// Which of several kinds, where `stranger` does not decide.
    pick: usize,
    /// Path of the section that is given a key or kind that it does not have.
    stranger: &'a str,
}

impl Writer<'_> {
    fn file(self) -> String {
        let Shape::Table(keys) = &*FILE else {
            panic!("a file is a table")
        };
        let lines = keys.iter().filter_map(|key| self.entry("", key));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// `key = value`, where the file is to have it. Sections without a default are there in any case.
    fn entry(self, path: &str, key: &Key) -> Option<String> {
        let path = format!("{path}.{}", key.name);
        let path = path.trim_start_matches('.');
        let leads_to_stranger = format!("{}.", self.stranger).starts_with(&format!("{path}."));
        let value = match &key.default {
            Some(_) if leads_to_stranger => self.value(path, &key.shape),
            Some(_) if self.keys == Keys::Required => return None,
            Some(default) if self.keys == Keys::Defaults => toml(default),
            None if !key.required && !key.shape.is_section() && self.keys != Keys::All => {
                return None;
            }
            Some(default) if !key.shape.is_section() => toml(default),
            _ => self.value(path, &key.shape),
        };
        Some(format!("{} = {value}", key.name))
    }

    fn value(self, path: &str, shape: &Shape) -> String {
        let is_here = path == self.stranger;
        match shape {
            Shape::Table(keys) => {
                let mut entries: Vec<_> = keys
                    .iter()
                    .filter_map(|key| self.entry(path, key))
                    .collect();
                entries.extend(is_here.then(|| "stranger = 1".to_owned()));
                format!("{{ {} }}", entries.join(", "))
            }
            Shape::Choice(_) if is_here => "\"stranger\"".to_owned(),
            Shape::Choice(kinds) => self.kind(path, kinds),
            Shape::List(of, length) => {
                let one = self.value(path, of);
                format!("[{}]", vec![one; length.unwrap_or(1) as usize].join(", "))
            }
            Shape::Map(of) => format!("{{ one = {} }}", self.value(path, of)),
            Shape::Either(forms) => self.value(path, &forms[self.pick % forms.len()]),
            Shape::Bool => "true".to_owned(),
            Shape::Whole => "1".to_owned(),
            Shape::Number | Shape::Share => "0.5".to_owned(),
            Shape::Text | Shape::Path => "\"text\"".to_owned(),
        }
    }

    fn kind(self, path: &str, kinds: &[Kind]) -> String {
        let below = |kind: &&Kind| {
            format!("{}.", self.stranger).starts_with(&format!("{path}.{}.", kind.name))
        };
        let kind = kinds.iter().find(below);
        let kind = kind.unwrap_or(&kinds[self.pick % kinds.len()]);
        match &kind.content {
            None => format!("\"{}\"", kind.name),
            Some(content) => {
                let content = self.value(&format!("{path}.{}", kind.name), content);
                format!("{{ {} = {content} }}", kind.name)
            }
        }
    }
}

/// Files that have every kind of everything among them.
fn files(keys: Keys) -> impl Iterator<Item = String> {
    let stranger = "";
    (0..7).map(move |pick| {
        Writer {
            keys,
            pick,
            stranger,
        }
        .file()
    })
}

fn parsed(file: &str) -> Config {
    let table = toml::de::DeTable::parse(file).unwrap();
    let problems = misfit::misfits(table.get_ref()).problems(Some(file));
    assert!(problems.is_empty(), "{problems:?}\n{file}");
    toml::from_str(file).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_types_know_every_key() {
    for file in files(Keys::All) {
        parsed(&file);
    }
}

#[test]
fn defaults_are_what_holds_without_a_key() {
    for (without, with) in files(Keys::Required).zip(files(Keys::Defaults)) {
        assert!(with.len() > 2 * without.len());
        assert_eq!(parsed(&without), parsed(&with), "{with}");
    }
}

#[test]
fn the_types_know_no_other_key_and_refuse_strangers() {
    let sections = sections(&FILE);
    assert!(sections.len() > 20);
    for (path, section) in sections {
        let writer = Writer {
            keys: Keys::Required,
            pick: 0,
            stranger: &path,
        };
        let file = writer.file();
        let error = toml::from_str::<Config>(&file)
            .expect_err(&path)
            .to_string();
        // The last is what TOML says itself of a kind that is a table of its own.
        let expected = [
            "`stranger`, expected one of",
            "`stranger`, expected",
            "available keys:",
        ]
        .iter()
        .find_map(|before| error.split_once(before))
        .expect(&error);
        let words = expected.1.split(|c: char| !c.is_alphanumeric() && c != '_');
        let expected: BTreeSet<_> = words.filter(|word| !["", "or"].contains(word)).collect();
        assert_eq!(
            expected,
            section.shape.names().into_iter().collect(),
            "{path}"
        );
    }
}

/// Everything that is said of keys and kinds.
fn docs(shape: &Shape) -> Vec<&str> {
    match shape {
        Shape::Table(keys) => keys
            .iter()
            .flat_map(|key| [vec![key.doc.as_str()], docs(&key.shape)].concat())
            .collect(),
        Shape::Choice(kinds) => kinds
            .iter()
            .flat_map(|kind| {
                let below = kind.content.as_ref().map_or_else(Vec::new, docs);
                [vec![kind.doc.as_str()], below].concat()
            })
            .collect(),
        Shape::List(of, _) | Shape::Map(of) => docs(of),
        _ => Vec::new(),
    }
}

#[test]
fn every_key_and_kind_is_described_for_users() {
    for doc in docs(&FILE) {
        assert!(doc.ends_with('.'), "no sentence: '{doc}'");
        // Links and paths of the code mean nothing to whoever writes a configuration.
        assert!(!doc.contains("[`") && !doc.contains("::"), "{doc}");
    }
}

#[test]
fn the_schema_says_nothing_of_null_and_rustdoc() {
    let schema = schema().to_string();
    assert!(schema.contains("\"retention_hours\""));
    assert!(!schema.contains("null"), "{schema}");
    assert!(
        !schema.contains("[`"),
        "a link that only rustdoc knows: {schema}"
    );
}
