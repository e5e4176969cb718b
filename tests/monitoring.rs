//! What lies in `docker/monitoring` fits the metrics: every query of the Grafana dashboard, and every rule,
//! is asked of a real Prometheus that has scraped a running node. Where there is no Prometheus, it is
//! skipped, and says so.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod shown;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shown::{PATIENCE, SCENES, Shown, fetch};

const MONITORING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/monitoring");

/// What a node that is alone has nothing to say about.
const OF_SEVERAL_NODES: [&str; 6] = [
    "ekya_node_leads",
    "ekya_node_has_leader",
    "ekya_node_draining",
    "ekya_members",
    "ekya_peer_",
    "ekya_connections_total",
];

#[test]
fn every_query_has_an_answer() {
    if !is_there("prometheus") {
        return;
    }
    let output = "[[output]]\nto = { file = { path = \"results.jsonl\" } }\n";
    let node = Shown::run(&format!("{SCENES}{output}"));
    let prometheus = Prometheus::start(node.address);
    node.until("measured, predicted and promoted", |snapshot| {
        let streams = snapshot["streams"].as_array().unwrap();
        streams.iter().all(|stream| {
            let known = stream["accuracy"]["sd"].is_f64() && stream["predicted"].is_f64();
            known && stream["student"].as_u64() > Some(0)
        })
    });
    prometheus.until("ten scrapes", "count_over_time(ekya_window[1m]) >= 10");
    prometheus.until(
        "promotions seen",
        "min(ekya_model_swaps_total{outcome=\"promoted\"}) > 0",
    );
    let mut failures = String::new();
    let queries = queries_of_dashboard();
    assert!(queries.len() > 40, "{} queries", queries.len());
    for query in queries {
        let of_several = OF_SEVERAL_NODES.iter().any(|name| query.contains(name));
        match prometheus.ask(&query) {
            Err(why) => writeln!(failures, "{query}: {why}").unwrap(),
            Ok(0) if !of_several => writeln!(failures, "{query}: nothing").unwrap(),
            Ok(_) => {}
        }
    }
    assert!(failures.is_empty(), "{failures}");
    let rules = fetch(prometheus.address, "/api/v1/rules", &[])
        .unwrap()
        .json();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert!(rules.len() > 20, "{} rules", rules.len());
    for rule in rules {
        assert_ne!(rule["health"], "err", "{rule:#}");
    }
}

#[test]
fn rules_fire_when_they_should() {
    if !is_there("promtool") {
        return;
    }
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(MONITORING)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{why}");
    }
}

fn is_there(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("skipped: there is no {program} on the PATH");
    }
    found
}

/// Expressions of all panels, with the dashboard's variables filled in.
fn queries_of_dashboard() -> BTreeSet<String> {
    let text = fs::read_to_string(format!("{MONITORING}/grafana/dashboards/ekya.json")).unwrap();
    let mut found = BTreeSet::new();
    expressions(&serde_json::from_str(&text).unwrap(), &mut found);
    let fill = |query: String| {
        [
            ("$node", ".*"),
            ("$stream", ".*"),
            ("$__rate_interval", "10s"),
            ("$__range", "1m"),
        ]
        .iter()
        .fold(query, |query, (variable, value)| {
            query.replace(variable, value)
        })
    };
    found.into_iter().map(fill).collect()
}

fn expressions(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// A Prometheus that scrapes a node every second.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(node: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{MONITORING}/rules.yml']\n\
             scrape_configs:\n  - job_name: ekya\n    static_configs: [{{targets: ['{node}']}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    /// Asks a query; how many series the answer has.
    fn ask(&self, query: &str) -> Result<usize, String> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        let answer = fetch(self.address, &path, &[]).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| answer.text())?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(answer["data"]["result"].as_array().map_or(0, Vec::len))
    }

    /// Asks until there is an answer; there is no event to wait for from outside.
    fn until(&self, what: &str, query: &str) {
        let began = Instant::now();
        while self.ask(query).unwrap_or(0) == 0 {
            assert!(
                began.elapsed() < PATIENCE,
                "no {what}: {:?}",
                self.ask(query)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn encoded(query: &str) -> String {
    query.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").unwrap();
        }
        text
    })
}

#[test]
fn files_of_grafana_are_where_the_compose_file_mounts_them() {
    let provider = fs::read_to_string(format!(
        "{MONITORING}/grafana/provisioning/dashboards/ekya.yaml"
    ));
    assert!(provider.unwrap().contains("/var/lib/grafana/dashboards"));
    assert!(Path::new(MONITORING).join("prometheus.yml").exists());
}
