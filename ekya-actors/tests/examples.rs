//! The examples run and print what they say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;

/// Cargo builds examples beside the tests, two folders up.
fn example(name: &str) -> String {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let output = Command::new(path.join("examples").join(name))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn two_nodes_count_together() {
    assert_eq!(example("two_nodes"), "from there: 1\nfrom here: 2\n");
}
