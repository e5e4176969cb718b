//! Where results go by `[[output]]`: files, standard output, a socket, a real MQTT broker.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod broker;
mod shown;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use broker::{Broker, Listener, free_port};
use serde_json::Value;
use shown::{PATIENCE, Shown};

/// Two cameras of so many frames a second, of which nothing is learnt.
fn scenes(fps: f64) -> String {
    let stream = |name: &str, seed: u32| {
        format!(
            "[[stream]]\nname = \"{name}\"\nteacher = \"labels\"\n\
             source = {{ scene = {{ fps = {fps:?}, seed = {seed} }} }}\n\
             student = {{ classifier = {{ weights = \"scene\" }} }}\n"
        )
    };
    let (gate, harbour) = (stream("gate", 201), stream("north / harbour", 202));
    format!(
        "[run]\nwindow_seconds = 3.0\nscheduler = \"none\"\n\
         [[device]]\nname = \"cpu0\"\nkind = \"cpu\"\ncores = 1\nisolation = \"inline\"\n{gate}{harbour}"
    )
}

/// `ekya run` for one window, in a folder with this configuration.
fn run_once(folder: &Path, config: &str) -> Command {
    fs::write(folder.join("site.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ekya"));
    command
        .args(["run", "--windows", "1", "--config"])
        .arg(folder.join("site.toml"))
        .stdin(Stdio::null());
    command
}

/// Lines of a file, whole ones.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{}", path.display());
    text.lines().map(str::to_owned).collect()
}

fn stream(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line["stream"].as_str().unwrap().to_owned()
}

/// Lines stream by stream: those of one come in order, those of two as it happens.
fn by_stream(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_by_key(|line| stream(line));
    lines
}

/// A metric of a node.
fn metric(node: &Shown, name: &str) -> f64 {
    let text = node.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|value| value.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

#[test]
fn files_and_standard_output_have_every_line_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = scenes(60.0)
        + "[[output]]\nto = { file = { path = \"results\", rotate_bytes = 65536, keep = 20 } }\n\
           [[output]]\nto = \"stdout\"\nstreams = [\"gate\"]\n";
    let out = folder.path().join("run");
    let output = run_once(folder.path(), &config)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let expected = lines(&out.join("results.jsonl"));
    let mut rotated = Vec::new();
    for number in (1..20).rev() {
        let path = folder.path().join(format!("results.{number}"));
        if path.exists() {
            let size = fs::metadata(&path).unwrap().len();
            assert!((30_000..=65_536).contains(&size), "{size}");
            rotated.extend(lines(&path));
        }
    }
    assert!(!rotated.is_empty(), "no file was full");
    rotated.extend(lines(&folder.path().join("results")));
    assert!(by_stream(rotated) == by_stream(expected.clone()));
    let printed = String::from_utf8(output.stdout).unwrap();
    let of_gate = expected.iter().filter(|line| stream(line) == "gate");
    assert!(printed.lines().eq(of_gate));
    // What a run prints otherwise.
    assert!(said.contains("mean accuracy "), "{said}");
    // The file is gone on with.
    let again = run_once(folder.path(), &config).output().unwrap();
    assert!(again.status.success());
    assert!(lines(&folder.path().join("results.1")).len() > 10);
    assert!(folder.path().join("results.3").exists());
}

#[test]
fn a_run_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = run_once(folder.path(), &scenes(10.0))
        .arg("--out")
        .arg(&out)
        .output();
    assert!(run.unwrap().status.success());
    let export = |arguments: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_ekya"))
            .arg("export")
            .arg(&out)
            .args(arguments)
            .current_dir(&folder)
            .output()
            .unwrap();
        let said = String::from_utf8(command.stderr).unwrap();
        if command.status.success() {
            Ok(String::from_utf8(command.stdout).unwrap())
        } else {
            Err(said)
        }
    };
    let results = lines(&out.join("results.jsonl"));
    let of_gate = results.iter().filter(|line| stream(line) == "gate").count();
    let printed = export(&["--format", "coco", "--stream", "gate", "-o", "gate.json"]);
    assert_eq!(printed.unwrap(), "");
    let coco = fs::read(folder.path().join("gate.json")).unwrap();
    let coco: Value = serde_json::from_slice(&coco).unwrap();
    let (images, boxes) = (&coco["images"], &coco["annotations"]);
    assert_eq!(images.as_array().unwrap().len(), of_gate);
    let detections = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["detections"].as_array().unwrap().len()
    };
    let rows = export(&["--format", "supervision"]).unwrap();
    assert_eq!(
        rows.lines().count() - 1,
        results.iter().map(detections).sum::<usize>()
    );
    let rows = export(&["--format", "supervision", "--stream", "gate"]).unwrap();
    assert_eq!(rows.lines().count() - 1, boxes.as_array().unwrap().len());
    let said = export(&["--format", "coco"]).unwrap_err();
    assert!(
        said.contains("choose one of its streams: gate, north / harbour"),
        "{said}"
    );
}

