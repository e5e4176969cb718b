//! An `ekya run --serve` process on the loopback, and requests to it, for tests.
#![allow(dead_code, reason = "each test uses a part")]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Two procedural cameras, windows of two seconds.
pub(crate) const SCENES: &str = r#"
[run]
window_seconds = 2.0

[[device]]
name = "cpu0"
kind = "cpu"
cores = 1

[[stream]]
name = "gate"
teacher = "scene"
source = { scene = { fps = 10.0, seed = 201, preset = "nightfall", drift_seconds = 20.0 } }
student = { classifier = { weights = "scene" } }

[[stream]]
name = "north / harbour"
teacher = "scene"
source = { scene = { fps = 10.0, seed = 202, preset = "storm", drift_seconds = 20.0 } }
student = { classifier = { weights = "scene" } }
"#;

/// A node that is shown.
pub(crate) struct Shown {
    process: Child,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    /// Lines of its log.
    log: Receiver<String>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Shown {
    /// Runs a node with this configuration at a port that is free, until it says where it is.
    pub(crate) fn run(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.toml");
        fs::write(&file, config).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_ekya"))
            .args(["run", "--serve", "127.0.0.1:0", "--config"])
            .arg(&file)
            .env_remove("EKYA_TOKEN")
            // A terminal that goes would end the node.
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let (lines, log_lines) = channel();
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            let read = log.read_line(&mut line).unwrap();
            said += &line;
            assert!(read > 0, "the node has ended: {said}");
            lines.send(line.trim_end().to_owned()).unwrap();
            if let Some((_, address)) = line.trim_end().rsplit_once("dashboard at http") {
                let address = address.trim_start_matches("s").trim_start_matches("://");
                break address.parse().unwrap();
            }
        };
        // So that the node never waits for somebody to read.
        std::thread::spawn(move || {
            let mut log = log.lines().map_while(Result::ok);
            log.try_for_each(|line| lines.send(line))
        });
        Self {
            process,
            address,
            folder,
            log: log_lines,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Asks for a path, with these lines of header added.
    pub(crate) fn get_with(&self, path: &str, lines: &[&str]) -> Answer {
        fetch(self.address, path, lines).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    /// A document of the API.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// What whoever watches is told, a snapshot a second.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = Value> {
        let mut watcher = TcpStream::connect(self.address).unwrap();
        watcher.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        watcher.write_all(request.as_bytes()).unwrap();
        let lines = BufReader::new(watcher).lines().map(Result::unwrap);
        lines.filter_map(|line| Some(serde_json::from_str(line.strip_prefix("data: ")?).unwrap()))
    }

    /// Watches until a snapshot is as it should be.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        for snapshot in self.ticks() {
            if holds(&snapshot) {
                return snapshot;
            }
            assert!(began.elapsed() < PATIENCE, "not {what}: {snapshot:#}");
        }
        panic!("the node has ended before it was {what}");
    }

    /// Has the node read another configuration.
    pub(crate) fn reload(&self, config: &str) {
        fs::write(self.folder.path().join("site.toml"), config).unwrap();
        self.signal(Signal::SIGHUP);
    }

    /// Waits until the log says that.
    pub(crate) fn until_said(&self, what: &str) {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap();
            if line.contains(what) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    /// Ends the node in good order; what it has logged that nobody has waited for.
    pub(crate) fn end(mut self) -> String {
        self.signal(Signal::SIGTERM);
        assert!(self.process.wait().unwrap().success());
        self.log
            .iter()
            .fold(String::new(), |log, line| log + &line + "\n")
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Asks whoever listens there for a path, with these lines of header added.
pub(crate) fn fetch(address: SocketAddr, path: &str, lines: &[&str]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let host = if lines.contains("Host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let request = format!("GET {path} HTTP/1.1\r\n{host}{lines}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(Answer::of(&answer))
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.unwrap() + 4);
        let head = String::from_utf8(head.to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { joined(body) } else { body.to_vec() };
        Self { status, head, body }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The body of chunks.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&chunks[..end]).unwrap();
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        let chunk = &chunks[end + 2..];
        body.extend_from_slice(&chunk[..length]);
        chunks = &chunk[length + 2..];
    }
    body
}
