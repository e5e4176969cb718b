//! What the dashboard costs a node with a hundred streams, while somebody looks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::Node;

const STREAMS: usize = 100;
/// So slow that the procedural scenes leave room for what is looked at.
const FPS: f64 = 1.0;
const LOOKED_AT: Duration = Duration::from_secs(30);
/// The thread that serves.
const THREAD: &str = "serve";

/// Size of the page, and time of the thread that serves one that looks.
pub(crate) fn measure() -> Value {
    eprintln!("dashboard");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(folder.path(), &config(), &["--serve", &address]);
    let page = node.wait("the page", |_| whole_page(&address));
    node.wait("all streams", |_| {
        let snapshot: Value = serde_json::from_slice(&get(&address, "/api/v1/snapshot")?).ok()?;
        let streams = snapshot.get("streams")?.as_array()?;
        (streams.len() == STREAMS).then_some(())
    });
    let idle = spent(&node, || thread::sleep(LOOKED_AT));
    let mut bytes = 0;
    let looked_at = spent(&node, || bytes = look(&address));
    node.end();
    json!({
        "page_bytes": page,
        "event_bytes_a_second": bytes as f64 / LOOKED_AT.as_secs_f64(),
        "cores_while_nobody_looks": idle,
        "cores_while_one_looks": looked_at,
    })
}

/// Cores that the serving thread takes meanwhile.
fn spent(node: &Node, meanwhile: impl FnOnce()) -> f64 {
    let seconds = || node.processor_seconds().get(THREAD).copied().unwrap();
    let before = seconds();
    meanwhile();
    (seconds() - before) / LOOKED_AT.as_secs_f64()
}

/// Bytes of the page with all files that it names.
fn whole_page(address: &str) -> Option<usize> {
    let page = String::from_utf8(get(address, "/")?).ok()?;
    let named = page.split('"').filter(|text| {
        let is_file = text.ends_with(".js") || text.ends_with(".css");
        is_file && !text.contains(char::is_whitespace)
    });
    let files = named.map(|file| get(address, &format!("/{file}")).map(|bytes| bytes.len()));
    Some(page.len() + files.sum::<Option<usize>>()?)
}

/// The body of an answer; nothing while nobody answers.
fn get(address: &str, path: &str) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    ask(address, path)?.read_to_end(&mut all).ok()?;
    let head = all.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    all.starts_with(b"HTTP/1.1 200")
        .then(|| all.split_off(head + 4))
}

/// Reads events as a page does; how many bytes they were.
fn look(address: &str) -> usize {
    let stream = ask(address, "/events").unwrap();
    let begin = std::time::Instant::now();
    let mut bytes = 0;
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    while begin.elapsed() < LOOKED_AT {
        line.clear();
        bytes += lines.read_until(b'\n', &mut line).unwrap();
        assert!(!line.is_empty(), "the events ended");
    }
    bytes
}

fn ask(address: &str, path: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    Some(stream)
}

fn config() -> String {
    let mut text =
        "[run]\nscheduler = \"none\"\nwindow_seconds = 600.0\n\n[[device]]\nname = \"cpu0\"\n\
                    kind = \"cpu\"\ncores = 1\n"
            .to_owned();
    for stream in 0..STREAMS {
        text += &format!(
            "\n[[stream]]\nname = \"s{stream}\"\nteacher = \"labels\"\n\
             source = {{ scene = {{ fps = {FPS:?}, seed = {stream} }} }}\n\
             student = {{ classifier = {{ weights = \"scene\" }} }}\n"
        );
    }
    text
}
