//! How the scheduler actor orders profiles and retrainings, and what it makes of them.

use ekya_actors::Ctx;
use ekya_models::Student;
use ekya_profiler::comparison::{Refusal, Verdict};
use ekya_profiler::inference::{InferenceProfile, Measurement};
use ekya_profiler::{Departure, Progress};
use ekya_sched::RetrainingOption;

use super::actor::SchedulerActor;
use super::event::{Event, Found};
use super::policy::Retraining;
use super::stream::{Running, Stage, StreamState};
use crate::learn::{
    Elsewhere, LearnError, Order, Outcome, Prepare, Prepared, RolledBack, TrainerOrder,
};
use crate::planning::Place;
use crate::record::{InferenceRecord, ProfileRecord, RetrainingRecord};
use crate::stream::Serve;

/// Of a window's samples, the part that must be newly labelled before another retraining is
/// weighed.
const ROUND: f64 = 0.25;

/// GPU-seconds that a profile may take for what earlier retrainings have shown, as a part of the
/// window.
const PROFILING: f64 = 0.0025;

impl SchedulerActor {
    /// Has the trainer measure what a plan needs, when there are labels enough.
    pub(super) fn prepare_when_due(&mut self, stream: usize, ctx: &Ctx<Self>) {
        let state = &self.streams[stream];
        let (spread, burst) = state.labels.counts();
        if !state.may_prepare() || spread + burst == 0 {
            return;
        }
        let round = self.round(stream) * self.setup.config.learning.samples as f64;
        let begin = self.window as f64 * self.setup.config.run.window_seconds;
        let learns = self.window > state.since
            && match self.setup.policy.retraining {
                Retraining::Never => false,
                Retraining::Fixed(_) => state.due && state.labels.complete_until(begin),
                Retraining::Profiled => spread as f64 >= round,
            };
        // What skipping costs is the scene's, so each burst is measured on.
        let measures = burst > 0;
        // Alone it is measured where no retraining will come, or before the first one may.
        let alone = self.window == state.since && state.inference.is_empty()
            || self.setup.policy.retraining == Retraining::Never;
        if !(learns || measures && alone) {
            return;
        }
        let profiled = self.setup.policy.retraining == Retraining::Profiled;
        let profile = PROFILING * self.setup.config.run.window_seconds;
        let order = Order::Prepare(Prepare {
            labelled: std::mem::take(&mut *self.streams[stream].labels.fresh.lock()),
            evaluate: profiled,
            profile: (learns && profiled).then_some(profile),
            measure_inference: measures,
            seed: self.seed(stream, self.streams[stream].order, 2),
        });
        self.order(stream, order, Stage::Preparing, ctx);
    }

    /// The part of a window's samples that must be newly labelled before a stream is profiled again: more
    /// each time that nothing came of it, where others want the device.
    fn round(&self, stream: usize) -> f64 {
        let state = &self.streams[stream];
        let wants = |other: &StreamState| match &other.stage {
            Stage::Preparing => true,
            Stage::Training(running) => running.place.is_none(),
            Stage::Idle | Stage::Ready(_) => false,
        };
        let mut others = self.streams.iter().filter(|other| other.name != state.name);
        if others.any(|other| other.device == state.device && wants(other)) {
            (ROUND * 2_f64.powi(state.passed_over as i32)).min(1.0)
        } else {
            ROUND
        }
    }

    pub(super) fn order(&mut self, stream: usize, order: Order, stage: Stage, ctx: &Ctx<Self>) {
        let (number, cancelled) = self.streams[stream].begin_order();
        let me = ctx.me();
        let report = Box::new(move |report| {
            // Progress may be lost to a full mailbox; results find room, as nothing else floods it.
            drop(me.tell(Event::Trainer {
                stream,
                order: number,
                report,
            }));
        });
        let order = TrainerOrder {
            order,
            cancelled,
            report,
        };
        match self.setup.streams[stream].trainer.tell(order) {
            Ok(()) => {
                self.streams[stream].stage_began = self.now();
                self.streams[stream].stage = stage;
            }
            Err(error) => {
                self.streams[stream].stage = Stage::Idle;
                let now = self.now();
                self.journal
                    .decide(stream, now, format!("the trainer does not answer: {error}"));
            }
        }
    }

