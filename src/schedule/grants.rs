//! How the scheduler actor plans and grants.
//!
//! Part of each device is set aside for the teacher as long as labels are wanted, and as much again
//! while profiles are being made; the plan shares out the rest.

use ekya_actors::{Ctx, Grant, JobId};
use ekya_sched::{DeviceSpec, Plan, Problem, Segment, Share};

use super::actor::{SchedulerActor, StreamSetup};
use super::device::ApplyGrants;
use super::journal::OpenSegment;
use super::lean::{Granted, lean};
use super::policy::Retraining;
use super::stream::{Stage, StreamState};
use crate::stream::SetInference;

/// Of every grant: a node that plans for itself has no leader, whose term would grow with the next one.
const TERM: u64 = 0;

impl SchedulerActor {
    /// Plans with what is known, grants the shares, and starts the retrainings that were chosen.
    pub(super) fn plan(&mut self, ctx: &mut Ctx<Self>) {
        if self.finishing {
            return;
        }
        let preparing = self.preparing();
        let problem = self.problem(&preparing);
        match self.policy.scheduler.plan(&problem) {
            Ok(plan) => {
                self.carry_out(&plan, &preparing);
                if preparing.is_empty() {
                    self.journal_prediction(&plan);
                }
                self.start_retrainings(&plan, &preparing, ctx);
            }
            Err(error) => {
                tracing::error!(%error, "no plan; the shares before stay in force");
            }
        }
    }

    /// Streams whose profiles are being made.
    fn preparing(&self) -> Vec<usize> {
        let preparing = |stream: &usize| self.streams[*stream].stage == Stage::Preparing;
        (0..self.streams.len()).filter(preparing).collect()
    }

    /// Whether new retrainings on the stream's device have to wait: they are weighed against each
    /// other, so none starts while one more may be possible in a moment.
    fn waits(&self, stream: &StreamState, preparing: &[usize]) -> bool {
        preparing
            .iter()
            .any(|other| self.streams[*other].device == stream.device)
    }

    /// What the scheduler is asked; where new retrainings have to wait, about running ones only.
    fn problem(&self, preparing: &[usize]) -> Problem {
        let run = &self.setup.config.run;
        let capacity = |device: usize| {
            let rest = Share::WHOLE.saturating_sub(self.labelling_share(device));
            DeviceSpec {
                memory: self.setup.device_memory[device],
                ..DeviceSpec::new(rest.saturating_sub(self.profiling_share(device)))
            }
        };
        let spec = |stream: &StreamState| {
            let mut spec = stream.spec();
            if self.waits(stream, preparing) && !spec.training_running {
                spec.retraining.clear();
            }
            spec
        };
        Problem {
            quantum: run.quantum,
            min_accuracy: run.min_accuracy,
            devices: (0..self.setup.devices.len()).map(capacity).collect(),
            streams: self.streams.iter().map(spec).collect(),
            ..Problem::new(self.horizon())
        }
    }

