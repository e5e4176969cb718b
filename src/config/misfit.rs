//! What does not fit the shape of a configuration: keys that are unknown or missing, values of another
//! type. All of it at once, with a guess at what was meant; the types themselves would stop at the first.

use toml::de::{DeTable, DeValue};

use super::flaw::{Flaw, Flaws};
use super::locate::{Step, keys_of};
use super::near::nearest;
use super::shape::{FILE, Key, Kind, Shape, sections};

/// Everything in `file` that does not fit.
pub(super) fn misfits(file: &DeTable<'_>) -> Flaws {
    let mut search = Search::default();
    if let Shape::Table(keys) = &*FILE {
        search.table(keys, file);
    }
    search.flaws
}

#[derive(Default)]
struct Search {
    /// Where it is.
    path: Vec<Step>,
    flaws: Flaws,
}

impl Search {
    fn complain(&mut self, message: String) {
        let key = self.path.clone();
        self.flaws.push(Flaw { key, message });
    }

    /// Looks at what stands one step further down.
    fn at(&mut self, step: Step, look: impl FnOnce(&mut Self)) {
        self.path.push(step);
        look(self);
        self.path.pop();
    }

    fn value(&mut self, shape: &Shape, doc: &str, value: &DeValue<'_>) {
        match (shape, value) {
            (Shape::Table(keys), DeValue::Table(table)) => self.table(keys, table),
            (Shape::Map(of), DeValue::Table(table)) => {
                for (key, value) in table {
                    let step = Step::Key(key.get_ref().to_string());
                    self.at(step, |search| search.value(of, doc, value.get_ref()));
                }
            }
            (Shape::List(of, length), DeValue::Array(values))
                if length.is_none_or(|length| length == values.len() as u64) =>
            {
                for (index, value) in values.iter().enumerate() {
                    let step = Step::Index(index);
                    self.at(step, |search| search.value(of, doc, value.get_ref()));
                }
            }
            (Shape::Choice(kinds), DeValue::String(name)) => self.named(kinds, name),
            (Shape::Choice(kinds), DeValue::Table(table)) => self.kind(kinds, table),
            (Shape::Either(forms), value) if forms.iter().any(|form| fits(form, value)) => {}
            (Shape::Bool, DeValue::Boolean(_))
            | (Shape::Number | Shape::Share, DeValue::Integer(_) | DeValue::Float(_))
            | (Shape::Text | Shape::Path, DeValue::String(_)) => {}
            (Shape::Whole, DeValue::Integer(number)) if !number.as_str().starts_with('-') => {}
            (shape, value) => self.mismatch(shape, doc, value),
        }
    }

    fn mismatch(&mut self, shape: &Shape, doc: &str, value: &DeValue<'_>) {
        let expected = match shape {
            Shape::List(of, _) if matches!(&**of, Shape::Table(_)) => {
                format!("a list of tables, each under [[{}]]", keys_of(&self.path))
            }
            Shape::Bool | Shape::Choice(_) => shape.noun(),
            shape => format!("a {}", shape.noun()),
        };
        let got = described(value);
        self.complain(format!("expected {expected}, got {got}{}", in_short(doc)));
    }

    fn table(&mut self, keys: &[Key], table: &DeTable<'_>) {
        let names = || keys.iter().map(|key| key.name.as_str());
        for (name, value) in table {
            let name = name.get_ref();
            let known = keys.iter().find(|key| key.name == **name);
            self.at(Step::Key(name.to_string()), |search| match known {
                Some(key) => search.value(&key.shape, &key.doc, value.get_ref()),
                None => search.unknown(name, names()),
            });
        }
        for key in keys.iter().filter(|key| key.required) {
            if !table.contains_key(key.name.as_str()) {
                self.complain(format!("`{}` is missing{}", key.name, in_short(&key.doc)));
            }
        }
    }

    /// A kind by its name alone.
    fn named(&mut self, kinds: &[Kind], name: &str) {
        let known = kinds.iter().find(|kind| kind.name == name);
        match known {
            Some(kind) if kind.content.is_none() => {}
            Some(kind) => self.complain(format!("it needs more: {}", kind.written())),
            None => {
                let meant = nearest(name, kinds.iter().map(|kind| kind.name.as_str()));
                let kinds = Shape::Choice(kinds.to_vec()).noun();
                let meant = meant.map_or(format!("expected {kinds}"), |one| {
                    format!("did you mean `{one}`?")
                });
                self.complain(format!("{} is not known; {meant}", quoted(name)));
            }
        }
    }

