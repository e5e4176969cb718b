//! The actors beside Ray, kameo and ractor: the programs of `ekya-actors/rivals/` do the same with each,
//! between two processes of this machine; here they are run by turns and set side by side.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::row::{self, Row};
use crate::{run, setup};

const MANIFEST: &str = "ekya-actors/rivals/Cargo.toml";
const RAY_SCRIPT: &str = "ekya-actors/rivals/ray_rival.py";

/// Times that each has its turn. The median counts.
const ROUNDS: usize = 3;

const OURS: &str = "ekya";
const RAY: &str = "Ray";

/// In the order of the columns. All but Ray are programs of [`MANIFEST`].
const NAMES: [&str; 4] = [OURS, RAY, "kameo", "ractor"];

/// Something that is measured with each of them.
struct Measure {
    name: &'static str,
    unit: &'static str,
    /// What the programs call it.
    key: &'static str,
    /// Ray's figure, where it is another one.
    rays_key: &'static str,
    more_is_better: bool,
}

impl Measure {
    const fn new(name: &'static str, unit: &'static str, key: &'static str) -> Self {
        Self {
            name,
            unit,
            key,
            rays_key: key,
            more_is_better: false,
        }
    }

    const fn rays(mut self, key: &'static str) -> Self {
        self.rays_key = key;
        self
    }

    const fn more_is_better(mut self) -> Self {
        self.more_is_better = true;
        self
    }

    fn key_of(&self, side: &str) -> &'static str {
        if side == RAY { self.rays_key } else { self.key }
    }
}

const MEASURES: [Measure; 8] = [
    Measure::new("ask_p50", "us", "ask_p50_us"),
    Measure::new("ask_p99", "us", "ask_p99_us"),
    Measure::new("asks_2048_in_flight", "/s", "asks_per_second").more_is_better(),
    Measure::new("payload_of_44_MiB", "ms", "payload_ms"),
    // Within a machine, Ray needs no network for a payload.
    Measure::new("payload_beside_shared_memory", "ms", "payload_ms").rays("payload_same_node_ms"),
    Measure::new("starting_20_actors", "ms", "start_20_ms"),
    Measure::new("starting_100_actors", "ms", "start_100_ms"),
    Measure::new("starting_10000_actors", "ms", "start_10000_ms"),
];

/// What a program prints.
#[derive(Deserialize)]
struct Document {
    version: String,
    transport: String,
    figures: BTreeMap<String, f64>,
    /// Why there is no figure.
    failed: BTreeMap<String, String>,
}

/// Programs that are ready to run.
pub(super) struct Rivals {
    /// One that has Ray.
    python: PathBuf,
}

impl Rivals {
    /// Looks for Ray and builds the others.
    ///
    /// # Errors
    /// When the Python has no Ray, or something does not build.
    pub(super) fn prepare(python: &Path) -> Result<Self> {
        let found = Command::new(python)
            .args(["-c", "import ray; print(ray.__version__)"])
            .output()
            .with_context(|| format!("starting {}: --rivals takes a Python", python.display()))?;
        let version = String::from_utf8_lossy(&found.stdout);
        if !found.status.success() || !version.starts_with("2.") {
            bail!(
                "{} has no Ray 2: make an environment that has one \
                 (python3 -m venv FOLDER && FOLDER/bin/pip install 'ray>=2,<3') \
                 and give --rivals FOLDER/bin/python",
                python.display()
            );
        }
        let mut build = cargo("build");
        build.arg("--bins");
        run::must_pass(&mut build, "mend what does not build")?;
        Ok(Self {
            python: python.to_owned(),
        })
    }

    /// Runs all, by turns. One that does not run is left out, which is said.
    pub(super) fn compare(&self, quick: bool) -> Comparison {
        let mut sides = NAMES.map(|name| Side {
            name,
            documents: Vec::new(),
        });
        let rounds = if quick { 1 } else { ROUNDS };
        for round in 1..=rounds {
            for side in &mut sides {
                eprintln!("{}, round {round} of {rounds}", side.name);
                match self.run(side.name, quick) {
                    Ok(document) => side.documents.push(document),
                    Err(error) => eprintln!("{} is left out: {error:#}", side.name),
                }
            }
        }
        Comparison { sides }
    }

    fn run(&self, name: &str, quick: bool) -> Result<Document> {
        let mut command = if name == RAY {
            let mut command = Command::new(&self.python);
            command.arg(setup::root().join(RAY_SCRIPT));
            command
        } else {
            let mut command = cargo("run");
            command.args(["--bin", name, "--"]);
            command
        };
        command.args(quick.then_some("--quick"));
        let output = command.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "it ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("what it printed")
    }
}

/// A call of cargo for the package of the programs, which is none of the workspace.
fn cargo(task: &str) -> Command {
    let root = setup::root();
    let mut command = run::cargo([task, "--release", "--quiet", "--manifest-path"]);
    command.arg(root.join(MANIFEST));
    if env::var_os("CARGO_TARGET_DIR").is_none() {
        command.env("CARGO_TARGET_DIR", root.join("target"));
    }
    command
}

/// What one of them has shown.
struct Side {
    name: &'static str,
    /// One of each round.
    documents: Vec<Document>,
}

impl Side {
    /// The median of all rounds that have it.
    fn figure(&self, key: &str) -> Option<f64> {
        let figures = self.documents.iter().map(|document| &document.figures);
        let mut figures: Vec<f64> = figures.filter_map(|all| all.get(key).copied()).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    }

    fn heading(&self) -> String {
        let version = self.documents.first().map(|document| &document.version);
        version.map_or(self.name.to_owned(), |version| {
            format!("{} {version}", self.name)
        })
    }

