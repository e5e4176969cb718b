//! The tasks that are calls of cargo.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::summary::Summary;
use crate::{environment, setup};

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

/// Runs the command `task` of `ekya` in this process' place, so that signals and the exit status are its own.
///
/// # Errors
/// When cargo cannot be started; else this does not return.
pub(crate) fn ekya(task: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let mut command = cargo(["run", "--package", "ekya", "--bin", "ekya", "--", task]);
    command.args(after_separator(arguments));
    Err(command.exec()).context("starting cargo")
}

/// Runs all tests, or those that `arguments` choose, and prints the totals.
///
/// # Errors
/// When cargo cannot be started or read from.
pub(crate) fn test(arguments: &[OsString]) -> Result<ExitCode> {
    test_with(arguments, None)
}

/// As [`test()`], with `variables` in the environment of the tests.
///
/// # Errors
/// When cargo cannot be started or read from.
pub(crate) fn test_with<'a>(
    arguments: &[OsString],
    variables: impl IntoIterator<Item = (&'a str, &'a OsStr)>,
) -> Result<ExitCode> {
    let started = Instant::now();
    let mut command = cargo(["test"]);
    command
        .args(test_defaults(arguments))
        .args(arguments)
        .envs(variables)
        .stdout(Stdio::piped());
    announce(&command);
    let mut child = command.spawn().context("starting cargo")?;
    let mut summary = Summary::default();
    if let Some(stdout) = child.stdout.take() {
        let mut out = io::stdout().lock();
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("reading from cargo")?;
            summary.handle_line(&String::from_utf8_lossy(&line));
            out.write_all(&line).and_then(|()| out.write_all(b"\n"))?;
        }
    }
    let status = child.wait().context("waiting for cargo")?;
    println!("\n{summary}, {:.0} s", started.elapsed().as_secs_f64());
    if env::var_os("EKYA_DATA").is_none() {
        println!("EKYA_DATA is unset: tests that need real data were skipped and count as passed");
    }
    Ok(exit_code(status))
}

/// Checks format, lints and documentation.
///
/// # Errors
/// When cargo cannot be started or one of them finds fault.
pub(crate) fn check() -> Result<ExitCode> {
    must_pass(
        &mut cargo(["fmt", "--all", "--check"]),
        "cargo xtask fix formats",
    )?;
    must_pass(
        cargo(["clippy", "--workspace", "--all-targets"]).args(DENY_WARNINGS),
        "mend what is listed above",
    )?;
    must_pass(
        cargo([
            "clippy",
            "--package",
            "ekya",
            "--no-default-features",
            "--lib",
        ])
        .args(DENY_WARNINGS),
        "everything but ekya-models must build without libtorch",
    )?;
    must_pass(
        cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
        "mend the documentation",
    )?;
    eprintln!("format, lints and documentation are in order");
    Ok(ExitCode::SUCCESS)
}

/// Applies what the lints suggest, then formats.
///
/// # Errors
/// When cargo cannot be started or the sources do not compile.
pub(crate) fn fix() -> Result<ExitCode> {
    let flags = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ];
    must_pass(&mut cargo(flags), "mend what does not compile first")?;
    must_pass(
        &mut cargo(["fmt", "--all"]),
        "mend what does not parse first",
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The cargo that started this program, in the environment that a user's own call would have: with
/// the project's default `LIBTORCH` from `.cargo/config.toml` only, or torch-sys would be compiled
/// for each way of calling.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(arguments);
    let default = |value: &OsStr| environment::is_default(Path::new(value), &setup::root());
    if env::var_os("LIBTORCH").is_some_and(|value| default(&value)) {
        command.env_remove("LIBTORCH");
    }
    command
}

/// Flags of `cargo test` unless the user chose otherwise: every package, and every program though one fails.
fn test_defaults(arguments: &[OsString]) -> Vec<&'static str> {
    let own: Vec<_> = arguments
        .iter()
        .take_while(|a| *a != "--")
        .map(|a| a.to_string_lossy())
        .collect();
    let chosen = |flags: &[&str]| {
        own.iter()
            .any(|a| flags.iter().any(|flag| a.starts_with(flag)))
    };
    let mut defaults = Vec::new();
    // `-p` may be written together with its value; no other short flag of `cargo test` starts so.
    if !chosen(&["-p", "--package", "--workspace", "--manifest-path"]) {
        defaults.push("--workspace");
    }
    if !chosen(&["--no-fail-fast"]) {
        defaults.push("--no-fail-fast");
    }
    defaults
}

/// `arguments` without the `--` that keeps xtask from reading them.
fn after_separator(arguments: &[OsString]) -> &[OsString] {
    match arguments {
        [first, rest @ ..] if first == "--" => rest,
        all => all,
    }
}

pub(crate) fn must_pass(command: &mut Command, advice: &str) -> Result<()> {
    announce(command);
    let status = command.status().context("starting cargo")?;
    if !status.success() {
        bail!("{} failed: {advice}", shown(command));
    }
    Ok(())
}

pub(crate) fn announce(command: &Command) {
    eprintln!("$ {}", shown(command));
}

fn shown(command: &Command) -> String {
    let arguments = command
        .get_args()
        .map(|a| format!(" {}", a.to_string_lossy()));
    format!("cargo{}", arguments.collect::<String>())
}

fn exit_code(status: ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn tests_of_the_whole_workspace_run_unless_some_are_chosen() {
        for (line, defaults) in [
            ("", vec!["--workspace", "--no-fail-fast"]),
            ("thief", vec!["--workspace", "--no-fail-fast"]),
            ("-p ekya-sched", vec!["--no-fail-fast"]),
            ("-pekya-sched --no-fail-fast", vec![]),
            ("--package=ekya", vec!["--no-fail-fast"]),
            ("-- -p", vec!["--workspace", "--no-fail-fast"]),
        ] {
            assert_eq!(test_defaults(&words(line)), defaults, "{line}");
        }
    }

    #[test]
    fn the_separator_is_not_handed_on() {
        assert_eq!(after_separator(&words("-- --help")), words("--help"));
        assert_eq!(after_separator(&words("--out -- x")), words("--out -- x"));
    }

    #[test]
    fn a_command_is_shown_as_a_user_would_type_it() {
        assert_eq!(
            shown(cargo(["clippy"]).args(DENY_WARNINGS)),
            "cargo clippy -- -D warnings"
        );
    }
}
