//! Embeds ekya in an application: a configuration made in code, a run, and what came of it.
//!
//! ```text
//! cargo run --example embed
//! ```

use anyhow::Result;
use ekya::config::ValidConfig;
use ekya::node::{self, RunOptions};

/// One procedural camera for which night falls, three windows of five seconds.
const CONFIG: &str = r#"
[run]
windows = 3
window_seconds = 5.0

[[device]]
name = "cpu0"
kind = "cpu"

[[stream]]
name = "gate"
teacher = "scene"
source = { scene = { fps = 15.0, preset = "nightfall", drift_seconds = 8.0 } }
student = { classifier = { weights = "scene" } }
"#;

fn main() -> Result<()> {
    // Retrainings run in processes of their own, which are this program started again.
    ekya::worker::serve_if_asked();
    let config = ValidConfig::parse(CONFIG)?;
    let options = RunOptions::new().on_window(|done| eprintln!("window {done} is over"));
    let record = node::run(&config, options)?;
    for window in &record.windows {
        for (stream, entry) in record.streams.iter().zip(&window.streams) {
            let accuracy = entry
                .true_accuracy
                .map_or("unknown".to_owned(), |a| format!("{a:.3}"));
            println!(
                "window {}, {}: accuracy {accuracy}",
                window.index, stream.name
            );
            for decision in &entry.decisions {
                println!("  {:5.1} s  {}", decision.at, decision.text);
            }
        }
    }
    Ok(())
}
