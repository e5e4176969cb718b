//! What a broker is told: a state machine that takes results and gives messages, without I/O and clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::sights::{Event, Sights};
use super::topics::Topics;
use crate::sink::FrameResult;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Whether the broker tells it those who come later.
    pub(super) retain: bool,
}

/// What is known of the streams.
#[derive(Debug)]
pub(super) struct Report {
    topics: Topics,
    /// Whether every result is told, too.
    results: bool,
    streams: BTreeMap<Arc<str>, StreamReport>,
}

#[derive(Debug, Default)]
struct StreamReport {
    /// Those of the newest result.
    classes: Arc<[Arc<str>]>,
    /// How many objects of each class there are, and how many of all.
    counts: Vec<Count>,
    sights: Sights,
    /// Since the last statistics.
    frames: u64,
    answered: u64,
}

/// A retained message.
#[derive(Debug)]
struct Count {
    topic: String,
    /// The newest number.
    told: Option<usize>,
}

impl Report {
    pub(super) fn new(topics: Topics, results: bool) -> Self {
        Self {
            topics,
            results,
            streams: BTreeMap::new(),
        }
    }

    /// What a broker has to know at first: that the node is there, and what the streams see.
    pub(super) fn greeting(&self) -> Vec<Message> {
        let counts = self.streams.values().flat_map(|stream| &stream.counts);
        let counts = counts.filter_map(|count| Some(count_message(&count.topic, count.told?)));
        std::iter::once(self.available("online"))
            .chain(counts)
            .collect()
    }

    /// What a broker has to know at the end: that nothing is seen any more, and that the node goes.
    pub(super) fn farewell(&mut self, known_at: f64) -> Vec<Message> {
        let mut messages = Vec::new();
        for stream in self.streams.values_mut() {
            let ended = stream.sights.end(known_at);
            messages.extend(ended.iter().map(|event| event_message(&self.topics, event)));
            messages.extend(stream.nothing());
        }
        messages.push(self.available("offline"));
        messages
    }

    /// Tells whether the node is there; `"offline"` also by the broker itself, when it loses the node.
    pub(super) fn available(&self, state: &str) -> Message {
        Message {
            topic: self.topics.available(),
            payload: state.as_bytes().to_vec(),
            retain: true,
        }
    }

    /// Takes in a result.
    pub(super) fn handle(&mut self, result: &FrameResult) -> Vec<Message> {
        let (topics, mut messages) = (&self.topics, Vec::new());
        if self.results {
            let mut payload = Vec::new();
            result.write_line(&mut payload);
            payload.pop();
            messages.push(Message {
                topic: topics.results(&result.stream),
                payload,
                retain: false,
            });
        }
        let stream = self.streams.entry(Arc::clone(&result.stream)).or_default();
        stream.frames += 1;
        if !result.is_answered() {
            return messages;
        }
        stream.answered += 1;
        messages.extend(stream.counts(topics, result));
        let events = stream.sights.handle(result);
        messages.extend(events.iter().map(|event| event_message(topics, event)));
        messages
    }

    /// Statistics of the last `seconds`, of a node that has run for `uptime` seconds.
    pub(super) fn stats(&mut self, seconds: f64, uptime: f64) -> Message {
        let camera = |stream: &mut StreamReport| {
            let frames = std::mem::take(&mut stream.frames) as f64;
            let answered = std::mem::take(&mut stream.answered) as f64;
            CameraStats {
                camera_fps: frames / seconds,
                process_fps: answered / seconds,
                detection_fps: answered / seconds,
                skipped_fps: (frames - answered) / seconds,
            }
        };
        let streams = self.streams.iter_mut();
        let cameras: BTreeMap<&str, _> =
            streams.map(|(name, one)| (&**name, camera(one))).collect();
        let detection_fps: f64 = cameras.values().map(|one| one.detection_fps).sum();
        let stats = serde_json::json!({
            "cameras": cameras,
            "detection_fps": detection_fps,
            "service": { "uptime": uptime, "version": env!("CARGO_PKG_VERSION") },
        });
        Message {
            topic: self.topics.stats(),
            payload: stats.to_string().into_bytes(),
            retain: false,
        }
    }
}

/// Names and meanings are Frigate's. A frame that inherits an answer counts as skipped.
#[derive(Debug, Serialize)]
struct CameraStats {
    camera_fps: f64,
    process_fps: f64,
    detection_fps: f64,
    skipped_fps: f64,
}

