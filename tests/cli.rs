//! The `ekya` command as a user calls it: real processes, good and bad input.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SCENE: &str = r#"
[run]
window_seconds = 5.0

[[device]]
name = "cpu0"
kind = "cpu"
cores = 1

[[stream]]
name = "gate"
teacher = "labels"
source = { scene = { fps = 15.0 } }
student = { classifier = { weights = "scene" } }
"#;

fn ekya(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ekya"))
        .args(arguments)
        .output()
        .unwrap()
}

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("site.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// The one line that a failed command prints last.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn check_accepts_and_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let good = ekya(&["check", &write(folder.path(), SCENE)]);
    assert!(good.status.success(), "{good:?}");
    let bad = SCENE.replace("window_seconds = 5.0", "window_seconds = 0.001");
    let text = complaint(&ekya(&["check", &write(folder.path(), &bad)]));
    assert!(text.contains("line 3: run.window_seconds"), "{text}");
    let bad = SCENE.replace("\"labels\"", "{ own = \"people\" }");
    let text = complaint(&ekya(&["check", &write(folder.path(), &bad)]));
    let expected = "stream[0].teacher.own: this program has no teacher 'people'";
    assert!(text.contains(expected), "{text}");
    let text = complaint(&ekya(&["check", "/nowhere.toml"]));
    assert!(text.contains("/nowhere.toml"), "{text}");
}

#[test]
fn check_says_as_json_what_is_wrong_too() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let output = ekya(&["check", &write(folder.path(), text), "--json"]);
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = check(SCENE);
    assert_eq!(
        (code, &said["streams"], &said["devices"]),
        (Some(0), &1.into(), &1.into())
    );
    assert_eq!(said["problems"], serde_json::json!([]));
    let (code, said) = check(&SCENE.replace("cores = 1", "coers = 1\nseed = 1"));
    assert_eq!(
        (code, &said["streams"]),
        (Some(1), &serde_json::Value::Null)
    );
    let problem = &said["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["key"]),
        (&8.into(), &"device[0].coers".into())
    );
    assert_eq!(problem["message"], "no such key; did you mean `cores`?");
    assert_eq!(said["problems"][1]["line"], 9);
    let (code, said) = check("[run");
    assert_eq!((code, &said["problems"][0]["line"]), (Some(1), &1.into()));
}

#[test]
fn keys_are_printed_for_people_and_for_editors() {
    let page = ekya(&["config"]);
    assert_eq!(
        String::from_utf8(page.stdout).unwrap(),
        ekya::config::reference()
    );
    let schema = ekya(&["config", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema, ekya::config::schema());
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broken.safetensors"), b"not weights").unwrap();
    std::fs::write(
        folder.path().join("manifest.csv"),
        "time,image,label\n0,absent.png,car\n",
    )
    .unwrap();
    let source = "scene = { fps = 15.0 }";
    let cases = [
        (
            SCENE.replace("weights = \"scene\"", "weights = \"broken.safetensors\""),
            "broken.safetensors",
        ),
        (
            SCENE.replace("weights = \"scene\"", "weights = \"absent.safetensors\""),
            "absent.safetensors",
        ),
        (
            SCENE
                .replace(source, "folder = { path = \"manifest.csv\" }")
                .replace("weights = \"scene\"", ""),
            "absent.png",
        ),
        (
            SCENE.replace("weights = \"scene\"", "weights = \"${EKYA_NOT_SET}/x\""),
            "EKYA_NOT_SET",
        ),
    ];
    for (text, expected) in cases {
        let complaint = complaint(&ekya(&["run", "--config", &write(folder.path(), &text)]));
        assert!(
            complaint.contains(expected),
            "{complaint}\nexpected {expected}"
        );
    }
}

#[test]
fn ctrl_c_in_a_window_writes_the_record_and_exits_with_zero() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ekya"))
        .args(["run", "--config", &write(folder.path(), SCENE), "--out"])
        .arg(&out)
        .env("EKYA_LOG", "ekya=info")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The first window is over: the run is in the middle of the second.
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let over = lines
        .map_while(Result::ok)
        .find(|line| line.contains("window over"));
    assert!(over.is_some(), "the first window ends");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let asked = Instant::now();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status:?}");
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["complete"], false);
    let frames = &record["streams"][0]["frames"];
    let count = |name: &str| frames[name].as_u64().unwrap();
    assert_eq!(
        count("arrived"),
        count("answered") + count("skipped") + count("dropped")
    );
}

