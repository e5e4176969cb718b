//! What the leader does for all: makes one plan of what the nodes want, and says which of them runs which
//! stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekya_actors::{Compute, ComputeError, Ctx, Handler, Message, Receive, Reply};
use ekya_sched::{ScheduleError, Scheduler};

use super::actor::{ClusterActor, REPEAT, claim_of};
use super::homes::{self, Order, Present, Roll};
use super::leadership::Claim;
use super::messages::{Act, Instruct, Report, Rolled};
use super::relief::{Burden, Carried, relief};
use crate::planning::{self, Assembly, Decisions, Part, Situation, StreamSituation};

/// A node that has not said so for so long runs nothing that its leader knows of.
const SILENCE: Duration = Duration::from_secs(5);
/// A node gives a stream away when it has had too much inference for so long.
const CROWDED: Duration = Duration::from_secs(30);
/// Until what one such move has changed is known, no other is made.
const SETTLES: Duration = Duration::from_secs(60);
/// Shares of other nodes' devices are said again so often.
const RENEW: Duration = Duration::from_secs(5);

/// What a leader works with.
pub(super) struct Desk {
    reports: BTreeMap<String, Assembly<Situation>>,
    situations: BTreeMap<String, Situation>,
    /// What nodes run and keep.
    rolls: BTreeMap<String, Roll>,
    /// Since when this node leads.
    since: Instant,
    /// What was ordered, and when: orders that are being carried out are not repeated at every look.
    ordered: BTreeMap<String, (Order, Instant)>,
    /// The node that has too much inference, and since when.
    crowded: Option<(String, Instant)>,
    /// When a stream was last moved for that.
    relieved: Option<Instant>,
    planner: Compute,
    scheduler: Arc<dyn Scheduler + Send + Sync>,
    /// A plan is being made.
    is_planning: bool,
    /// Something has come since.
    is_stale: bool,
    plans: u64,
    /// When the last plan was begun.
    planned: Instant,
}

impl Desk {
    pub(super) fn new(planner: Compute, scheduler: Arc<dyn Scheduler + Send + Sync>) -> Self {
        Self {
            reports: BTreeMap::new(),
            situations: BTreeMap::new(),
            rolls: BTreeMap::new(),
            since: Instant::now(),
            ordered: BTreeMap::new(),
            crowded: None,
            relieved: None,
            planner,
            scheduler,
            is_planning: false,
            is_stale: false,
            plans: 0,
            planned: Instant::now(),
        }
    }
}

/// While this node leads.
impl Receive<Report> for ClusterActor {
    fn receive(&mut self, Report(part): Report, reply: Reply<Report>, ctx: &mut Ctx<Self>) {
        if !self.leads() {
            return;
        }
        let from = self.sender(reply.peer().as_deref());
        if self.desk.take(from, part) {
            self.plan(ctx);
        }
    }
}

impl Receive<Rolled> for ClusterActor {
    fn receive(&mut self, Rolled(roll): Rolled, reply: Reply<Rolled>, _: &mut Ctx<Self>) {
        if self.leads() {
            let from = self.sender(reply.peer().as_deref());
            self.desk.rolls.insert(from, roll);
        }
    }
}

impl ClusterActor {
    /// Orders what is to be done with streams.
    pub(super) fn order(&mut self, ctx: &mut Ctx<Self>) {
        let Some(leader) = self.follows.clone().filter(|_| self.leads()) else {
            return;
        };
        let claims = self.claims();
        for (node, order) in self.desk.orders(&claims) {
            let leader = leader.clone();
            self.tell(&node, Act { leader, order }, ctx);
        }
    }

    /// What the nodes that are there say of themselves.
    fn claims(&self) -> BTreeMap<String, Option<Claim>> {
        let members = self.node.members();
        let others = members.iter();
        let others = others.map(|member| (member.name.clone(), claim_of(member)));
        let own = (self.me().to_owned(), Some(self.leadership.claim()));
        others.chain([own]).collect()
    }
}

/// A plan has been made, or could not.
struct Planned(Option<BTreeMap<String, Decisions>>);

impl Message for Planned {
    type Reply = ();
}

impl Handler<Planned> for ClusterActor {
    fn handle(&mut self, Planned(planned): Planned, ctx: &mut Ctx<Self>) {
        self.desk.is_planning = false;
        let leader = self.follows.clone().filter(|_| self.leads());
        let Some(leader) = leader else {
            return;
        };
        for (node, decisions) in planned.into_iter().flatten() {
            for decisions in Part::all(decisions) {
                let leader = leader.clone();
                self.tell(&node, Instruct { leader, decisions }, ctx);
            }
        }
        if self.desk.is_stale {
            self.plan(ctx);
        }
    }
}

impl ClusterActor {
    /// Plans again, where shares would lapse otherwise.
    pub(super) fn renew(&mut self, ctx: &Ctx<Self>) {
        let desk = &self.desk;
        let streams = desk
            .situations
            .values()
            .flat_map(|situation| &situation.streams);
        let mut away = streams.filter(|stream| stream.trained_on.is_some());
        if self.leads() && desk.planned.elapsed() > RENEW && away.next().is_some() {
            self.plan(ctx);
        }
    }

