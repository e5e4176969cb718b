//! Eight students that train on one device: in turn, some side by side, all side by side, in threads
//! of this process and in worker processes. Under MPS, worker processes compute side by side; without
//! it a GPU gives each of them its time. Whether MPS runs is the caller's business.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ekya::learn::Turn;
use ekya::throughput::{Effort, Subject, Trained, training_rate};
use ekya::worker::{HostedStudent, Hosting};
use ekya_models::{Architecture, ModelError, Student};
use serde_json::{Map, json};

use super::jobs::{STEP, config_of, placement, student, threads};

const STUDENTS: usize = 8;
/// Minibatches side by side; with the last, which has a slot for everybody, nobody queues.
const DEPTHS: [usize; 4] = [1, 2, 4, STUDENTS];

const EFFORT: Effort = Effort {
    at_least: Duration::from_secs(3),
    patience: Duration::from_secs(120),
};

/// Measures small students, and ResNet18s.
pub(crate) fn measure() -> Result<serde_json::Value> {
    Ok(json!({
        "students": STUDENTS,
        "small": rates(Architecture::Small)?,
        "resnet18": rates(Architecture::ResNet18)?,
    }))
}

/// Training steps a second of all together, at each depth.
fn rates(architecture: Architecture) -> Result<serde_json::Value> {
    let local = student(architecture)?;
    let inline = |_: &Arc<Turn>| local.fork();
    let hosting = Hosting::start(placement(), threads(), None)?;
    // No step may be cut: it is measured whole.
    let hosted = |turn: &Arc<Turn>| -> Result<Box<dyn Student>, ModelError> {
        let host = hosting.host(turn.clone(), STEP.max(Duration::from_secs(1)));
        let hosted = HostedStudent::new(&host, &config_of(architecture), &local)?;
        Ok(Box::new(hosted))
    };
    Ok(json!({
        "threads": at_depths(&local, &inline)?,
        "workers": at_depths(&local, &hosted)?,
    }))
}

fn at_depths(student: &dyn Student, trained: &Trained<'_>) -> Result<serde_json::Value> {
    let subject = Subject {
        student,
        trained,
        threads: threads(),
    };
    let mut rates = Map::new();
    for depth in DEPTHS {
        let rate = training_rate(&subject, depth, STUDENTS, EFFORT)?;
        eprintln!(
            "{}, depth {depth}: {rate:.1} steps a second",
            student.network()
        );
        rates.insert(format!("depth_{depth}_steps_per_s"), rate.into());
    }
    Ok(rates.into())
}
