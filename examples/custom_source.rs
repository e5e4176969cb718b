//! A source of one's own: a belt that carries parts past a camera, drawn as they come.
//!
//! ```text
//! cargo run --example custom_source
//! ```
//!
//! Yours may ask GStreamer, an industrial camera, a message queue. The node asks it for one frame after
//! the other; a program that has frames already [pushes](ekya::RunOptions::push) them instead.

use std::time::Duration;

use anyhow::{Result, ensure};
use ekya::source::SourceError;
use ekya::{BBox, Frame, Image, Object, RunOptions, Source, StopFlag, ValidConfig, node};

const SITE: &str = r#"
run = { windows = 2, window_seconds = 4.0 }

[[stream]]
name = "belt"
source.own = { name = "camera", fps = 10.0, classes = ["red", "blue"] }
student.classifier = {}
teacher = "labels" # the source says itself what is there
"#;

/// Frames a second.
const FPS: f64 = 10.0;
/// Width and height of a picture, in pixels.
const SIDE: usize = 64;
/// Width and height of a part.
const PART: usize = 24;
const COLOURS: [[u8; 3]; 2] = [[200, 60, 40], [40, 60, 200]];

/// Gives frames in order, counted from 0, for ever.
struct Belt {
    next: u64,
    stop: StopFlag,
}

impl Source for Belt {
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        // One that waits for its camera looks at this at least once a second.
        if self.stop.is_set() {
            return Ok(None);
        }
        let (index, part) = (self.next, part(self.next));
        self.next += 1;
        let at = Duration::from_secs_f64(index as f64 / FPS);
        let frame = Frame::new(index, at, picture(&part), vec![part.bbox]);
        Ok(Some(frame.with_truth(vec![part])))
    }

    /// The node paces it: a frame is answered at its time. A live one would be taken as it comes.
    fn is_live(&self) -> bool {
        false
    }
}

/// The part in picture `index`: each passes in ten pictures, and colours come in no order.
fn part(index: u64) -> Object {
    let (number, step) = (index / 10, index % 10);
    let (left, top) = (4.0 * step as f32, 20.0);
    Object {
        class: usize::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 == 1),
        score: 1.0,
        bbox: BBox {
            x1: left,
            y1: top,
            x2: left + PART as f32,
            y2: top + PART as f32,
        },
    }
}

fn picture(part: &Object) -> Image {
    let (left, top) = (part.bbox.x1 as usize, part.bbox.y1 as usize);
    let pixel = |index: usize| {
        let (x, y) = (index % SIDE, index / SIDE);
        let inside = (left..left + PART).contains(&x) && (top..top + PART).contains(&y);
        if inside {
            COLOURS[part.class]
        } else {
            [128; 3]
        }
    };
    let rgb = (0..SIDE * SIDE).flat_map(pixel).collect();
    Image::new(SIDE, SIDE, rgb).expect("three bytes a pixel")
}

fn main() -> Result<()> {
    // Students are retrained in processes of their own, which are this program started again.
    ekya::worker::serve_if_asked();
    let options = RunOptions::new().source("camera", |stop| {
        let stop = stop.clone();
        Ok(Box::new(Belt { next: 0, stop }))
    });
    let record = node::run(&ValidConfig::parse(SITE)?, options)?;
    for window in &record.windows {
        let right = window.streams[0].true_accuracy.unwrap_or_default() * 100.0;
        println!("window {}: {right:.0} % right", window.index);
    }
    ensure!(
        record.streams[0].frames.answered > 0,
        "nothing was answered"
    );
    Ok(())
}

/// The example is a test, too: `cargo test --example custom_source`.
#[test]
fn runs() -> Result<()> {
    main()
}
