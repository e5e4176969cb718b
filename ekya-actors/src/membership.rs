//! Which nodes there are, by gossip (SWIM, through foca), and what each says of itself.
//!
//! A state machine without I/O and without a clock: packets and the time come in, packets and news go
//! out. Each node is the only one to write its own [notice](Membership::set_notice), which reaches the
//! others with the gossip.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut};
use foca::{
    BroadcastHandler, Codec, Config, Foca, Header, Identity, Invalidates, Notification,
    PeriodicParams, Timer,
};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};

/// Bytes of a packet: what a QUIC datagram holds from the first moment of a connection on.
pub(crate) const PACKET_MAX: usize = 1150;

/// Bytes of a notice.
pub(crate) const NOTICE_MAX: usize = 512;

/// Nodes whose notices are kept track of.
const NOTICES_MAX: usize = 4096;

/// How often a node that is alone asks to be let in.
const KNOCK_EVERY: Duration = Duration::from_secs(1);

/// How often a node repeats its notice, for those that have joined since.
const NOTICE_EVERY: Duration = Duration::from_secs(5);

/// A node as others know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Member {
    #[serde(with = "crate::shared_text")]
    pub(crate) name: Arc<str>,
    /// Where it is dialled, as `host:port`.
    #[serde(with = "crate::shared_text")]
    pub(crate) address: Arc<str>,
    /// Higher at every start.
    pub(crate) incarnation: u64,
    /// Counts how often it was taken for dead since, and was not.
    pub(crate) rejoined: u32,
}

/// Something that the rest of the node must hear of, or do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send a packet, as well as can be.
    Send(Member, Vec<u8>),
    /// A node has joined, or come back.
    Up(Member),
    /// A node is dead, or has left.
    Down(Member),
    /// A node says something new of itself.
    Notice(Arc<str>, Vec<u8>),
}

/// How fast the death of a node is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// One other node is probed in every such period.
    pub probe_every: Duration,
    /// Without an answer for this long, others are asked to probe it; less than half the period.
    pub answer_within: Duration,
    /// A suspect that says nothing for this long is dead.
    pub suspect_for: Duration,
}

impl Default for Detection {
    /// Notices the death of one of a few nodes within three to six seconds.
    fn default() -> Self {
        Self {
            probe_every: Duration::from_millis(700),
            answer_within: Duration::from_millis(300),
            suspect_for: Duration::from_millis(2500),
        }
    }
}

pub(crate) struct Membership {
    foca: Foca<Member, Postman, StdRng, Notices>,
    /// What foca's handler of notices has heard.
    heard: Arc<Mutex<Heard>>,
    timers: BinaryHeap<Reverse<Alarm>>,
    /// Since when the node runs, at the last call.
    now: Duration,
    alarms: u64,
    notice: Vec<u8>,
    notices: u64,
    next_notice: Duration,
    /// Nodes that were asked to let this one in.
    doors: Vec<Member>,
    next_knock: Duration,
}

impl Membership {
    /// `nodes` is about how many there will be.
    pub(crate) fn new(me: Member, detection: Detection, nodes: usize, seed: u64) -> Self {
        let config = config(detection, nodes);
        let rng = StdRng::seed_from_u64(seed);
        let heard = Arc::<Mutex<Heard>>::default();
        let notices = Notices(Arc::clone(&heard));
        Self {
            foca: Foca::with_custom_broadcast(me, config, rng, Postman, notices),
            heard,
            timers: BinaryHeap::new(),
            now: Duration::ZERO,
            alarms: 0,
            notice: Vec::new(),
            notices: 0,
            next_notice: NOTICE_EVERY,
            doors: Vec::new(),
            next_knock: Duration::ZERO,
        }
    }

    /// This node.
    #[cfg(test)]
    pub(crate) fn me(&self) -> &Member {
        self.foca.identity()
    }

