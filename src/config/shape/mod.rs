//! What may stand where in a configuration: the JSON Schema that the types derive, in the words of TOML.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::transform::{RecursiveTransform, Transform as _};
use serde_json::Value;

use super::Config;

/// What may stand in a file.
pub(super) static FILE: LazyLock<Shape> = LazyLock::new(|| {
    let schema = schema();
    read(&schema, &schema["$defs"])
});

/// The JSON Schema (2020-12) of a configuration file, for editors that complete and check TOML by one.
///
/// It knows keys, their types, defaults and descriptions, but not every bound: [`super::ValidConfig`] does.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Config);
    RecursiveTransform(without_null).transform(&mut schema);
    schema.into()
}

/// TOML has no null: what need not be said is left out.
fn without_null(schema: &mut Schema) {
    let schema = schema.ensure_object();
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(forms)) = schema.get_mut("anyOf") {
        forms.retain(|form| form["type"] != "null");
        if let [Value::Object(form)] = forms.as_slice() {
            let form = form.clone();
            schema.remove("anyOf");
            for (key, value) in form {
                schema.entry(key).or_insert(value);
            }
        }
    }
}

/// What may stand at one place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// A table of these keys: those that are needed first, else by name.
    Table(Vec<Key>),
    /// A table with keys of the user's choice.
    Map(Box<Self>),
    /// A list, of so many where that is fixed.
    List(Box<Self>, Option<u64>),
    /// One of several kinds.
    Choice(Vec<Kind>),
    /// One of several forms.
    Either(Vec<Self>),
    /// `true` or `false`.
    Bool,
    /// A whole number, not negative: there are no others in configurations.
    Whole,
    Number,
    /// A part of a device, as a number.
    Share,
    Text,
    /// A text that is a file or folder.
    Path,
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) shape: Shape,
    pub(super) required: bool,
    /// What holds without it, where that is a value.
    pub(super) default: Option<Value>,
}

/// One of several kinds that a value may be of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kind {
    pub(super) name: String,
    pub(super) doc: String,
    /// `{ name = … }`; else the name alone, as a string.
    pub(super) content: Option<Shape>,
}

fn read(schema: &Value, types: &Value) -> Shape {
    if let Some(named) = referred(schema, types) {
        return read(named, types);
    }
    let all = |schemas: &[Value]| schemas.iter().map(|one| read(one, types)).collect();
    if let Some(kinds) = schema["oneOf"].as_array() {
        return Shape::Choice(kinds.iter().map(|one| kind(one, types)).collect());
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        return Shape::Either(all(forms));
    }
    match schema["type"].as_str() {
        Some("object") if schema["properties"].is_object() => Shape::Table(keys(schema, types)),
        Some("object") => Shape::Map(Box::new(read(&schema["additionalProperties"], types))),
        Some("array") => {
            let length = schema["minItems"].as_u64();
            Shape::List(Box::new(read(&schema["items"], types)), length)
        }
        Some("boolean") => Shape::Bool,
        Some("integer") if schema["minimum"] == 0 => Shape::Whole,
        Some("number") if schema["format"] == "share" => Shape::Share,
        Some("number") => Shape::Number,
        Some("string") if schema["format"] == "path" => Shape::Path,
        Some("string") => Shape::Text,
        // The schema is made from the types alone, and the tests go through all of it.
        _ => unreachable!("a type of the configuration has no shape: {schema}"),
    }
}

/// The type that a schema refers to.
fn referred<'a>(schema: &Value, types: &'a Value) -> Option<&'a Value> {
    let name = schema["$ref"].as_str()?.strip_prefix("#/$defs/")?;
    types.get(name)
}

