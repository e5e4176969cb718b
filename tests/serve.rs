//! What a node shows over HTTP, asked for by real requests of a real process.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod shown;

use std::fs;
use std::process::Command;

use serde_json::Value;
use shown::{SCENES, Shown};

/// Name of a stream as it stands in a path.
const HARBOUR: &str = "north%20%2F%20harbour";

fn stream<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    let streams = snapshot["streams"].as_array().unwrap();
    streams
        .iter()
        .find(|stream| stream["name"] == name)
        .unwrap()
}

#[test]
fn a_running_node_is_shown() {
    let node = Shown::run(SCENES);
    let snapshot = node.until("measured, and retrained once", |snapshot| {
        let gate = stream(snapshot, "gate");
        let measured = gate["accuracy"]["measured"].is_f64();
        let swapped = snapshot["streams"].as_array().unwrap();
        let swapped = swapped.iter().any(|one| one["student"].as_u64() > Some(0));
        measured && swapped
    });
    let gate = stream(&snapshot, "gate");
    assert_eq!(gate["state"], "running");
    assert!(
        gate["rates"]["answered"].as_f64().unwrap() > 1.0,
        "{gate:#}"
    );
    assert!(gate["latency"]["p99"].as_f64() >= gate["latency"]["p50"].as_f64());
    assert!(gate["frames"]["arrived"].as_u64() >= gate["frames"]["answered"].as_u64());
    // Share granted beside share used, job by job, and never more than the device.
    let device = &snapshot["devices"][0];
    let jobs = device["jobs"].as_array().unwrap();
    let granted: f64 = jobs
        .iter()
        .map(|job| job["granted"].as_f64().unwrap())
        .sum();
    let free = device["free"].as_f64().unwrap();
    assert!((granted + free - 1.0).abs() < 1e-4, "{device:#}");
    assert!(jobs.iter().any(|job| job["used"].as_f64().unwrap() > 0.0));

    let history = node.json("/api/v1/history");
    let seconds = history["times"].as_array().unwrap().len();
    let answered = history["streams"]["gate"]["answered"].as_array().unwrap();
    assert_eq!(answered.len(), seconds);
    let windows = history["windows"].as_array().unwrap();
    assert!(
        windows
            .iter()
            .any(|window| window["streams"]["gate"]["measured"].is_f64())
    );

    let plan = node.json("/api/v1/plan");
    let segments = plan["streams"][0]["segments"].as_array().unwrap();
    assert!(!segments.is_empty(), "{plan:#}");
    for pair in segments.windows(2) {
        assert!(
            pair[0]["from"].as_f64() <= pair[1]["from"].as_f64(),
            "{plan:#}"
        );
    }

    let one = node.json(&format!("/api/v1/streams/{HARBOUR}"));
    assert_eq!(one["stream"]["name"], "north / harbour");
    assert!(!one["windows"].as_array().unwrap().is_empty());
    let why = node.json("/api/v1/explain/gate");
    assert!(!why["decisions"].as_array().unwrap().is_empty(), "{why:#}");
    assert_eq!(node.json("/api/v1/nodes")["nodes"], serde_json::json!({}));

    let picture = node.json(&format!("/api/v1/streams/{HARBOUR}/picture.json"));
    assert!(
        picture["image"]
            .as_str()
            .unwrap()
            .starts_with("data:image/jpeg;base64,/9j/")
    );
    let jpeg = node.get("/api/v1/streams/gate/picture.jpg");
    assert!(jpeg.body.starts_with(&[0xff, 0xd8]) && jpeg.body.ends_with(&[0xff, 0xd9]));
}

#[test]
fn whoever_watches_is_told_every_second() {
    let node = Shown::run(SCENES);
    let ticks: Vec<Value> = node.ticks().take(3).collect();
    let times: Vec<f64> = ticks
        .iter()
        .map(|tick| tick["at"].as_f64().unwrap())
        .collect();
    assert!(times[0] < times[1] && times[1] < times[2], "{times:?}");
}

#[test]
fn metrics_are_those_of_the_node() {
    let node = Shown::run(SCENES);
    node.until("answered", |snapshot| {
        stream(snapshot, "gate")["frames"]["answered"].as_u64() > Some(5)
    });
    let text = node.get("/metrics").text();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    assert!(value("ekya_frames_inferred_total{stream=\"gate\"}") > 5.0);
    assert!(value("ekya_inference_compute_seconds_count{stream=\"gate\"}") > 5.0);
    assert!(value("ekya_device_share_granted{device=\"cpu0\",job=\"gate/inference\"}") > 0.0);
    assert!(value("ekya_stream_up{stream=\"north / harbour\"}") > 0.0);
    // Every one says what it is.
    let named = |kind: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        let names = lines.map(|line| line.split(' ').next().unwrap().to_owned());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(named("# TYPE "), named("# HELP "));
}

