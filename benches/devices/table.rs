//! What was measured as lines for people: where in the document a number stands, and the number.

use serde_json::Value;

/// A line for each number, in columns.
pub(crate) fn table(document: &Value) -> String {
    let mut rows = Vec::new();
    collect("", document, &mut rows);
    let width = rows.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let line = |(path, value): &(String, String)| format!("{path:width$}  {value}\n");
    rows.iter().map(line).collect()
}

fn collect(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                collect(&below(key), value, rows);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                collect(&below(&index.to_string()), value, rows);
            }
        }
        // A part that was not asked for.
        Value::Null => {}
        Value::Number(number) => rows.push((
            path.to_owned(),
            number
                .as_f64()
                .map_or(number.to_string(), |number| format!("{number:.3}")),
        )),
        other => rows.push((path.to_owned(), other.to_string())),
    }
}
