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
mod tests;
