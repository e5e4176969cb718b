//! How the scheduler actor plans and grants.
//!
//! Part of each device is set aside for the teacher as long as labels are wanted, and as much again
//! while profiles are being made; the plan shares out the rest.

use std::collections::BTreeMap;

use ekya_actors::{Ctx, Grant, JobId};
use ekya_sched::Share;

use super::actor::{SchedulerActor, StreamSetup};
use super::device::ApplyGrants;
use super::journal::OpenSegment;
use super::lean::{Granted, lean};
use super::policy::Retraining;
use super::stream::{Stage, StreamState};
use crate::planning::{
    self, Ahead, Decided, Decisions, DeviceSituation, Situation, StreamSituation,
};
use crate::stream::SetInference;

/// How long a retraining that could begin waits for others to be weighed with it, as a part of the window.
const WAIT: f64 = 0.1;

impl SchedulerActor {
    /// Has the shares and retrainings decided with what is known: by whoever plans for several nodes, or
    /// here.
    pub(super) fn plan(&mut self, ctx: &mut Ctx<Self>) {
        if self.finishing {
            return;
        }
        self.situations += 1;
        let situation = self.situation();
        // A fixed configuration is bound to its node's windows.
        let asked = self.setup.policy.retraining == Retraining::Profiled
            && self.setup.ask.as_ref().is_some_and(|ask| ask(&situation));
        if !asked {
            self.plan_alone(situation, ctx);
        }
    }

    /// Plans for this node alone.
    pub(super) fn plan_here(&mut self, ctx: &mut Ctx<Self>) {
        if !self.finishing {
            self.plan_alone(self.situation(), ctx);
        }
    }

    fn plan_alone(&mut self, situation: Situation, ctx: &mut Ctx<Self>) {
        let here = BTreeMap::from([(String::new(), situation)]);
        match planning::plan(&here, &*self.setup.policy.scheduler, self.situations) {
            Ok(decisions) => {
                for decisions in decisions.into_values() {
                    self.carry_out(&decisions, ctx);
                }
            }
            Err(error) => {
                tracing::error!(%error, "no plan; the shares before stay in force");
            }
        }
    }

    /// Does what was decided in a term, unless a higher one is known.
    pub(super) fn decided(&mut self, term: u64, decisions: &Decisions, ctx: &Ctx<Self>) {
        if term < self.term {
            let known = self.term;
            return tracing::warn!(term, known, "decisions of an older term are refused");
        }
        self.term = term;
        if !self.finishing {
            self.carry_out(decisions, ctx);
        }
    }

    /// Grants the shares, and starts the retrainings that were chosen.
    fn carry_out(&mut self, decisions: &Decisions, ctx: &Ctx<Self>) {
        self.guests.clone_from(&decisions.guests);
        let decided = self.decided_streams(decisions);
        self.intend(&decided);
        let preparing = self.preparing();
        self.grant_all(&decided, &preparing);
        if preparing.is_empty() {
            self.journal_prediction(&decided);
        }
        self.start_retrainings(&decided, &preparing, ctx);
    }

    /// Keeps what is intended, for people to see.
    fn intend(&mut self, decided: &[(usize, &Decided)]) {
        let now = self.now();
        for &(stream, decided) in decided {
            let later = |ahead: &Ahead| Ahead {
                from: now + ahead.from,
                to: now + ahead.to,
                ..*ahead
            };
            self.streams[stream].expected = Some(decided.mean_accuracy);
            self.streams[stream].ahead = decided.ahead.iter().map(later).collect();
        }
    }

