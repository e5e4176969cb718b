//! Predictions for a recorded trace, as if each stream were new to a node that knows the others:
//! each retraining from all outcomes of the other streams and the stream's own earlier windows.
//! Nothing is trained, and what the trace says was predicted is not looked at.

use std::collections::BTreeMap;

use ekya_sched::simulate::{RecordedOption, Trace};

use crate::posterior::fitted;
use crate::{Estimate, Features, Kernel, Observation, Point, Posterior};

/// Outcomes of other streams that a prediction is made from; of more, an evenly spaced part.
const OTHERS_MAX: usize = 480;

/// Outcomes of other streams that the kernel is fitted to.
const FIT_MAX: usize = 240;

/// What a retraining was expected to give.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    /// Name of the stream.
    pub stream: String,
    /// The number that the trace gives the window.
    pub window: u32,
    /// Name of the configuration.
    pub config: String,
    /// Expected accuracy of the retrained student; may lie outside 0..=1.
    pub accuracy: Estimate,
    /// What the trace says it was.
    pub truth: f64,
}

/// Predicts every retraining of a trace, stream by stream, window by window.
#[must_use]
pub fn predict(trace: &Trace) -> Vec<Predicted> {
    let outcomes: Vec<Vec<Vec<Recorded>>> = recorded(trace);
    let mut predicted = Vec::new();
    for (stream, own) in outcomes.iter().enumerate() {
        let others = outcomes.iter().enumerate().filter(|(i, _)| *i != stream);
        let others: Vec<&Recorded> = others
            .flat_map(|(_, windows)| windows.iter().flatten())
            .collect();
        let kernel = fitted(&Kernel::default(), &observations(spaced(&others, FIT_MAX)));
        let mut known = observations(spaced(&others, OTHERS_MAX));
        for (window, now) in own.iter().enumerate() {
            let points: Vec<Point> = now.iter().map(|one| one.seen.point.clone()).collect();
            let Some(posterior) = Posterior::new(&kernel, &known) else {
                continue;
            };
            let joint = posterior.joint(&points);
            for (index, one) in now.iter().enumerate() {
                let gain = joint.gain(index);
                let start = one.seen.point.start_accuracy;
                predicted.push(Predicted {
                    stream: one.seen.point.stream.clone(),
                    window: trace.window_number(window),
                    config: one.config.clone(),
                    accuracy: Estimate {
                        mean: start + gain.mean,
                        sd: gain.sd,
                    },
                    truth: start + one.seen.gain,
                });
            }
            known.extend(observations(now.iter()));
        }
    }
    predicted
}

/// One line of a trace.
struct Recorded {
    config: String,
    seen: Observation,
}

/// By stream and window.
fn recorded(trace: &Trace) -> Vec<Vec<Vec<Recorded>>> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut place = |option: &RecordedOption| {
        let index = names.len();
        let nameless = *names.entry(option.config.clone()).or_insert(index);
        option
            .retraining
            .as_ref()
            .map_or_else(|| Features::nameless(nameless), Features::from)
    };
    let mut all = Vec::new();
    for stream in 0..trace.streams() {
        let mut windows = Vec::new();
        for index in 0..trace.windows() {
            let (name, window) = trace.window(stream, index);
            let of = |option: &RecordedOption| Recorded {
                config: option.config.clone(),
                seen: Observation {
                    point: Point {
                        stream: name.clone(),
                        occasion: index as u64,
                        config: place(option),
                        start_accuracy: window.start_accuracy,
                    },
                    gain: option.end_accuracy - window.start_accuracy,
                    variance: 0.0,
                },
            };
            windows.push(window.options.iter().map(of).collect());
        }
        all.push(windows);
    }
    all
}

/// At most `count` of them, evenly spaced.
fn spaced<'a>(all: &'a [&Recorded], count: usize) -> impl Iterator<Item = &'a Recorded> {
    let kept = all.len().min(count);
    (0..kept).map(move |i| all[i * all.len() / kept])
}

fn observations<'a>(recorded: impl Iterator<Item = &'a Recorded>) -> Vec<Observation> {
    recorded.map(|one| one.seen.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "stream,window,start_accuracy,config,gpu_seconds,end_accuracy\n";

    fn trace(lines: &str) -> Trace {
        Trace::from_csv(format!("{HEADER}{lines}").as_bytes()).unwrap()
    }

    #[test]
    fn a_stream_is_predicted_from_the_others_and_its_past() {
        let mut lines = String::new();
        for stream in 0..6 {
            for window in 1..=3 {
                let good = 0.75 + 0.02 * f64::from(stream);
                lines += &format!("s{stream},{window},0.6,good,1,{good}\n");
                lines += &format!("s{stream},{window},0.6,bad,1,0.55\n");
            }
        }
        for window in 1..=3 {
            lines += &format!("odd,{window},0.6,good,1,0.6\nodd,{window},0.6,bad,1,0.5\n");
        }
        let predicted = predict(&trace(&lines));
        assert_eq!(predicted.len(), 42);
        let of = |window: u32, config: &str| {
            let mut all = predicted.iter();
            let wanted = |p: &&Predicted| {
                (p.stream.as_str(), p.window, p.config.as_str()) == ("odd", window, config)
            };
            all.find(wanted).unwrap()
        };
        // Beforehand like the others, then like itself.
        assert!(of(1, "good").accuracy.mean > 0.74);
        assert!(of(3, "good").accuracy.mean < 0.66);
        assert!(of(3, "bad").accuracy.mean < of(3, "good").accuracy.mean);
        assert!(of(3, "good").accuracy.sd < of(1, "good").accuracy.sd);
    }

    #[test]
    fn the_future_and_the_truth_are_not_looked_at() {
        let lines = |last: f64| {
            format!("a,1,0.5,x,1,0.7\na,2,0.6,x,1,{last}\nb,1,0.5,x,1,0.6\nb,2,0.6,x,1,0.7\n")
        };
        let [low, high] = [0.1, 0.9].map(|last| predict(&trace(&lines(last))));
        for (low, high) in low.iter().zip(&high).filter(|(low, _)| low.stream == "a") {
            assert_eq!(low.accuracy, high.accuracy);
        }
    }

    #[test]
    fn a_single_stream_begins_with_the_prior() {
        let predicted = predict(&trace("a,1,0.6,x,1,0.9\n"));
        assert!((predicted[0].accuracy.mean - 0.7).abs() < 1e-9);
    }
}
