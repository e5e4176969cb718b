//! The streams of a node: hands them over, takes them over, and has another node keep a copy of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ekya_actors::{Ctx, Handler, Message, Receive, Reply};

use super::actor::ClusterActor;
use super::assignments::{Assignment, Assignments};
use super::copies::{self, Copied, Copies};
use super::homes::{Order, Roll, keeper};
use super::means::Means;
use super::messages::{Act, Manage, Offer, Purpose, Rolled};
use crate::config::StreamConfig;

/// How often whoever leads hears what a node runs and keeps, where nothing has changed.
const ROLL_EVERY: Duration = Duration::from_secs(5);
/// Frames are copied so often; a new checkpoint at once.
const COPY_EVERY: Duration = Duration::from_secs(60);
/// After a failure it is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Streams that come at a time; more wait until their nodes offer them again.
const COMING_MAX: usize = 4;

/// What a node knows of its streams and copies.
pub(super) struct Custody {
    pub(super) assignments: Assignments,
    pub(super) copies: Copies,
    state: PathBuf,
    /// Streams that are on their way from or to here.
    busy: BTreeSet<String>,
    /// What was copied to another node, by stream.
    copied: BTreeMap<String, CopiedTo>,
    /// What could not be done is tried again then.
    not_before: BTreeMap<String, Instant>,
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
            not_before: BTreeMap::new(),
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
    fn is_free(&self, stream: &str) -> bool {
        let due = self
            .not_before
            .get(stream)
            .is_none_or(|at| *at <= Instant::now());
        due && !self.busy.contains(stream)
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
    result: Result<Change, String>,
    /// Whoever waits to hear.
    waits: Option<Waiting>,
}

/// Whoever waits to hear what has come of something.
enum Waiting {
    Node(Reply<Offer>),
    Person(Reply<Manage>),
}

impl Waiting {
    fn hear(self, answer: Result<(), String>) {
        match self {
            Self::Node(reply) => reply.send(answer),
            Self::Person(reply) => reply.send(answer),
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
            self.begin(&stream, None, ctx, move |_| async move {
                means.run(assignment.config.clone()).await?;
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
            if assignment.config.stay || !self.custody.is_free(&stream) {
                continue;
            }
            if let Some(to) = keeper(&stream, others.iter().map(String::as_str)) {
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
        self.begin(stream, None, ctx, move |stream| async move {
            let epoch = assignment.epoch;
            hand_over(&means, &stream, &to, assignment, Purpose::Keep).await?;
            Ok(Change::CopiedTo(to, version, epoch))
        });
    }

    /// Begins something that takes its time; the actor hears of its end.
    fn begin<F>(
        &mut self,
        stream: &str,
        waits: Option<Waiting>,
        ctx: &mut Ctx<Self>,
        work: impl FnOnce(String) -> F,
    ) where
        F: Future<Output = Result<Change, String>> + Send + 'static,
    {
        let work = work(stream.to_owned());
        let name = stream.to_owned();
        let begun = ctx.run::<Settled>(async move {
            Settled {
                result: work.await,
                stream: name,
                waits,
            }
        });
        if begun.is_ok() {
            self.custody.busy.insert(stream.to_owned());
        }
    }
}

/// Gives another node what there is of a stream.
async fn hand_over(
    means: &Means,
    stream: &str,
    to: &str,
    assignment: Assignment,
    purpose: Purpose,
) -> Result<(), String> {
    let bundle = means.pack(stream, purpose).await?;
    let revision = crate::clock::unix_seconds();
    // Strings and finite numbers: always JSON.
    let assignment = serde_json::to_string(&assignment).unwrap_or_default();
    let offer = |payload| Offer {
        purpose,
        stream: stream.to_owned(),
        assignment,
        revision,
        payload,
    };
    means.offer(to, bundle, offer).await
}

impl Handler<Settled> for ClusterActor {
    fn handle(&mut self, settled: Settled, ctx: &mut Ctx<Self>) {
        let Settled {
            stream,
            result,
            waits,
        } = settled;
        self.custody.busy.remove(&stream);
        self.custody.not_before.remove(&stream);
        let answer = match result {
            Ok(change) => {
                self.settle(&stream, change);
                Ok(())
            }
            Err(why) => {
                tracing::warn!(stream, why, "tried again in {} s", RETRY.as_secs());
                let again = Instant::now() + RETRY;
                self.custody.not_before.insert(stream, again);
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
                tracing::info!(
                    stream,
                    epoch = assignment.epoch,
                    home = assignment.home,
                    "runs here"
                );
                custody.copies.remove(stream);
                custody.copied.remove(stream);
                custody.set(stream, assignment);
            }
            Change::Gone(assignment) => {
                tracing::info!(
                    stream,
                    epoch = assignment.epoch,
                    home = assignment.home,
                    "runs elsewhere"
                );
                custody.copied.remove(stream);
                custody.set(stream, assignment);
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
            Change::Nothing => {}
        }
    }
}

/// What whoever leads has ordered.
impl Receive<Act> for ClusterActor {
    fn receive(&mut self, act: Act, reply: Reply<Act>, ctx: &mut Ctx<Self>) {
        let Act { leader, order } = act;
        if !self.is_from_leader(&leader, reply.peer().as_deref()) {
            return;
        }
        match order {
            Order::Adopt { stream, epoch } => self.adopt(&stream, epoch, ctx),
            Order::Send { stream, to } => self.send(&stream, to, Purpose::Run, ctx),
            Order::Yield { stream, to } => self.send(&stream, to, Purpose::Merge, ctx),
        }
    }
}

impl ClusterActor {
    fn adopt(&mut self, stream: &str, epoch: u64, ctx: &mut Ctx<Self>) {
        let runs = self
            .custody
            .assignments
            .get(stream)
            .is_some_and(|known| known.runs);
        let Some(copied) = self.custody.copies.get(stream).cloned() else {
            return;
        };
        if runs || !self.custody.is_free(stream) {
            return;
        }
        let assignment = Assignment {
            epoch,
            runs: true,
            ..copied.assignment
        };
        let means = self.means();
        self.begin(stream, None, ctx, move |stream| async move {
            let (state, name) = (means.state.clone(), stream.clone());
            means
                .on_disk(move || copies::promote(&state, &name))
                .await?;
            let ran = means.run(assignment.config.clone()).await;
            if let Err(why) = ran {
                let state = means.state.clone();
                means
                    .on_disk(move || copies::put_back(&state, &stream))
                    .await?;
                return Err(why);
            }
            Ok(Change::Runs(assignment))
        });
    }

    /// Hands a stream over to another node: to be run there, or what it has learnt, where it runs
    /// already.
    fn send(&mut self, stream: &str, to: String, purpose: Purpose, ctx: &mut Ctx<Self>) {
        let Some(assignment) = self
            .custody
            .assignments
            .get(stream)
            .filter(|known| known.runs)
        else {
            return;
        };
        if !self.custody.is_free(stream) || (assignment.config.stay && purpose == Purpose::Run) {
            return;
        }
        let mut assignment = assignment.clone();
        assignment.epoch += u64::from(purpose == Purpose::Run);
        self.give(stream, to, assignment, purpose, None, ctx);
    }

    /// Gives a stream, assigned like that from then on, to another node, and ends it here.
    fn give(
        &mut self,
        stream: &str,
        to: String,
        mut assignment: Assignment,
        purpose: Purpose,
        waits: Option<Waiting>,
        ctx: &mut Ctx<Self>,
    ) {
        let means = self.means();
        self.begin(stream, waits, ctx, move |stream| async move {
            let given = hand_over(&means, &stream, &to, assignment.clone(), purpose).await;
            match (given, purpose) {
                (Err(why), Purpose::Run | Purpose::Keep) => return Err(why),
                // It runs there in any case.
                (Err(why), Purpose::Merge) => {
                    tracing::warn!(stream, to, why, "what was learnt here stays here");
                }
                (Ok(()), _) => {}
            }
            means.end(stream).await?;
            assignment.runs = false;
            Ok(Change::Gone(assignment))
        });
    }
}

/// The word of a person.
impl Receive<Manage> for ClusterActor {
    fn receive(&mut self, manage: Manage, reply: Reply<Manage>, ctx: &mut Ctx<Self>) {
        let waits = Waiting::Person(reply);
        match manage {
            Manage::Add(config) => self.add(&config, waits, ctx),
            Manage::Remove(stream) => self.end_for_good(&stream, waits, ctx),
            Manage::Move { stream, to } => self.move_to(&stream, to, waits, ctx),
        }
    }
}

impl ClusterActor {
    fn add(&mut self, config: &str, waits: Waiting, ctx: &mut Ctx<Self>) {
        let config = match serde_json::from_str::<StreamConfig>(config) {
            Ok(config) => config,
            Err(error) => return waits.hear(Err(format!("no configuration of a stream: {error}"))),
        };
        let stream = config.name.clone();
        let known = self.custody.assignments.get(&stream);
        if known.is_some_and(|known| known.runs) {
            return waits.hear(Err(format!("'{stream}' runs here already")));
        }
        let assignment = Assignment {
            epoch: known.map_or(0, |known| known.epoch + 1),
            home: self.me().to_owned(),
            runs: true,
            config,
        };
        let means = self.means();
        self.begin(&stream, Some(waits), ctx, move |_| async move {
            means.run(assignment.config.clone()).await?;
            Ok(Change::Runs(assignment))
        });
    }

    /// The assignment of a stream that runs here, for a change on the word of a person.
    fn running(&self, stream: &str) -> Result<Assignment, String> {
        let known = self
            .custody
            .assignments
            .get(stream)
            .filter(|known| known.runs);
        let known = known.ok_or_else(|| format!("'{stream}' does not run here"))?;
        if self.custody.busy.contains(stream) {
            return Err(format!(
                "'{stream}' is being copied or moved; try again in a moment"
            ));
        }
        let epoch = known.epoch + 1;
        Ok(Assignment {
            epoch,
            ..known.clone()
        })
    }

    fn end_for_good(&mut self, stream: &str, waits: Waiting, ctx: &mut Ctx<Self>) {
        let mut assignment = match self.running(stream) {
            Ok(assignment) => assignment,
            Err(why) => return waits.hear(Err(why)),
        };
        let means = self.means();
        self.begin(stream, Some(waits), ctx, move |stream| async move {
            means.end(stream).await?;
            (assignment.runs, assignment.home) = (false, String::new());
            Ok(Change::Gone(assignment))
        });
    }

    fn move_to(&mut self, stream: &str, to: String, waits: Waiting, ctx: &mut Ctx<Self>) {
        let mut assignment = match self.running(stream) {
            Ok(assignment) => assignment,
            Err(why) => return waits.hear(Err(why)),
        };
        if to == self.me() {
            return waits.hear(Ok(()));
        }
        assignment.home.clone_from(&to);
        self.give(stream, to, assignment, Purpose::Run, Some(waits), ctx);
    }
}

/// Another node offers what it has of a stream.
impl Receive<Offer> for ClusterActor {
    fn receive(&mut self, offer: Offer, reply: Reply<Offer>, ctx: &mut Ctx<Self>) {
        let Ok(mut assignment) = serde_json::from_str::<Assignment>(&offer.assignment) else {
            return reply.send(Err("its configuration is not understood here".to_owned()));
        };
        let stream = offer.stream.clone();
        let is_coming = self.custody.busy.contains(&stream);
        if is_coming || self.custody.busy.len() >= COMING_MAX {
            return reply.send(Err("busy; offer it again later".to_owned()));
        }
        let runs = self
            .custody
            .assignments
            .get(&stream)
            .is_some_and(|known| known.runs);
        let means = self.means();
        let Offer {
            purpose,
            payload,
            revision,
            ..
        } = offer;
        let waits = Some(Waiting::Node(reply));
        self.begin(&stream, waits, ctx, move |stream| async move {
            match purpose {
                Purpose::Keep => {
                    let bundle = means.fetch(&payload).await?;
                    let copied = Copied {
                        assignment,
                        revision,
                    };
                    let (state, kept) = (means.state.clone(), copied.clone());
                    let keep = move || copies::keep(&state, &stream, &kept, &bundle);
                    means.on_disk(keep).await?;
                    Ok(Change::Keeps(copied))
                }
                Purpose::Run if runs => Ok(Change::Nothing),
                Purpose::Run => {
                    let bundle = means.fetch(&payload).await?;
                    let state = means.state.clone();
                    let place = move || {
                        copies::drop_copy(&state, &stream)?;
                        copies::put_in_place(&state, &stream, &bundle)
                    };
                    means.on_disk(place).await?;
                    means.run(assignment.config.clone()).await?;
                    assignment.runs = true;
                    Ok(Change::Runs(assignment))
                }
                // The better student of two is not looked for yet: this node's goes on.
                Purpose::Merge => Ok(Change::Nothing),
            }
        });
    }
}
