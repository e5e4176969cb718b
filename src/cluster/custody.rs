//! The streams of a node: hands them over, takes them over, and has another node keep a copy of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ekya_actors::{Ctx, Handler, Message, Reply};

use super::actor::ClusterActor;
use super::assignments::{Assignment, Assignments};
use super::copies::{self, Copied, Copies};
use super::handover::hand_over;
use super::homes::{Roll, admits, keeper};
use super::messages::{Manage, Offer, Purpose, Refusal, Rolled};
use super::tries::{Activity, Tries};
use crate::schedule::{Event, Found};

/// How often whoever leads hears what a node runs and keeps, where nothing has changed.
const ROLL_EVERY: Duration = Duration::from_secs(5);
/// Frames are copied so often; a new checkpoint at once.
const COPY_EVERY: Duration = Duration::from_secs(60);
/// Streams that come at a time; more wait until their nodes offer them again.
pub(super) const COMING_MAX: usize = 4;

/// What a node knows of its streams and copies.
pub(super) struct Custody {
    pub(super) assignments: Assignments,
    pub(super) copies: Copies,
    state: PathBuf,
    /// Streams that are on their way from or to here.
    pub(super) busy: BTreeSet<String>,
    /// What was copied to another node, by stream.
    copied: BTreeMap<String, CopiedTo>,
    /// What could not be done.
    tries: Tries,
    said: Option<(Roll, Instant)>,
}

/// What another node keeps.
struct CopiedTo {
    node: String,
    version: [u64; 2],
    epoch: u64,
    at: Instant,
}

impl Custody {
    pub(super) fn new(state: PathBuf, assignments: Assignments) -> Self {
        Self {
            assignments,
            copies: Copies::read(&state),
            state,
            busy: BTreeSet::new(),
            copied: BTreeMap::new(),
            tries: Tries::default(),
            said: None,
        }
    }

    fn roll(&self) -> Roll {
        Roll {
            runs: self.assignments.running(),
            copies: self.copies.entries(),
            ended: self.assignments.ended(),
        }
    }

    /// Whether something may be begun with a stream now.
    pub(super) fn is_free(&self, stream: &str, activity: Activity) -> bool {
        !self.busy.contains(stream) && self.tries.is_due(stream, activity, Instant::now())
    }

    /// A stream, which runs elsewhere, too, is about to be given up here; whether that is to be done in
    /// any case now, with or without what it has learnt.
    pub(super) fn yields_in_any_case(&mut self, stream: &str) -> bool {
        self.tries.yields_in_any_case(stream, Instant::now())
    }

    /// Counts another move of a stream that runs here: what is copied from here on is later than what the
    /// node has had copied that ran it until that epoch.
    pub(super) fn be_later_than(&mut self, stream: &str, epoch: u64) {
        if let Some(known) = self
            .assignments
            .get(stream)
            .filter(|known| known.epoch <= epoch)
        {
            let epoch = epoch + 1;
            let later = Assignment {
                epoch,
                ..known.clone()
            };
            self.set(stream, later);
        }
    }

    /// Takes down where a stream runs from now on, in words; what was copied of it was so before.
    fn assign(&mut self, stream: &str, assignment: Assignment, now: &str) {
        let (epoch, home) = (assignment.epoch, &assignment.home);
        tracing::info!(stream, epoch, home, "{now}");
        self.copied.remove(stream);
        self.set(stream, assignment);
    }

    fn set(&mut self, stream: &str, assignment: Assignment) {
        if let Err(error) = self.assignments.set(stream, assignment) {
            tracing::error!(%error, stream, "after a start this node may run what it should not");
        }
    }
}

/// What has come of something that took its time.
pub(super) struct Settled {
    stream: String,
    activity: Activity,
    result: Result<Change, Refusal>,
    /// Whoever waits to hear.
    waits: Option<Waiting>,
}

/// Whoever waits to hear what has come of something.
pub(super) enum Waiting {
    Node(Reply<Offer>),
    Person(Reply<Manage>),
}

impl Waiting {
    pub(super) fn hear(self, answer: Result<(), Refusal>) {
        match self {
            Self::Node(reply) => reply.send(answer),
            Self::Person(reply) => reply.send(answer.map_err(|why| why.to_string())),
        }
    }
}

/// What is different now.
pub(super) enum Change {
    /// The node runs the stream.
    Runs(Assignment),
    /// Another node runs it.
    Gone(Assignment),
    /// This node keeps a copy of it.
    Keeps(Copied),
    /// It has come back, and with it what was learnt elsewhere.
    Found(Box<Found>),
    /// Another node keeps a copy of it.
    CopiedTo(String, [u64; 2], u64),
    /// Nothing.
    Nothing,
}

impl Message for Settled {
    type Reply = ();
}

impl ClusterActor {
    /// Runs what the node ran last, and its configuration does not name.
    pub(super) fn take_up(&mut self, configured: &[String], ctx: &mut Ctx<Self>) {
        let given: Vec<_> = (self.custody.assignments.runs())
            .filter(|(stream, _)| !configured.contains(stream))
            .map(|(stream, assignment)| (stream.clone(), assignment.clone()))
            .collect();
        for (stream, assignment) in given {
            let means = self.means();
            self.begin(&stream, Activity::Move, None, ctx, move |_| async move {
                means.run(&assignment).await?;
                Ok(Change::Runs(assignment))
            });
        }
    }