    pub(super) fn prepared(
        &mut self,
        stream: usize,
        result: Result<Prepared, LearnError>,
        ctx: &mut Ctx<Self>,
    ) {
        let now = self.now();
        match result {
            Ok(mut prepared) => {
                if let Some(back) = prepared.rolled_back.take() {
                    self.roll_back(stream, back);
                }
                if let Some(entry) = self.journal.now(stream) {
                    entry.previous_accuracy =
                        prepared.previous_accuracy.or(entry.previous_accuracy);
                }
                self.journal_profiles(stream, &prepared);
                if let (Retraining::Fixed(index), true) =
                    (self.setup.policy.retraining, self.streams[stream].due)
                {
                    self.streams[stream].due = false;
                    // A fixed configuration is not weighed against anything: nominal figures do.
                    // It is to have its share for as long as it runs, so it takes the window.
                    let end_accuracy = self.streams[stream].accuracy;
                    let window = self.horizon().as_secs_f64();
                    let nominal = RetrainingOption::new(end_accuracy, window);
                    prepared.options = vec![(index, nominal)];
                }
                self.streams[stream].prepared(&prepared, now);
                self.journal_student(stream);
                if prepared.accuracy.is_some() && self.compare_found(stream, ctx) {
                    return self.plan(ctx);
                }
            }
            Err(error) => {
                self.streams[stream].stage = Stage::Idle;
                self.journal
                    .decide(stream, now, format!("not retrained for now: {error}"));
                self.prepare_when_due(stream, ctx);
            }
        }
        self.plan(ctx);
    }

    pub(super) fn journal_profiles(&mut self, stream: usize, prepared: &Prepared) {
        let configurations = &self.setup.config.learning.configurations;
        let record = |(index, option): &(usize, RetrainingOption)| ProfileRecord {
            config: configurations[*index].clone(),
            end_accuracy: option.end_accuracy,
            gpu_seconds: option.gpu_seconds,
        };
        let profiles = prepared.options.iter().map(record).collect();
        if let Some(entry) = self.journal.now(stream) {
            entry.profiles = profiles;
            entry.profiling_seconds += prepared.gpu_seconds;
        }
        let spent = prepared.gpu_seconds;
        self.journal
            .count(stream, |tally| tally.profiling_seconds += spent);
    }

    /// Writes down what is known of the serving student.
    fn journal_student(&mut self, stream: usize) {
        let state = &self.streams[stream];
        let record = |profile: &InferenceProfile| InferenceRecord {
            sample_every: profile.sample_every,
            resolution: profile.resolution,
            accuracy_factor: profile.option.accuracy_factor,
            share: profile.option.share,
        };
        let inference = state.inference.iter().map(record).collect();
        let accuracy = state.accuracy;
        if let Some(entry) = self.journal.now(stream) {
            entry.inference = inference;
            entry.student_accuracy = Some(accuracy);
        }
    }

    pub(super) fn retrain(
        &mut self,
        stream: usize,
        configuration: usize,
        option: RetrainingOption,
        place: Option<Place>,
        ctx: &Ctx<Self>,
    ) {
        let travel = self.setup.streams[stream].travel.as_ref();
        let elsewhere = place
            .as_ref()
            .and_then(|place| Some((travel?.elsewhere)(place)));
        let place = place.filter(|_| elsewhere.is_some());
        if let Some(Place { node, device }) = &place {
            let text = format!("it is trained on {device} of {node}");
            let now = self.now();
            self.journal.decide(stream, now, text);
        }
        self.begin_retraining(stream, configuration, option, (place, elsewhere), ctx);
    }

    /// What another node's student has learnt of a stream that it ran.
    pub(super) fn found(&mut self, found: Box<Found>, ctx: &Ctx<Self>) {
        let mut streams = self.streams.iter();
        let here = streams.position(|one| one.name == found.stream && !one.gone);
        if let Some(stream) = here {
            self.streams[stream].found = Some(found);
            self.prepare_when_due(stream, ctx);
        }
    }