    /// The other nodes that are taken to be alive.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.foca.iter_members().map(foca::Member::id)
    }

    /// Asks a node to be let in, again and again while this node is alone.
    pub(crate) fn join(&mut self, now: Duration, via: Member) -> Vec<Output> {
        self.doors.retain(|door| door.name != via.name);
        self.doors.push(via.clone());
        self.next_knock = now + KNOCK_EVERY;
        self.run(now, |foca, ground| foca.announce(via, ground))
    }

    fn knock(&mut self, now: Duration) -> Vec<Output> {
        self.next_knock = now + KNOCK_EVERY;
        if self.members().next().is_some() {
            return Vec::new();
        }
        let doors = self.doors.clone();
        let knocks = doors.into_iter();
        let knock = |door| self.run(now, |foca, ground| foca.announce(door, ground));
        knocks.flat_map(knock).collect()
    }

    /// Tells the others that this node goes.
    pub(crate) fn leave(&mut self, now: Duration) -> Vec<Output> {
        self.run(now, |foca, ground| foca.leave_cluster(ground))
    }

    /// Takes in a packet that a node has sent. What is malformed, out of date, or in the name of
    /// another one changes nothing.
    pub(crate) fn receive(&mut self, now: Duration, from: &str, packet: &[u8]) -> Vec<Output> {
        let header = codec::decode_first::<Header<Member>>(packet);
        if header.is_ok_and(|(header, _)| *header.src.name == *from) {
            self.run(now, |foca, ground| foca.handle_data(packet, ground))
        } else {
            Vec::new()
        }
    }

    /// Whether it is taken to be alive in this incarnation.
    pub(crate) fn knows(&self, member: &Member) -> bool {
        let is_it =
            |known: &Member| known.name == member.name && known.incarnation == member.incarnation;
        self.members().any(is_it)
    }

    /// Sets what this node says of itself, at most [`NOTICE_MAX`] bytes.
    pub(crate) fn set_notice(&mut self, notice: Vec<u8>) {
        debug_assert!(notice.len() <= NOTICE_MAX);
        if self.notice != notice {
            self.notice = notice;
            self.announce_notice();
        }
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn next_tick(&self) -> Duration {
        let own = self.next_notice.min(self.next_knock);
        let alarm = self.timers.peek().map(|Reverse(alarm)| alarm.at);
        alarm.map_or(own, |at| at.min(own))
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        while self
            .timers
            .peek()
            .is_some_and(|Reverse(alarm)| alarm.at <= now)
            && let Some(Reverse(alarm)) = self.timers.pop()
        {
            outputs.extend(self.run(now, |foca, ground| foca.handle_timer(alarm.timer, ground)));
        }
        if now >= self.next_knock {
            outputs.extend(self.knock(now));
        }
        if now >= self.next_notice {
            self.next_notice = now + NOTICE_EVERY;
            self.announce_notice();
        }
        outputs
    }

    fn announce_notice(&mut self) {
        if self.notice.is_empty() {
            return;
        }
        self.notices += 1;
        let me = self.foca.identity();
        let notice = Notice {
            name: Arc::clone(&me.name),
            number: (me.incarnation, self.notices),
            text: self.notice.clone(),
        };
        let mut bytes = Vec::new();
        if codec::encode(&notice, &mut bytes, PACKET_MAX).is_ok() {
            // A notice of one's own is no news to oneself, and is never malformed.
            let _ = self.foca.add_broadcast(&bytes);
        }
    }

    fn run(
        &mut self,
        now: Duration,
        act: impl FnOnce(
            &mut Foca<Member, Postman, StdRng, Notices>,
            &mut Ground,
        ) -> Result<(), foca::Error>,
    ) -> Vec<Output> {
        self.now = self.now.max(now);
        let mut ground = Ground::default();
        if let Err(error) = act(&mut self.foca, &mut ground) {
            // Packets of nodes that have begun anew, and what is no packet.
            tracing::debug!(%error, "membership");
        }
        for (timer, after) in ground.timers {
            self.alarms += 1;
            self.timers.push(Reverse(Alarm {
                at: self.now + after,
                number: self.alarms,
                timer,
            }));
        }
        let mut outputs = ground.outputs;
        let fresh = std::mem::take(&mut self.heard.lock().fresh);
        outputs.extend(
            fresh
                .into_iter()
                .map(|(name, text)| Output::Notice(name, text)),
        );
        outputs
    }
}

fn config(detection: Detection, nodes: usize) -> Config {
    let periodic = |frequency, members| {
        NonZeroUsize::new(members).map(|num_members| PeriodicParams {
            frequency,
            num_members,
        })
    };
    // As memberlist has it: what a packet says is repeated four times for each factor of ten.
    let transmissions = (4.0 * (nodes.max(10) as f64 + 1.0).log10()).ceil() as u8;
    let mut config = Config::simple();
    config.probe_period = detection.probe_every;
    config.probe_rtt = detection.answer_within;
    config.suspect_to_down_after = detection.suspect_for;
    config.max_transmissions = NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN);
    config.max_packet_size = NonZeroUsize::new(PACKET_MAX).unwrap_or(NonZeroUsize::MIN);
    config.notify_down_members = true;
    config.periodic_announce = periodic(Duration::from_secs(30), 1);
    // Two sides of a partition find each other again.
    config.periodic_announce_to_down_members = periodic(Duration::from_secs(5), 2);
    config.periodic_gossip = periodic(Duration::from_millis(200), 3);
    config
}

impl Identity for Member {
    type Addr = Arc<str>;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            rejoined: self.rejoined + 1,
            ..self.clone()
        })
    }

    fn addr(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.incarnation, self.rejoined) > (adversary.incarnation, adversary.rejoined)
    }
}

