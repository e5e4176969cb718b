//! Embeds ekya in an application that owns its frames: it pushes them, labels samples itself, and gets
//! the result of every frame.
//!
//! ```text
//! cargo run --example embed
//! ```
//!
//! The frames are grey pictures with a red or a blue square. The student knows neither at first.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ekya::config::ValidConfig;
use ekya::node::{self, RunOptions};
use ekya::source::push::push;
use ekya_models::{BBox, Image, ModelError, Object, Teacher};

const CONFIG: &str = r#"
run = { windows = 3, window_seconds = 3.0 }

[[stream]]
name = "belt"
source = { own = { name = "camera", fps = 20.0, classes = ["red", "blue"] } }
student = { classifier = {} }
teacher = { own = "colours" }
"#;

/// Where the square is, in pixels.
const SQUARE: BBox = BBox {
    x1: 16.0,
    y1: 16.0,
    x2: 48.0,
    y2: 48.0,
};

/// Picture `index` of the camera: squares come in no order that a student could learn.
fn picture(index: u64) -> Image {
    let is_blue = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 == 1;
    let colour = if is_blue {
        [40, 60, 200]
    } else {
        [200, 60, 40]
    };
    let inside =
        |pixel: usize| (16..48).contains(&(pixel % 64)) && (16..48).contains(&(pixel / 64));
    let pixel = |pixel| if inside(pixel) { colour } else { [128; 3] };
    let rgb = (0..64 * 64).flat_map(pixel).collect();
    Image::new(64, 64, rgb).expect("three bytes a pixel")
}

/// The application's own teacher: looks at the pixel in the middle of each region.
struct Colours;

impl Teacher for Colours {
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        let label = |bbox: &BBox| {
            let (x, y) = ((bbox.x1 + bbox.x2) / 2.0, (bbox.y1 + bbox.y2) / 2.0);
            let at = (y as usize * image.width() + x as usize) * 3;
            let is_blue = image.rgb()[at + 2] > image.rgb()[at];
            Object {
                class: usize::from(is_blue),
                score: 1.0,
                bbox: *bbox,
            }
        };
        Ok(regions.iter().map(label).collect())
    }
}

fn main() -> Result<()> {
    // Retrainings run in processes of their own, which are this program started again.
    ekya::worker::serve_if_asked();
    let (camera, frames) = push(2);
    let mut options = RunOptions::new()
        .source("camera", move |stop| Ok(Box::new(frames.source(stop))))
        .teacher("colours", |_classes| Ok(Box::new(Colours)));
    let mut results = options.subscribe("belt", 100);
    // The camera: twenty pictures a second, until the node has ended.
    std::thread::spawn(move || {
        let mut index = 0;
        while camera.push(Arc::new(picture(index)), vec![SQUARE]).is_ok() {
            index += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    // What the application does with results.
    let printer = std::thread::spawn(move || {
        let mut student = None;
        let mut answered = 0;
        while let Some(result) = results.next_timeout(Duration::MAX) {
            if result.student > student {
                student = result.student;
                println!(
                    "frame {}: student {student:?} answers from here",
                    result.frame
                );
            }
            if result.frame % 20 == 0 {
                println!("frame {}: {:?}", result.frame, result.objects);
            }
            answered += u64::from(result.is_answered());
        }
        answered
    });
    let record = node::run(&ValidConfig::parse(CONFIG)?, options)?;
    for window in &record.windows {
        let entry = &window.streams[0];
        println!(
            "window {}: accuracy {:?}",
            window.index, entry.measured_accuracy
        );
        for decision in &entry.decisions {
            println!("  {:5.1} s  {}", decision.at, decision.text);
        }
    }
    let answered = printer.join().expect("the printer does not panic");
    ensure!(
        answered == record.streams[0].frames.answered,
        "a result for every answer"
    );
    Ok(())
}

/// The example is a test, too: `cargo test --example embed`.
#[test]
fn runs() -> Result<()> {
    main()
}
