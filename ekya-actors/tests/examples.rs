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

#[test]
fn workers_are_placed() {
    assert_eq!(
        example("placement"),
        "worker-1 has 0.25 of edge-1/gpu0\n\
         worker-2 has 0.25 of edge-2/gpu0\n\
         no room for a large one: edge-1 has 750000/1000000 of edge-1/gpu0 (gpu), \
         edge-2 has 750000/1000000 of edge-2/gpu0 (gpu)\n\
         edge-1/gpu0 is free again: 1000000 millionths\n"
    );
}

#[test]
fn a_camera_is_restarted_and_takes_its_recorder_with_it() {
    assert_eq!(
        example("supervision"),
        "frame 1 of generation 0\n\
         frame 2 of generation 0\n\
         camera has panicked: the cable is loose\n\
         frame 1 of generation 1\n\
         frame 2 of generation 1\n\
         camera has panicked: the cable is loose\n\
         recorder has ended: WithLinked(\"camera\")\n"
    );
}
