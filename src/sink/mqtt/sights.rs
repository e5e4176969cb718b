//! When a camera sees something of a class, and when it does not any more: the *events* of Frigate, as far
//! as they can be told without following single objects. An event begins with the first frame that has an
//! object of the class, and ends when none was seen for some seconds. No I/O and no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::sink::{DetectedObject, FrameResult};

/// Seconds without an object of the class after which an event is over: students miss objects now and
/// then.
const OVER_AFTER_SECONDS: f64 = 5.0;

/// What is told of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    kind: Kind,
    before: Sight,
    after: Sight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    New,
    /// More objects than ever before are seen.
    Update,
    End,
}

/// An event as it is at some time. Names and meanings of the fields are Frigate's.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Sight {
    id: String,
    camera: Arc<str>,
    label: Arc<str>,
    /// The last frame with such an object, in Unix seconds.
    frame_time: f64,
    start_time: f64,
    end_time: Option<f64>,
    /// Of the object that is surest.
    score: f32,
    top_score: f32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    area: f32,
    false_positive: bool,
    /// Objects of the class at the same time, at most.
    count: usize,
}

/// An event that goes on.
#[derive(Debug)]
struct Open {
    told: Sight,
    now: Sight,
    /// The last frame with such an object, in seconds from the start of the run.
    seen: f64,
}

/// The events of one stream that go on.
#[derive(Debug, Default)]
pub(super) struct Sights(BTreeMap<usize, Open>);

impl Sights {
    /// Takes in what was answered about a frame.
    pub(super) fn handle(&mut self, result: &FrameResult) -> Vec<Event> {
        let mut told = self.end_those_over(result.time, result.known_at);
        for (class, (count, best)) in by_class(&result.objects) {
            let Some(open) = self.0.get_mut(&class) else {
                let open = Open::new(result, count, best);
                told.push(open.event(Kind::New));
                self.0.insert(class, open);
                continue;
            };
            open.seen = result.time;
            open.now.see(result.known_at, best);
            if count > open.now.count {
                open.now.count = count;
                told.push(open.event(Kind::Update));
                open.told = open.now.clone();
            }
        }
        told
    }

    /// Ends all events.
    pub(super) fn end(&mut self, known_at: f64) -> Vec<Event> {
        self.end_those_over(f64::INFINITY, known_at)
    }

    fn end_those_over(&mut self, time: f64, known_at: f64) -> Vec<Event> {
        let over = self
            .0
            .extract_if(.., |_, open| time - open.seen >= OVER_AFTER_SECONDS);
        let end = |mut open: Open| {
            open.now.end_time = Some(known_at);
            open.event(Kind::End)
        };
        over.map(|(_, open)| end(open)).collect()
    }
}

impl Open {
    fn new(result: &FrameResult, count: usize, best: &DetectedObject) -> Self {
        let (start, camera) = (result.known_at, &result.stream);
        let mut now = Sight {
            id: format!("{start:.6}-{camera}-{}", best.name),
            camera: Arc::clone(camera),
            label: Arc::clone(&best.name),
            frame_time: start,
            start_time: start,
            end_time: None,
            score: 0.0,
            top_score: 0.0,
            bbox: [0.0; 4],
            area: 0.0,
            false_positive: false,
            count,
        };
        now.see(start, best);
        Self {
            told: now.clone(),
            now,
            seen: result.time,
        }
    }

    fn event(&self, kind: Kind) -> Event {
        Event {
            kind,
            before: self.told.clone(),
            after: self.now.clone(),
        }
    }
}

impl Sight {
    fn see(&mut self, known_at: f64, best: &DetectedObject) {
        let bbox = best.bbox;
        self.frame_time = known_at;
        self.score = best.score;
        self.top_score = self.top_score.max(best.score);
        self.bbox = [bbox.x1, bbox.y1, bbox.x2, bbox.y2];
        self.area = (bbox.x2 - bbox.x1) * (bbox.y2 - bbox.y1);
    }
}

/// How many objects of each class there are, and the surest one.
fn by_class(objects: &[DetectedObject]) -> BTreeMap<usize, (usize, &DetectedObject)> {
    let mut classes = BTreeMap::new();
    for object in objects {
        let (count, best) = classes.entry(object.class).or_insert((0, object));
        *count += 1;
        if object.score > best.score {
            *best = object;
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::result::tests::result;

    /// What is told of a frame, in short.
    fn told(events: Vec<Event>) -> Vec<(Kind, String, usize)> {
        let short = |event: Event| (event.kind, event.after.label.to_string(), event.after.count);
        events.into_iter().map(short).collect()
    }

    #[test]
    fn an_event_lasts_while_something_of_the_class_is_seen() {
        let mut sights = Sights::default();
        let car = |kind, count| vec![(kind, "car".to_owned(), count)];
        // Ten frames a second.
        let mut handle = |frame, objects: &[&str]| told(sights.handle(&result(frame, objects)));
        assert_eq!(handle(0, &[]), []);
        assert_eq!(handle(1, &["car"]), car(Kind::New, 1));
        assert_eq!(handle(2, &["car"]), []);
        assert_eq!(
            handle(3, &["car", "bus"]),
            [(Kind::New, "bus".to_owned(), 1)]
        );
        // Missed once, or for less than five seconds: the same event.
        assert_eq!(handle(50, &["car", "bus"]), []);
        assert_eq!(handle(99, &[]), []);
        let ended = handle(100, &["bus"]);
        let over = |name: &str| (Kind::End, name.to_owned(), 1);
        // One that is seen again after so long is another one.
        assert_eq!(ended[..2], [over("car"), over("bus")]);
        assert_eq!(ended[2].0, Kind::New);
    }

    #[test]
    fn the_most_objects_at_a_time_are_told() {
        let mut sights = Sights::default();
        let mut two = result(1, &["car", "car"]);
        two.objects[1].class = 0;
        two.objects[1].score = 0.75;
        sights.handle(&result(0, &["car"]));
        let told = sights.handle(&two);
        assert_eq!(told.len(), 1);
        let (before, after) = (&told[0].before, &told[0].after);
        assert_eq!((before.count, after.count), (1, 2));
        assert_eq!((before.top_score, after.top_score), (0.5, 0.75));
        assert_eq!(before.id, after.id);
        assert!(sights.handle(&two).is_empty() && sights.handle(&result(3, &["car"])).is_empty());
        let end = sights.end(2000.0);
        assert_eq!(
            (end[0].kind, end[0].after.end_time),
            (Kind::End, Some(2000.0))
        );
        assert_eq!(end[0].after.top_score, 0.75);
    }

    /// Automations for Frigate read these.
    #[test]
    fn an_event_is_written_as_frigate_does() {
        let told = Sights::default().handle(&result(0, &["car"]));
        let json = serde_json::to_value(&told[0]).unwrap();
        assert_eq!(json["type"], "new");
        let after = &json["after"];
        assert_eq!(after["camera"], "gate");
        assert_eq!(after["label"], "car");
        assert_eq!(after["box"], serde_json::json!([1.0, 2.0, 4.0, 8.0]));
        assert_eq!(after["area"], 18.0);
        assert_eq!(after["end_time"], serde_json::Value::Null);
        assert_eq!(after["id"], "1000.000000-gate-car");
    }
}
