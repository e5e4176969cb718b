//! Embeds ekya in an application that owns its frames: frames in, results out, and better models by
//! themselves.
//!
//! ```text
//! cargo run --example embed
//! ```
//!
//! Two parts stand in for yours. The camera is synthetic: a procedural street. The teacher, whose answers are
//! the labels, is the one that is built in for such streets.

use std::{thread, time::Duration};

use ekya::source::scene::{SceneConfig, SceneSource};
use ekya::{Placement, RunOptions, Source, ValidConfig, node};

const SITE: &str = r#"
run = { windows = 2, window_seconds = 6.0 }

[[stream]]
name = "gate"
source.own = { name = "camera", fps = 10.0, classes = ["car", "van", "bus", "truck", "motorbike", "bicycle", "pedestrian", "cart"] }
student.classifier = {}  # a small network, which knows nothing yet
teacher.own = "golden"
"#;

fn main() -> anyhow::Result<()> {
    // Students are retrained in processes of their own, which are this program started again.
    ekya::worker::serve_if_asked();
    let mut options = RunOptions::new().teacher("golden", |_classes| {
        Ok(Box::new(node::builtin_teacher(Placement::Cpu)?))
    });
    let camera = options.push("camera", 2);
    let mut results = options.subscribe("gate", 100);
    let node = node::start(&ValidConfig::parse(SITE)?, options)?;

    // Frames in: a picture, and where something moves in it.
    let mut street = SceneSource::new(SceneConfig::default())?;
    thread::spawn(move || {
        while let Ok(Some(frame)) = street.next_frame()
            && camera.push(frame.image, frame.regions).is_ok()
        {
            thread::sleep(Duration::from_millis(100));
        }
    });

    // Results out, until the node ends.
    while let Some(result) = results.next_timeout(Duration::MAX) {
        let seen: Vec<_> = result.objects.iter().map(|one| &one.name).collect();
        println!("frame {} shows {seen:?}", result.frame);
    }
    // What the node did, and why.
    for window in &node.wait()?.windows {
        for decision in &window.streams[0].decisions {
            println!("{:5.1} s  {}", decision.at, decision.text);
        }
    }
    Ok(())
}

/// The example is a test, too: `cargo test --example embed`.
#[test]
fn runs() -> anyhow::Result<()> {
    main()
}
