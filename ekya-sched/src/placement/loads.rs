//! How much of each device is spoken for, and where streams without a device go first.

use super::Home;
use crate::timeline::MOMENT;
use crate::{Problem, Share, StreamSpec};

/// How much of each device is spoken for.
pub(super) struct Loads {
    /// Devices' worth of work.
    load: Vec<f64>,
    capacity: Vec<f64>,
    /// Bytes of students.
    memory: Vec<u64>,
}

impl Loads {
    pub(super) fn of(problem: &Problem, homes: &[Home]) -> Self {
        let mut loads = Self {
            load: vec![0.0; problem.devices.len()],
            capacity: problem
                .devices
                .iter()
                .map(|d| d.capacity.as_f64())
                .collect(),
            memory: vec![0; problem.devices.len()],
        };
        for (spec, home) in problem.streams.iter().zip(homes) {
            loads.add(problem, spec, *home);
        }
        loads
    }

    fn add(&mut self, problem: &Problem, spec: &StreamSpec, home: Home) {
        if let Some(device) = home.inference {
            self.load[device] += inference_demand(spec) / spec.speed_on(device);
            self.memory[device] = self.memory[device].saturating_add(spec.memory);
        }
        if let Some(device) = home.training {
            self.load[device] += training_demand(spec, problem) / spec.speed_on(device);
        }
    }

    /// The device that is least loaded for its capacity with so much more on it.
    pub(super) fn least(&self, more: f64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let relative = |device: usize| (self.load[device] + more) / self.capacity[device];
        let usable = |&device: &usize| self.capacity[device] > 0.0 && may(device);
        let devices = (0..self.load.len()).filter(usable);
        devices.min_by(|&a, &b| relative(a).total_cmp(&relative(b)))
    }

    /// How much of a device is spoken for, relative to its capacity.
    pub(super) fn relative(&self, device: usize) -> f64 {
        self.load[device] / self.capacity[device].max(f64::MIN_POSITIVE)
    }

    /// The device on which the stream's retraining, which is on device `now`, would be done first: by
    /// how fast each is for it, and by what else each has to do.
    pub(super) fn quickest(
        &self,
        spec: &StreamSpec,
        problem: &Problem,
        now: Option<usize>,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let demand = training_demand(spec, problem);
        let relative = |device: usize| {
            let own = demand / spec.speed_on(device);
            let others = self.load[device] - if now == Some(device) { own } else { 0.0 };
            (others + own) / self.capacity[device]
        };
        let usable = |&device: &usize| self.capacity[device] > 0.0 && may(device);
        let devices = (0..self.load.len()).filter(usable);
        devices.min_by(|&a, &b| relative(a).total_cmp(&relative(b)))
    }

    fn has_memory(&self, problem: &Problem, spec: &StreamSpec, device: usize) -> bool {
        let limit = problem.devices[device].memory.unwrap_or(u64::MAX);
        self.memory[device].saturating_add(spec.memory) <= limit
    }

    /// Whether a device has the memory, and is on the node where the stream is to be retrained.
    pub(super) fn may_serve(&self, problem: &Problem, spec: &StreamSpec, device: usize) -> bool {
        let node = |device: usize| problem.devices.get(device).map(|device| device.node);
        let home = spec.training_device.and_then(node);
        self.has_memory(problem, spec, device)
            && (home.is_none() || spec.may_travel() || home == node(device))
    }
}

/// The share with which all is answered.
fn inference_demand(spec: &StreamSpec) -> f64 {
    let shares = spec.inference.iter().map(|option| option.share);
    shares.max().map_or(0.0, Share::as_f64)
}

/// Devices that the most accurate retraining keeps busy, averaged over the window.
fn training_demand(spec: &StreamSpec, problem: &Problem) -> f64 {
    let best = spec
        .retraining
        .iter()
        .max_by(|a, b| a.end_accuracy.total_cmp(&b.end_accuracy));
    let work = best.map_or(0.0, |option| option.gpu_seconds_left());
    work / problem.remaining.as_secs_f64().max(MOMENT)
}

/// The first placement: given homes as far as memory goes, then the most demanding streams first.
pub(super) fn homes(problem: &Problem) -> Vec<Home> {
    let nowhere = Home {
        inference: None,
        training: None,
    };
    let mut homes = vec![nowhere; problem.streams.len()];
    let mut loads = Loads::of(problem, &[]);
    let mut free = Vec::new();
    for (stream, spec) in problem.streams.iter().enumerate() {
        let Some(device) = spec.device.filter(|&device| device < problem.devices.len()) else {
            free.push(stream);
            continue;
        };
        if loads.has_memory(problem, spec, device) {
            homes[stream] = Home::at(device, spec);
            loads.add(problem, spec, homes[stream]);
        }
    }
    let demand = |stream: usize| {
        let spec = &problem.streams[stream];
        inference_demand(spec) + training_demand(spec, problem)
    };
    free.sort_by(|&a, &b| demand(b).total_cmp(&demand(a)).then(a.cmp(&b)));
    for stream in free {
        let spec = &problem.streams[stream];
        let may = |device: usize| loads.may_serve(problem, spec, device);
        if let Some(device) = loads.least(demand(stream), may) {
            homes[stream] = Home::at(device, spec);
            loads.add(problem, spec, homes[stream]);
        }
    }
    homes
}
