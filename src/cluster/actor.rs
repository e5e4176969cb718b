//! The cluster actor of a node: says what the node wants to whoever leads, passes on to the scheduler what
//! is decided, and decides for all while this node leads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ekya_actors::{
    Actor, Compute, Ctx, Handler, MemberState, Message, Messages, Node, Receive, Ref, Remote, Reply,
};
use ekya_sched::Scheduler;

use super::assignments::{Assignment, Assignments};
use super::custody::Custody;
use super::desk::Desk;
use super::homes::admits;
use super::leadership::{Claim, Leader, Leadership};
use super::lend::Lending;
use super::means::Means;
use super::messages::{
    Act, Drain, Instruct, Manage, OVERVIEW_MAX, Offer, Overview, Report, Rolled, StreamOverview,
    Train, View,
};
use super::peers::{CLUSTER, Found, Peers};
use super::term::TermFile;
use crate::node::Command;
use crate::planning::{Assembly, Decisions, Part, Situation, StreamSituation};
use crate::schedule::{Event, SchedulerActor};

/// How often a node looks at what the others say.
const LOOK: Duration = Duration::from_millis(250);
/// A leader that says nothing to a node for so long leaves it to plan for itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// What was not answered is said again.
pub(super) const REPEAT: Duration = Duration::from_secs(2);

/// What a cluster actor is started with.
pub(super) struct Beginning {
    pub(super) node: Node,
    pub(super) leadership: Leadership,
    pub(super) term: TermFile,
    pub(super) scheduler: Arc<dyn Scheduler + Send + Sync>,
    pub(super) planner: Compute,
    /// The state folder.
    pub(super) state: PathBuf,
    pub(super) assignments: Assignments,
    /// Streams that the node begins with.
    pub(super) configured: Vec<String>,
    /// For the disk.
    pub(super) files: Compute,
}

/// One for each node.
pub struct ClusterActor {
    pub(super) node: Node,
    me: String,
    began: Instant,
    pub(super) leadership: Leadership,
    term: TermFile,
    pub(super) follows: Option<Leader>,
    peers: Peers,
    /// Of this node, once it runs.
    own_scheduler: Option<Ref<SchedulerActor>>,
    pub(super) custody: Custody,
    pub(super) lending: Lending,
    means: Means,
    /// Streams that the node begins with.
    configured: Vec<String>,
    /// What this node wants.
    wants: Option<Wants>,
    /// The highest whose decisions were taken.
    taken: Option<Leader>,
    instructions: Assembly<Decisions>,
    pub(super) desk: Desk,
}

/// What this node wants, and how long it has waited for an answer.
struct Wants {
    situation: Situation,
    since: Instant,
    said: Instant,
    is_answered: bool,
}

impl ClusterActor {
    pub(super) fn new(beginning: Beginning) -> Self {
        let Beginning {
            node,
            leadership,
            term,
            scheduler,
            planner,
            state,
            assignments,
            configured,
            files,
        } = beginning;
        let means = Means {
            node: node.clone(),
            state: state.clone(),
            files: Arc::new(files),
            commands: None,
        };
        Self {
            me: node.who().name.to_string(),
            node,
            began: Instant::now(),
            leadership,
            term,
            follows: None,
            peers: Peers::default(),
            own_scheduler: None,
            custody: Custody::new(state, assignments),
            lending: Lending::default(),
            means,
            configured,
            wants: None,
            taken: None,
            instructions: Assembly::default(),
            desk: Desk::new(planner, scheduler),
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.follows
            .as_ref()
            .is_some_and(|leader| leader.name == self.me)
    }

    /// Whoever leads, as far as this node knows.
    pub(super) fn leader(&self) -> Option<&str> {
        self.follows.as_ref().map(|leader| leader.name.as_str())
    }

    pub(super) fn me(&self) -> &str {
        &self.me
    }

    /// Who has sent something: a peer, or this node itself.
    pub(super) fn sender(&self, peer: Option<&str>) -> String {
        peer.unwrap_or(&self.me).to_owned()
    }

    pub(super) fn means(&self) -> Means {
        self.means.clone()
    }

    /// Whether something has come from who says to lead, and nobody higher is known. When it comes from
    /// whom this node follows, and somebody higher has been followed before, of whom that one has not
    /// heard, it hears of it.
    pub(super) fn is_from_leader(&mut self, leader: &Leader, peer: Option<&str>) -> bool {
        let from = peer.unwrap_or(&self.me);
        let higher = self.taken.as_ref().filter(|taken| leader < *taken);
        let higher = higher.map(|taken| taken.term);
        if from == leader.name && higher.is_none() && leader.term >= self.term.term() {
            return true;
        }
        let (term, name) = (leader.term, &leader.name);
        tracing::warn!(
            from,
            term,
            name,
            "what it decides is refused: it does not lead now"
        );
        if let Some(higher) = higher.filter(|_| self.follows.as_ref() == Some(leader)) {
            self.leadership.raise_above(higher);
            let claim = self.leadership.claim();
            self.term.keep(claim.term);
            self.announce(claim);
        }
        false
    }

    pub(super) fn tell<M: Message>(&mut self, to: &str, message: M, ctx: &mut Ctx<Self>)
    where
        Self: Receive<M>,
    {
        if *to == *self.me {
            // A full mailbox: said again.
            drop(ctx.me().tell(message));
        } else {
            self.peers.tell(&self.node, to, message, ctx);
        }
    }
}

impl Remote for ClusterActor {
    const TYPE: &'static str = "ekya/cluster";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Report>().add::<Instruct>();
        messages.add::<Rolled>().add::<Act>().add::<Offer>();
        messages.add::<Manage>().add::<Drain>();
        messages.add_stream::<Train>();
        messages.add::<View>().for_observers::<View>();
    }
}