    /// Says what the node runs and keeps, and has copied what is new.
    pub(super) fn look_after_streams(&mut self, others: &[String], ctx: &mut Ctx<Self>) {
        self.call_the_roll(ctx);
        let streams: Vec<_> = (self.custody.assignments.runs())
            .map(|(stream, assignment)| (stream.clone(), assignment.clone()))
            .collect();
        for (stream, assignment) in streams {
            if assignment.config.stay || !self.custody.is_free(&stream, Activity::Copy) {
                continue;
            }
            let nodes = &assignment.config.nodes;
            let others = others.iter().map(String::as_str);
            let others = others.filter(|name| admits(nodes, name));
            if let Some(to) = keeper(&stream, others) {
                self.copy_if_new(&stream, &assignment, to, ctx);
            }
        }
    }

    fn call_the_roll(&mut self, ctx: &mut Ctx<Self>) {
        let Some(leader) = self.leader().map(str::to_owned) else {
            return;
        };
        let roll = self.custody.roll();
        let is_said = (self.custody.said.as_ref())
            .is_some_and(|(said, at)| *said == roll && at.elapsed() < ROLL_EVERY);
        if !is_said {
            self.custody.said = Some((roll.clone(), Instant::now()));
            self.tell(&leader, Rolled(roll), ctx);
        }
    }

    /// Another one leads, who has heard nothing yet.
    pub(super) fn say_the_roll_again(&mut self) {
        self.custody.said = None;
        self.custody.tries.forget_yields();
    }

    fn copy_if_new(
        &mut self,
        stream: &str,
        assignment: &Assignment,
        to: &str,
        ctx: &mut Ctx<Self>,
    ) {
        let version = copies::version(&self.custody.state, stream);
        let is_new = self.custody.copied.get(stream).is_none_or(|copied| {
            let other_checkpoint = copied.version[0] != version[0];
            let other_frames = copied.version[1] != version[1] && copied.at.elapsed() > COPY_EVERY;
            let other_place = copied.node != to || copied.epoch != assignment.epoch;
            other_place || other_checkpoint || other_frames
        });
        if !is_new {
            return;
        }
        let (means, to, assignment) = (self.means(), to.to_owned(), assignment.clone());
        self.begin(
            stream,
            Activity::Copy,
            None,
            ctx,
            move |stream| async move {
                let epoch = assignment.epoch;
                hand_over(&means, &stream, &to, assignment, Purpose::Keep).await?;
                Ok(Change::CopiedTo(to, version, epoch))
            },
        );
    }

    /// Begins something that takes its time; the actor hears of its end.
    pub(super) fn begin<F>(
        &mut self,
        stream: &str,
        activity: Activity,
        waits: Option<Waiting>,
        ctx: &mut Ctx<Self>,
        work: impl FnOnce(String) -> F,
    ) where
        F: Future<Output = Result<Change, Refusal>> + Send + 'static,
    {
        let work = work(stream.to_owned());
        let name = stream.to_owned();
        let begun = ctx.run::<Settled>(async move {
            Settled {
                result: work.await,
                stream: name,
                activity,
                waits,
            }
        });
        if begun.is_ok() {
            self.custody.busy.insert(stream.to_owned());
        }
    }
}

impl Handler<Settled> for ClusterActor {
    fn handle(&mut self, settled: Settled, ctx: &mut Ctx<Self>) {
        let Settled {
            stream,
            activity,
            result,
            waits,
        } = settled;
        self.custody.busy.remove(&stream);
        let answer = match result {
            Ok(change) => {
                self.custody.tries.succeeded(&stream, activity);
                self.settle(&stream, change);
                Ok(())
            }
            Err(why) => {
                let (now, chance) = (Instant::now(), rand::random());
                let what = (&*stream, activity);
                let pause = self.custody.tries.failed(what, &why, now, chance);
                match &why {
                    Refusal::Busy => tracing::debug!(stream, ?activity, ?pause, "busy there"),
                    Refusal::Failed(why) => {
                        tracing::warn!(stream, why, "tried again in {} s", pause.as_secs());
                    }
                }
                Err(why)
            }
        };
        if let Some(waits) = waits {
            waits.hear(answer);
        }
        self.call_the_roll(ctx);
    }
}

impl ClusterActor {
    fn settle(&mut self, stream: &str, change: Change) {
        let custody = &mut self.custody;
        match change {
            Change::Runs(assignment) => {
                custody.copies.remove(stream);
                custody.assign(stream, assignment, "runs here");
            }
            Change::Gone(assignment) => {
                custody.tries.yielded(stream);
                custody.assign(stream, assignment, "runs elsewhere");
            }
            Change::Keeps(copied) => custody.copies.add(stream, copied),
            Change::CopiedTo(node, version, epoch) => {
                let at = Instant::now();
                let copied = CopiedTo {
                    node,
                    version,
                    epoch,
                    at,
                };
                custody.copied.insert(stream.to_owned(), copied);
            }
            Change::Found(found) => self.tell_scheduler(Event::Found(found)),
            Change::Nothing => {}
        }
    }
}
