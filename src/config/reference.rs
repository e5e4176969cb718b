//! The reference of all keys, as Markdown: `docs/configuration.md`. Its words are the comments at the
//! types, its defaults what the types hold by default.

use std::fmt::Write as _;

use serde_json::Value;

use super::shape::{FILE, Key, Kind, Section, Shape, sections};

/// What stands before the keys.
const OPENING: &str = r#"# Configuration

<!-- Written by `ekya config`. A test holds it against the code: change the comments at the types in
src/config, then run `cargo run --bin ekya -- config > docs/configuration.md`. -->

Every key of a configuration file. What the parts are for is told in [operating.md](operating.md) and [concepts.md](concepts.md).

A configuration is one file of [TOML](https://toml.io). The smallest one names a stream, with its source, its student and its teacher:

```toml
[[stream]]
name = "gate"
teacher = "scene"
source = { scene = { preset = "nightfall" } }
student = { classifier = { weights = "scene" } }
```

- A table may stand under a heading (`[stream.source.scene]`) or in braces (`source = { scene = { … } }`). Headings in double brackets, such as `[[stream]]`, come once for each element of a list.
- A *share* is a part of a device as a number: `0.25` is a quarter. Durations are numbers, whose unit is in their name or beside it.
- A *path* is relative to the folder of the configuration file. `${NAME}` in it stands for an environment variable.
- A key without a default may be left out unless it is **required**; what that means stands beside it.
- A key that is unknown is refused, not ignored. `ekya check FILE` names the line and the key of everything that is wrong, and what may have been meant, without running anything.
- `ekya config --schema` prints the same as a JSON Schema, by which editors complete and check keys.
"#;

/// The reference of all keys of a configuration file, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = OPENING.to_owned();
    page.push('\n');
    contents(&mut page);
    for alike in sections(&FILE).chunk_by(|(_, a), (_, b)| a.shape == b.shape) {
        let [(path, section), others @ ..] = alike else {
            continue;
        };
        heading(&mut page, path, section);
        keys(&mut page, path, section);
        // Kinds that take the same settings, such as detectors.
        for (other, section) in others {
            heading(&mut page, other, section);
            say(
                &mut page,
                format_args!("\nIts keys are those of {}.\n", below(path)),
            );
        }
    }
    page
}

fn heading(page: &mut String, path: &str, section: &Section<'_>) {
    let depth = path.matches('.').count().min(3);
    let heading = code(&section.heading(path));
    let doc = section.doc;
    say(
        page,
        format_args!("\n##{} {heading}\n{doc}\n", "#".repeat(depth)),
    );
}

fn keys(page: &mut String, path: &str, section: &Section<'_>) {
    match section.shape {
        Shape::Table(keys) => table(page, path, keys),
        Shape::Choice(kinds) => choice(page, path, kinds),
        _ => {}
    }
    default_elements(page, section);
}

fn say(page: &mut String, what: std::fmt::Arguments<'_>) {
    // A string takes all that is written to it.
    let _ = page.write_fmt(what);
}

/// What sections there are at the top of a file.
fn contents(page: &mut String) {
    page.push_str("| part | |\n|---|---|\n");
    for (path, section) in sections(&FILE) {
        if !path.contains('.') {
            let link = link(&section.heading(&path));
            say(page, format_args!("| {link} | {} |\n", cell(section.doc)));
        }
    }
}

fn table(page: &mut String, path: &str, keys: &[Key]) {
    page.push_str("\n| key | value | default | |\n|---|---|---|---|\n");
    for key in keys {
        let Key { name, shape, .. } = key;
        let value = if shape.is_section() {
            below(&format!("{path}.{name}"))
        } else {
            shape.noun()
        };
        let row = [format!("`{name}`"), value, default(key), meaning(key)];
        say(
            page,
            format_args!("| {} |\n", row.map(|part| cell(&part)).join(" | ")),
        );
    }
}

/// The kinds that a value may be of.
fn choice(page: &mut String, path: &str, kinds: &[Kind]) {
    let key = path.rsplit('.').next().unwrap_or(path);
    page.push_str("\n| one of | |\n|---|---|\n");
    for kind in kinds {
        let written = match &kind.content {
            Some(content) if content.is_section() => below(&format!("{path}.{}", kind.name)),
            _ => format!("`{key} = {}`", kind.written().trim_matches('`')),
        };
        say(
            page,
            format_args!("| {} | {} |\n", cell(&written), cell(&kind.doc)),
        );
    }
}

/// Refers to a section.
fn below(path: &str) -> String {
    let sections = sections(&FILE);
    let found = sections.iter().find(|(one, _)| one == path);
    found.map_or_else(String::new, |(path, section)| link(&section.heading(path)))
}

/// Elements that a list of tables has where the file names none.
fn default_elements(page: &mut String, section: &Section<'_>) {
    let elements = section.default.and_then(Value::as_array);
    let (Some(elements), Shape::Table(keys)) = (elements, section.shape) else {
        return;
    };
    if elements.is_empty() {
        return;
    }
    let names: Vec<_> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
    page.push_str("\nWhere none is named, these:\n\n");
    say(
        page,
        format_args!(
            "| {} |\n|{}\n",
            names.join(" | "),
            "---|".repeat(names.len())
        ),
    );
    for element in elements {
        let values: Vec<_> = keys.iter().map(|key| toml(&element[&key.name])).collect();
        say(page, format_args!("| {} |\n", values.join(" | ")));
    }
}

fn default(key: &Key) -> String {
    match &key.default {
        _ if key.required => "**required**".to_owned(),
        Some(default) if !key.shape.is_section() => code(&toml(default)),
        _ => "–".to_owned(),
    }
}

/// What a key means, and each word that it may have.
fn meaning(key: &Key) -> String {
    let Shape::Choice(kinds) = &key.shape else {
        return key.doc.clone();
    };
    let words = kinds.iter().filter(|kind| kind.content.is_none());
    words
        .filter(|_| !key.shape.is_section())
        .fold(key.doc.clone(), |text, kind| {
            format!("{text}<br>{}: {}", kind.written(), kind.doc)
        })
}

/// A value as it stands in a file.
pub(super) fn toml(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(toml).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let entries = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", toml(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) => self::number(number),
        // A string of JSON is one of TOML.
        other => other.to_string(),
    }
}

/// A number, without the digits that an `f32` has not.
fn number(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(wide) if number.is_f64() && f64::from(wide as f32) == wide => {
            format!("{:?}", wide as f32)
        }
        _ => number.to_string(),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// A link to a heading of this page.
fn link(heading: &str) -> String {
    let keeps = |c: &char| c.is_alphanumeric() || "-_".contains(*c);
    let anchor: String = heading.to_lowercase().chars().filter(keeps).collect();
    format!("[{}](#{anchor})", code(heading))
}

/// Fits a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == reference(),
            "docs/configuration.md is not what the types say. Write it anew:\n  cargo run --bin ekya -- config > docs/configuration.md"
        );
    }

    #[test]
    fn values_are_written_as_in_a_file() {
        let value = serde_json::json!({ "a": [0.1_f32, 0.002, 60.0, 3], "b": "c\"d", "e": {} });
        assert_eq!(
            toml(&value),
            r#"{ a = [0.1, 0.002, 60.0, 3], b = "c\"d", e = {} }"#
        );
    }
}