#[test]
fn a_reader_of_standard_output_that_goes_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = scenes(10.0) + "[[output]]\nto = \"stdout\"\n";
    let mut node = run_once(folder.path(), &config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(node.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(!stream(&line).is_empty());
    let output = node.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("nobody reads standard output"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_slow_client_of_a_socket_loses_lines_and_others_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let config = scenes(60.0) + &format!("[[output]]\nto = {{ socket = {{ path = {path:?} }} }}\n");
    let node = Shown::run(&config);
    let _slow = UnixStream::connect(&path).unwrap();
    let fast = UnixStream::connect(&path).unwrap();
    fast.set_read_timeout(Some(PATIENCE)).unwrap();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(fast).lines().map(Result::unwrap);
        let frame = |line: String| {
            let line: Value = serde_json::from_str(&line).unwrap();
            line["frame"].as_u64().unwrap()
        };
        lines
            .filter(|line| stream(line) == "gate")
            .map(frame)
            .collect::<Vec<_>>()
    });
    // Another node does not take the socket away.
    let another = run_once(folder.path(), &config).output().unwrap();
    let said = String::from_utf8(another.stderr).unwrap();
    assert!(
        said.contains("output 'socket': ") && said.contains("another process listens there"),
        "{said}"
    );
    for _ in node.ticks() {
        if metric(&node, "ekya_output_lost_total{output=\"socket\"}") > 0.0 {
            break;
        }
    }
    let log = node.end();
    let frames = reader.join().unwrap();
    assert!(frames.len() > 300, "{}", frames.len());
    assert!(
        frames.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{frames:?}"
    );
    assert!(log.contains("results were lost"), "{log}");
    assert!(!path.exists());
}

#[test]
fn a_socket_that_a_killed_node_has_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let config = scenes(10.0) + &format!("[[output]]\nto = {{ socket = {{ path = {path:?} }} }}\n");
    // Killed when it is dropped.
    drop(Shown::run(&config));
    assert!(path.exists());
    let node = Shown::run(&config);
    let client = UnixStream::connect(&path).unwrap();
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).unwrap();
    assert!(!stream(&line).is_empty());
    node.end();
    assert!(!path.exists());
}

/// Scenes whose results go to a broker, with these keys beside its address.
fn to_broker(broker: &str, keys: &str) -> String {
    let to = format!("{{ mqtt = {{ broker = \"{broker}\", topic = \"site/edge-1\"{keys} }} }}");
    scenes(10.0) + &format!("[[output]]\nto = {to}\n")
}

fn local(port: u16) -> String {
    format!("mqtt://127.0.0.1:{port}")
}

#[test]
fn a_broker_is_told_what_is_seen_and_that_the_node_is_there() {
    if !broker::is_there() {
        return;
    }
    let broker = Broker::open();
    let listener = broker.listen();
    let node = Shown::run(&to_broker(&local(broker.port), ", results = true"));
    listener.until("there", |heard| {
        heard.topic == "site/edge-1/available" && heard.text == "online"
    });
    let result = listener.until("a result", |heard| {
        heard.topic == "site/edge-1/gate/results"
    });
    let result: Value = serde_json::from_str(&result.text).unwrap();
    assert_eq!(result["stream"], "gate");
    // Those who come later are told at once.
    listener.until("a number", |heard| {
        heard.topic == "site/edge-1/north %2F harbour/all"
    });
    let late = broker.listen();
    let number = late.until("the number", |heard| {
        heard.topic == "site/edge-1/north %2F harbour/all"
    });
    assert!(
        number.retained && number.text.parse::<u32>().is_ok(),
        "{number:?}"
    );
    let event = late.until("an event", |heard| heard.topic == "site/edge-1/events");
    let event: Value = serde_json::from_str(&event.text).unwrap();
    assert!(event["after"]["label"].is_string(), "{event:#}");
    assert!(metric(&node, "ekya_output_written_total{output=\"mqtt\"}") > 10.0);
    assert_eq!(
        metric(&node, "ekya_output_lost_total{output=\"mqtt\"}"),
        0.0
    );
    let log = node.end();
    assert!(!log.contains("results were lost"), "{log}");
    listener.until("that it has gone", |heard| heard.text == "offline");
    let known = broker.listen();
    let gone = known.until("still gone", |heard| heard.topic == "site/edge-1/available");
    assert!(gone.retained && gone.text == "offline");
    let number = broker
        .listen()
        .until("nothing", |heard| heard.topic == "site/edge-1/gate/all");
    assert_eq!(number.text, "0");
}