/// A timer of foca's; the earliest first, those of the same time in order.
#[derive(PartialEq, Eq)]
struct Alarm {
    at: Duration,
    number: u64,
    timer: Timer<Member>,
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What foca asks for, gathered.
#[derive(Default)]
struct Ground {
    outputs: Vec<Output>,
    timers: Vec<(Timer<Member>, Duration)>,
}

impl foca::Runtime<Member> for Ground {
    fn notify(&mut self, notification: Notification<'_, Member>) {
        match notification {
            Notification::MemberUp(member) => self.outputs.push(Output::Up(member.clone())),
            Notification::MemberDown(member) => self.outputs.push(Output::Down(member.clone())),
            // The one that took its place is up.
            Notification::Rename(before, after) if before.incarnation != after.incarnation => {
                self.outputs.push(Output::Down(before.clone()));
                self.outputs.push(Output::Up(after.clone()));
            }
            _ => {}
        }
    }

    fn send_to(&mut self, to: Member, data: &[u8]) {
        self.outputs.push(Output::Send(to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Member>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// Packs members and headers.
struct Postman;

impl Postman {
    fn put<T: Serialize>(value: &T, mut buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = Vec::new();
        codec::encode(value, &mut bytes, buf.remaining_mut())?;
        buf.put_slice(&bytes);
        Ok(())
    }

    fn take<T: serde::de::DeserializeOwned>(mut buf: impl Buf) -> Result<T, CodecError> {
        let (value, rest) = codec::decode_first(buf.chunk())?;
        let taken = buf.remaining() - rest.len();
        buf.advance(taken);
        Ok(value)
    }
}

impl Codec<Member> for Postman {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Member>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        Self::put(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Member>, CodecError> {
        Self::take(buf)
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<Member>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        Self::put(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<foca::Member<Member>, CodecError> {
        Self::take(buf)
    }
}

/// What a node says of itself, on its way.
#[derive(Serialize, Deserialize)]
struct Notice {
    #[serde(with = "crate::shared_text")]
    name: Arc<str>,
    /// Incarnation, and a number within it.
    number: (u64, u64),
    text: Vec<u8>,
}

/// The newest notice of every node.
#[derive(Default)]
struct Heard {
    newest: BTreeMap<Arc<str>, (u64, u64)>,
    fresh: Vec<(Arc<str>, Vec<u8>)>,
}

struct Notices(Arc<Mutex<Heard>>);

/// Which notice a packet carries.
struct NoticeKey(Arc<str>, (u64, u64));

impl Invalidates for NoticeKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.0 == other.0 && self.1 >= other.1
    }
}

impl BroadcastHandler<Member> for Notices {
    type Key = NoticeKey;
    type Error = CodecError;

    fn receive_item(
        &mut self,
        data: &[u8],
        sender: Option<&Member>,
    ) -> Result<Option<NoticeKey>, CodecError> {
        let Notice { name, number, text } = codec::decode(data)?;
        let mut heard = self.0.lock();
        let last = heard.newest.get(&name).copied();
        let too_many = last.is_none() && heard.newest.len() >= NOTICES_MAX;
        if text.len() > NOTICE_MAX || too_many || last.is_some_and(|last| last >= number) {
            return Ok(None);
        }
        heard.newest.insert(Arc::clone(&name), number);
        if sender.is_some() {
            heard.fresh.push((Arc::clone(&name), text));
        }
        Ok(Some(NoticeKey(name, number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes whose packets arrive after a while, some of them never.
    struct Cluster {
        nodes: BTreeMap<Arc<str>, Membership>,
        /// Packets on their way, by when they arrive.
        packets: BTreeMap<(Duration, u64), Letter>,
        sent: u64,
        loss: f64,
        rng: StdRng,
        now: Duration,
    }

    /// From whom, to whom, and the packet.
    type Letter = (Arc<str>, Arc<str>, Vec<u8>);

    fn member(index: usize, incarnation: u64) -> Member {
        Member {
            name: format!("edge-{index}").into(),
            address: format!("10.0.0.{index}:7000").into(),
            incarnation,
            rejoined: 0,
        }
    }

    impl Cluster {
        fn new(count: usize, loss: f64, seed: u64) -> Self {
            let mut cluster = Self {
                nodes: BTreeMap::new(),
                packets: BTreeMap::new(),
                sent: 0,
                loss,
                rng: StdRng::seed_from_u64(seed),
                now: Duration::ZERO,
            };
            for index in 0..count {
                cluster.start(index, count, 1);
            }
            cluster
        }

        fn start(&mut self, index: usize, count: usize, incarnation: u64) {
            let me = member(index, incarnation);
            let seed = index as u64;
            let mut node = Membership::new(me.clone(), Detection::default(), count, seed);
            node.set_notice(me.name.as_bytes().to_vec());
            let outputs = if index > 0 {
                node.join(self.now, member(0, 1))
            } else {
                Vec::new()
            };
            let from = Arc::clone(&me.name);
            self.nodes.insert(me.name, node);
            self.send(&from, outputs);
        }

        fn send(&mut self, from: &Arc<str>, outputs: Vec<Output>) {
            for output in outputs {
                if let Output::Send(to, packet) = output
                    && !rand::RngExt::random_bool(&mut self.rng, self.loss)
                {
                    assert!(packet.len() <= PACKET_MAX);
                    let delay = rand::RngExt::random_range(&mut self.rng, 1..20);
                    self.sent += 1;
                    let at = self.now + Duration::from_millis(delay);
                    let from = Arc::clone(from);
                    self.packets
                        .insert((at, self.sent), (from, to.name, packet));
                }
            }
        }

        /// Goes on until `until` or until `done`; whether it is.
        fn run(&mut self, until: Duration, done: impl Fn(&Self) -> bool) -> bool {
            while self.now < until {
                if done(self) {
                    return true;
                }
                let packet = self.packets.first_key_value().map(|(&(at, _), _)| at);
                let ticks = self
                    .nodes
                    .iter()
                    .map(|(name, node)| (node.next_tick(), name));
                let (tick, name) = ticks
                    .min()
                    .map(|(at, name)| (at, Arc::clone(name)))
                    .unwrap();
                self.now = self.now.max(packet.map_or(tick, |at| at.min(tick)));
                let now = self.now;
                if packet.is_some_and(|at| at <= tick) {
                    let (_, (from, to, packet)) = self.packets.pop_first().unwrap();
                    if let Some(node) = self.nodes.get_mut(&to) {
                        let outputs = node.receive(now, &from, &packet);
                        self.send(&to, outputs);
                    }
                } else {
                    let outputs = self.nodes.get_mut(&name).unwrap().tick(now);
                    self.send(&name, outputs);
                }
            }
            done(self)
        }

        fn all_know(&self, count: usize) -> bool {
            self.nodes
                .values()
                .all(|node| node.members().count() == count - 1)
        }
    }

    #[test]
    fn nodes_find_each_other_and_notice_a_death_in_time() {
        let mut longest = Duration::ZERO;
        for seed in 0..100 {
            let mut cluster = Cluster::new(4, 0.05, seed);
            let joined = cluster.run(Duration::from_secs(30), |c| c.all_know(4));
            assert!(joined, "seed {seed}");
            cluster.run(cluster.now + Duration::from_secs(3), |_| false);
            cluster.nodes.remove(&member(3, 1).name);
            let killed = cluster.now;
            let noticed = cluster.run(killed + Duration::from_secs(60), |c| c.all_know(3));
            let took = cluster.now - killed;
            assert!(
                noticed && took <= Duration::from_secs(6),
                "seed {seed}: {took:?}"
            );
            longest = longest.max(took);
        }
        println!("at the longest {longest:?}");
    }

    #[test]
    fn a_node_comes_back_with_a_higher_incarnation() {
        let mut cluster = Cluster::new(3, 0.0, 7);
        assert!(cluster.run(Duration::from_secs(30), |c| c.all_know(3)));
        cluster.nodes.remove(&member(2, 1).name);
        // Before anybody has noticed.
        cluster.start(2, 3, 2);
        let is_new = |c: &Cluster| {
            let others = c
                .nodes
                .values()
                .filter(|node| node.me().name != member(2, 2).name);
            let mut known = others.map(|node| node.members().any(|one| *one == member(2, 2)));
            known.all(|known| known)
        };
        assert!(cluster.run(cluster.now + Duration::from_secs(30), is_new));
        assert!(cluster.run(cluster.now + Duration::from_secs(30), |c| c.all_know(3)));
    }

    #[test]
    fn a_hundred_nodes_agree_after_ten_have_crashed_at_once() {
        let mut cluster = Cluster::new(100, 0.01, 1);
        assert!(cluster.run(Duration::from_secs(60), |c| c.all_know(100)));
        for index in 0..10 {
            cluster.nodes.remove(&member(index * 7 + 1, 1).name);
        }
        let crashed = cluster.now;
        assert!(cluster.run(crashed + Duration::from_secs(15), |c| c.all_know(90)));
    }

    #[test]
    fn what_is_no_packet_changes_nothing() {
        let mut node = Membership::new(member(0, 1), Detection::default(), 3, 1);
        for packet in [&b""[..], &[0xff; 200], &[0; 1150]] {
            assert_eq!(node.receive(Duration::ZERO, "edge-1", packet), []);
        }
        assert_eq!(node.members().count(), 0);
    }
}
