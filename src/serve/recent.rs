//! The last 15 minutes, a point a second, for charts that need nothing else installed. Bounded: what has
//! gone for so long is forgotten.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::view::Snapshot;

/// Points that are kept, one a second.
const POINTS: usize = 900;

/// A value a second, the newest last; a number takes four bytes, and there may be a hundred streams.
#[derive(Debug, Default)]
struct Series(VecDeque<Option<f32>>);

/// The last 15 minutes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    times: VecDeque<f64>,
    /// By device, job and what.
    jobs: BTreeMap<(String, String), [Series; 2]>,
    /// By stream and what.
    streams: BTreeMap<String, [Series; 4]>,
}

/// The last 15 minutes, as the API gives them; each series is as long as `times`.
#[derive(Debug, Serialize)]
pub(super) struct RecentView {
    times: Vec<f64>,
    devices: BTreeMap<String, BTreeMap<String, JobSeries>>,
    streams: BTreeMap<String, StreamSeries>,
}

#[derive(Debug, Serialize)]
struct JobSeries {
    granted: Vec<Option<f32>>,
    used: Vec<Option<f32>>,
}

#[derive(Debug, Serialize)]
struct StreamSeries {
    answered: Vec<Option<f32>>,
    dropped: Vec<Option<f32>>,
    latency_p99: Vec<Option<f32>>,
    true_accuracy: Vec<Option<f32>>,
}

impl Recent {
    /// Adds a second.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        self.begin(snapshot.at);
        let length = self.times.len();
        for device in &snapshot.devices {
            for job in &device.jobs {
                let key = (device.name.clone(), job.name.clone());
                let series = self.jobs.entry(key).or_insert_with(|| empty(length));
                set(series, [Some(job.granted), Some(job.used)]);
            }
        }
        for stream in &snapshot.streams {
            let values = [
                Some(stream.rates.answered),
                Some(stream.rates.dropped),
                stream.latency.map(|latency| latency.p99),
                stream.true_accuracy,
            ];
            let key = stream.name.clone();
            let series = self.streams.entry(key).or_insert_with(|| empty(length));
            set(series, values);
        }
    }

    /// Begins a second, of which nothing has a value yet, and forgets the one 15 minutes before, with
    /// what has had no value since.
    fn begin(&mut self, at: f64) {
        self.times.push_back(at);
        let surplus = self.times.len() > POINTS;
        if surplus {
            self.times.pop_front();
        }
        self.jobs.retain(|_, series| advance(series, surplus));
        self.streams.retain(|_, series| advance(series, surplus));
    }

    pub(super) fn view(&self) -> RecentView {
        let mut devices: BTreeMap<String, BTreeMap<String, JobSeries>> = BTreeMap::new();
        for ((device, job), [granted, used]) in &self.jobs {
            let series = JobSeries {
                granted: granted.all(),
                used: used.all(),
            };
            let jobs = devices.entry(device.clone()).or_default();
            jobs.insert(job.clone(), series);
        }
        let stream = |(name, series): (&String, &[Series; 4])| {
            let [answered, dropped, latency_p99, true_accuracy] =
                series.each_ref().map(Series::all);
            let series = StreamSeries {
                answered,
                dropped,
                latency_p99,
                true_accuracy,
            };
            (name.clone(), series)
        };
        RecentView {
            times: self.times.iter().copied().collect(),
            devices,
            streams: self.streams.iter().map(stream).collect(),
        }
    }
}

impl Series {
    fn all(&self) -> Vec<Option<f32>> {
        self.0.iter().copied().collect()
    }
}

/// Series of so many seconds, none of which has a value.
fn empty<const N: usize>(length: usize) -> [Series; N] {
    std::array::from_fn(|_| Series(std::iter::repeat_n(None, length).collect()))
}

/// Gives each its value of the newest second.
fn set<const N: usize>(series: &mut [Series; N], values: [Option<f64>; N]) {
    for (Series(series), value) in series.iter_mut().zip(values) {
        if let Some(newest) = series.back_mut() {
            *newest = value.map(|value| rounded(value) as f32);
        }
    }
}

/// To four digits: nobody sees more in a chart, and they would double what is sent.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Makes each a second longer, or lets its oldest go for that; whether any holds a value still.
fn advance<const N: usize>(series: &mut [Series; N], surplus: bool) -> bool {
    for Series(values) in series.iter_mut() {
        values.push_back(None);
        if surplus {
            values.pop_front();
        }
    }
    series
        .iter()
        .any(|Series(values)| values.iter().any(Option::is_some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_or_goes_has_holes_and_is_forgotten_in_the_end() {
        let mut recent = Recent::default();
        let second = |streams: &[&str], recent: &mut Recent| {
            recent.begin(0.0);
            let length = recent.times.len();
            for stream in streams {
                let key = (*stream).to_owned();
                let series = recent.streams.entry(key).or_insert_with(|| empty(length));
                set(series, [Some(1.0), None, None, None]);
            }
        };
        second(&["a"], &mut recent);
        second(&["a", "b"], &mut recent);
        second(&["b"], &mut recent);
        let view = recent.view();
        assert_eq!(view.streams["a"].answered, [Some(1.0), Some(1.0), None]);
        assert_eq!(view.streams["b"].answered, [None, Some(1.0), Some(1.0)]);
        for _ in 0..2 * POINTS {
            second(&["b"], &mut recent);
        }
        let view = recent.view();
        assert_eq!((view.times.len(), view.streams.len()), (POINTS, 1));
        assert_eq!(view.streams["b"].answered, vec![Some(1.0); POINTS]);
    }
}
