//! The commands of `docs/` are run, block after block, as somebody would who reads along; its
//! configurations are checked. What starts cargo for something else than `ekya` is only looked up: building
//! is not what is tried here.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod markdown;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use ekya::config::ValidConfig;
use markdown::blocks;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What the commands need beside ekya.
const PROGRAMS: [&str; 3] = ["curl", "openssl", "python3"];

/// Stands in for cargo: runs `ekya` where that is asked for, and looks up what examples there are.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
"run --bin ekya -- "*)
    shift 4
    # The port that these take where none is named is another's here.
    case $1 in status | drain) set -- "$@" --node "127.0.0.1:$NODE" ;; esac
    exec "$EKYA" "$@" ;;
*"--example "*)
    name=${*##*--example }; name=${name%% *}
    for folder in examples ekya-sched/examples ekya-actors/examples; do
        test -e "$ROOT/$folder/$name.rs" && exit
        test -e "$ROOT/$folder/$name/main.rs" && exit
    done
    echo "no example $name" >&2; exit 1 ;;
"xtask setup" | "build --release --bin ekya") mkdir -p target/release; ln -sf "$EKYA" target/release/ekya ;;
*) echo "unexpected: cargo $*" >&2; exit 1 ;;
esac
"#;

fn page(name: &str) -> String {
    fs::read_to_string(format!("{ROOT}/docs/{name}.md")).unwrap()
}

/// Runs all commands of a page in an empty folder, with windows of two seconds and ports of its own.
fn run(name: &str) {
    for program in PROGRAMS {
        if Command::new(program).arg("--version").output().is_err() {
            return eprintln!("skipped: docs/{name}.md needs {program}");
        }
    }
    let commands = blocks(&page(name), "sh").join("\n");
    assert!(!commands.is_empty());
    let [http, first, second] = ports();
    // Where a command fails, what runs beside it ends.
    let commands = format!("trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{commands}");
    let commands = commands
        .replace("window_seconds = 10.0", "window_seconds = 2.0")
        .replace("7480", &http)
        .replace("7443", &first)
        .replace("7444", &second);
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("cargo"), CARGO).unwrap();
    let runs = fs::Permissions::from_mode(0o755);
    fs::set_permissions(programs.join("cargo"), runs).unwrap();
    for shared in ["examples", "docker"] {
        symlink(Path::new(ROOT).join(shared), folder.path().join(shared)).unwrap();
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("timeout")
        .args(["300", "sh", "-eu", "-c", &commands])
        .current_dir(&folder)
        .env("PATH", path)
        .env("NODE", &first)
        .env("ROOT", ROOT)
        .env("EKYA", env!("CARGO_BIN_EXE_ekya"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{why}", output.status);
    // A refusal of the API ends no command. One is asked for again, until the node is ready.
    let said = said.replace(
        "{\"error\":\"the node does not answer: its log says why\"}",
        "",
    );
    assert!(!said.contains("{\"error\""), "{said}");
}

/// Ports that were free a moment ago: one for TCP, two for UDP.
fn ports() -> [String; 3] {
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let nodes = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [first, second] = nodes.map(|node| node.local_addr().unwrap().port().to_string());
    [http.local_addr().unwrap().port().to_string(), first, second]
}

#[test]
fn commands_of_the_operating_guide_work() {
    run("operating");
}

#[test]
fn commands_of_the_api_work() {
    run("api");
}

#[test]
fn commands_of_the_other_pages_are_there() {
    for name in ["comparison", "embedding", "extending"] {
        run(name);
    }
}

#[test]
fn configurations_are_valid() {
    let mut seen = 0;
    for name in [
        "api",
        "comparison",
        "concepts",
        "configuration",
        "embedding",
        "extending",
        "operating",
    ] {
        for block in blocks(&page(name), "toml") {
            ValidConfig::parse(&block).unwrap_or_else(|error| panic!("{name}: {error}\n{block}"));
            seen += 1;
        }
    }
    assert!(seen > 0);
}
