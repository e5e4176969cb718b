//! What lies in `docker/` fits the program. The image itself is built by hand: no engine is asked for here.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;

use ekya::config::ValidConfig;

const COMPOSE: &str = include_str!("../docker/compose.yaml");
const KUBERNETES: &str = include_str!("../docker/kubernetes/ekya.yaml");

#[test]
fn the_nodes_of_the_compose_file_have_valid_configurations() {
    for name in ["edge-1", "edge-2", "edge-3"] {
        let file = format!("{}/docker/site/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let config = ValidConfig::load(file.as_ref()).unwrap();
        let cluster = config.cluster.as_ref().unwrap();
        assert_eq!(cluster.name, name);
        assert_eq!(cluster.seeds.len(), 2);
        assert!(COMPOSE.contains(&format!("./site/{name}.toml:/etc/ekya/site.toml:ro")));
    }
}

/// Commands of ekya in comments and arrays, as far as they are words.
#[test]
fn commands_and_their_options_exist() {
    let lines = COMPOSE.lines().chain(KUBERNETES.lines());
    let mut seen = 0;
    for line in lines {
        let plain: String = line
            .chars()
            .map(|c| if "[],'\";".contains(c) { ' ' } else { c })
            .collect();
        let mut words = plain.split_whitespace().skip_while(|word| *word != "ekya");
        let known = ["run", "status", "drain", "certs"];
        let Some(subcommand) = words.nth(1).filter(|word| known.contains(word)) else {
            continue;
        };
        has(subcommand, words, line);
        seen += 1;
    }
    let run = KUBERNETES
        .lines()
        .map(|line| line.trim().trim_start_matches("- "));
    has(
        "run",
        run.filter(|line| line.starts_with("--") && *line != "---"),
        "args",
    );
    assert!(seen >= 8, "{seen} commands");
}

/// Looks every option up in the command's help.
fn has<'a>(subcommand: &str, words: impl Iterator<Item = &'a str>, line: &str) {
    let mut command = vec![subcommand];
    let mut options = Vec::new();
    for word in words {
        if let Some(option) = word.strip_prefix("--") {
            options.push(format!("--{}", option.split('=').next().unwrap()));
        } else if subcommand == "certs" && command.len() < 2 {
            command.push(word);
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_ekya"))
        .args(&command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}");
    let help = String::from_utf8(output.stdout).unwrap();
    for option in options {
        assert!(help.contains(&option), "{line}: no {option}");
    }
}