#[test]
fn certificates_are_made_renewed_and_read() {
    use ekya_actors::security::{Identity, Role};
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let path = certs.display().to_string();
    let text = complaint(&ekya(&["certs", "issue", "edge-1", "--folder", &path]));
    assert!(text.contains("ekya certs init"), "{text}");
    assert!(ekya(&["certs", "init", "--folder", &path]).status.success());
    let text = complaint(&ekya(&["certs", "init", "--folder", &path]));
    assert!(text.contains("is there already"), "{text}");
    let issue = |arguments: &[&str]| {
        let arguments = [&["certs", "issue", "--folder", &path], arguments].concat();
        ekya(&arguments)
    };
    assert!(issue(&["edge-1"]).status.success());
    let first = std::fs::read(certs.join("edge-1.pem")).unwrap();
    assert!(issue(&["edge-1", "--role", "client"]).status.success());
    assert_ne!(std::fs::read(certs.join("edge-1.pem")).unwrap(), first);
    let identity = Identity::load(&certs, "edge-1").unwrap();
    assert_eq!(identity.who().role, Role::Client);
    let text = complaint(&issue(&["Edge 1"]));
    assert!(text.contains("lower-case letters"), "{text}");
    assert_eq!(issue(&["edge-1", "--role", "king"]).status.code(), Some(2));
    #[cfg(unix)]
    for secret in ["ca.key", "edge-1.key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(certs.join(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{secret} can be read by others");
    }
}

#[test]
fn a_node_that_cannot_be_one_of_a_site_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(folder.path(), SCENE);
    let certs = folder.path().join("certs").display().to_string();
    let state = folder.path().join("state").display().to_string();
    let join = |more: &[&str]| {
        let run = [
            "run", "--config", &config, "--name", "edge-1", "--certs", &certs,
        ];
        complaint(&ekya(&[&run, more].concat()))
    };
    let text = join(&[]);
    assert!(
        text.contains("run.state") && text.contains("--state"),
        "{text}"
    );
    let text = join(&["--state", &state]);
    assert!(
        text.contains("cannot read") && text.contains("edge-1.pem"),
        "{text}"
    );
    assert!(
        ekya(&["certs", "init", "--folder", &certs])
            .status
            .success()
    );
    let issue = |role| {
        ekya(&[
            "certs", "issue", "edge-1", "--role", role, "--folder", &certs,
        ])
    };
    assert!(issue("observer").status.success());
    let text = join(&["--state", &state]);
    assert!(text.contains("ekya certs issue edge-1"), "{text}");
    assert!(issue("node").status.success());
    let text = join(&["--state", &state, "--listen", "somewhere"]);
    assert!(text.contains("cluster.listen"), "{text}");
    let text = join(&["--state", &state, "--join", "edge-2"]);
    assert!(
        text.contains("cluster.seeds[0]") && text.contains("edge-2:7443"),
        "{text}"
    );
    let text = complaint(&ekya(&["status", "--certs", &certs]));
    assert!(
        text.contains("ekya certs issue observer --role observer"),
        "{text}"
    );
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let completions = ekya(&["completions", shell]);
        let text = String::from_utf8(completions.stdout).unwrap();
        assert!(
            completions.status.success() && text.contains("drain"),
            "{shell}: {text}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    let written = ekya(&["man", "--out", out.to_str().unwrap()]);
    assert!(written.status.success());
    for page in ["ekya.1", "ekya-run.1", "ekya-certs-issue.1"] {
        let text = std::fs::read_to_string(out.join(page)).unwrap();
        assert!(
            text.starts_with(".ie") || text.contains(".TH"),
            "{page}: {text}"
        );
    }
}
