//! What a cluster costs, and how long it takes to be well again: the state machines that nodes run, on
//! made-up sites of up to 100 nodes ([`plans`]), and three real nodes under faults ([`site_of_three`],
//! left out with `--quick`).
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
    let quick = std::env::args().any(|argument| argument == "--quick");
    let mut measured = plans::measure();
    if !quick {
        measured["site"] = site_of_three::measure();
    }
    println!("{}", serde_json::to_string_pretty(&measured).unwrap());
}