    /// A kind with its settings.
    fn kind(&mut self, kinds: &[Kind], table: &DeTable<'_>) {
        let names = || kinds.iter().map(|kind| kind.name.as_str());
        if table.len() != 1 {
            let names: Vec<_> = names().map(|name| format!("`{name}`")).collect();
            let got = table.len();
            self.complain(format!("expected one of {}, got {got}", names.join(", ")));
        }
        for (name, value) in table {
            let name = name.get_ref();
            let known = kinds.iter().find(|kind| kind.name == **name);
            self.at(Step::Key(name.to_string()), |search| match known {
                Some(kind) => match &kind.content {
                    Some(content) => search.value(content, &kind.doc, value.get_ref()),
                    None => {
                        search.complain(format!("it has no settings: write {}", kind.written()))
                    }
                },
                None => search.unknown(name, names()),
            });
        }
    }

    /// Complains about the key that it is at, and says what may have been meant.
    fn unknown<'a>(&mut self, name: &str, known: impl Iterator<Item = &'a str> + Clone) {
        let homes = self.homes(name);
        let meant = match nearest(name, known.clone()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => {
                let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
                format!("; there are {}", known.join(", "))
            }
        };
        let home = match homes.is_empty() {
            true => String::new(),
            false => format!(" here, `{name}` is a key of {}", homes.join(", ")),
        };
        self.complain(format!("no such key{home}{meant}"));
    }

    /// The sections that do have such a key: those beneath the one at hand, where there are any.
    fn homes(&self, name: &str) -> Vec<String> {
        let here = self.path.split_last().map_or(&[][..], |(_, here)| here);
        let here = keys_of(here);
        let sections = sections(&FILE);
        let having = sections
            .iter()
            .filter(|(_, section)| section.shape.names().contains(&name));
        let (beneath, elsewhere): (Vec<_>, Vec<_>) =
            having.partition(|(path, _)| !here.is_empty() && path.starts_with(&here));
        let homes = if beneath.is_empty() {
            elsewhere
        } else {
            beneath
        };
        let homes = homes.into_iter();
        homes
            .map(|(path, section)| format!("`{}`", section.heading(path)))
            .collect()
    }
}

/// Whether `value` has that shape.
fn fits(shape: &Shape, value: &DeValue<'_>) -> bool {
    let mut search = Search::default();
    search.value(shape, "", value);
    search.flaws.is_empty()
}

/// What a value is. Texts are not quoted: they may be a camera's URL with its password.
fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(one) => one.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(values) => format!("a list of {}", values.len()),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A text, if it is a word, which no URL is.
fn quoted(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    if text.len() <= 40 && text.chars().all(is_word) {
        format!("\"{text}\"")
    } else {
        "this".to_owned()
    }
}

