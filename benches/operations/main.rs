//! What it costs to operate a node: a real `ekya run`, watched from outside.
//!
//! - [`latency`]: from a frame's arrival to its result, beside the bare forward pass on the same frame.
//! - [`cameras`]: eight cameras on two cores, with real videos and networks (where `EKYA_DATA` is set): frames
//!   answered, time and memory beside what libtorch takes.
//! - [`dashboard`]: the page's size, and what a node with 100 streams spends on one that looks.
//! - [`restart`]: from starting a process whose students are on the disk to the first answers.
//!
//! Limits: a result cannot be there before the student has looked at the frame, the page not smaller than its
//! script, and a process not start before libtorch is loaded, some .2 s.
//!
//! Prints one JSON document. `cargo xtask bench operations` runs it and puts the figures beside their targets.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on panics")]

mod cameras;
mod dashboard;
mod latency;
mod process;
mod restart;

fn main() {
    if std::env::args().any(|argument| argument == process::LOADED) {
        return process::load_libtorch();
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("not run: this takes minutes; `cargo xtask bench operations` runs it");
        return;
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let measured = serde_json::json!({
        "latency": latency::measure(),
        "cameras": (!quick).then(cameras::measure).flatten(),
        "dashboard": dashboard::measure(),
        "restart": restart::measure(),
    });
    println!("{}", serde_json::to_string_pretty(&measured).unwrap());
}
