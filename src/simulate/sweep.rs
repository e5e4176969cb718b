//! Every scheduler under every combination of circumstances.

use std::time::Duration;

use ekya_sched::Scheduler;
use ekya_sched::simulate::{Scenario, SimulateError, Start, WindowRecord, ends};

use super::parallel;

/// What is to be simulated: every scheduler under every combination of the listed circumstances.
pub struct Sweep<'a> {
    /// What all have in common.
    pub base: Scenario<'a>,
    /// Numbers of GPUs.
    pub gpus: Vec<u32>,
    /// Numbers of streams.
    pub streams: Vec<usize>,
    /// Lengths of a window.
    pub windows: Vec<Duration>,
    /// Errors of what the schedulers are told ([`Scenario::noise`]).
    pub noise: Vec<f64>,
    /// Schedulers.
    pub schedulers: Vec<Box<dyn Scheduler + Send + Sync>>,
    /// Whether to say for every window what no plan exceeds; costs more than the thief itself.
    pub bounds: bool,
}

/// One scheduler under one combination of circumstances.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name of the scheduler.
    pub scheduler: String,
    /// Number of GPUs.
    pub gpus: u32,
    /// Number of streams.
    pub streams: usize,
    /// Length of a window, in seconds.
    pub window_seconds: f64,
    /// Error of what the scheduler is told.
    pub noise: f64,
    /// All windows, in order.
    pub records: Vec<WindowRecord>,
}

/// What one core does at a time: a window where windows are independent, else a whole run.
struct Task<'a> {
    scenario: usize,
    /// Index of the scheduler.
    place: usize,
    scheduler: &'a (dyn Scheduler + Send + Sync),
    window: Option<usize>,
}

impl<'a> Sweep<'a> {
    /// Simulates all of it on all cores. `tell` is called with how much is done, and of how much.
    ///
    /// # Errors
    /// The first, in the order of the points, of what could not be simulated.
    pub fn run(&self, tell: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Point>, SimulateError> {
        let scenarios = self.scenarios();
        let tasks = self.tasks(&scenarios);
        let total = tasks.len();
        let results = parallel::map(&tasks, |task| self.simulate(&scenarios, task), &|done| {
            tell(done, total);
        });
        let mut points: Vec<Point> = Vec::new();
        let mut last = None;
        let mut bounds: Vec<Option<f64>> = Vec::new();
        for (task, records) in tasks.iter().zip(results) {
            let scenario = &scenarios[task.scenario];
            let name = task.scheduler.name();
            let key = Some((task.scenario, task.place));
            if last != key {
                last = key;
                bounds = points
                    .last()
                    .filter(|_| task.place > 0)
                    .map_or_else(Vec::new, bounds_of);
                points.push(Point {
                    scheduler: name,
                    gpus: scenario.gpus,
                    streams: scenario.streams,
                    window_seconds: scenario.window.as_secs_f64(),
                    noise: scenario.noise,
                    records: Vec::new(),
                });
            }
            if let Some(point) = points.last_mut() {
                for mut record in records? {
                    let known = bounds.get(point.records.len()).copied().flatten();
                    record.upper_bound = record.upper_bound.or(known);
                    point.records.push(record);
                }
            }
        }
        Ok(points)
    }

    fn scenarios(&self) -> Vec<Scenario<'a>> {
        let mut all = Vec::new();
        for &gpus in &self.gpus {
            for &streams in &self.streams {
                for &window in &self.windows {
                    all.extend(self.noise.iter().map(|&noise| Scenario {
                        gpus,
                        streams,
                        window,
                        noise,
                        ..self.base.clone()
                    }));
                }
            }
        }
        all
    }

    fn tasks(&self, scenarios: &[Scenario<'_>]) -> Vec<Task<'_>> {
        let mut tasks = Vec::new();
        for (scenario, circumstances) in scenarios.iter().enumerate() {
            for (place, scheduler) in self.schedulers.iter().enumerate() {
                let task = |window| Task {
                    scenario,
                    place,
                    scheduler: scheduler.as_ref(),
                    window,
                };
                match circumstances.start {
                    Start::Reset => tasks.extend((0..circumstances.windows).map(Some).map(task)),
                    Start::Carried => tasks.push(task(None)),
                }
            }
        }
        tasks
    }

    fn simulate(
        &self,
        scenarios: &[Scenario<'_>],
        task: &Task<'_>,
    ) -> Result<Vec<WindowRecord>, SimulateError> {
        let scenario = &scenarios[task.scenario];
        let mut records = match task.window {
            Some(window) => vec![scenario.run_window(task.scheduler, window, None)?],
            None => scenario.run(task.scheduler)?,
        };
        // Where windows start alike for all, one bound serves all.
        if self.bounds && (task.place == 0 || task.window.is_none()) {
            let mut starts: Option<Vec<f64>> = None;
            for record in &mut records {
                record.upper_bound = scenario.upper_bound(record.window, starts.as_deref());
                starts = task.window.is_none().then(|| ends(record));
            }
        }
        Ok(records)
    }
}

fn bounds_of(point: &Point) -> Vec<Option<f64>> {
    point
        .records
        .iter()
        .map(|record| record.upper_bound)
        .collect()
}