impl Actor for ClusterActor {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        self.handle(Look, ctx);
    }
}

/// It is time to look at what the others say.
struct Look;

impl Message for Look {
    type Reply = ();
}

impl Handler<Look> for ClusterActor {
    fn handle(&mut self, Look: Look, ctx: &mut Ctx<Self>) {
        let others = self.look(ctx);
        self.wait_no_longer(ctx);
        self.look_after_streams(&others, ctx);
        self.order(ctx);
        self.lending.look_after_guests();
        self.renew(ctx);
        if let Err(error) = ctx.after(LOOK, Look) {
            tracing::error!(%error, "no timer; this node does not hear of other leaders any more");
        }
    }
}

/// Who leads.
impl ClusterActor {
    /// Who leads, and who else is there; names of the others that are not about to be taken down.
    fn look(&mut self, ctx: &mut Ctx<Self>) -> Vec<String> {
        let members = self.node.members();
        let claims = members
            .iter()
            .map(|member| (&*member.name, claim_of(member)));
        let before = self.leadership.claim();
        let follows = self.leadership.look(self.began.elapsed(), claims);
        let claim = self.leadership.claim();
        if claim != before || self.follows.is_none() {
            self.term.keep(claim.term);
            self.announce(claim);
        }
        let is_there =
            |name: &str| *name == *self.me || members.iter().any(|member| member.name == name);
        self.peers.retain(is_there);
        let gone = self.desk.forget(is_there);
        if follows != self.follows {
            self.follow(follows, ctx);
        } else if gone && self.leads() {
            self.plan(ctx);
        }
        staying(&members).map(str::to_owned).collect()
    }

    fn announce(&self, claim: Claim) {
        // Fixed fields of numbers: always JSON.
        let notice = serde_json::to_vec(&claim).unwrap_or_default();
        if let Err(error) = self.node.set_notice(notice) {
            tracing::warn!(%error, "others do not hear who leads");
        }
    }

    fn follow(&mut self, leader: Option<Leader>, ctx: &mut Ctx<Self>) {
        match &leader {
            Some(Leader { name, term }) => tracing::info!(node = name, term, "leads"),
            None => tracing::warn!("nobody leads; this node plans for itself"),
        }
        self.follows = leader;
        self.desk.clear();
        self.say_the_roll_again();
        self.say_what_is_wanted(ctx);
    }
}

/// Names of those that are not about to be taken down.
fn staying(members: &[MemberState]) -> impl Iterator<Item = &str> {
    let stays = |member: &&MemberState| claim_of(member).is_some_and(|claim| !claim.drains);
    members
        .iter()
        .filter(stays)
        .map(|member| member.name.as_str())
}

/// What another node says of itself; nothing where it has not said anything, or is of another version.
pub(super) fn claim_of(member: &MemberState) -> Option<Claim> {
    serde_json::from_slice(&member.notice).ok()
}

/// The scheduler of this node, once it runs, and where it takes commands.
pub(super) struct Serve {
    pub(super) scheduler: Ref<SchedulerActor>,
    pub(super) commands: Sender<Command>,
    /// What is lent to other nodes.
    pub(super) lending: Lending,
}

impl Message for Serve {
    type Reply = ();
}

impl Handler<Serve> for ClusterActor {
    fn handle(&mut self, serve: Serve, ctx: &mut Ctx<Self>) {
        self.own_scheduler = Some(serve.scheduler);
        self.lending = serve.lending;
        self.means.commands = Some(serve.commands);
        let configured = std::mem::take(&mut self.configured);
        self.take_up(&configured, ctx);
    }
}

/// This node wants a decision.
pub(super) struct Want(pub(super) Situation);

impl Message for Want {
    type Reply = ();
}

