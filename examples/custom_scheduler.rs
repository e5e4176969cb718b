//! A scheduler of one's own, in a running node and in the simulator.
//!
//! ```text
//! cargo run --example custom_scheduler
//! ```
//!
//! It leaves streams alone that are good enough, and has the thief divide the device among the others.
//! `ekya-sched/examples/own_scheduler.rs` makes plans from nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use ekya::sched::simulate::run_window;
use ekya::sched::{
    DeviceSpec, InferenceOption, Plan, Problem, RetrainingOption, ScheduleError, Share, StreamSpec,
    Thief,
};
use ekya::{RunOptions, Scheduler, ValidConfig, node};

const SITE: &str = r#"
run = { windows = 2, window_seconds = 4.0 }

[[stream]]
name = "noon"
source.scene = { fps = 15.0 }
student.classifier.weights = "scene"
teacher = "scene"

[[stream]]
name = "evening"
source.scene = { fps = 15.0, seed = 2, preset = "nightfall", drift_seconds = 3.0 }
student.classifier.weights = "scene"
teacher = "scene"
"#;

/// Retrains no student that is right so often.
struct GoodEnough(f64);

impl Scheduler for GoodEnough {
    fn name(&self) -> String {
        format!("good-enough:{}", self.0)
    }

    /// Called whenever something has changed: new labels, a retraining that has ended, a stream that has
    /// come. What it returns is in force until then.
    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        let mut wanted = problem.clone();
        for stream in &mut wanted.streams {
            if stream.accuracy >= self.0 && !stream.training_running {
                stream.retraining.clear();
            }
        }
        Thief::default().plan(&wanted)
    }
}

/// Two streams on one device, of which one is in need.
fn problem() -> Problem {
    let stream = |name: &str, accuracy| StreamSpec {
        name: name.into(),
        accuracy,
        inference: vec![InferenceOption {
            accuracy_factor: 1.0,
            share: Share::from_micro(250_000),
        }],
        retraining: vec![RetrainingOption::new(0.95, 30.0)],
        ..StreamSpec::default()
    };
    Problem {
        devices: vec![DeviceSpec::new(Share::WHOLE)],
        streams: vec![stream("noon", 0.9), stream("evening", 0.6)],
        ..Problem::new(Duration::from_secs(200))
    }
}

fn main() -> Result<()> {
    // Students are retrained in processes of their own, which are this program started again.
    ekya::worker::serve_if_asked();

    // In the simulator, which checks that the plan can be carried out.
    let outcome = run_window(&GoodEnough(0.8), &problem())?;
    println!("simulated: {:.1} % right", outcome.mean_accuracy * 100.0);

    // Live, in place of the scheduler that is configured.
    let options = RunOptions::new().scheduler(GoodEnough(0.8));
    let record = node::run(&ValidConfig::parse(SITE)?, options)?;
    for window in &record.windows {
        for (stream, entry) in record.streams.iter().zip(&window.streams) {
            for decision in &entry.decisions {
                println!("{:5.1} s  {}: {}", decision.at, stream.name, decision.text);
            }
        }
    }
    ensure!(record.scheduler == "good-enough:0.8", "another one decided");
    Ok(())
}

/// The example is a test, too: `cargo test --example custom_scheduler`.
#[test]
fn runs() -> Result<()> {
    main()
}