    /// What was decided, by the index of the stream, as far as there are such streams still.
    fn decided_streams<'a>(&self, decisions: &'a Decisions) -> Vec<(usize, &'a Decided)> {
        let by_name: BTreeMap<_, _> = (decisions.streams.iter())
            .map(|decided| (decided.stream.as_str(), decided))
            .collect();
        let decided = |(index, stream): (usize, &StreamState)| {
            Some((index, *by_name.get(stream.name.as_str())?))
        };
        let here = self.streams.iter().enumerate();
        let here = here.filter(|(_, stream)| !stream.gone);
        here.filter_map(decided).collect()
    }

    /// Streams whose profiles are being made.
    fn preparing(&self) -> Vec<usize> {
        let preparing = |stream: &usize| self.streams[*stream].stage == Stage::Preparing;
        (0..self.streams.len()).filter(preparing).collect()
    }

    /// Whether what the stream's device is to do with it has to wait: retrainings are weighed against each
    /// other, so none is begun or given up while one more may be possible in a moment. One that could begin
    /// does not wait for those that came after it, nor for long: on a device that is behind with profiles
    /// some are always being made.
    fn waits(&self, stream: &StreamState, preparing: &[usize]) -> bool {
        let mut here = (preparing.iter().map(|other| &self.streams[*other]))
            .filter(|other| other.device == stream.device);
        if !matches!(stream.stage, Stage::Ready(_)) {
            return here.next().is_some();
        }
        let longest = WAIT * self.setup.config.run.window_seconds;
        let waited = self.now() - stream.stage_began;
        waited < longest && here.any(|other| other.stage_began < stream.stage_began)
    }

    /// What is to be planned; where new retrainings have to wait, with running ones only.
    fn situation(&self) -> Situation {
        let run = &self.setup.config.run;
        let preparing = self.preparing();
        let device = |index: usize| {
            let rest = Share::WHOLE.saturating_sub(self.labelling_share(index));
            DeviceSituation {
                name: self.setup.devices[index].0.name().to_owned(),
                capacity: rest.saturating_sub(self.profiling_share(index)),
                memory: self.setup.device_memory[index],
                lends: self.setup.lends,
                speeds: self.setup.speeds[index].clone(),
            }
        };
        let stream = |(stream, setup): (&StreamState, &StreamSetup)| {
            let mut spec = stream.spec();
            spec.transfer_seconds = setup.travel.as_ref().map(|travel| {
                // There and back.
                (stream.sample_bytes + 2 * travel.weights) as f64 / travel.link
            });
            if self.waits(stream, &preparing) && !spec.training_running {
                spec.retraining.clear();
            }
            StreamSituation {
                spec,
                version: stream.version,
                kind: setup.kind.clone(),
                trained_on: stream.trained_on().cloned(),
            }
        };
        Situation {
            number: self.situations,
            horizon: self.horizon().as_secs_f64(),
            quantum: run.quantum,
            min_accuracy: run.min_accuracy,
            devices: (0..self.setup.devices.len()).map(device).collect(),
            streams: {
                let here = self.streams.iter().zip(&self.setup.streams);
                here.filter(|(one, _)| !one.gone).map(stream).collect()
            },
        }
    }

    /// Half of what is set aside, as long as labels that cost something are wanted on the device.
    fn labelling_share(&self, device: usize) -> Share {
        let costs = |(stream, setup): (&StreamState, &StreamSetup)| {
            let wanted = self.wants_labels() || stream.labels.in_progress.is_some();
            stream.device == device && !stream.gone && setup.labels_cost && wanted
        };
        let mut streams = self.streams.iter().zip(&self.setup.streams);
        if streams.any(costs) {
            self.half_of_overhead()
        } else {
            Share::ZERO
        }
    }

    /// The other half, while profiles are being made on the device.
    fn profiling_share(&self, device: usize) -> Share {
        let here =
            |stream: &StreamState| stream.device == device && stream.stage == Stage::Preparing;
        if self.streams.iter().any(here) {
            self.half_of_overhead()
        } else {
            Share::ZERO
        }
    }

    fn half_of_overhead(&self) -> Share {
        Share::from_micro(self.setup.config.learning.overhead_share.micro() / 2)
    }

    fn grant_all(&mut self, decided: &[(usize, &Decided)], preparing: &[usize]) {
        let now = self.now();
        let mut grants: Vec<Vec<Grant>> = vec![Vec::new(); self.setup.devices.len()];
        self.sequence += 1;
        for (&(stream, decided), granted) in decided.iter().zip(self.granted(decided, preparing)) {
            let StreamSetup {
                inference_job,
                training_job,
                ..
            } = self.setup.streams[stream];
            grants[granted.device].push(self.grant(inference_job, granted.inference));
            grants[granted.device].push(self.grant(training_job, granted.training));
            self.serve(stream, decided, granted, now);
        }
        self.grant_labelling(&mut grants);
        self.grant_guests(&mut grants);
        for ((_, actor), mut grants) in self.setup.devices.iter().zip(grants) {
            spare_a_sliver(&mut grants, &self.setup.streams);
            if let Err(error) = actor.tell(ApplyGrants(grants)) {
                tracing::error!(%error, "a device does not take grants");
            }
        }
    }

    /// What each stream gets now: the decided shares; a uniform split is left as it is.
    fn granted(&self, decided: &[(usize, &Decided)], preparing: &[usize]) -> Vec<Granted> {
        let granted = |&(stream, decided): &(usize, &Decided)| Granted {
            device: self.streams[stream].device,
            inference: decided.inference_share,
            training: self.training_share(stream, decided, preparing),
        };
        let mut shares: Vec<_> = decided.iter().map(granted).collect();
        if self.setup.policy.retraining == Retraining::Profiled {
            lean(&mut shares, self.setup.devices.len());
        }
        shares
    }

    /// What the window's first plan with everything known expects. In the first window nothing is.
    fn journal_prediction(&mut self, decided: &[(usize, &Decided)]) {
        if self.window == 0 {
            return;
        }
        for &(stream, decided) in decided {
            if let Some(entry) = self.journal.now(stream) {
                entry
                    .predicted_accuracy
                    .get_or_insert(decided.mean_accuracy);
            }
        }
    }

    /// Starts the retrainings that were chosen, and gives up those that are not worth their share
    /// any more: they would hold their place without ever ending.
    fn start_retrainings(
        &mut self,
        decided: &[(usize, &Decided)],
        preparing: &[usize],
        ctx: &Ctx<Self>,
    ) {
        let now = self.now();
        for &(stream, decided) in decided {
            let state = &self.streams[stream];
            // What was decided about other options is out of date; the next decisions are on their way.
            if self.waits(state, preparing) || state.version != decided.version {
                continue;
            }
            match &state.stage {
                Stage::Ready(options) if !options.is_empty() => {
                    let chosen = decided.start.and_then(|index| options.get(index).copied());
                    // Once a round: the same verdict comes again with every plan.
                    if chosen.is_some() || !state.weighed {
                        self.journal.decide(stream, now, decided.reason.clone());
                    }
                    let first = !std::mem::replace(&mut self.streams[stream].weighed, true);
                    self.streams[stream].passed_over += u32::from(first);
                    if let Some((configuration, option)) = chosen {
                        self.streams[stream].passed_over = 0;
                        let place = decided.trained_on.clone();
                        self.retrain(stream, configuration, option, place, ctx);
                    }
                }
                Stage::Training(_) if !decided.retrains => {
                    self.streams[stream].cut_off();
                    let text = format!("retraining given up: {}", decided.reason);
                    self.journal.cut_off(stream, now, text);
                }
                _ => {}
            }
        }
    }

    /// The plan's share for training, or while profiles are made an even part of what is set aside
    /// for them.
    fn training_share(&self, stream: usize, decided: &Decided, preparing: &[usize]) -> Share {
        if self.streams[stream].trained_on().is_some() || decided.trained_on.is_some() {
            // For the gate, here; the share that was decided is another device's.
            return self.half_of_overhead();
        }
        if !preparing.contains(&stream) {
            return decided.training_share;
        }
        let device = self.streams[stream].device;
        let sharing = preparing
            .iter()
            .filter(|other| self.streams[**other].device == device)
            .count();
        even_part(self.profiling_share(device), sharing)
    }

    fn grant_labelling(&self, grants: &mut [Vec<Grant>]) {
        for (device, grants) in grants.iter_mut().enumerate() {
            let here = self.here().filter(|(stream, _)| stream.device == device);
            let mut jobs: Vec<JobId> = here.map(|(stream, _)| stream.labelling_job).collect();
            jobs.sort();
            jobs.dedup();
            let each = even_part(self.labelling_share(device), jobs.len());
            grants.extend(jobs.into_iter().map(|job| self.grant(job, each)));
        }
    }

    pub(super) fn grant_labelling_only(&mut self) {
        self.sequence += 1;
        let mut grants: Vec<Vec<Grant>> = vec![Vec::new(); self.setup.devices.len()];
        for (stream, _) in self.here() {
            grants[stream.device].push(self.grant(stream.inference_job, Share::ZERO));
            grants[stream.device].push(self.grant(stream.training_job, Share::ZERO));
        }
        self.grant_labelling(&mut grants);
        for ((_, actor), grants) in self.setup.devices.iter().zip(grants) {
            // A device that is gone labels nothing: the record then lacks the last window's figure.
            let _ = actor.tell(ApplyGrants(grants));
        }
    }

    pub(super) fn grant(&self, job: JobId, share: Share) -> Grant {
        Grant {
            job,
            share,
            term: self.term,
            sequence: self.sequence,
            expires: None,
        }
    }

    /// The inference configuration that was decided, as sampling and resolution; that in force where the
    /// decision is about other options than there are now.
    fn inference_configuration(&self, stream: usize, decided: &Decided) -> (u32, f64) {
        let state = &self.streams[stream];
        if let Some(open) = self.journal.segment_now(stream)
            && state.version != decided.version
        {
            return (open.sample_every, open.resolution);
        }
        let choice = decided
            .inference
            .and_then(|index| state.inference.get(index).copied());
        // Nothing fits the share: the cheapest does its best.
        let choice = choice.or_else(|| state.inference.first().copied());
        choice.map_or((1, 1.0), |choice| (choice.sample_every, choice.resolution))
    }

    /// Sets the inference configuration and opens the segment of the new shares.
    fn serve(&mut self, stream: usize, decided: &Decided, granted: Granted, now: f64) {
        let (sample_every, resolution) = self.inference_configuration(stream, decided);
        let order = SetInference {
            sample_every,
            resolution,
        };
        if let Err(error) = self.setup.streams[stream].inference.tell(order) {
            self.journal
                .decide(stream, now, format!("inference does not answer: {error}"));
        }
        let used = self.used(stream);
        let next = OpenSegment {
            from: now,
            inference: granted.inference,
            training: granted.training,
            sample_every,
            resolution,
            used_before: used,
        };
        let same = self.journal.segment_now(stream).is_some_and(|open| {
            (
                open.inference,
                open.training,
                open.sample_every,
                open.resolution,
            ) == (
                next.inference,
                next.training,
                next.sample_every,
                next.resolution,
            )
        });
        if !same {
            self.journal.segment(stream, now, used, Some(next));
        }
    }

    /// Device seconds used by the stream's inference and training since the start.
    pub(super) fn used(&self, stream: usize) -> (f64, f64) {
        let StreamSetup {
            device,
            inference_job,
            training_job,
            ..
        } = self.setup.streams[stream];
        let usage = self.setup.devices[device].0.usage();
        let busy = |job: JobId| {
            usage
                .iter()
                .find(|used| used.job == job)
                .map_or(0.0, |used| used.busy.as_secs_f64())
        };
        (busy(inference_job), busy(training_job))
    }
}

fn even_part(share: Share, parts: usize) -> Share {
    Share::from_micro(share.micro() / u32::try_from(parts.max(1)).unwrap_or(u32::MAX))
}

/// What inference gets when the plan has nothing for it: enough to be dispatched when the device
/// would be idle otherwise, since a share of zero pauses a job.
const SLIVER: Share = Share::from_micro(1000);

/// Gives [`SLIVER`] to inference jobs without a share, at the cost of the largest grant.
fn spare_a_sliver(grants: &mut [Grant], streams: &[StreamSetup]) {
    let is_inference = |job: JobId| streams.iter().any(|stream| stream.inference_job == job);
    for index in 0..grants.len() {
        if grants[index].share > Share::ZERO || !is_inference(grants[index].job) {
            continue;
        }
        if let Some(largest) = grants.iter_mut().max_by_key(|grant| grant.share) {
            largest.share = largest.share.saturating_sub(SLIVER);
            grants[index].share = SLIVER;
        }
    }
}
