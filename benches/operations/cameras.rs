//! Eight cameras on a small machine: real videos, FastestDet as student, YOLOX-Nano as teacher.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Node, memory_of_libtorch};

const CAMERAS: usize = 8;
const FPS: f64 = 10.0;
/// Side of the network's input: what two cores can do 80 times a second.
const INPUT_SIDE: usize = 160;
const VIDEOS: [&str; 4] = [
    "videos/vtest.avi",
    "videos/ckuhn-traffic.mp4",
    "videos/otv-cars-cyclist.mp4",
    "videos/bgs-video02.avi",
];
/// The first window, in which nothing is known yet, is not looked at.
const BEFORE: Duration = Duration::from_secs(25);
const LOOKED_AT: Duration = Duration::from_secs(60);

/// Nothing where there are no videos.
pub(crate) fn measure() -> Option<Value> {
    let Some(data) = std::env::var_os("EKYA_DATA").map(PathBuf::from) else {
        eprintln!("eight cameras: left out, EKYA_DATA is not set");
        return None;
    };
    eprintln!("eight cameras");
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &config(&data), &[]);
    thread::sleep(BEFORE);
    let (earlier, settled) = (node.processor_seconds(), node.settled().len());
    thread::sleep(LOOKED_AT);
    let later = node.processor_seconds();
    let frames = node.settled().split_off(settled);
    let memory = node.memory();
    node.end();
    let seconds = |ours: bool| -> f64 {
        let threads = later.iter().filter(|(name, _)| is_ours(name) == ours);
        let spent = threads.map(|(name, now)| now - earlier.get(name).unwrap_or(&0.0));
        spent.sum::<f64>() / LOOKED_AT.as_secs_f64()
    };
    let of = |fate: &str| frames.iter().filter(|one| one.fate == fate).count();
    Some(json!({
        "frames": frames.len(),
        "answered": of("answered"),
        "skipped": of("skipped"),
        "dropped": of("dropped"),
        "cores_of_inference": seconds(false),
        "cores_outside_libtorch": seconds(true),
        "memory_beyond_libtorch_bytes": memory - memory_of_libtorch(),
    }))
}

/// Whether a thread of the node does no inference. Retraining and the teacher are in workers, decoding in
/// ffmpeg.
fn is_ours(thread: &str) -> bool {
    !thread.starts_with("infer-")
}

fn config(data: &Path) -> String {
    let mut text =
        "[run]\nwindow_seconds = 20.0\n\n[[device]]\nname = \"cpu0\"\nkind = \"cpu\"\n".to_owned();
    for camera in 0..CAMERAS {
        let video = data.join(VIDEOS[camera % VIDEOS.len()]);
        let student = data.join("models/FastestDet_AP05_0.253.safetensors");
        let teacher = data.join("models/yolox_nano.onnx");
        text += &format!(
            "\n[[stream]]\nname = \"c{camera}\"\n\
             source = {{ video = {{ input = {video:?}, width = 640, height = 360, fps = {FPS:?}, \
             input_options = {{ stream_loop = \"-1\" }} }} }}\n\
             student = {{ fastestdet = {{ weights = {student:?}, classes = [\"person\", \"car\"], \
             input_side = {INPUT_SIDE} }} }}\n\
             teacher = {{ yolox = {{ model = {teacher:?} }} }}\n"
        );
    }
    text
}
