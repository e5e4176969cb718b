//! Streams on their way: what whoever leads has ordered, and what other nodes offer.

use ekya_actors::{Ctx, Receive, Reply};

use super::actor::ClusterActor;
use super::assignments::Assignment;
use super::copies::{self, Copied};
use super::custody::{COMING_MAX, Change, Waiting};
use super::homes::Order;
use super::means::Means;
use super::messages::{Act, Offer, Purpose, Refusal};
use super::tries::Activity;
use crate::clock::unix_seconds;

/// Gives another node what there is of a stream.
pub(super) async fn hand_over(
    means: &Means,
    stream: &str,
    to: &str,
    assignment: Assignment,
    purpose: Purpose,
) -> Result<(), Refusal> {
    let bundle = means.pack(stream, purpose).await?;
    let revision = unix_seconds();
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
            Order::Move { stream, to } => self.move_to(&stream, to, None, ctx),
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
        if runs || !self.custody.is_free(stream, Activity::Move) {
            return;
        }
        let assignment = Assignment {
            epoch,
            runs: true,
            ..copied.assignment
        };
        let means = self.means();
        self.begin(
            stream,
            Activity::Move,
            None,
            ctx,
            move |stream| async move {
                let (state, name) = (means.state.clone(), stream.clone());
                means
                    .on_disk(move || copies::promote(&state, &name))
                    .await?;
                let ran = means.run(&assignment).await;
                if let Err(why) = ran {
                    let state = means.state.clone();
                    means
                        .on_disk(move || copies::put_back(&state, &stream))
                        .await?;
                    return Err(why.into());
                }
                Ok(Change::Runs(assignment))
            },
        );
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
        let is_bound = assignment.config.stay && purpose == Purpose::Run;
        if is_bound || !self.custody.is_free(stream, Activity::Move) {
            return;
        }
        let mut assignment = assignment.clone();
        assignment.epoch += u64::from(purpose == Purpose::Run);
        self.give(stream, to, assignment, purpose, None, ctx);
    }

    /// Gives a stream, assigned like that from then on, to another node, and ends it here.
    pub(super) fn give(
        &mut self,
        stream: &str,
        to: String,
        mut assignment: Assignment,
        purpose: Purpose,
        waits: Option<Waiting>,
        ctx: &mut Ctx<Self>,
    ) {
        let means = self.means();
        // It runs there in any case, and need not run here for ever.
        let ends_in_any_case = purpose == Purpose::Merge && self.custody.yields_in_any_case(stream);
        self.begin(
            stream,
            Activity::Move,
            waits,
            ctx,
            move |stream| async move {
                let given = hand_over(&means, &stream, &to, assignment.clone(), purpose).await;
                if let Err(why) = given {
                    if !ends_in_any_case {
                        return Err(why);
                    }
                    tracing::warn!(stream, to, %why, "what was learnt here stays here");
                }
                means.end(stream).await?;
                assignment.runs = false;
                Ok(Change::Gone(assignment))
            },
        );
    }
}

/// Another node offers what it has of a stream.
impl Receive<Offer> for ClusterActor {
    fn receive(&mut self, offer: Offer, reply: Reply<Offer>, ctx: &mut Ctx<Self>) {
        let Ok(mut assignment) = serde_json::from_str::<Assignment>(&offer.assignment) else {
            let why = "its configuration is not understood here";
            return reply.send(Err(Refusal::Failed(why.to_owned())));
        };
        let stream = offer.stream.clone();
        let known = self.custody.assignments.get(&stream);
        let runs = known.is_some_and(|known| known.runs);
        // A copy of what runs here is none: after a partition the other one will soon run it no more.
        let is_no_copy = runs && offer.purpose == Purpose::Keep;
        let is_coming = self.custody.busy.contains(&stream);
        if is_no_copy || is_coming || self.custody.busy.len() >= COMING_MAX {
            return reply.send(Err(Refusal::Busy));
        }
        if offer.purpose == Purpose::Merge {
            self.custody.be_later_than(&stream, assignment.epoch);
        }
        let means = self.means();
        let Offer {
            purpose,
            payload,
            revision,
            ..
        } = offer;
        let from = self.sender(reply.peer().as_deref());
        let waits = Some(Waiting::Node(reply));
        let activity = match purpose {
            Purpose::Keep => Activity::Copy,
            Purpose::Run | Purpose::Merge => Activity::Move,
        };
        self.begin(&stream, activity, waits, ctx, move |stream| async move {
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
                    means.run(&assignment).await?;
                    assignment.runs = true;
                    Ok(Change::Runs(assignment))
                }
                Purpose::Merge => {
                    let bundle = means.fetch(&payload).await?;
                    let state = means.state.clone();
                    let find = move || copies::find(&state, &stream, &from, &bundle);
                    let found = means.on_disk(find).await?;
                    Ok(found.map_or(Change::Nothing, Change::Found))
                }
            }
        });
    }
}