#[test]
fn a_broker_that_is_away_is_waited_for_and_inference_goes_on() {
    if !broker::is_there() {
        return;
    }
    let port = free_port();
    let node = Shown::run(&to_broker(&local(port), ""));
    let up = || metric(&node, "ekya_output_up{output=\"mqtt\"}");
    node.until_said("not connected: results wait");
    assert_eq!(up(), 0.0);
    let answered = |snapshot: &Value| snapshot["streams"][0]["frames"]["answered"].as_u64();
    // A node that has only just begun has nothing to show yet.
    let before = answered(&node.until("the first look", |_| true)).unwrap();
    node.until("answering", |snapshot| {
        answered(snapshot) > Some(before + 5)
    });
    let first = Broker::start(port, "allow_anonymous true");
    node.until_said("connected output=\"mqtt\"");
    first
        .listen()
        .until("numbers", |heard| heard.topic == "site/edge-1/gate/all");
    assert_eq!(up(), 1.0);
    // Killed, and all that it knew with it.
    drop(first);
    node.until_said("not connected: results wait");
    let second = Broker::start(port, "allow_anonymous true");
    node.until_said("connected output=\"mqtt\"");
    let listener = second.listen();
    let there = listener.until("there", |heard| heard.topic == "site/edge-1/available");
    assert_eq!(there.text, "online");
    second
        .listen()
        .until("numbers", |heard| heard.topic == "site/edge-1/gate/all");
    // A short absence costs nothing: what the first had not acknowledged, the second has.
    assert_eq!(
        metric(&node, "ekya_output_lost_total{output=\"mqtt\"}"),
        0.0
    );
    // Killed when it is dropped: the broker says so in its place.
    drop(node);
    listener.until("that it has gone", |heard| heard.text == "offline");
}

#[test]
fn a_broker_that_hangs_does_not_keep_a_node_from_ending() {
    if !broker::is_there() {
        return;
    }
    let broker = Broker::open();
    let node = Shown::run(&to_broker(&local(broker.port), ", results = true"));
    node.until_said("connected output=\"mqtt\"");
    broker.hang();
    let told = metric(&node, "ekya_output_written_total{output=\"mqtt\"}");
    node.until("answering", |snapshot| {
        snapshot["streams"][0]["frames"]["arrived"].as_f64() > Some(told + 20.0)
    });
    let log = node.end();
    assert!(log.contains("results were lost"), "{log}");
}

#[test]
fn a_broker_may_refuse() {
    if !broker::is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(file("users"))
        .args(["ekya", "correct horse"])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: there is no mosquitto_passwd on the PATH");
    }
    fs::write(file("right"), "correct horse\n").unwrap();
    fs::write(file("wrong"), "battery staple\n").unwrap();
    let lines = format!(
        "allow_anonymous false\npassword_file {}",
        file("users").display()
    );
    let broker = Broker::start(free_port(), &lines);
    let config = |password: &str| {
        let keys = format!(", user = \"ekya\", password_file = {:?}", file(password));
        to_broker(&local(broker.port), &keys)
    };
    let node = Shown::run(&config("wrong"));
    node.until_said("the broker refuses this user or password");
    let log = node.end();
    assert!(!log.contains("battery"), "{log}");
    let node = Shown::run(&config("right"));
    node.until_said("connected output=\"mqtt\"");
    let listener = Listener::new(broker.port, Some(("ekya", "correct horse")));
    listener.until("there", |heard| heard.text == "online");
}

#[test]
fn a_broker_is_spoken_to_through_tls() {
    let folder = tempfile::tempdir().unwrap();
    if !broker::is_there() || !broker::make_certificates(folder.path()) {
        return;
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let lines = format!(
        "allow_anonymous true\ncertfile {}\nkeyfile {}",
        file("broker.pem"),
        file("broker.key")
    );
    let broker = Broker::start(free_port(), &lines);
    let address = format!("mqtts://localhost:{}", broker.port);
    let node = Shown::run(&to_broker(
        &address,
        &format!(", ca = {:?}", file("ca.pem")),
    ));
    node.until_said("connected output=\"mqtt\"");
    drop(node);
    // One that another authority vouches for is not spoken to.
    let others = tempfile::tempdir().unwrap();
    assert!(broker::make_certificates(others.path()));
    let ca = others.path().join("ca.pem");
    let node = Shown::run(&to_broker(&address, &format!(", ca = {ca:?}")));
    node.until_said("invalid peer certificate");
}