    /// Half of what is set aside, as long as labels that cost something are wanted on the device.
    fn labelling_share(&self, device: usize) -> Share {
        let costs = |(stream, setup): (&StreamState, &StreamSetup)| {
            let wanted = self.wants_labels() || stream.labels.in_progress.is_some();
            stream.device == device && setup.labels_cost && wanted
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

    fn carry_out(&mut self, plan: &Plan, preparing: &[usize]) {
        let now = self.now();
        let mut grants: Vec<Vec<Grant>> = vec![Vec::new(); self.setup.devices.len()];
        self.sequence += 1;
        for (stream, decided, granted) in self.granted(plan, preparing) {
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
        for ((_, actor), mut grants) in self.setup.devices.iter().zip(grants) {
            spare_a_sliver(&mut grants, &self.setup.streams);
            if let Err(error) = actor.tell(ApplyGrants(grants)) {
                tracing::error!(%error, "a device does not take grants");
            }
        }
    }

    /// What each stream gets now: the plan's shares; a uniform split is left as it is.
    fn granted<'a>(
        &self,
        plan: &'a Plan,
        preparing: &[usize],
    ) -> Vec<(usize, &'a Segment, Granted)> {
        let decided = plan.streams.iter().enumerate();
        let decided = decided.filter_map(|(stream, one)| Some((stream, one.now()?)));
        let (streams, mut shares): (Vec<_>, Vec<_>) = decided
            .map(|(stream, decided)| {
                let shares = Granted {
                    device: self.streams[stream].device,
                    inference: decided.inference_share,
                    training: self.training_share(stream, decided, preparing),
                };
                ((stream, decided), shares)
            })
            .unzip();
        if self.policy.retraining == Retraining::Profiled {
            lean(&mut shares, self.setup.devices.len());
        }
        let granted = streams.into_iter().zip(shares);
        granted
            .map(|((stream, decided), shares)| (stream, decided, shares))
            .collect()
    }

    /// What the window's first plan with everything known expects. In the first window nothing is.
    fn journal_prediction(&mut self, plan: &Plan) {
        if self.window == 0 {
            return;
        }
        for (stream, decided) in plan.streams.iter().enumerate() {
            if let Some(entry) = self.journal.now(stream) {
                entry
                    .predicted_accuracy
                    .get_or_insert(decided.mean_accuracy);
            }
        }
    }

    /// Starts the retrainings that were chosen, and gives up those that are not worth their share
    /// any more: they would hold their place without ever ending.
    fn start_retrainings(&mut self, plan: &Plan, preparing: &[usize], ctx: &Ctx<Self>) {
        let now = self.now();
        for (stream, decided) in plan.streams.iter().enumerate() {
            if self.waits(&self.streams[stream], preparing) {
                continue;
            }
            match &self.streams[stream].stage {
                Stage::Ready(options) if !options.is_empty() => {
                    let chosen = decided
                        .retrains_now()
                        .and_then(|index| options.get(index).copied());
                    // Once a round: the same verdict comes again with every plan.
                    if chosen.is_some() || !self.streams[stream].weighed {
                        self.journal.decide(stream, now, decided.reason.clone());
                    }
                    self.streams[stream].weighed = true;
                    if let Some((configuration, option)) = chosen {
                        self.retrain(stream, configuration, option, ctx);
                    }
                }
                Stage::Training(_) if decided.retraining.is_none() => {
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
    fn training_share(&self, stream: usize, decided: &Segment, preparing: &[usize]) -> Share {
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
            let here = self
                .setup
                .streams
                .iter()
                .filter(|stream| stream.device == device);
            let mut jobs: Vec<JobId> = here.map(|stream| stream.labelling_job).collect();
            jobs.sort();
            jobs.dedup();
            let each = even_part(self.labelling_share(device), jobs.len());
            grants.extend(jobs.into_iter().map(|job| self.grant(job, each)));
        }
    }

    pub(super) fn grant_labelling_only(&mut self) {
        self.sequence += 1;
        let mut grants: Vec<Vec<Grant>> = vec![Vec::new(); self.setup.devices.len()];
        for stream in &self.setup.streams {
            grants[stream.device].push(self.grant(stream.inference_job, Share::ZERO));
            grants[stream.device].push(self.grant(stream.training_job, Share::ZERO));
        }
        self.grant_labelling(&mut grants);
        for ((_, actor), grants) in self.setup.devices.iter().zip(grants) {
            // A device that is gone labels nothing: the record then lacks the last window's figure.
            let _ = actor.tell(ApplyGrants(grants));
        }
    }

    fn grant(&self, job: JobId, share: Share) -> Grant {
        Grant {
            job,
            share,
            term: TERM,
            sequence: self.sequence,
            expires: None,
        }
    }

    /// Sets the inference configuration and opens the segment of the new shares.
    fn serve(&mut self, stream: usize, decided: &Segment, granted: Granted, now: f64) {
        let state = &self.streams[stream];
        let choice = decided
            .inference
            .and_then(|index| state.inference.get(index).copied());
        // Nothing fits the share: the cheapest does its best.
        let choice = choice.or_else(|| state.inference.first().copied());
        let (sample_every, resolution) =
            choice.map_or((1, 1.0), |choice| (choice.sample_every, choice.resolution));
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
