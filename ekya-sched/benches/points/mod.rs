//! What is timed: which scheduler on which size, and which question it answers.

use std::fmt;
use std::str::FromStr;

use ekya_sched::{Optimal, Scheduler, Thief};

/// Streams from which on a plan is timed once, in a process of its own.
const LARGE: usize = 30;

/// One thing to time.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub scheduler: Which,
    pub size: Size,
    pub devices: Devices,
}

#[derive(Debug, Clone, Copy)]
pub enum Which {
    Thief,
    Optimal,
}

#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub streams: usize,
    pub gpus: usize,
    /// Retraining options of each stream.
    pub configurations: usize,
}

#[derive(Debug, Clone, Copy)]
pub enum Devices {
    /// One device with the capacity of all GPUs, as in the paper's simulator.
    Pooled,
    /// One device a GPU; the scheduler places the streams.
    Separate,
}

impl Point {
    /// Whether it takes too long to be repeated.
    pub fn is_large(&self) -> bool {
        self.size.streams >= LARGE
    }
}

impl Which {
    pub fn scheduler(self) -> Box<dyn Scheduler> {
        match self {
            Self::Thief => Box::new(Thief::default()),
            Self::Optimal => Box::new(Optimal),
        }
    }
}

/// All questions with their points: the sizes that have a target, then what grows with what.
pub fn questions() -> [(&'static str, Vec<Point>); 4] {
    let streams = [10, 30, 100, 300, 1000, 3000, 10_000];
    let gpus = [1, 2, 4, 8, 16, 32, 64];
    let configurations = [2, 4, 8, 18, 32, 64];
    [
        ("targets", points(&[size(10, 8, 18), size(1000, 100, 18)])),
        ("streams", points(&streams.map(|n| size(n, n / 10, 18)))),
        ("gpus", points(&gpus.map(|n| size(10, n, 18)))),
        (
            "configurations",
            points(&configurations.map(|n| size(10, 8, n))),
        ),
    ]
}

const fn size(streams: usize, gpus: usize, configurations: usize) -> Size {
    Size {
        streams,
        gpus,
        configurations,
    }
}

/// Both schedulers with both kinds of devices, each at all sizes.
fn points(sizes: &[Size]) -> Vec<Point> {
    let mut points = Vec::new();
    for scheduler in [Which::Thief, Which::Optimal] {
        for devices in [Devices::Pooled, Devices::Separate] {
            points.extend(sizes.iter().map(|&size| Point {
                scheduler,
                size,
                devices,
            }));
        }
    }
    points
}

/// `thief_10x8x18_pooled`: streams, GPUs and configurations.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheduler = match self.scheduler {
            Which::Thief => "thief",
            Which::Optimal => "optimal",
        };
        let devices = match self.devices {
            Devices::Pooled => "pooled",
            Devices::Separate => "separate",
        };
        let Size {
            streams,
            gpus,
            configurations,
        } = self.size;
        write!(f, "{scheduler}_{streams}x{gpus}x{configurations}_{devices}")
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let wrong = || format!("{name:?} is no point such as thief_10x8x18_pooled");
        let parts: Vec<&str> = name.split('_').collect();
        let &[scheduler, size, devices] = &parts[..] else {
            return Err(wrong());
        };
        let numbers: Vec<usize> = size.split('x').flat_map(str::parse).collect();
        let &[streams, gpus, configurations] = &numbers[..] else {
            return Err(wrong());
        };
        Ok(Self {
            scheduler: match scheduler {
                "thief" => Which::Thief,
                "optimal" => Which::Optimal,
                _ => return Err(wrong()),
            },
            size: Size {
                streams,
                gpus,
                configurations,
            },
            devices: match devices {
                "pooled" => Devices::Pooled,
                "separate" => Devices::Separate,
                _ => return Err(wrong()),
            },
        })
    }
}
