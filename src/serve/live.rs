//! Where what is shown comes from: handles to what runs in a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ekya_actors::{Device, DeviceState, Node, Ref, System};
use parking_lot::Mutex;

use crate::clock::unix_time;
use crate::cluster::{ClusterActor, Overview, View};
use crate::record::AccuracyPoint;
use crate::schedule::{Look, Looked, SchedulerActor};
use crate::sink::Tally;
use crate::source::health::{HealthReport, SourceHealth};
use crate::stream::Intake;

/// Time for an actor of the node to say what it is doing; then the view does without.
pub(super) const WITHIN: Duration = Duration::from_secs(2);

/// A stream of the node.
#[derive(Clone)]
pub(crate) struct Face {
    pub(crate) name: String,
    pub(crate) classes: Vec<String>,
    /// Name of its device.
    pub(crate) device: String,
    pub(crate) intake: Arc<Intake>,
    /// Why the source failed.
    pub(crate) failure: Arc<Mutex<Option<String>>>,
    /// How its camera is doing, where it has one that may be lost and found.
    pub(crate) health: Option<Arc<SourceHealth>>,
    /// The checkpoint that it continues from.
    pub(crate) continued_from: Option<u64>,
    /// Counts what could not be kept in the state folder.
    pub(crate) not_kept: Arc<AtomicU64>,
}

impl Face {
    /// Accuracy against the truth in the last whole second, where the source knows the truth.
    pub(super) fn newest_truth(&self) -> Option<AccuracyPoint> {
        self.intake.with_log(|log| log.against_truth().last_whole())
    }

    /// How its camera is doing.
    pub(super) fn camera(&self) -> Option<HealthReport> {
        self.health.as_ref().map(|health| health.report())
    }

    pub(super) fn not_kept(&self) -> u64 {
        self.not_kept.load(Ordering::Relaxed)
    }
}

/// What runs in a node.
pub(crate) struct Live {
    pub(crate) scheduler_name: String,
    pub(crate) window_seconds: f64,
    /// The run's second 0.
    pub(crate) start: Instant,
    pub(crate) system: System,
    pub(crate) devices: Vec<Device>,
    pub(crate) streams: Mutex<Vec<Face>>,
    pub(crate) scheduler: Ref<SchedulerActor>,
    /// This node among others, and its cluster actor.
    pub(crate) cluster: Option<(Node, Ref<ClusterActor>)>,
    /// How the outputs are doing.
    pub(crate) outputs: Vec<Arc<Tally>>,
}

/// What was seen at one moment.
pub(super) struct Seen {
    /// Unix seconds.
    pub(super) at: f64,
    pub(super) run_time: f64,
    pub(super) devices: Vec<DeviceState>,
    pub(super) streams: Vec<Face>,
    /// Absent where the scheduler does not answer in time.
    pub(super) looked: Option<Looked>,
    /// Absent on a node that is alone.
    pub(super) overview: Option<Overview>,
}

impl Live {
    pub(super) fn set_streams(&self, streams: Vec<Face>) {
        *self.streams.lock() = streams;
    }

    pub(super) fn stream(&self, name: &str) -> Option<Face> {
        let streams = self.streams.lock();
        streams.iter().find(|face| face.name == name).cloned()
    }

    pub(super) fn devices(&self) -> Vec<DeviceState> {
        let devices = self.devices.iter();
        devices
            .map(|device| DeviceState::of("device", device))
            .collect()
    }

    /// Looks at everything.
    pub(super) async fn look(&self) -> Seen {
        let overview = match &self.cluster {
            Some((_, actor)) => actor.ask(View, WITHIN).await.ok(),
            None => None,
        };
        let looked = self.scheduler.ask(Look, WITHIN).await.ok();
        Seen {
            at: unix_time(),
            run_time: self.start.elapsed().as_secs_f64(),
            devices: self.devices(),
            streams: self.streams.lock().clone(),
            looked,
            overview,
        }
    }
}
