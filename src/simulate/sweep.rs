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

/// What one core does at a time, of one scenario.
enum Task {
    /// A window under all schedulers: all start it alike.
    Window { scenario: usize, window: usize },
    /// All windows under one scheduler, by its index: each starts with what the last ended with.
    Run { scenario: usize, scheduler: usize },
}

/// Windows, each with the index of its point.
type Simulated = Result<Vec<(usize, WindowRecord)>, SimulateError>;

impl<'a> Sweep<'a> {
    /// Simulates all of it on all cores. `tell` is called with how much is done, and of how much.
    ///
    /// # Errors
    /// The first of what could not be simulated.
    pub fn run(&self, tell: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Point>, SimulateError> {
        let scenarios = self.scenarios();
        let tasks = self.tasks(&scenarios);
        let total = tasks.len();
        let results = parallel::map(&tasks, |task| self.simulate(&scenarios, task), &|done| {
            tell(done, total);
        });
        let mut points = self.points(&scenarios);
        for result in results {
            for (point, record) in result? {
                points[point].records.push(record);
            }
        }
        Ok(points)
    }

    /// One for every scheduler in every scenario, without windows yet.
    fn points(&self, scenarios: &[Scenario<'_>]) -> Vec<Point> {
        let mut points = Vec::new();
        for scenario in scenarios {
            points.extend(self.schedulers.iter().map(|scheduler| Point {
                scheduler: scheduler.name(),
                gpus: scenario.gpus,
                streams: scenario.streams,
                window_seconds: scenario.window.as_secs_f64(),
                noise: scenario.noise,
                records: Vec::new(),
            }));
        }
        points
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

    fn tasks(&self, scenarios: &[Scenario<'_>]) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (scenario, circumstances) in scenarios.iter().enumerate() {
            match circumstances.start {
                Start::Reset => {
                    let windows = 0..circumstances.windows;
                    tasks.extend(windows.map(|window| Task::Window { scenario, window }));
                }
                Start::Carried => {
                    let schedulers = 0..self.schedulers.len();
                    tasks.extend(schedulers.map(|scheduler| Task::Run {
                        scenario,
                        scheduler,
                    }));
                }
            }
        }
        tasks
    }

    fn simulate(&self, scenarios: &[Scenario<'_>], task: &Task) -> Simulated {
        let point =
            |scenario: usize, scheduler: usize| scenario * self.schedulers.len() + scheduler;
        match *task {
            Task::Window { scenario, window } => {
                let records = self.window(&scenarios[scenario], window)?.into_iter();
                let points = records.enumerate();
                Ok(points
                    .map(|(s, record)| (point(scenario, s), record))
                    .collect())
            }
            Task::Run {
                scenario,
                scheduler,
            } => {
                let records = self.whole_run(&scenarios[scenario], scheduler)?.into_iter();
                Ok(records
                    .map(|record| (point(scenario, scheduler), record))
                    .collect())
            }
        }
    }

    /// One window under every scheduler.
    fn window(
        &self,
        scenario: &Scenario<'_>,
        window: usize,
    ) -> Result<Vec<WindowRecord>, SimulateError> {
        let bound = self
            .bounds
            .then(|| scenario.upper_bound(window, None))
            .flatten();
        let schedulers = self.schedulers.iter();
        let records = schedulers.map(|scheduler| {
            let mut record = scenario.run_window(scheduler.as_ref(), window, None)?;
            record.upper_bound = bound;
            Ok(record)
        });
        records.collect()
    }

    /// All windows under one scheduler.
    fn whole_run(
        &self,
        scenario: &Scenario<'_>,
        scheduler: usize,
    ) -> Result<Vec<WindowRecord>, SimulateError> {
        let mut records = scenario.run(self.schedulers[scheduler].as_ref())?;
        let mut starts: Option<Vec<f64>> = None;
        for record in records.iter_mut().filter(|_| self.bounds) {
            record.upper_bound = scenario.upper_bound(record.window, starts.as_deref());
            starts = Some(ends(record));
        }
        Ok(records)
    }
}
