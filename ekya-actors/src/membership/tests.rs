//! Simulated clusters, in virtual time and from seeds.

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
    for (seed, before) in (0..60).zip([now - 1, now - 3_600_000_000, 20_000_000].iter().cycle()) {
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
            let mut know = others.map(|node| node.members().any(|one| one.incarnation == *before));
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
