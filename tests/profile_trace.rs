//! Predictions for recorded traces as users get them: the README's command, and its files read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

const README: &str = include_str!("../README.md");
/// How the README starts it: built for speed, and without libtorch.
const AS_IN_README: &str =
    "$ cargo run --release --no-default-features --example profile_trace -- ";

/// Runs the example as it was built with this test.
fn profile_trace(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example", "profile_trace", "--"])
        .args(arguments)
        .output()
        .unwrap()
}

fn in_words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_command_of_the_readme_predicts_every_line_within_its_interval() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("predicted.csv");
    let command = README
        .lines()
        .find_map(|line| line.strip_prefix(AS_IN_README))
        .unwrap();
    let mut arguments: Vec<&str> = command.split(' ').collect();
    *arguments.last_mut().unwrap() = out.to_str().unwrap();
    arguments.extend(["--inference-profile", "examples/traces/skipping.csv"]);
    let output = profile_trace(&arguments);
    assert!(output.status.success(), "{}", in_words(&output));
    let said = in_words(&output);
    assert!(said.contains("Spearman") && said.contains("loss"), "{said}");

    let lines = |path: &Path| -> BTreeSet<String> {
        let mut reader = csv::Reader::from_path(path).unwrap();
        let names = reader.headers().unwrap().clone();
        let column = |name: &str| names.iter().position(|header| header == name).unwrap();
        let named = ["stream", "window", "config"].map(column);
        reader
            .records()
            .map(|record| {
                named
                    .map(|index| record.as_ref().unwrap()[index].to_owned())
                    .join(" ")
            })
            .collect()
    };
    assert_eq!(lines(&out), lines(Path::new("examples/traces/made_up.csv")));
    for record in csv::Reader::from_path(&out).unwrap().records() {
        let record = record.unwrap();
        let [predicted, low, high] = [3, 4, 5].map(|i| record[i].parse::<f64>().unwrap());
        assert!(0.0 <= low && low <= predicted && predicted <= high && high <= 1.0);
    }
    let chart = std::fs::read_to_string(out.with_extension("svg")).unwrap();
    assert!(chart.contains("calibrated"));
}

#[test]
fn what_is_no_trace_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not.csv");
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    let out = folder.path().join("out.csv");
    let output = profile_trace(&[
        "--trace",
        file.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(!output.status.success());
    assert!(
        in_words(&output).contains("not.csv"),
        "{}",
        in_words(&output)
    );
    assert!(!out.exists());
}
