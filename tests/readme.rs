//! What the README shows works as it says.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod markdown;

use std::process::Command;

use ekya::config::ValidConfig;
use markdown::blocks;

const README: &str = include_str!("../README.md");

#[test]
fn configurations_are_valid() {
    let blocks = blocks(README, "toml");
    assert!(!blocks.is_empty());
    for block in blocks {
        ValidConfig::parse(&block).unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
}

#[test]
fn the_scenes_of_the_examples_are_valid() {
    ValidConfig::parse(include_str!("../examples/scenes.toml")).unwrap();
}

#[test]
fn commands_and_their_options_exist() {
    let mut seen = 0;
    for line in blocks(README, "console")
        .iter()
        .flat_map(|block| block.lines())
    {
        let Some(command) = line.strip_prefix("$ cargo run --bin ekya -- ") else {
            continue;
        };
        let mut words = command.split(' ');
        let subcommand = words.next().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_ekya"))
            .args([subcommand, "--help"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}");
        let help = String::from_utf8(output.stdout).unwrap();
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{line}: no {option}");
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen} commands");
}