#[test]
fn the_page_asks_nobody_else_and_is_small() {
    let node = Shown::run(SCENES);
    let page = node.get("/");
    assert!(
        page.head
            .contains("content-security-policy: default-src 'self'"),
        "{}",
        page.head
    );
    let mut bytes = page.body.len();
    let text = page.text();
    let parts = text
        .split('"')
        .filter(|text| text.ends_with(".js") || text.ends_with(".css"));
    let parts: std::collections::BTreeSet<_> = parts.collect();
    assert!(parts.len() >= 3, "{parts:?}");
    for part in parts {
        let answer = node.get(&format!("/{part}"));
        assert_eq!(answer.status, 200, "{part}");
        bytes += answer.body.len();
    }
    assert!(bytes <= 150_000, "{bytes} bytes");
    assert!(!text.contains("\"http") && !text.contains("\"//"), "{text}");
}

#[test]
fn what_is_not_there_is_refused_in_words() {
    let node = Shown::run(&format!("{SCENES}\n[serve]\npictures = false\n"));
    for (path, status) in [
        ("/nothing", 404),
        ("/api/v1/streams/nobody", 404),
        ("/api/v1/explain/nobody", 404),
        ("/api/v1/streams/gate/picture.json", 403),
        ("/api/v1/streams/gate/picture.jpg", 403),
    ] {
        let answer = node.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(
            answer.json()["error"].as_str().unwrap().len() > 20,
            "{path}"
        );
    }
    // A page from elsewhere, whose name was made to lead here.
    let elsewhere = node.get_with("/api/v1/snapshot", &["Host: evil.example"]);
    assert_eq!(elsewhere.status, 403);
    assert_eq!(node.get("/healthz").status, 200);
}

#[test]
fn a_token_is_asked_for_where_one_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "0123456789abcdef0123\n").unwrap();
    let node = Shown::run(&format!("{SCENES}\n[serve]\ntoken_file = {token:?}\n"));
    assert_eq!(node.get("/").status, 401);
    assert_eq!(node.get("/metrics").status, 401);
    assert_eq!(node.get("/?token=0123456789abcdef0124").status, 401);
    assert_eq!(node.get("/healthz").status, 200);
    let bearer = "Authorization: Bearer 0123456789abcdef0123";
    assert_eq!(node.get_with("/metrics", &[bearer]).status, 200);
    let greeted = node.get("/?token=0123456789abcdef0123");
    assert_eq!(greeted.status, 303);
    assert!(greeted.head.contains("location: /\r\n"), "{}", greeted.head);
    let cookie = greeted
        .head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    assert_eq!(node.get_with("/", &[&cookie]).status, 200);
}

#[test]
fn a_port_that_is_taken_or_open_to_all_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    fs::write(&file, SCENES).unwrap();
    let refused = |address: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ekya"))
            .args(["run", "--serve", address, "--config"])
            .arg(&file)
            .env_remove("EKYA_TOKEN")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&taken.local_addr().unwrap().to_string());
    assert!(said.contains("cannot listen at 127.0.0.1:"), "{said}");
    let said = refused("0.0.0.0:0");
    assert!(
        said.contains("serve.listen: other machines may reach"),
        "{said}"
    );
    let said = refused("nonsense");
    assert!(said.contains("an IP address and a port"), "{said}");
}

#[test]
fn a_configuration_is_taken_while_the_node_runs() {
    let node = Shown::run(SCENES);
    let names = |snapshot: &Value| {
        let streams = snapshot["streams"].as_array().unwrap();
        let names = streams
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let before = node.until("answering", |snapshot| {
        stream(snapshot, "gate")["frames"]["answered"].as_u64() > Some(5)
    });
    assert_eq!(names(&before), ["gate", "north / harbour"]);
    // What is wrong changes nothing.
    node.reload("[run]\nwindow = 3\n");
    node.until_said("the configuration stays as it was");
    // The harbour goes, the market comes, and the gate notices nothing.
    let mut market = SCENES.replace("north / harbour", "market");
    market += "\n[learning]\nconfidence = 0.9\n";
    node.reload(&market);
    node.until_said("need a restart sections=\"[learning]\"");
    let after = node.until("changed", |snapshot| names(snapshot) == ["gate", "market"]);
    let frames = |snapshot: &Value| stream(snapshot, "gate")["frames"]["answered"].as_u64();
    assert!(frames(&after) >= frames(&before));
    node.until("answering for the market", |snapshot| {
        stream(snapshot, "market")["frames"]["answered"].as_u64() > Some(0)
    });
    assert_eq!(node.get(&format!("/api/v1/streams/{HARBOUR}")).status, 404);
    let log = node.end();
    assert!(!log.contains("ERROR ekya::schedule"), "{log}");
}
