//! Streams that come and go while the scheduler runs. One that has gone keeps its index, for when it
//! comes back.

use ekya_actors::{Ctx, Grant};
use ekya_sched::Share;

use super::actor::{SchedulerActor, StreamSetup};
use super::device::ApplyGrants;
use super::event::Event;
use super::stream::{Stage, StreamState};

impl SchedulerActor {
    /// What is known of a stream that has just come: nothing has been measured yet.
    pub(super) fn newcomer(setup: &StreamSetup, trains: bool, window: usize) -> StreamState {
        StreamState::new(&setup.name, setup.device, setup.rate, trains)
            .with_curves(setup.curves.clone())
            .with_training_bytes(setup.training_bytes)
            .with_weight(setup.weight)
            .since(window)
    }

    /// Takes a stream on, in the place of one that has gone or after all others.
    pub(super) fn join(&mut self, stream: usize, setup: StreamSetup, ctx: &mut Ctx<Self>) {
        if self.finishing || stream > self.streams.len() {
            return;
        }
        let mut state = Self::newcomer(&setup, self.trains(), self.window);
        if stream == self.streams.len() {
            self.streams.push(state);
            self.setup.streams.push(setup);
        } else {
            // What the trainer of before still reports is about none of the new one's orders.
            state.order = self.streams[stream].order + 1;
            self.streams[stream] = state;
            self.setup.streams[stream] = setup;
        }
        self.journal.add_stream(stream);
        let now = self.now();
        self.journal.decide(stream, now, "the stream has come");
        self.resample(stream, now, self.window_end());
        self.wait_for_burst(stream, ctx);
        self.plan(ctx);
    }

    /// The first samples of a stream are consecutive, and labelled at once: they show what skipping costs.
    pub(super) fn wait_for_burst(&mut self, stream: usize, ctx: &Ctx<Self>) {
        let me = ctx.me();
        let ready = Box::new(move || drop(me.tell(Event::BurstReady { stream })));
        let intake = &self.setup.streams[stream].intake;
        intake.with_log(|log| log.on_burst(ready));
    }

    /// Lets a stream go: nothing of it is granted, ordered or planned any more.
    pub(super) fn leave(&mut self, stream: usize, ctx: &mut Ctx<Self>) {
        let Some(state) = self.streams.get_mut(stream).filter(|state| !state.gone) else {
            return;
        };
        let training = matches!(state.stage, Stage::Training(_));
        state.cut_off();
        (state.gone, state.ended) = (true, true);
        let now = self.now();
        let text = "the stream has gone".to_owned();
        if training {
            self.journal.cut_off(stream, now, text);
        } else {
            self.journal.decide(stream, now, text);
        }
        let used = self.used(stream);
        self.journal.segment(stream, now, used, None);
        self.grant_nothing(stream);
        self.plan(ctx);
    }

    fn grant_nothing(&mut self, stream: usize) {
        self.sequence += 1;
        let setup = &self.setup.streams[stream];
        let nothing = |job| self.grant(job, Share::ZERO);
        let grants: Vec<Grant> = [setup.inference_job, setup.training_job]
            .map(nothing)
            .into();
        if let Err(error) = self.setup.devices[setup.device].1.tell(ApplyGrants(grants)) {
            tracing::error!(%error, "a device does not take grants");
        }
    }
}
