//! A stream as it is on the devices that its jobs run on: how fast those are for it, and how far it is to
//! the one that retrains it.

use std::borrow::Cow;

use crate::{Problem, Share, StreamSpec};

impl StreamSpec {
    /// How fast a device is for the stream, beside the one that its numbers refer to.
    pub(crate) fn speed_on(&self, device: usize) -> f64 {
        self.speeds.get(device).copied().unwrap_or(1.0)
    }

    /// The same for the fastest device.
    pub(crate) fn fastest(&self) -> f64 {
        self.speeds.iter().copied().reduce(f64::max).unwrap_or(1.0)
    }

    /// Whether it may be retrained on another node than the one that serves it.
    pub(crate) const fn may_travel(&self) -> bool {
        self.transfer_seconds.is_some()
    }

    /// The stream when its inference runs on one device and its retraining on another: shares and times
    /// are what they are there, and a retraining on another node begins when what it needs has arrived.
    pub(crate) fn placed(
        &self,
        inference: Option<usize>,
        training: Option<usize>,
        problem: &Problem,
    ) -> Cow<'_, Self> {
        let speed = |device: Option<usize>| device.map_or(1.0, |device| self.speed_on(device));
        let (serving, training_speed) = (speed(inference), speed(training));
        let startup = self.way(inference, training, problem);
        if serving == 1.0 && training_speed == 1.0 && startup == 0.0 {
            return Cow::Borrowed(self);
        }
        let mut placed = self.clone();
        placed.scale(serving, training_speed);
        for option in &mut placed.retraining {
            option.startup_seconds += startup;
        }
        Cow::Owned(placed)
    }

    /// Seconds that its sample and student are on their way, unless they have arrived.
    fn way(&self, inference: Option<usize>, training: Option<usize>, problem: &Problem) -> f64 {
        let node = |device: Option<usize>| Some(problem.devices.get(device?)?.node);
        let apart = match (node(inference), node(training)) {
            (Some(serves), Some(trains)) => serves != trains,
            _ => false,
        };
        match self.transfer_seconds {
            Some(seconds) if apart && !self.training_running => seconds,
            _ => 0.0,
        }
    }

    /// Its shares and times on devices that are so many times faster.
    pub(crate) fn scale(&mut self, serving: f64, training: f64) {
        for option in &mut self.inference {
            // Rounded up: a share that is just too small cannot keep up.
            let micro = (f64::from(option.share.micro()) / serving).ceil();
            option.share = Share::from_micro(micro as u32);
        }
        for option in &mut self.retraining {
            option.gpu_seconds /= training;
        }
    }
}