    /// Has another node's student compared with the serving one, as if it had been retrained here: what
    /// is better serves. True when that has begun.
    fn compare_found(&mut self, stream: usize, ctx: &Ctx<Self>) -> bool {
        let setup = &self.setup.streams[stream];
        let (Some(found), Some(travel)) = (self.streams[stream].found.take(), &setup.travel) else {
            return false;
        };
        let now = self.now();
        if found.classes != setup.classes {
            let text = format!("the student of {} knows other classes", found.node);
            self.journal.decide(stream, now, text);
            return false;
        }
        let text = format!(
            "the student of {}, which ran the stream, is compared",
            found.node
        );
        let load = travel.load.clone();
        let find = Box::new(move || {
            // All of it: the folder goes with it.
            let found = &found;
            load(&found.weights)
        });
        self.journal.decide(stream, now, text);
        let option = RetrainingOption::new(self.streams[stream].accuracy, 0.0);
        let elsewhere = (None, Some(Elsewhere::Found(find)));
        self.begin_retraining(stream, 0, option, elsewhere, ctx);
        true
    }

    fn begin_retraining(
        &mut self,
        stream: usize,
        configuration: usize,
        option: RetrainingOption,
        (place, elsewhere): (Option<Place>, Option<Elsewhere>),
        ctx: &Ctx<Self>,
    ) {
        let now = self.now();
        let config = self.setup.config.learning.configurations[configuration].clone();
        let predicted = (self.setup.policy.retraining == Retraining::Profiled).then_some(option);
        let record = RetrainingRecord {
            config,
            from: now,
            to: None,
            cut_off: false,
            gpu_seconds: 0.0,
            predicted_accuracy: predicted.map(|option| option.end_accuracy),
            predicted_gpu_seconds: predicted.map(|option| option.gpu_seconds),
            examples: 0,
            held_out: 0,
            serving_accuracy: None,
            retrained_accuracy: None,
            difference_sd: None,
            chance: None,
            promoted: false,
            rolled_back: None,
        };
        if let Some(entry) = self.journal.now(stream) {
            entry.retrainings.push(record);
        }
        let start_accuracy = self.streams[stream].accuracy;
        let running = Running::new(configuration, &option, start_accuracy).on(place);
        let order = Order::Retrain {
            configuration,
            newest: self.streams[stream].labels.fresh.clone(),
            elsewhere,
            seed: self.seed(stream, self.streams[stream].order, 3),
        };
        self.order(stream, order, Stage::Training(running), ctx);
    }

    pub(super) fn progressed(&mut self, stream: usize, progress: Progress, ctx: &mut Ctx<Self>) {
        if let Some(record) = self.journal.retraining(stream) {
            record.gpu_seconds = progress.gpu_seconds;
        }
        let Stage::Training(running) = &mut self.streams[stream].stage else {
            return;
        };
        let departure = running.observe(progress);
        let (Some(departure), Retraining::Profiled) = (departure, self.setup.policy.retraining)
        else {
            return;
        };
        let why = match departure {
            Departure::Pace(seconds) => {
                format!("the retraining will take {seconds:.1} GPU-seconds")
            }
            Departure::Accuracy(end) => {
                format!("the retraining will end with {:.1} %", end * 100.0)
            }
        };
        let now = self.now();
        self.journal
            .decide(stream, now, format!("planned again: {why}"));
        self.plan(ctx);
    }

    pub(super) fn retrained(
        &mut self,
        stream: usize,
        result: Result<Outcome, LearnError>,
        ctx: &mut Ctx<Self>,
    ) {
        let now = self.now();
        self.streams[stream].stage = Stage::Idle;
        match result {
            Ok(outcome) => self.gate(stream, outcome, now),
            Err(error) => self
                .journal
                .failed(stream, now, format!("retraining failed: {error}")),
        }
        self.prepare_when_due(stream, ctx);
        self.plan(ctx);
    }

