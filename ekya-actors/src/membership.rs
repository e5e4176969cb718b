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

/// A node may be taken for dead by mistake so often, and rejoin, without being ahead of its next start.
const REJOINS_FOR_NOTHING: u32 = 8;

/// How often a node asks to be let in.
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
    /// How long the node has run, at the last call.
    now: Duration,
    /// How long it has not, though time passed; see [`Membership::awake`].
    stood_still: Duration,
    late_max: Duration,
    alarms: u64,
    notice: Vec<u8>,
    notices: u64,
    next_notice: Duration,
    /// Nodes that were asked to let this one in.
    doors: Vec<Member>,
    /// Whether another node has talked to this one, as it calls itself now.
    is_in: bool,
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
            stood_still: Duration::ZERO,
            late_max: detection.answer_within / 2,
            alarms: 0,
            notice: Vec::new(),
            notices: 0,
            next_notice: NOTICE_EVERY,
            doors: Vec::new(),
            is_in: false,
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

    /// Asks a node to be let in, again and again until this node is.
    pub(crate) fn join(&mut self, now: Duration, via: Member) -> Vec<Output> {
        let now = self.awake(now);
        self.doors.retain(|door| door.name != via.name);
        self.doors.push(via.clone());
        self.next_knock = now + KNOCK_EVERY;
        self.run(|foca, ground| foca.announce(via, ground))
    }

    fn knock(&mut self, now: Duration) -> Vec<Output> {
        self.next_knock = now + KNOCK_EVERY;
        if self.is_in {
            return Vec::new();
        }
        let known: Vec<_> = self.members().cloned().collect();
        let knocks = self.doors.clone().into_iter().chain(known);
        let knock = |door| self.run(|foca, ground| foca.announce(door, ground));
        knocks.flat_map(knock).collect()
    }

    /// Tells the others that this node goes.
    pub(crate) fn leave(&mut self, now: Duration) -> Vec<Output> {
        self.awake(now);
        self.run(|foca, ground| foca.leave_cluster(ground))
    }

    /// Takes in a packet that a node has sent. What is malformed, out of date, or in the name of
    /// another one changes nothing.
    pub(crate) fn receive(&mut self, now: Duration, from: &str, packet: &[u8]) -> Vec<Output> {
        self.awake(now);
        let header = codec::decode_first::<Header<Member>>(packet);
        if header.is_ok_and(|(header, _)| *header.src.name == *from) {
            self.run(|foca, ground| foca.handle_data(packet, ground))
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
        self.stood_still + alarm.map_or(own, |at| at.min(own))
    }

    /// How long the node has run by `now`. When something is due for longer than it takes to do it, the
    /// node did not run meanwhile: its machine was suspended, or had no time for it. What others have
    /// answered by then still waits to be read, and must not be late because this node is; so such
    /// time does not count, neither for them nor against them. A clock that goes back stands still.
    fn awake(&mut self, now: Duration) -> Duration {
        let late = now.saturating_sub(self.next_tick());
        if late > self.late_max {
            self.stood_still += late;
        }
        self.now = self.now.max(now.saturating_sub(self.stood_still));
        self.now
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Output> {
        let now = self.awake(now);
        let mut outputs = Vec::new();
        while self
            .timers
            .peek()
            .is_some_and(|Reverse(alarm)| alarm.at <= now)
            && let Some(Reverse(alarm)) = self.timers.pop()
        {
            if self.is_void(&alarm.timer) {
                continue;
            }
            outputs.extend(self.run(|foca, ground| foca.handle_timer(alarm.timer, ground)));
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

    /// Whether a verdict is about a node that is no suspect any more. Foca does not declare it dead then,
    /// but tells it that it is; it would leave and join again for nothing, and be missed meanwhile.
    fn is_void(&self, timer: &Timer<Member>) -> bool {
        let Timer::ChangeSuspectToDown {
            member_id,
            incarnation,
            ..
        } = timer
        else {
            return false;
        };
        let is_still = |known: &foca::Member<Member>| {
            known.id() == member_id
                && known.incarnation() == *incarnation
                && known.state() == foca::State::Suspect
        };
        !self.foca.iter_membership_state().any(is_still)
    }

    fn announce_notice(&mut self) {
        if self.notice.is_empty() {
            return;
        }
        self.notices += 1;
        let me = self.foca.identity();
        let notice = Notice {
            name: Arc::clone(&me.name),
            number: (me.rank(), self.notices),
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
        act: impl FnOnce(
            &mut Foca<Member, Postman, StdRng, Notices>,
            &mut Ground,
        ) -> Result<(), foca::Error>,
    ) -> Vec<Output> {
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
        self.is_in = ground.is_in.unwrap_or(self.is_in);
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
        (self.rank(), self.rejoined) > (adversary.rank(), adversary.rejoined)
    }
}

impl Member {
    /// Of two that have one name, the one of the higher rank is the later one: that of the higher
    /// incarnation. But a node whose clock was set back has begun anew with a lower one, and is told
    /// that it is dead however often it rejoins; after some times each gains it twice as much as the
    /// one before, until it is past what the others hold to.
    fn rank(&self) -> u64 {
        let gained = self.rejoined.checked_sub(REJOINS_FOR_NOTHING);
        let gained = gained.map_or(0, |times| 1_u64.checked_shl(times).unwrap_or(u64::MAX));
        self.incarnation.saturating_add(gained)
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
    /// Where it changes: whether this node is in.
    is_in: Option<bool>,
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
            Notification::Active => self.is_in = Some(true),
            // It is alone, or has another name for itself, which the others have to learn.
            Notification::Idle | Notification::Rejoin(_) => self.is_in = Some(false),
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
    /// Its rank then, and a number within that.
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
        /// How far the clocks of nodes are ahead of the others'.
        ahead: BTreeMap<Arc<str>, Duration>,
        /// A node that does not run; what is sent to it waits.
        frozen: Option<Arc<str>>,
        /// Whom who has declared dead.
        deaths: Vec<(Arc<str>, Member)>,
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
                ahead: BTreeMap::new(),
                frozen: None,
                deaths: Vec::new(),
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
                if let Output::Down(member) = &output {
                    self.deaths.push((Arc::clone(from), member.clone()));
                }
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
                let packet = self.next_packet();
                let arrives = packet.map(|(at, _)| at);
                let (tick, name) = self.next_tick();
                self.now = self.now.max(arrives.map_or(tick, |at| at.min(tick)));
                if let Some(packet) = packet.filter(|&(at, _)| at <= tick) {
                    let (from, to, packet) = self.packets.remove(&packet).unwrap();
                    let now = self.clock(&to);
                    if let Some(node) = self.nodes.get_mut(&to) {
                        let outputs = node.receive(now, &from, &packet);
                        self.send(&to, outputs);
                    }
                } else {
                    let now = self.clock(&name);
                    let outputs = self.nodes.get_mut(&name).unwrap().tick(now);
                    self.send(&name, outputs);
                }
            }
            done(self)
        }

        /// The packet that is the next to arrive at a node that runs.
        fn next_packet(&self) -> Option<(Duration, u64)> {
            let runs = |to: &Arc<str>| self.frozen.as_ref() != Some(to);
            let mut packets = self.packets.iter();
            packets
                .find(|(_, (_, to, _))| runs(to))
                .map(|(&packet, _)| packet)
        }

        /// The node that has something to do next, and when.
        fn next_tick(&self) -> (Duration, Arc<str>) {
            let runs = |name: &Arc<str>| self.frozen.as_ref() != Some(name);
            let nodes = self.nodes.iter().filter(|(name, _)| runs(name));
            let ticks = nodes.map(|(name, node)| {
                let ahead = self.ahead.get(name).copied().unwrap_or_default();
                (node.next_tick().saturating_sub(ahead), Arc::clone(name))
            });
            ticks.min().unwrap()
        }

        /// What time it is for a node.
        fn clock(&self, name: &Arc<str>) -> Duration {
            self.now + self.ahead.get(name).copied().unwrap_or_default()
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
    fn a_node_that_joins_again_says_so_until_somebody_has_heard() {
        let [mut node, mut other] =
            [0, 1].map(|index| Membership::new(member(index, 1), Detection::default(), 3, 1));
        let packets = |outputs: Vec<Output>| {
            outputs.into_iter().filter_map(|output| match output {
                Output::Send(_, packet) => Some(packet),
                _ => None,
            })
        };
        let now = Duration::from_millis(1);
        for knock in packets(node.join(now, member(1, 1))) {
            for answer in packets(other.receive(now, "edge-0", &knock)) {
                node.receive(now, "edge-1", &answer);
            }
        }
        assert!(node.knows(&member(1, 1)));
        let dead = Header {
            src: member(1, 1),
            src_incarnation: 0,
            dst: member(0, 1),
            message: foca::Message::TurnUndead,
        };
        let mut packet = Vec::new();
        codec::encode(&dead, &mut packet, PACKET_MAX).unwrap();
        node.receive(now, "edge-1", &packet);
        assert_eq!(node.me().rejoined, 1);
        // Nothing of what it says arrives.
        let mut knocks = 0;
        while node.next_tick() < Duration::from_secs(4) {
            for packet in packets(node.tick(node.next_tick())) {
                let (header, _) = codec::decode_first::<Header<Member>>(&packet).unwrap();
                knocks += usize::from(header.message == foca::Message::Announce);
            }
        }
        assert!(knocks >= 3, "{knocks}");
    }

    #[test]
    fn a_clock_that_jumps_ahead_makes_nobody_dead() {
        for seed in 0..300 {
            let mut cluster = Cluster::new(4, 0.1, seed);
            assert!(cluster.run(Duration::from_secs(60), |c| c.all_know(4)));
            let settled = Duration::from_secs(3) + Duration::from_millis(17 * seed);
            cluster.run(cluster.now + settled, |_| false);
            assert_eq!(cluster.deaths, [], "seed {seed}: before");
            let hour = Duration::from_secs(3600);
            cluster.ahead.insert(member(0, 1).name, hour);
            cluster.run(cluster.now + Duration::from_secs(20), |_| false);
            assert_eq!(cluster.deaths, [], "seed {seed}");
            assert!(cluster.all_know(4), "seed {seed}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_stands_still_until_it_has_caught_up() {
        let mut node = Membership::new(member(0, 1), Detection::default(), 3, 1);
        node.join(Duration::from_secs(10), member(1, 1));
        node.tick(Duration::from_secs(10));
        let due = node.next_tick();
        node.receive(Duration::from_secs(3), "edge-1", b"");
        assert_eq!(node.tick(Duration::from_secs(3)), []);
        assert_eq!(node.next_tick(), due);
        assert_ne!(node.tick(due), [], "it knocks again");
    }

    /// As one whose machine was suspended, or had no time for it.
    #[test]
    fn a_node_that_stood_still_declares_nobody_dead_and_is_let_in_again() {
        for seed in 0..100 {
            let mut cluster = Cluster::new(4, 0.05, seed);
            assert!(cluster.run(Duration::from_secs(60), |c| c.all_know(4)));
            let settled = Duration::from_secs(3) + Duration::from_millis(17 * seed);
            cluster.run(cluster.now + settled, |_| false);
            let frozen = member(0, 1).name;
            cluster.frozen = Some(Arc::clone(&frozen));
            cluster.run(cluster.now + Duration::from_secs(60), |_| false);
            let missed = cluster
                .deaths
                .iter()
                .filter(|(_, dead)| dead.name == frozen);
            assert_eq!(missed.count(), 3, "seed {seed}: {:?}", cluster.deaths);
            cluster.frozen = None;
            let woken = cluster.now;
            let joined = cluster.run(woken + Duration::from_secs(30), |c| c.all_know(4));
            assert!(joined, "seed {seed}");
            cluster.run(cluster.now + Duration::from_secs(10), |_| false);
            let by_it = cluster.deaths.iter().filter(|(by, _)| *by == frozen);
            assert_eq!(by_it.count(), 0, "seed {seed}");
        }
    }

    #[test]
    fn a_node_whose_clock_was_set_back_is_let_in_again() {
        // In microseconds, as nodes have it that do not count their starts: by little, by an hour, and
        // to 1970.
        let now = 1_800_000_000_000_000;
        for (seed, before) in (0..60).zip([now - 1, now - 3_600_000_000, 20_000_000].iter().cycle())
        {
            let mut cluster = Cluster::new(2, 0.1, seed);
            cluster.start(2, 3, now);
            assert!(cluster.run(Duration::from_secs(30), |c| c.all_know(3)));
            cluster.nodes.remove(&member(2, now).name);
            // Sometimes after the others have noticed.
            let gone = Duration::from_secs(seed % 2 * 10);
            cluster.run(cluster.now + gone, |_| false);
            cluster.start(2, 3, *before);
            let begun = cluster.now;
            let others_know = |c: &Cluster| {
                let others = c.nodes.values().filter(|node| node.me().incarnation == 1);
                let mut know =
                    others.map(|node| node.members().any(|one| one.incarnation == *before));
                know.all(|knows| knows)
            };
            let joined = cluster.run(begun + Duration::from_secs(60), others_know);
            assert!(joined, "seed {seed}");
        }
    }

    #[test]
    fn nobody_leaves_and_joins_again_for_a_few_lost_packets() {
        for seed in 0..100 {
            let mut cluster = Cluster::new(4, 0.05, seed);
            assert!(cluster.run(Duration::from_secs(60), |c| c.all_know(4)));
            cluster.run(cluster.now + Duration::from_secs(60), |_| false);
            assert_eq!(cluster.deaths, [], "seed {seed}");
            // Suspects are let off, and are not told afterwards that they are dead.
            let rejoined = cluster.nodes.values().map(|node| node.me().rejoined);
            assert_eq!(rejoined.max(), Some(0), "seed {seed}");
        }
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

    #[test]
    fn a_packet_in_the_name_of_another_node_changes_nothing() {
        let [mut node, mut other] =
            [0, 1].map(|index| Membership::new(member(index, 1), Detection::default(), 3, 1));
        let knock = other.join(Duration::ZERO, member(0, 1));
        let [Output::Send(_, packet)] = &knock[..] else {
            panic!("{knock:?}");
        };
        assert_eq!(node.receive(Duration::ZERO, "edge-2", packet), []);
        assert_eq!(node.members().count(), 0);
        assert_ne!(node.receive(Duration::ZERO, "edge-1", packet), []);
        assert!(node.knows(&member(1, 1)));
    }
}