/// The first sentence of what a key means, in brackets.
fn in_short(doc: &str) -> String {
    let sentence = doc.split_once(". ").map_or(doc, |(first, _)| first);
    match sentence.trim_end_matches('.') {
        "" => String::new(),
        sentence => format!(" ({sentence})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a file whose stream has this source, teacher and more.
    fn found(source: &str, teacher: &str, more: &str) -> Vec<String> {
        let file = format!(
            "[[stream]]\nname = \"a\"\nstudent = {{ classifier = {{}} }}\nsource = {source}\nteacher = {teacher}\n{more}\n"
        );
        let table = DeTable::parse(&file).unwrap();
        let problems = misfits(table.get_ref()).problems(Some(&file));
        problems.iter().map(ToString::to_string).collect()
    }

    const SCENE: &str = "{ scene = {} }";

    #[test]
    fn all_is_found_at_once_in_the_order_of_the_file() {
        let more = "[run]\nwindow_secs = 1\nwindows = 1.5\n[[device]]\nkind = \"cdua\"";
        let found = found("{ video = { fps = true } }", "\"labels\"", more);
        let expected = [
            "line 4: stream[0].source.video.fps: expected a number, got true (Frames a second of video, 0.1 to 240)",
            "line 4: stream[0].source.video: `input` is missing (Path of a file,",
            "line 7: run.window_secs: no such key; did you mean `window_seconds`?",
            "line 8: run.windows: expected a whole number, got 1.5 (",
            "line 9: device[0]: `name` is missing (",
            "line 10: device[0].kind: \"cdua\" is not known; did you mean `cuda`?",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }

    #[test]
    fn keys_of_other_sections_are_shown_their_place() {
        let one = |more: &str| {
            let found = found(SCENE, "\"labels\"", more);
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].clone()
        };
        let seed = one("[serve]\nwindows = 1");
        let expected = "line 7: serve.windows: no such key here, `windows` is a key of `[run]`; there are `certificate`, ";
        assert!(seed.starts_with(expected), "{seed}");
        // Of the many that have it, those beneath.
        let fps = one("fps = 5");
        let expected = "no such key here, `fps` is a key of `[stream.source.scene]`, `[stream.source.folder]`, ";
        assert!(fps.contains(expected), "{fps}");
        let streams = one("[[streams]]\nname = \"b\"");
        assert!(
            streams.contains(
                "no such key here, `streams` is a key of `[[output]]`; did you mean `stream`?"
            ),
            "{streams}"
        );
        let other = one("[run]\nxyz = 1");
        assert!(
            other.contains("no such key; there are `checkpoints`, "),
            "{other}"
        );
    }

    #[test]
    fn kinds_are_named_and_written_as_they_are() {
        for (source, teacher, expected) in [
            (
                SCENE,
                "\"sceen\"",
                "line 5: stream[0].teacher: \"sceen\" is not known; did you mean `scene`?",
            ),
            (
                SCENE,
                "\"guess\"",
                "\"guess\" is not known; expected `\"scene\"`, `\"labels\"`, `{ classifier = { … } }`,",
            ),
            (
                SCENE,
                "\"own\"",
                "stream[0].teacher: it needs more: `{ own = \"…\" }`",
            ),
            (
                SCENE,
                "{ labels = {} }",
                "stream[0].teacher.labels: it has no settings: write `\"labels\"`",
            ),
            (
                "{ vidoe = {} }",
                "\"scene\"",
                "stream[0].source.vidoe: no such key; did you mean `video`?",
            ),
            (
                "{ scene = {}, folder = { path = \"a\" } }",
                "\"scene\"",
                "expected one of `scene`, `folder`, `video`, `own`, got 2",
            ),
            (
                "{}",
                "\"scene\"",
                "expected one of `scene`, `folder`, `video`, `own`, got 0",
            ),
            (
                "5",
                "\"scene\"",
                "stream[0].source: expected `{ scene = { … } }`, `{ folder = { … } }`, ",
            ),
        ] {
            let found = found(source, teacher, "");
            assert!(found[0].contains(expected), "{found:?}\n{expected}");
        }
    }

    #[test]
    fn wrong_types_say_what_was_expected() {
        for (source, expected) in [
            (
                "{ folder = { path = 1 } }",
                "stream[0].source.folder.path: expected a path, got 1 (",
            ),
            (
                "{ folder = { path = \"a\", only = { b = \"c\" } } }",
                "source.folder.only.b: expected a list of strings, got a string (",
            ),
            (
                "{ folder = { path = \"a\", classes = [\"b\", 1] } }",
                "source.folder.classes[1]: expected a string, got 1 (",
            ),
            (
                "{ video = { input = \"a\", hwaccel = 1 } }",
                "source.video.hwaccel: expected a string or list of strings, got 1 (",
            ),
            (
                "{ scene = { seed = -1 } }",
                "source.scene.seed: expected a whole number, got -1 (",
            ),
            (
                "{ scene = { drift = { at = 0 } } }",
                "source.scene.drift: expected a list of tables, each under [[stream.source.scene.drift]], got a table (",
            ),
        ] {
            let found = found(source, "\"scene\"", "");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected), "{found:?}\n{expected}");
        }
    }

    #[test]
    fn texts_that_may_hold_a_password_are_not_quoted() {
        let camera = "\"rtsp://user:secret@host/1?token=secret\"";
        for source in [
            camera,
            &format!("{{ video = {camera} }}"),
            &format!("{{ scene = {{ preset = {camera} }} }}"),
        ] {
            let found = found(source, "\"scene\"", "");
            assert!(
                !found.is_empty() && !found[0].contains("secret"),
                "{found:?}"
            );
        }
    }
}
