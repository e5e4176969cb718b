//! Metrics in the form that Prometheus reads. Values are those of the moment at which they are asked for;
//! what has gone is left out a minute later. Labels are names of streams, devices, jobs, outputs, peers and
//! kinds: no addresses, which may hold passwords.

use std::sync::Once;
use std::time::Duration;

use ekya_actors::record_actors;
use metrics::{
    counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    with_local_recorder,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use metrics_util::MetricKindMask;

use super::live::{Face, Live, WITHIN};
use super::view::{Snapshot, StreamState};
use crate::schedule::{Look, StreamLook};
use crate::sink::Tally;
use crate::stream::Timing;

/// Upper bounds of the buckets of times, in seconds: a camera sends a frame every 33 to 1,000 ms.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
/// What was not set for so long has gone.
const IDLE: Duration = Duration::from_secs(60);

/// The metrics of a node.
pub(super) struct Metrics {
    recorder: PrometheusRecorder,
    described: Once,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let builder = PrometheusBuilder::new();
        let suffix = Matcher::Suffix("_seconds".to_owned());
        // An error is one of no buckets at all.
        let builder = builder
            .set_buckets_for_metric(suffix, &BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let gone = MetricKindMask::COUNTER | MetricKindMask::GAUGE;
        Self {
            recorder: builder.idle_timeout(gone, Some(IDLE)).build_recorder(),
            described: Once::new(),
        }
    }

    /// Takes in how long answers took.
    pub(super) fn answered(&self, timings: &[(String, Vec<Timing>)]) {
        with_local_recorder(&self.recorder, || {
            for (stream, timings) in timings {
                let queue = histogram!("ekya_inference_queue_seconds", "stream" => stream.clone());
                let compute =
                    histogram!("ekya_inference_compute_seconds", "stream" => stream.clone());
                for timing in timings {
                    queue.record(timing.queued.as_secs_f64());
                    compute.record(timing.computed.as_secs_f64());
                }
            }
        });
    }

    /// All metrics as they are now.
    pub(super) async fn text(&self, live: &Live, newest: Option<&Snapshot>) -> String {
        let looked = live.scheduler.ask(Look, WITHIN).await.ok();
        let faces = live.streams.lock().clone();
        with_local_recorder(&self.recorder, || {
            self.described.call_once(describe);
            let version = env!("CARGO_PKG_VERSION");
            gauge!("ekya_build_info", "version" => version).set(1.0);
            gauge!("ekya_uptime_seconds").set(live.start.elapsed().as_secs_f64());
            record_node(live);
            for face in &faces {
                record_face(face);
            }
            for tally in &live.outputs {
                record_output(tally);
            }
            if let Some(looked) = looked {
                gauge!("ekya_window").set(looked.window as f64);
                for look in &looked.streams {
                    record_stream(look);
                    let face = faces.iter().find(|face| face.name == look.name);
                    if let Some(face) = face {
                        record_up(look, face);
                    }
                }
            }
            if let Some(snapshot) = newest {
                record_leader(snapshot);
            }
        });
        let handle = self.recorder.handle();
        handle.run_upkeep();
        handle.render()
    }
}

fn record_node(live: &Live) {
    match &live.cluster {
        Some((node, _)) => node.state().record_metrics(),
        None => {
            let (actors, types) = live.system.state();
            record_actors(&actors, &types);
            for device in live.devices() {
                device.record_metrics();
            }
        }
    }
}

fn record_face(face: &Face) {
    let stream = || face.name.clone();
    let counts = face.intake.counts();
    counter!("ekya_frames_ingested_total", "stream" => stream()).absolute(counts.arrived);
    counter!("ekya_frames_inferred_total", "stream" => stream()).absolute(counts.answered);
    counter!("ekya_frames_skipped_total", "stream" => stream()).absolute(counts.skipped);
    let overtaken = counts.dropped - counts.late - counts.failed;
    let reasons = [
        ("overtaken", overtaken),
        ("late", counts.late),
        ("failed", counts.failed),
    ];
    for (reason, count) in reasons {
        let labels = [("stream", stream()), ("reason", reason.to_owned())];
        counter!("ekya_frames_dropped_total", &labels).absolute(count);
    }
    counter!("ekya_not_kept_total", "stream" => stream()).absolute(face.not_kept());
    if let Some(point) = face.newest_truth() {
        let labels = [("stream", stream()), ("kind", "true".to_owned())];
        gauge!("ekya_model_accuracy", &labels).set(point.accuracy);
    }
}

fn record_stream(look: &StreamLook) {
    let stream = || look.name.clone();
    gauge!("ekya_stream_sample_every", "stream" => stream()).set(f64::from(look.sample_every));
    gauge!("ekya_stream_resolution", "stream" => stream()).set(look.resolution);
    let accuracies = [
        ("measured", look.measured.map(|measured| measured.mean)),
        ("predicted", look.expected),
    ];
    for (kind, accuracy) in accuracies {
        let labels = [("stream", stream()), ("kind", kind.to_owned())];
        if let Some(accuracy) = accuracy {
            gauge!("ekya_model_accuracy", &labels).set(accuracy);
        }
    }
    if let Some(sd) = look.measured.and_then(|measured| measured.sd) {
        gauge!("ekya_model_accuracy_sd", "stream" => stream()).set(sd);
    }
    let tally = &look.tally;
    let outcomes = [
        ("promoted", tally.promoted),
        ("dropped", tally.dropped),
        ("cut_off", tally.cut_off),
        ("failed", tally.failed),
    ];
    for (outcome, count) in outcomes {
        let labels = [("stream", stream()), ("outcome", outcome.to_owned())];
        counter!("ekya_retrain_jobs_total", &labels).absolute(count);
    }
    for (outcome, count) in [
        ("promoted", tally.promoted),
        ("rolled_back", tally.rolled_back),
    ] {
        let labels = [("stream", stream()), ("outcome", outcome.to_owned())];
        counter!("ekya_model_swaps_total", &labels).absolute(count);
    }
    let seconds = [
        ("ekya_retrain_device_seconds_total", tally.training_seconds),
        ("ekya_profile_device_seconds_total", tally.profiling_seconds),
        ("ekya_label_device_seconds_total", tally.labelling_seconds),
    ];
    for (name, seconds) in seconds {
        gauge!(name, "stream" => stream()).set(seconds);
    }
    counter!("ekya_labelled_frames_total", "stream" => stream()).absolute(tally.labelled);
    counter!("ekya_not_labelled_frames_total", "stream" => stream()).absolute(tally.not_labelled);
    let training = f64::from(u8::from(look.training.is_some()));
    gauge!("ekya_stream_retraining", "stream" => stream()).set(training);
}

fn record_output(tally: &Tally) {
    let output = || tally.name().to_owned();
    counter!("ekya_output_written_total", "output" => output()).absolute(tally.written());
    counter!("ekya_output_lost_total", "output" => output()).absolute(tally.lost());
    let up = f64::from(u8::from(tally.is_up()));
    gauge!("ekya_output_up", "output" => output()).set(up);
}

/// Whether frames come: the source has not ended, and its camera is not lost.
fn record_up(look: &StreamLook, face: &Face) {
    let camera = face.camera();
    let (state, _) = StreamState::of(face, Some(look), camera.as_ref());
    let up = f64::from(u8::from(state == StreamState::Running));
    gauge!("ekya_stream_up", "stream" => look.name.clone()).set(up);
    if let Some(camera) = camera {
        let reconnects = counter!("ekya_stream_reconnects_total", "stream" => look.name.clone());
        reconnects.absolute(camera.reconnects);
    }
}

fn record_leader(snapshot: &Snapshot) {
    let Some(name) = &snapshot.node.name else {
        return;
    };
    let leader = snapshot.node.leader.as_ref();
    let leads = leader.is_some_and(|leader| leader.name == *name);
    gauge!("ekya_node_leads").set(f64::from(u8::from(leads)));
    gauge!("ekya_node_has_leader").set(f64::from(u8::from(leader.is_some())));
    gauge!("ekya_node_draining").set(f64::from(u8::from(snapshot.node.draining)));
}

/// What each is, once.
fn describe() {
    for (name, what) in COUNTERS {
        describe_counter!(*name, *what);
    }
    for (name, what) in GAUGES {
        describe_gauge!(*name, *what);
    }
    for (name, what) in HISTOGRAMS {
        describe_histogram!(*name, *what);
    }
}

const COUNTERS: &[(&str, &str)] = &[
    (
        "ekya_stream_reconnects_total",
        "Times that a lost camera was connected to again, successfully or not",
    ),
    (
        "ekya_frames_ingested_total",
        "Frames that a source has handed over",
    ),
    (
        "ekya_frames_inferred_total",
        "Frames that the student has answered",
    ),
    (
        "ekya_frames_skipped_total",
        "Frames left out by the inference configuration",
    ),
    (
        "ekya_frames_dropped_total",
        "Frames overtaken by newer ones, late, or on which the student failed",
    ),
    (
        "ekya_retrain_jobs_total",
        "Retrainings that have ended, by outcome",
    ),
    (
        "ekya_model_swaps_total",
        "Students that have begun to serve: retrained ones, and those put back",
    ),
    (
        "ekya_labelled_frames_total",
        "Frames that the teacher has labelled",
    ),
    (
        "ekya_not_labelled_frames_total",
        "Samples without labels because the teacher failed on them",
    ),
    (
        "ekya_not_kept_total",
        "Times that a student or the training memory could not be written to the state folder",
    ),
    (
        "ekya_output_written_total",
        "Results that an output has written, or messages that a broker has acknowledged",
    ),
    (
        "ekya_output_lost_total",
        "Results that an output has lost, because they were not taken in time",
    ),
    (
        "ekya_device_minibatches_total",
        "Minibatches that a job has run on a device",
    ),
    (
        "ekya_actor_messages_total",
        "Messages that actors of a type have handled",
    ),
    (
        "ekya_actor_refused_total",
        "Messages refused because a mailbox was full",
    ),
    ("ekya_actor_restarts_total", "Restarts of actors of a type"),
    (
        "ekya_actors_spawned_total",
        "Actors of a type that were spawned",
    ),
    (
        "ekya_actors_ended_total",
        "Actors of a type that have ended",
    ),
    (
        "ekya_connections_total",
        "Connections of other nodes, by outcome",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    ("ekya_build_info", "1, with the version as a label"),
    ("ekya_uptime_seconds", "Seconds since the run began"),
    ("ekya_window", "Index of the open retraining window"),
    (
        "ekya_stream_up",
        "Whether frames come: the source has not ended, its camera is not lost; 0 or 1",
    ),
    (
        "ekya_output_up",
        "Whether results leave the node by an output, 0 or 1",
    ),
    (
        "ekya_stream_retraining",
        "Whether a stream is being retrained, 0 or 1",
    ),
    (
        "ekya_stream_sample_every",
        "Every how many frames one is answered",
    ),
    (
        "ekya_stream_resolution",
        "Side of the network's input relative to full",
    ),
    (
        "ekya_model_accuracy",
        "Accuracy 0..1: measured on labelled frames, predicted by the plan, or true",
    ),
    (
        "ekya_model_accuracy_sd",
        "Standard deviation of measuring the accuracy",
    ),
    (
        "ekya_device_share_granted",
        "Part of a device that a job was granted",
    ),
    (
        "ekya_device_share_free",
        "Part of a device that nobody was granted",
    ),
    (
        "ekya_device_busy_seconds_total",
        "Device seconds that a job has used",
    ),
    (
        "ekya_device_waited_seconds_total",
        "Seconds that a job has waited for its turn",
    ),
    (
        "ekya_retrain_device_seconds_total",
        "Device seconds of retrainings that have ended",
    ),
    (
        "ekya_profile_device_seconds_total",
        "Device seconds of profiling",
    ),
    (
        "ekya_label_device_seconds_total",
        "Device seconds of labelling",
    ),
    (
        "ekya_actor_busy_seconds_total",
        "Seconds that actors of a type have spent in handlers",
    ),
    ("ekya_actor_messages_waiting", "Messages in all mailboxes"),
    (
        "ekya_members",
        "Other nodes that this one takes to be alive",
    ),
    (
        "ekya_node_leads",
        "Whether this node plans for the site, 0 or 1",
    ),
    (
        "ekya_node_has_leader",
        "Whether this node follows a leader, 0 or 1",
    ),
    (
        "ekya_node_draining",
        "Whether this node is taken out of service, 0 or 1",
    ),
    (
        "ekya_peer_connected",
        "Whether there is a connection with another node, 0 or 1",
    ),
    (
        "ekya_peer_frames_waiting",
        "Frames for another node that it has not taken in yet",
    ),
    ("ekya_peer_asks", "Asks that another node has not answered"),
    (
        "ekya_peer_its_asks",
        "Asks of another node that are not answered here",
    ),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (
        "ekya_inference_queue_seconds",
        "From a frame's arrival until the student had it",
    ),
    ("ekya_inference_compute_seconds", "From then to the answer"),
];
