//! The one place where settled frames fan out: a frame's result is made once, and handed to every outlet
//! that wants its stream. An outlet is a bounded queue that loses its oldest; who empties it is no matter
//! here, and never holds inference up.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::queue::{Receiver, Sender, queue, queue_counting};
use super::result::FrameResult;
use super::tally::Tally;
use crate::stream::Settled;

/// Which streams somebody wants the results of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Streams {
    /// Those of all.
    #[default]
    All,
    /// Those of these names, which may yet come.
    Named(BTreeSet<String>),
}

impl From<&str> for Streams {
    fn from(name: &str) -> Self {
        Self::Named(BTreeSet::from([name.to_owned()]))
    }
}

impl Streams {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

/// What comes out of an outlet.
pub(crate) type ResultQueue = Receiver<Arc<FrameResult>>;

#[derive(Debug)]
struct Outlet {
    streams: Streams,
    queue: Sender<Arc<FrameResult>>,
}

/// All outlets of a node; they end with it, whoever has some of them still.
#[derive(Debug, Default)]
pub(crate) struct Outlets {
    all: Vec<Arc<Outlet>>,
    /// Of those that a configuration names.
    tallies: Vec<Arc<Tally>>,
}

/// The outlets of one stream.
#[derive(Debug)]
pub struct StreamOutlets {
    stream: Arc<str>,
    classes: Arc<[Arc<str>]>,
    outlets: Vec<Arc<Outlet>>,
}

impl Outlets {
    /// Another outlet, in which `room` results of these streams may wait.
    pub(crate) fn add(&mut self, streams: Streams, room: usize) -> ResultQueue {
        let (queue, results) = queue(room);
        self.all.push(Arc::new(Outlet { streams, queue }));
        results
    }

    /// The same, for an output of that name, which counts in the tally.
    pub(super) fn add_output(
        &mut self,
        name: &str,
        streams: Streams,
        room: usize,
    ) -> (ResultQueue, Arc<Tally>) {
        let tally = Tally::new(name);
        let (queue, results) = queue_counting(room, tally.lost_counter());
        self.all.push(Arc::new(Outlet { streams, queue }));
        self.tallies.push(Arc::clone(&tally));
        (results, tally)
    }

    /// How the outputs are doing that a configuration names.
    pub(crate) fn tallies(&self) -> Vec<Arc<Tally>> {
        self.tallies.clone()
    }

    /// Those that want a stream of this name and these classes.
    pub(crate) fn of_stream(&self, name: &str, classes: &[String]) -> StreamOutlets {
        let wanting = self.all.iter().filter(|outlet| outlet.streams.has(name));
        StreamOutlets {
            stream: name.into(),
            classes: classes.iter().map(|class| class.as_str().into()).collect(),
            outlets: wanting.cloned().collect(),
        }
    }

    /// Ends all: whoever empties them gets what waits, and then learns that it was all.
    pub(crate) fn close(&self) {
        for outlet in &self.all {
            outlet.queue.close();
        }
    }
}

impl Drop for Outlets {
    fn drop(&mut self) {
        self.close();
    }
}

impl StreamOutlets {
    /// Hands the result of a settled frame out; never waits.
    pub(crate) fn send(&self, settled: &Settled) {
        let mut wanting = self.outlets.iter().filter(|one| !one.queue.is_left());
        let Some(first) = wanting.next() else {
            return;
        };
        let result = Arc::new(FrameResult::of(&self.stream, &self.classes, settled));
        for outlet in wanting {
            outlet.queue.send(Arc::clone(&result));
        }
        first.queue.send(result);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ekya_models::{BBox, Image, Object};

    use super::*;
    use crate::source::Frame;
    use crate::stream::{Answer, Fate};

    fn settled(index: u64, class: usize) -> Settled {
        let bbox = BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        };
        Settled {
            frame: Frame {
                index,
                at: Duration::ZERO,
                image: Arc::new(Image::new(1, 1, vec![0; 3]).unwrap()),
                regions: vec![],
                truth: None,
            },
            at: 0.5,
            fate: Fate::Skipped,
            answer: Some(Arc::new(Answer {
                objects: vec![Object {
                    class,
                    score: 1.0,
                    bbox,
                }],
                student: 2,
                latency: Duration::from_millis(5),
            })),
        }
    }

    #[test]
    fn a_result_is_made_once_and_goes_to_whoever_wants_its_stream() {
        let mut outlets = Outlets::default();
        let mut all = outlets.add(Streams::All, 8);
        let mut gate = outlets.add("gate".into(), 8);
        let classes = ["car".to_owned(), "bus".to_owned()];
        outlets.of_stream("gate", &classes).send(&settled(7, 1));
        outlets.of_stream("yard", &classes).send(&settled(9, 0));
        outlets.close();
        let (first, second) = (all.recv().unwrap(), gate.recv().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((&*first.stream, first.frame), ("gate", 7));
        assert_eq!(&*first.objects[0].name, "bus");
        // Inherited: which student, but no latency of its own.
        assert_eq!((first.student, first.latency), (Some(2), None));
        assert_eq!(all.recv().unwrap().frame, 9);
        assert!(all.recv().is_none() && gate.recv().is_none());
    }

    #[test]
    fn one_that_is_slow_costs_the_others_nothing() {
        let mut outlets = Outlets::default();
        let slow = outlets.add(Streams::All, 2);
        let mut fast = outlets.add(Streams::All, 100);
        let stream = outlets.of_stream("gate", &["car".to_owned()]);
        (0..50).for_each(|index| stream.send(&settled(index, 0)));
        outlets.close();
        assert_eq!(slow.lost(), 48);
        let frames: Vec<u64> = std::iter::from_fn(|| fast.recv())
            .map(|r| r.frame)
            .collect();
        assert_eq!(frames, (0..50).collect::<Vec<_>>());
    }
}