    /// Has all planned for with what is known; one plan at a time.
    pub(super) fn plan(&mut self, ctx: &Ctx<Self>) {
        self.desk.is_stale = self.desk.is_planning;
        if self.desk.is_planning {
            return;
        }
        let nodes = self.situations();
        let desk = &mut self.desk;
        desk.plans += 1;
        desk.planned = Instant::now();
        let (scheduler, number) = (desk.scheduler.clone(), desk.plans);
        let (me, term) = (ctx.me(), self.leadership.claim().term);
        let task = move || {
            let planned = planning::plan(&nodes, &*scheduler, number);
            tracing::debug!(term, plan = number, "planned for all");
            planned
        };
        let done = move |planned: Result<Result<_, ScheduleError>, ComputeError>| {
            let planned = planned
                .map_err(|error| no_plan(&error))
                .and_then(|planned| planned.map_err(|error| no_plan(&error)));
            drop(me.tell(Planned(planned.ok())));
        };
        match desk.planner.run(task, done) {
            Ok(()) => desk.is_planning = true,
            Err(error) => no_plan(&error),
        }
    }

    /// What the nodes want; the devices of one that is about to be taken down are lent no more.
    fn situations(&self) -> BTreeMap<String, Situation> {
        let mut situations = self.desk.situations.clone();
        for (node, claim) in self.claims() {
            let situation = situations.get_mut(&node);
            if let (Some(situation), Some(Claim { drains: true, .. })) = (situation, claim) {
                for device in &mut situation.devices {
                    device.lends = false;
                }
            }
        }
        situations
    }
}

impl Desk {
    /// Takes a part of a report; true when the node's situation is known anew.
    fn take(&mut self, from: String, part: Part<Situation>) -> bool {
        let whole = self.reports.entry(from.clone()).or_default().take(part);
        let is_new = whole.is_some();
        self.situations
            .extend(whole.map(|situation| (from, situation)));
        is_new
    }

    /// Forgets nodes that are not there any more; true when there were any.
    pub(super) fn forget(&mut self, is_there: impl Fn(&str) -> bool) -> bool {
        let before = self.situations.len();
        self.reports.retain(|name, _| is_there(name));
        self.situations.retain(|name, _| is_there(name));
        self.rolls.retain(|name, _| is_there(name));
        self.situations.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.reports.clear();
        self.situations.clear();
        self.rolls.clear();
        self.ordered.clear();
        self.crowded = None;
        self.since = Instant::now();
    }

    /// What is to be ordered now, as the nodes that are there say what they run. One that says nothing
    /// for long runs nothing that this version knows of.
    fn orders(&mut self, claims: &BTreeMap<String, Option<Claim>>) -> Vec<(String, Order)> {
        let complete = claims.keys().all(|name| self.rolls.contains_key(name));
        if !complete && self.since.elapsed() < SILENCE {
            return Vec::new();
        }
        let present = |(name, claim): (&String, &Option<Claim>)| {
            let (roll, claim) = (self.rolls.get(name)?, (*claim)?);
            let load = self.situations.get(name).map_or(0.0, load);
            Some((name.clone(), Present { claim, roll, load }))
        };
        let nodes = claims.iter().filter_map(present).collect();
        let mut orders = homes::orders(&nodes);
        if orders.is_empty() {
            orders.extend(self.relieve(claims));
        }
        let now = Instant::now();
        self.ordered
            .retain(|_, (_, at)| now.duration_since(*at) < REPEAT);
        orders.retain(|(_, order)| {
            let stream = order.stream();
            let is_new = self
                .ordered
                .get(stream)
                .is_none_or(|(before, _)| before != order);
            if is_new {
                tracing::info!(?order, "ordered");
                self.ordered.insert(stream.to_owned(), (order.clone(), now));
            }
            is_new
        });
        orders
    }

    /// The move of a stream away from a node that has had too much inference for long.
    fn relieve(&mut self, claims: &BTreeMap<String, Option<Claim>>) -> Option<(String, Order)> {
        let wanted = relief(&self.burdens(claims)?);
        let Some((node, order)) = wanted else {
            self.crowded = None;
            return None;
        };
        let since = match &self.crowded {
            Some((crowded, since)) if *crowded == node => *since,
            _ => {
                self.crowded = Some((node, Instant::now()));
                return None;
            }
        };
        let settles = self.relieved.is_some_and(|at| at.elapsed() < SETTLES);
        if settles || since.elapsed() < CROWDED {
            return None;
        }
        tracing::info!(
            node,
            ?order,
            "it has more inference than its devices can do"
        );
        self.relieved = Some(Instant::now());
        Some((node, order))
    }

    /// What each node has to do; absent while not all have said so.
    fn burdens<'a>(
        &'a self,
        claims: &'a BTreeMap<String, Option<Claim>>,
    ) -> Option<BTreeMap<&'a str, Burden<'a>>> {
        let burden = |(name, claim): (&'a String, &Option<Claim>)| {
            let (situation, roll) = (self.situations.get(name)?, self.rolls.get(name)?);
            let streams = situation.streams.iter().map(|stream| {
                let entry = roll
                    .runs
                    .iter()
                    .find(|one| one.stream == stream.spec.name)?;
                Some(Carried {
                    stream: &entry.stream,
                    load: inference(stream),
                    weight: stream.spec.weight,
                    nodes: &entry.nodes,
                })
            });
            let burden = Burden {
                devices: situation.devices.len(),
                streams: streams.collect::<Option<_>>()?,
                takes: claim.is_some_and(|claim| !claim.drains),
            };
            Some((name.as_str(), burden))
        };
        claims.iter().map(burden).collect()
    }
}

fn no_plan(error: &dyn std::error::Error) {
    tracing::error!(%error, "no plan; what was decided before stays in force");
}

/// Devices' worth of inference of a node, for its devices.
fn load(situation: &Situation) -> f64 {
    let shares = situation.streams.iter().map(inference);
    shares.sum::<f64>() / situation.devices.len().max(1) as f64
}

/// Devices' worth of a stream's inference where every frame is answered.
fn inference(stream: &StreamSituation) -> f64 {
    let options = stream.spec.inference.iter();
    options
        .map(|option| option.share.as_f64())
        .fold(0.0, f64::max)
}
