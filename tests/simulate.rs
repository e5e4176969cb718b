//! The simulator as its users run it: the README's commands, and its files scored again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::process::{Command, Output};

use ekya_sched::simulate::{WindowRecord, inference_from_csv};
use ekya_sched::{InferenceOption, Share};

const README: &str = include_str!("../README.md");
/// How the README starts the simulator: built for speed, and without libtorch.
const AS_IN_README: &str = "$ cargo run --release --no-default-features --example simulate -- ";

/// Runs the example as it was built with this test.
fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example", "simulate", "--"])
        .args(arguments)
        .output()
        .unwrap()
}

fn in_words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The command of the README that simulates, with its results in a folder of this test.
fn run_as_in_readme(out: &str) -> Output {
    let commands = README
        .lines()
        .filter_map(|line| line.strip_prefix(AS_IN_README));
    let command = commands
        .clone()
        .find(|command| command.contains("--out"))
        .unwrap();
    assert!(commands.clone().any(|command| command == "--help"));
    let mut arguments: Vec<&str> = command.split(' ').collect();
    *arguments.last_mut().unwrap() = out;
    simulate(&arguments)
}

/// Accuracy of a stream by its shares alone: what its student answers under the best option that
/// each share allows, the retrained one from its completion on if it is better.
fn scored_again(
    stream: &ekya_sched::simulate::StreamRecord,
    options: &[InferenceOption],
    seconds: f64,
) -> f64 {
    let factor = |gpus: f64| {
        let share = Share::try_from(gpus).unwrap();
        let fitting = options.iter().filter(|option| option.share <= share);
        fitting
            .map(|option| option.accuracy_factor)
            .fold(0.0, f64::max)
    };
    let done = stream.completes_at.unwrap_or(f64::INFINITY);
    let area = stream.segments.iter().map(|segment| {
        let before = (done.min(segment.to) - segment.from).max(0.0);
        let after = segment.to - segment.from - before;
        let accuracy = before * stream.start_accuracy + after * stream.end_accuracy;
        accuracy * factor(segment.inference_gpu)
    });
    area.sum::<f64>() / seconds
}

#[test]
fn the_command_of_the_readme_writes_files_that_can_be_scored_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_as_in_readme(folder.path().to_str().unwrap());
    assert!(output.status.success(), "{}", in_words(&output));
    let skipping = std::fs::File::open("examples/traces/skipping.csv").unwrap();
    let options = inference_from_csv(skipping, None, 0.25).unwrap();
    let timeline = std::fs::read(folder.path().join("timeline.json")).unwrap();
    let records: Vec<WindowRecord> = serde_json::from_slice(&timeline).unwrap();
    assert_eq!(records.len(), 4 * 3 * 4);
    let mut means: BTreeMap<(String, u32), Vec<f64>> = BTreeMap::new();
    for record in &records {
        let streams = record.streams.iter();
        let scored: Vec<f64> = streams
            .map(|stream| scored_again(stream, &options, record.window_seconds))
            .collect();
        let mean = scored.iter().sum::<f64>() / scored.len() as f64;
        assert!((mean - record.mean_accuracy).abs() < 1e-6, "{record:?}");
        assert!(mean <= record.upper_bound.unwrap() + 1e-6);
        let key = (record.scheduler.clone(), record.gpus);
        means.entry(key).or_default().push(mean);
    }
    let mut rows = csv::Reader::from_path(folder.path().join("summary.csv")).unwrap();
    let mut seen = 0;
    for row in rows.deserialize() {
        let row: BTreeMap<String, String> = row.unwrap();
        let means = &means[&(row["scheduler"].clone(), row["gpus"].parse().unwrap())];
        let mean = means.iter().sum::<f64>() / means.len() as f64;
        assert!((mean - row["mean_accuracy"].parse::<f64>().unwrap()).abs() < 1e-6);
        seen += 1;
    }
    assert_eq!(seen, 12);
    for chart in [
        "accuracy_gpus.svg",
        "shares_thief.svg",
        "shares_optimal.svg",
    ] {
        let svg = std::fs::read_to_string(folder.path().join(chart)).unwrap();
        assert!(svg.starts_with("<svg"), "{chart}");
    }
}

/// The commands of the README's table, on the released profiles. Without bounds, for time.
#[test]
fn the_studies_of_the_readme_run() {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        println!("skipped: EKYA_DATA is not set");
        return;
    };
    let traces = std::path::PathBuf::from(data).join("traces");
    let file = |name: &str| traces.join(name).to_str().unwrap().to_owned();
    let trace = file("cityscapes.csv");
    let profile = file("inference_subsampling.csv:c1");
    let folder = tempfile::tempdir().unwrap();
    let mut studies = 0;
    for command in README.split("`SIM ").skip(1) {
        let (command, _) = command.split_once('`').unwrap();
        let (options, _) = command.split_once(" --out ").unwrap();
        let out = folder.path().join(studies.to_string());
        let files = [
            "--trace",
            &trace,
            "--inference-profile",
            &profile,
            "--no-bound",
        ];
        let mut arguments = files.to_vec();
        arguments.extend(["--out", out.to_str().unwrap()]);
        arguments.extend(options.split(' '));
        let output = simulate(&arguments);
        assert!(output.status.success(), "{command}: {}", in_words(&output));
        assert!(out.join("timeline.json").exists());
        studies += 1;
    }
    assert_eq!(studies, 5);
}

#[test]
fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let trace = "examples/traces/made_up.csv";
    let profile = "examples/traces/skipping.csv";
    let run = |arguments: &[&str]| {
        let output = simulate(&[arguments, &["--out", out]].concat());
        assert!(!output.status.success(), "{arguments:?}");
        in_words(&output)
    };
    let missing = run(&["--trace", "no.csv", "--inference-profile", profile]);
    assert!(missing.contains("cannot open no.csv"), "{missing}");
    let swapped = run(&["--trace", profile, "--inference-profile", profile]);
    assert!(
        swapped.contains("not a trace") && swapped.contains("missing field"),
        "{swapped}"
    );
    let column = format!("{profile}:c7");
    let column = run(&["--trace", trace, "--inference-profile", &column]);
    assert!(
        column.contains("no column \"c7\"; there are factor"),
        "{column}"
    );
    let name = [
        "--trace",
        trace,
        "--inference-profile",
        profile,
        "--scheduler",
        "theif",
    ];
    assert!(run(&name).contains("there are thief, thief:literal, optimal"));
}

#[test]
fn the_example_of_an_own_scheduler_runs() {
    assert!(README.contains("$ cargo run -p ekya-sched --example own_scheduler"));
    let output = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "-p",
            "ekya-sched",
            "--example",
            "own_scheduler",
        ])
        .output()
        .unwrap();
    let words = in_words(&output);
    assert!(
        output.status.success() && words.contains("most-rewarding"),
        "{words}"
    );
}