impl Handler<Want> for ClusterActor {
    fn handle(&mut self, Want(situation): Want, ctx: &mut Ctx<Self>) {
        let now = Instant::now();
        let waits_since = self.wants.as_ref().filter(|wants| !wants.is_answered);
        self.wants = Some(Wants {
            situation,
            since: waits_since.map_or(now, |wants| wants.since),
            said: now,
            is_answered: false,
        });
        self.say_what_is_wanted(ctx);
    }
}

impl ClusterActor {
    fn say_what_is_wanted(&mut self, ctx: &mut Ctx<Self>) {
        let Some(wants) = &mut self.wants else {
            return;
        };
        wants.said = Instant::now();
        let Some(leader) = self.follows.clone() else {
            return self.plan_here();
        };
        for part in Part::all(wants.situation.clone()) {
            self.tell(&leader.name, Report(part), ctx);
        }
    }

    fn plan_here(&mut self) {
        if let Some(wants) = &mut self.wants {
            wants.is_answered = true;
        }
        self.tell_scheduler(Event::PlanHere);
    }

    pub(super) fn tell_scheduler(&self, event: Event) {
        if let Some(scheduler) = &self.own_scheduler
            && let Err(error) = scheduler.tell(event)
        {
            tracing::debug!(%error, "the scheduler is not told");
        }
    }

    /// Says again what was not answered, and plans here when that has lasted too long.
    fn wait_no_longer(&mut self, ctx: &mut Ctx<Self>) {
        let Some(wants) = self.wants.as_ref().filter(|wants| !wants.is_answered) else {
            return;
        };
        if wants.since.elapsed() >= PATIENCE {
            tracing::warn!("whoever leads does not answer; this node plans for itself");
            self.plan_here();
        } else if wants.said.elapsed() >= REPEAT {
            self.say_what_is_wanted(ctx);
        }
    }
}

impl Receive<Instruct> for ClusterActor {
    fn receive(&mut self, instruct: Instruct, reply: Reply<Instruct>, _: &mut Ctx<Self>) {
        let Instruct { leader, decisions } = instruct;
        if !self.is_from_leader(&leader, reply.peer().as_deref()) {
            return;
        }
        let Some(decisions) = self.instructions.take(decisions) else {
            return;
        };
        self.term.keep(leader.term);
        let term = leader.term;
        tracing::debug!(term, plan = decisions.plan, "decided for this node");
        self.taken = Some(leader);
        if let Some(wants) = &mut self.wants {
            wants.is_answered |= decisions.about >= wants.situation.number;
        }
        self.tell_scheduler(Event::Decided { term, decisions });
    }
}

impl Handler<Found> for ClusterActor {
    fn handle(&mut self, found: Found, _: &mut Ctx<Self>) {
        self.peers.found(found);
    }
}

impl Handler<View> for ClusterActor {
    fn handle(&mut self, View: View, _: &mut Ctx<Self>) -> Overview {
        let situation = self.wants.as_ref().map(|wants| &wants.situation);
        let streams = situation.into_iter().flat_map(|situation| {
            let streams = situation.streams.iter().take(OVERVIEW_MAX);
            streams.map(|stream| overview_of(stream, situation))
        });
        Overview {
            claim: self.leadership.claim(),
            leader: self.follows.clone(),
            runs: {
                let runs = self.custody.assignments.runs();
                runs.take(OVERVIEW_MAX)
                    .map(|(stream, _)| stream.clone())
                    .collect()
            },
            streams: streams.collect(),
            bound: self.bound(),
        }
    }
}

impl ClusterActor {
    /// Streams of this node that no other may run.
    fn bound(&self) -> Vec<String> {
        let members = self.node.members();
        let others: Vec<_> = staying(&members).collect();
        let is_bound = |assignment: &Assignment| {
            let nodes = assignment.config.may_run_on(&assignment.home);
            !others.iter().any(|other| admits(&nodes, other))
        };
        let runs = self.custody.assignments.runs().take(OVERVIEW_MAX);
        let bound = runs.filter(|(_, assignment)| is_bound(assignment));
        bound.map(|(stream, _)| stream.clone()).collect()
    }
}

fn overview_of(stream: &StreamSituation, situation: &Situation) -> StreamOverview {
    let device = stream
        .spec
        .device
        .and_then(|device| situation.devices.get(device));
    StreamOverview {
        name: stream.spec.name.clone(),
        device: device.map_or_else(String::new, |device| device.name.clone()),
        accuracy: stream.spec.accuracy,
        retrains: stream.spec.training_running,
        trained_on: stream.trained_on.clone(),
    }
}

impl Handler<Drain> for ClusterActor {
    fn handle(&mut self, Drain: Drain, ctx: &mut Ctx<Self>) {
        tracing::info!("this node is taken out of service");
        self.leadership.drain();
        self.announce(self.leadership.claim());
        self.look(ctx);
    }
}

/// Where observers find it.
pub const ACTOR: &str = CLUSTER;