    /// Writes down how a retraining ended, and serves what it has brought when that passed the gate.
    pub(super) fn gate(&mut self, stream: usize, outcome: Outcome, now: f64) {
        let verdict = outcome.verdict.as_ref();
        if let Some(record) = self.journal.retraining(stream) {
            record.to = Some(now);
            record.gpu_seconds = outcome.gpu_seconds;
            record.examples = outcome.examples;
            record.held_out = verdict.map_or(0, |verdict| verdict.frames);
            record.serving_accuracy = verdict.map(|verdict| verdict.serving);
            record.retrained_accuracy = verdict.map(|verdict| verdict.candidate);
            record.difference_sd = verdict.map(|verdict| verdict.measured.sd);
            record.chance = verdict.map(|verdict| verdict.chance);
            record.promoted = outcome.promoted.is_some();
        }
        let spent = outcome.gpu_seconds;
        self.journal
            .count(stream, |tally| tally.training_seconds += spent);
        let figures = figures(verdict);
        let Some(student) = outcome.promoted else {
            self.journal.count(stream, |tally| tally.dropped += 1);
            let why = refusal(verdict);
            return self
                .journal
                .decide(stream, now, format!("dropped, {why}: {figures}"));
        };
        let accuracy = verdict.map(|verdict| verdict.candidate);
        match self.swap_in(stream, student, accuracy, &outcome.inference) {
            Ok(()) => {
                self.journal.count(stream, |tally| tally.promoted += 1);
                self.journal
                    .decide(stream, now, format!("promoted: {figures}"));
            }
            Err(why) => self
                .journal
                .decide(stream, now, format!("not promoted: {why}")),
        }
    }

    /// Puts the student before the last promotion back.
    fn roll_back(&mut self, stream: usize, back: RolledBack) {
        let now = self.now();
        if let Some(record) = self.journal.promotion(stream) {
            record.rolled_back = Some(now);
        }
        let figures = figures(Some(&back.verdict));
        let accuracy = Some(back.verdict.serving);
        let text = match self.swap_in(stream, back.student, accuracy, &back.inference) {
            Ok(()) => {
                self.journal.count(stream, |tally| tally.rolled_back += 1);
                format!("the last promotion is taken back, on newer labels: {figures}")
            }
            Err(why) => format!("the last promotion could not be taken back: {why}"),
        };
        self.journal.decide(stream, now, text);
    }

    /// Has a student serve from the next frame on.
    fn swap_in(
        &mut self,
        stream: usize,
        student: Box<dyn Student>,
        accuracy: Option<f64>,
        inference: &[Measurement],
    ) -> Result<(), String> {
        let state = &mut self.streams[stream];
        state.accuracy = accuracy.unwrap_or(state.accuracy);
        state.measured(inference);
        let told = self.setup.streams[stream].inference.tell(Serve(student));
        told.map_err(|error| format!("inference does not answer: {error}"))
    }
}

/// What two students scored, in words.
fn figures(verdict: Option<&Verdict>) -> String {
    verdict.map_or_else(
        || "no held-out frame had anything to compare on".to_owned(),
        |verdict| {
            format!(
                "{:.1} % on {} held-out frames, {:.1} % before; {:+.1} ± {:.1} points where right \
                 answers count by how sure they are; better with a chance of {:.0} %",
                verdict.candidate * 100.0,
                verdict.frames,
                verdict.serving * 100.0,
                verdict.measured.mean * 100.0,
                verdict.measured.sd * 100.0,
                verdict.chance * 100.0,
            )
        },
    )
}

/// Why a retrained student is not to serve, in words.
fn refusal(verdict: Option<&Verdict>) -> String {
    match verdict.and_then(|verdict| verdict.refusal) {
        None => "not compared".to_owned(),
        Some(Refusal::NotBetter) => "not better".to_owned(),
        Some(Refusal::NotProven) => "not proven better".to_owned(),
        Some(Refusal::ClassLost { class, loss }) => {
            format!("class {class} lost {:.0} points", loss * 100.0)
        }
    }
}
