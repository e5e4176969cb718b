//! Runs the [`Membership`] on the network's thread: packets travel as datagrams on the connections
//! that there are, and connections are made to the members that there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::membership::{Detection, Member, Membership, Output};
use crate::net::Net;

/// Packets and the like that wait for the membership; more are dropped, as the network might.
const INBOX: usize = 1024;

/// Another node that is taken to be alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// Its name.
    pub name: String,
    /// Where it is dialled.
    pub address: String,
    /// Counts its starts.
    pub incarnation: u64,
    /// What it says of itself.
    pub notice: Vec<u8>,
}

/// Something for the membership.
pub(crate) enum Input {
    /// A packet of a node.
    Packet(Arc<str>, Bytes),
    /// A node that there is a connection with.
    Met(Member),
    /// What this node says of itself from now on.
    Notice(Vec<u8>),
    /// This node goes.
    Leave(oneshot::Sender<()>),
}

/// What the rest of a node sees of the membership.
#[derive(Clone)]
pub(crate) struct Gossip {
    inbox: mpsc::Sender<Input>,
    members: Arc<RwLock<BTreeMap<Arc<str>, MemberState>>>,
}

impl Gossip {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Input>) {
        let (inbox, inputs) = mpsc::channel(INBOX);
        let members = Arc::default();
        (Self { inbox, members }, inputs)
    }

    /// Hands something over; false when too much waits already.
    pub(crate) fn hand(&self, input: Input) -> bool {
        self.inbox.try_send(input).is_ok()
    }

    /// Hands over what must not be dropped, as soon as there is room.
    pub(crate) async fn tell(&self, input: Input) {
        // When the task is gone, so is this node.
        let _ = self.inbox.send(input).await;
    }

    pub(crate) fn members(&self) -> Vec<MemberState> {
        self.members.read().values().cloned().collect()
    }

    /// Says goodbye to the others.
    pub(crate) async fn leave(&self) {
        let (done, left) = oneshot::channel();
        self.tell(Input::Leave(done)).await;
        // An error says the same.
        let _ = left.await;
    }

    /// Runs until the node stops.
    pub(crate) async fn run(
        self,
        net: Arc<Net>,
        me: Member,
        detection: Detection,
        mut inputs: mpsc::Receiver<Input>,
    ) {
        let start = Instant::now();
        let seed = me.incarnation;
        let mut membership = Membership::new(me, detection, EXPECTED_NODES, seed);
        loop {
            let due = start + membership.next_tick();
            let input = tokio::time::timeout_at(due.into(), inputs.recv()).await;
            let now = start.elapsed();
            let outputs = match input {
                Err(_) => membership.tick(now),
                Ok(None) => return,
                Ok(Some(Input::Packet(from, packet))) => membership.receive(now, &from, &packet),
                Ok(Some(Input::Met(member))) if membership.knows(&member) => Vec::new(),
                Ok(Some(Input::Met(member))) => membership.join(now, member),
                Ok(Some(Input::Notice(notice))) => {
                    membership.set_notice(notice);
                    Vec::new()
                }
                Ok(Some(Input::Leave(done))) => {
                    let outputs = membership.leave(now);
                    self.carry_out(&net, outputs);
                    // Who waits for it may be gone.
                    let _ = done.send(());
                    return;
                }
            };
            self.carry_out(&net, outputs);
        }
    }

    fn carry_out(&self, net: &Net, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, packet) => net.send_packet(&to, packet.into()),
                Output::Up(member) => {
                    tracing::info!(node = %member.name, incarnation = member.incarnation, "node up");
                    net.want(&member);
                    let state = MemberState {
                        name: member.name.to_string(),
                        address: member.address.to_string(),
                        incarnation: member.incarnation,
                        notice: Vec::new(),
                    };
                    self.members.write().insert(member.name, state);
                }
                Output::Down(member) => {
                    tracing::warn!(node = %member.name, incarnation = member.incarnation, "node down");
                    net.give_up(&member);
                    let mut members = self.members.write();
                    let known = members.get(&member.name);
                    if known.is_some_and(|known| known.incarnation == member.incarnation) {
                        members.remove(&member.name);
                    }
                }
                Output::Notice(name, notice) => {
                    if let Some(state) = self.members.write().get_mut(&name) {
                        state.notice = notice;
                    }
                }
            }
        }
    }
}

/// How many nodes a site may have; it decides how often news is repeated, no more.
const EXPECTED_NODES: usize = 100;
