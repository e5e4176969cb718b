//! What a cluster costs, and how long it takes to be well again: the state machines that nodes run, on
//! made-up sites of up to 100 nodes ([`plans`]), and three real nodes under faults ([`site_of_three`],
//! left out with `--quick`; `--only FAULT` has them suffer one, such as `partition`).
//!
//! Prints one JSON document. `cargo xtask bench cluster` runs it and puts the figures beside their targets.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on panics")]

mod answers;
mod logs;
mod plans;
#[path = "../../tests/site/mod.rs"]
mod site;
mod site_of_three;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let only = arguments.iter().position(|argument| argument == "--only");
    let only = only.and_then(|at| arguments.get(at + 1));
    let mut measured = serde_json::json!({});
    if only.is_none() {
        measured = plans::measure();
    }
    if !quick {
        measured["site"] = site_of_three::measure(only.map(String::as_str));
    }
    println!("{}", serde_json::to_string_pretty(&measured).unwrap());
}