impl StreamReport {
    /// The numbers that are others than before.
    fn counts(&mut self, topics: &Topics, result: &FrameResult) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.counts.is_empty() || self.classes != result.classes {
            // The stream has begun, or begun anew with other classes.
            messages.extend(self.nothing());
            self.classes = Arc::clone(&result.classes);
            let classes = self.classes.iter();
            let of_classes = classes.map(|class| topics.count(&result.stream, class));
            let topics = of_classes.chain([topics.all(&result.stream)]);
            self.counts = topics.map(|topic| Count { topic, told: None }).collect();
        }
        let mut numbers = vec![0; self.classes.len()];
        for object in &result.objects {
            if let Some(number) = numbers.get_mut(object.class) {
                *number += 1;
            }
        }
        numbers.push(result.objects.len());
        for (count, number) in self.counts.iter_mut().zip(numbers) {
            if count.told.replace(number) != Some(number) {
                messages.push(count_message(&count.topic, number));
            }
        }
        messages
    }

    /// That there is nothing of any class.
    fn nothing(&self) -> impl Iterator<Item = Message> {
        self.counts
            .iter()
            .map(|count| count_message(&count.topic, 0))
    }
}

fn count_message(topic: &str, count: usize) -> Message {
    Message {
        topic: topic.to_owned(),
        payload: count.to_string().into_bytes(),
        retain: true,
    }
}

fn event_message(topics: &Topics, event: &Event) -> Message {
    Message {
        topic: topics.events(),
        // It has nothing in it that JSON cannot hold.
        payload: serde_json::to_vec(event).unwrap_or_default(),
        retain: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::result::tests::result;
    use crate::stream::Fate;

    fn texts(messages: Vec<Message>) -> Vec<(String, String)> {
        let text = |message: Message| {
            let payload = String::from_utf8(message.payload).unwrap();
            (message.topic, payload)
        };
        messages.into_iter().map(text).collect()
    }

    /// Those that are retained, without events.
    fn retained(mut messages: Vec<Message>) -> Vec<(String, String)> {
        messages.retain(|message| message.retain);
        texts(messages)
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(topic, text): &(&str, &str)| ((*topic).to_owned(), (*text).to_owned());
        expected.iter().map(pair).collect()
    }

    #[test]
    fn numbers_are_told_when_they_change_and_to_a_broker_that_comes_back() {
        let mut report = Report::new(Topics::new("e"), false);
        assert_eq!(
            retained(report.greeting()),
            pairs(&[("e/available", "online")])
        );
        let first = report.handle(&result(0, &["car"]));
        assert_eq!(
            retained(first),
            pairs(&[("e/gate/car", "1"), ("e/gate/all", "1")])
        );
        assert!(report.handle(&result(1, &["car"])).is_empty());
        let mut none = result(2, &["car"]);
        none.objects.clear();
        let second = report.handle(&none);
        assert_eq!(
            retained(second),
            pairs(&[("e/gate/car", "0"), ("e/gate/all", "0")])
        );
        report.handle(&result(3, &["car"]));
        let known = [
            ("e/available", "online"),
            ("e/gate/car", "1"),
            ("e/gate/all", "1"),
        ];
        assert_eq!(retained(report.greeting()), pairs(&known));
        let end = [
            ("e/gate/car", "0"),
            ("e/gate/all", "0"),
            ("e/available", "offline"),
        ];
        assert_eq!(retained(report.farewell(2000.0)), pairs(&end));
        // Begun anew with other classes: of those before there is nothing.
        let anew = retained(report.handle(&result(4, &["bus"])));
        let expected = [
            ("e/gate/car", "0"),
            ("e/gate/all", "0"),
            ("e/gate/bus", "1"),
            ("e/gate/all", "1"),
        ];
        assert_eq!(anew, pairs(&expected));
    }

    #[test]
    fn results_are_told_where_that_is_wanted() {
        let mut report = Report::new(Topics::new("e"), true);
        let mut skipped = result(4, &["car"]);
        skipped.fate = Fate::Skipped;
        let told = texts(report.handle(&skipped));
        assert_eq!(told.len(), 1, "an inherited answer is no news: {told:?}");
        assert_eq!(told[0].0, "e/gate/results");
        let told: serde_json::Value = serde_json::from_str(&told[0].1).unwrap();
        assert_eq!(told, serde_json::to_value(&skipped).unwrap());
    }

    #[test]
    fn statistics_are_those_since_the_last() {
        let mut report = Report::new(Topics::new("e"), false);
        let mut skipped = result(1, &[]);
        skipped.fate = Fate::Skipped;
        report.handle(&result(0, &[]));
        report.handle(&skipped);
        let fps = |message: Message| {
            assert_eq!(message.topic, "e/stats");
            let stats: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            let gate = stats["cameras"]["gate"].clone();
            let fps = |name: &str| gate[name].as_f64().unwrap();
            (fps("camera_fps"), fps("detection_fps"), fps("skipped_fps"))
        };
        assert_eq!(fps(report.stats(2.0, 60.0)), (1.0, 0.5, 0.5));
        assert_eq!(fps(report.stats(2.0, 62.0)), (0.0, 0.0, 0.0));
    }
}