/// What is said at the place itself, else of its type. A line break in a comment of the code means nothing.
fn doc(schema: &Value, types: &Value) -> String {
    let of = |schema: &Value| schema["description"].as_str().map(str::to_owned);
    let said = of(schema).or_else(|| of(referred(schema, types)?));
    let words = said.unwrap_or_default();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn keys(schema: &Value, types: &Value) -> Vec<Key> {
    let required = schema["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut keys: Vec<_> = properties
        .map(|(name, schema)| Key {
            name: name.clone(),
            doc: doc(schema, types),
            shape: read(schema, types),
            required: is_required(name),
            default: schema.get("default").cloned(),
        })
        .collect();
    keys.sort_by(|a, b| (!a.required, &a.name).cmp(&(!b.required, &b.name)));
    keys
}

fn kind(schema: &Value, types: &Value) -> Kind {
    let properties = schema["properties"].as_object();
    let (name, content) = match properties.and_then(|all| all.iter().next()) {
        Some((name, content)) => (name.as_str(), Some(read(content, types))),
        None => (schema["const"].as_str().unwrap_or_default(), None),
    };
    Kind {
        name: name.to_owned(),
        doc: doc(schema, types),
        content,
    }
}

impl Shape {
    /// What it is called.
    pub(super) fn noun(&self) -> String {
        match self {
            Self::Table(_) => "table".to_owned(),
            Self::Map(of) => format!("table of {}", of.nouns()),
            Self::List(of, None) => format!("list of {}", of.nouns()),
            Self::List(of, Some(length)) => format!("list of {length} {}", of.nouns()),
            Self::Choice(kinds) => either(kinds.iter().map(Kind::written)),
            Self::Either(forms) => either(forms.iter().map(Self::noun)),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Whole => "whole number".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Share => "share".to_owned(),
            Self::Text => "string".to_owned(),
            Self::Path => "path".to_owned(),
        }
    }

    /// What several are called.
    fn nouns(&self) -> String {
        match self {
            Self::Map(_) | Self::List(..) => self.noun().replacen(' ', "s ", 1),
            Self::Choice(_) | Self::Either(_) | Self::Bool => format!("{}, each", self.noun()),
            _ => format!("{}s", self.noun()),
        }
    }

    /// The names that a table at this place may have.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Table(keys) => keys.iter().map(|key| key.name.as_str()).collect(),
            Self::Choice(kinds) => kinds.iter().map(|kind| kind.name.as_str()).collect(),
            _ => Vec::new(),
        }
    }
}

impl Kind {
    /// As it is written in a file.
    pub(super) fn written(&self) -> String {
        match &self.content {
            None => format!("`\"{}\"`", self.name),
            Some(Shape::Text) => format!("`{{ {} = \"…\" }}`", self.name),
            Some(_) => format!("`{{ {} = {{ … }} }}`", self.name),
        }
    }
}

/// `a, b or c`.
fn either(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<_> = parts.collect();
    match parts.pop() {
        Some(last) if !parts.is_empty() => format!("{} or {last}", parts.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// A part of a file with keys or kinds of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) doc: &'a str,
    pub(super) shape: &'a Shape,
    /// What holds where it is not in the file.
    pub(super) default: Option<&'a Value>,
    is_list: bool,
}

impl Section<'_> {
    /// The line with which it begins in a file.
    pub(super) fn heading(&self, path: &str) -> String {
        if self.is_list {
            format!("[[{path}]]")
        } else {
            format!("[{path}]")
        }
    }
}

/// All sections below a table, with the path of each, such as `stream.source.video`.
pub(super) fn sections(table: &Shape) -> Vec<(String, Section<'_>)> {
    let mut found = Vec::new();
    below("", table, &mut found);
    found
}

fn below<'a>(path: &str, shape: &'a Shape, found: &mut Vec<(String, Section<'a>)>) {
    let path = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match shape {
        Shape::Table(keys) => {
            for key in keys {
                section(
                    path(&key.name),
                    &key.doc,
                    key.default.as_ref(),
                    &key.shape,
                    found,
                );
            }
        }
        Shape::Choice(kinds) => {
            for kind in kinds {
                if let Some(content) = &kind.content {
                    section(path(&kind.name), &kind.doc, None, content, found);
                }
            }
        }
        _ => {}
    }
}

/// Adds what stands at `path`, if it is a section, and all below.
fn section<'a>(
    path: String,
    doc: &'a str,
    default: Option<&'a Value>,
    shape: &'a Shape,
    found: &mut Vec<(String, Section<'a>)>,
) {
    let (is_list, shape) = match shape {
        Shape::List(of, _) => (true, &**of),
        other => (false, other),
    };
    if shape.is_section() {
        let section = Section {
            doc,
            shape,
            default,
            is_list,
        };
        found.push((path.clone(), section));
        below(&path, shape, found);
    }
}

impl Shape {
    /// Whether it has keys or kinds that need room of their own.
    pub(super) fn is_section(&self) -> bool {
        match self {
            Self::Table(_) => true,
            Self::Choice(kinds) => kinds.iter().any(|kind| kind.content.is_some()),
            Self::List(of, _) => of.is_section(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
