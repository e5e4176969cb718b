//! A teacher of one's own: a node whose samples are labelled by a service on the network.
//!
//! ```text
//! cargo run --example custom_teacher
//! ```
//!
//! A service that stands in for yours listens on this machine. It is sent a line of JSON and the
//! pixels of a picture, and answers with the names of what is in the regions. Yours may speak HTTP,
//! or a person may sit behind it: labelling takes no device time, and labels may come late, or not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ekya::config::ValidConfig;
use ekya::node::{self, RunOptions};
use ekya::source::scene;
use ekya_models::{BBox, Classifier, Image, ModelError, Object, Placement, Teacher};
use serde::{Deserialize, Serialize};

/// One procedural camera for which night falls, three windows of three seconds.
const CONFIG: &str = r#"
[run]
windows = 3
window_seconds = 3.0

[[device]]
name = "cpu0"
kind = "cpu"

[[stream]]
name = "gate"
teacher = { own = "service" }
source = { scene = { fps = 15.0, preset = "nightfall", drift_seconds = 5.0 } }
student = { classifier = { weights = "scene" } }
"#;

/// What comes before the pixels (R G B, row by row) of a picture.
#[derive(Serialize, Deserialize)]
struct Request {
    width: usize,
    height: usize,
    regions: Vec<BBox>,
}

/// Asks the service.
struct Service {
    address: SocketAddr,
    classes: Vec<String>,
}

/// A service that has not answered after so long counts as down: the sample is left out.
const PATIENCE: Duration = Duration::from_secs(5);

impl Service {
    fn ask(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = Request {
            width: image.width(),
            height: image.height(),
            regions: regions.to_vec(),
        };
        writeln!(stream, "{}", serde_json::to_string(&request)?)?;
        stream.write_all(image.rgb())?;
        let names: Vec<String> = serde_json::from_reader(stream)?;
        ensure!(names.len() == regions.len(), "one name a region");
        let object = |(name, bbox): (String, &BBox)| {
            let class = self.classes.iter().position(|class| *class == name);
            Ok(Object {
                class: class.with_context(|| format!("no class '{name}'"))?,
                score: 1.0,
                bbox: *bbox,
            })
        };
        names.into_iter().zip(regions).map(object).collect()
    }
}

impl Teacher for Service {
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        self.ask(image, regions)
            .map_err(|error| ModelError::BadInput(format!("the service: {error:#}")))
    }
}

/// The stand-in: answers one picture after the other, for as long as the process lives.
fn serve(listener: &TcpListener, teacher: &Classifier) {
    for stream in listener.incoming() {
        if let Err(error) = stream.map_err(Into::into).and_then(|s| answer(s, teacher)) {
            eprintln!("the service: {error:#}");
        }
    }
}

fn answer(stream: TcpStream, teacher: &Classifier) -> Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let mut rgb = vec![0; request.width * request.height * 3];
    reader.read_exact(&mut rgb)?;
    let image = Image::new(request.width, request.height, rgb)?;
    let objects = teacher.label(&image, &request.regions)?;
    let names: Vec<&str> = objects.iter().map(|o| scene::CLASSES[o.class]).collect();
    Ok(serde_json::to_writer(&stream, &names)?)
}

fn main() -> Result<()> {
    // Retrainings run in processes of their own, which are this program started again.
    ekya::worker::serve_if_asked();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let stand_in = node::builtin_teacher(Placement::Cpu)?;
    std::thread::spawn(move || serve(&listener, &stand_in));

    let options = RunOptions::new()
        .teacher("service", move |classes| {
            let classes = classes.to_vec();
            Ok(Box::new(Service { address, classes }))
        })
        .on_window(|done| eprintln!("window {done} is over"));
    let record = node::run(&ValidConfig::parse(CONFIG)?, options)?;
    let entries = || record.windows.iter().map(|window| &window.streams[0]);
    let labelled: usize = entries().map(|entry| entry.labelled_frames).sum();
    let not_labelled: u64 = entries().map(|entry| entry.not_labelled).sum();
    let retrained: usize = entries().map(|entry| entry.retrainings.len()).sum();
    println!(
        "{labelled} frames labelled by the service, {not_labelled} not; {retrained} retrainings"
    );
    ensure!(labelled > 0, "the service has labelled nothing");
    Ok(())
}

/// The example is a test, too: `cargo test --example custom_teacher`.
#[test]
fn runs() -> Result<()> {
    main()
}
