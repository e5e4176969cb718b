//! What a frame waits for beside its forward pass, on a device with nothing else to do.

use std::thread;
use std::time::{Duration, Instant};

use ekya::source::scene::{SceneConfig, SceneSource};
use ekya::source::{Frame, Source as _};
use ekya_models::{Placement, Student};
use serde_json::{Value, json};

use crate::process::{Node, quantile};

const FRAMES: u64 = 150;
const FPS: f64 = 10.0;
/// Of the first frames everything is slower: memory is asked for, and libtorch chooses kernels.
const WARM: u64 = 20;

fn scene() -> SceneConfig {
    SceneConfig {
        fps: FPS,
        seed: 1,
        ..SceneConfig::default()
    }
}

/// Bare and whole, on the same frames of a procedural scene, at the same pace.
pub(crate) fn measure() -> Value {
    eprintln!("latency");
    let bare = bare();
    let config = format!(
        "[run]\nscheduler = \"none\"\nwindow_seconds = 600.0\n\n[[device]]\nname = \"cpu0\"\nkind = \"cpu\"\n\
         cores = 1\n\n[[stream]]\nname = \"gate\"\nteacher = \"labels\"\n\
         source = {{ scene = {{ fps = {FPS:?}, seed = 1 }} }}\n\
         student = {{ classifier = {{ weights = \"scene\" }} }}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(folder.path(), &config, &[]);
    let settled = node.wait("frames", |node| {
        let settled = node.settled();
        (settled.len() as u64 > FRAMES).then_some(settled)
    });
    node.end();
    let paired = settled.iter().filter_map(|one| {
        let bare = bare.get(usize::try_from(one.frame).ok()?)?;
        let latency = one.latency_ms? / 1e3;
        (one.frame >= WARM).then_some((latency, latency - bare))
    });
    let (mut whole, mut over): (Vec<f64>, Vec<f64>) = paired.unzip();
    let mut bare = bare[WARM as usize..].to_vec();
    json!({
        "frames": over.len(),
        "bare_p50_seconds": quantile(&mut bare, 0.5),
        "whole_p50_seconds": quantile(&mut whole, 0.5),
        "over_p50_seconds": quantile(&mut over, 0.5),
        "over_p99_seconds": quantile(&mut over, 0.99),
    })
}

/// Seconds of each frame's forward pass, the pictures being there.
fn bare() -> Vec<f64> {
    ekya_models::set_compute_threads(1);
    let student = ekya::node::builtin_student(Placement::Cpu).unwrap();
    let mut source = SceneSource::new(scene()).unwrap();
    let begin = Instant::now();
    let seconds = (0..FRAMES).map(|index| {
        let frame = source.next_frame().unwrap().unwrap();
        thread::sleep(due(index).saturating_sub(begin.elapsed()));
        pass(&student, &frame)
    });
    seconds.collect()
}

fn due(index: u64) -> Duration {
    Duration::from_secs_f64(index as f64 / FPS)
}

fn pass(student: &impl Student, frame: &Frame) -> f64 {
    let begin = Instant::now();
    student.infer(&frame.image, &frame.regions, 1.0).unwrap();
    begin.elapsed().as_secs_f64()
}