    /// What it speaks, and what it has not done.
    fn notes(&self) -> String {
        let Some(document) = self.documents.first() else {
            return format!("{}: did not run\n", self.name);
        };
        let mut notes = format!("{}: {}", self.name, document.transport);
        for document in &self.documents {
            for (key, why) in &document.failed {
                let note = format!("; no {key}: {why}");
                if !notes.contains(&note) {
                    notes.push_str(&note);
                }
            }
        }
        notes + "\n"
    }
}

/// All of them, side by side.
pub(super) struct Comparison {
    sides: [Side; NAMES.len()],
}

impl Comparison {
    /// Every measure with each of them as the baseline; Ray's figures are targets.
    pub(super) fn rows(&self) -> Vec<Row> {
        let [ours, others @ ..] = &self.sides;
        let mut rows = Vec::new();
        for measure in &MEASURES {
            let value = ours.figure(measure.key).unwrap_or(f64::NAN);
            for side in others {
                let Some(theirs) = side.figure(measure.key_of(side.name)) else {
                    continue;
                };
                let name = format!("{}_between_processes", measure.name);
                let row = Row::new(name, value, measure.unit).against(side.name, theirs);
                rows.push(match (side.name, measure.more_is_better) {
                    (RAY, true) => row.at_least(theirs),
                    (RAY, false) => row.at_most(theirs),
                    _ => row,
                });
            }
        }
        rows
    }

    /// A line for each measure and a column for each of them.
    pub(super) fn table(&self) -> String {
        let [ours, ray, kameo, ractor] = self.sides.each_ref().map(Side::heading);
        let (what, unit, ratio) = ("between two processes", "unit", "ours over Ray's");
        let mut lines = vec![[
            what.into(),
            unit.into(),
            ours,
            ray,
            kameo,
            ractor,
            ratio.into(),
        ]];
        lines.extend(MEASURES.iter().map(|measure| self.cells(measure)));
        let notes: String = self.sides.iter().map(Side::notes).collect();
        row::columns(&lines) + &notes
    }

    fn cells(&self, measure: &Measure) -> [String; 7] {
        let figures = self
            .sides
            .each_ref()
            .map(|side| side.figure(measure.key_of(side.name)));
        let ratio = figures[0].zip(figures[1]).map(|(ours, rays)| {
            let slower = if measure.more_is_better {
                ours < rays
            } else {
                ours > rays
            };
            let verdict = if slower { ": slower" } else { "" };
            row::digits(ours / rays) + verdict
        });
        let [ours, ray, kameo, ractor] =
            figures.map(|figure| figure.map_or("-".into(), row::digits));
        let (name, unit) = (measure.name.into(), measure.unit.into());
        let ratio = ratio.unwrap_or_default();
        [name, unit, ours, ray, kameo, ractor, ratio]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &'static str, rounds: &[&[(&str, f64)]]) -> Side {
        let document = |figures: &&[(&str, f64)]| Document {
            version: "1.2".into(),
            transport: "TCP".into(),
            figures: figures
                .iter()
                .map(|&(key, value)| (key.into(), value))
                .collect(),
            failed: BTreeMap::from([("start_10000_ms".into(), "too many".into())]),
        };
        let documents = rounds.iter().map(document).collect();
        Side { name, documents }
    }

    fn comparison() -> Comparison {
        let ours = [("ask_p50_us", 80.0), ("payload_ms", 90.0)];
        let rays = [
            ("ask_p50_us", 800.0),
            ("payload_ms", 100.0),
            ("payload_same_node_ms", 30.0),
        ];
        let sides = [
            side(OURS, &[&ours]),
            side(RAY, &[&rays]),
            side("kameo", &[&[("ask_p50_us", 160.0)]]),
            side("ractor", &[]),
        ];
        Comparison { sides }
    }

    #[test]
    fn the_median_of_the_rounds_that_have_a_figure_counts() {
        let rounds: [&[(&str, f64)]; 4] = [&[("a", 9.0)], &[("a", 1.0)], &[("a", 2.0)], &[]];
        assert_eq!(side(OURS, &rounds).figure("a"), Some(2.0));
        assert_eq!(side(OURS, &rounds).figure("b"), None);
    }

    #[test]
    fn rays_figures_are_targets_and_those_of_others_are_not() {
        let rows = comparison().rows();
        let row = |name: &str, value, unit| Row::new(name.into(), value, unit);
        let ask = row("ask_p50_between_processes", 80.0, "us");
        assert!(rows.contains(&ask.clone().against(RAY, 800.0).at_most(800.0)));
        assert!(rows.contains(&ask.against("kameo", 160.0)));
        let mapped = row("payload_beside_shared_memory_between_processes", 90.0, "ms");
        assert!(rows.contains(&mapped.against(RAY, 30.0).at_most(30.0)));
    }

    #[test]
    fn a_table_says_what_is_slower_and_what_is_missing() {
        let table = comparison().table();
        let words = |start: &str| -> Vec<&str> {
            let line = table.lines().find(|line| line.starts_with(start));
            line.unwrap_or_default().split_whitespace().collect()
        };
        assert_eq!(
            words("ask_p50")[1..],
            ["us", "80.0", "800", "160", "-", "0.100"]
        );
        let mapped = words("payload_beside_shared_memory");
        assert_eq!(
            mapped[1..],
            ["ms", "90.0", "30.0", "-", "-", "3.00:", "slower"]
        );
        assert!(table.contains("kameo: TCP; no start_10000_ms: too many\n"));
        assert!(table.contains("ractor: did not run\n"));
    }
}
