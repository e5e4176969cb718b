//! The network between the nodes of a site: UDP relays on the loopback, one in front of each node, that
//! know who sends, and so can cut, delay and lose what goes between two of them. Whoever only looks is
//! let through.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a packet.
const PACKET: usize = 2048;

/// What lies between two nodes, in one direction.
#[derive(Default)]
struct Line {
    is_cut: AtomicBool,
    delay_micros: AtomicU64,
    /// One of so many packets is lost; none at 0.
    lose_each: AtomicU64,
    packets: AtomicU64,
}

/// The lines between the nodes: by who sends, then by who receives.
pub(crate) struct Network {
    lines: Arc<Vec<Vec<Line>>>,
    /// Where each node is dialled.
    pub(crate) fronts: Vec<SocketAddr>,
}

/// A packet, when it is to come out, and by which socket; to whom, when that is not its peer.
type Packet = (Instant, Vec<u8>, Arc<UdpSocket>, Option<SocketAddr>);

impl Network {
    /// In front of nodes that listen at these addresses. Its threads end with the process.
    pub(crate) fn new(nodes: &[SocketAddr]) -> Self {
        let row = || nodes.iter().map(|_| Line::default()).collect();
        let lines: Arc<Vec<Vec<Line>>> = Arc::new(nodes.iter().map(|_| row()).collect());
        let (later, due) = channel();
        thread::spawn(move || deliver(&due));
        let fronts = (0..nodes.len()).map(|node| {
            let front = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
            let address = front.local_addr().unwrap();
            let relay = Relay {
                lines: Arc::clone(&lines),
                nodes: nodes.to_vec(),
                node,
                front,
                later: later.clone(),
            };
            thread::spawn(move || relay.forward());
            address
        });
        let fronts = fronts.collect();
        Self { lines, fronts }
    }

    /// Cuts a node off from all others, or lets it be reached again.
    pub(crate) fn cut(&self, node: usize, is_cut: bool) {
        self.each(node, |line| line.is_cut.store(is_cut, Ordering::Relaxed));
    }

    /// Delays what goes to a node and comes from it.
    pub(crate) fn delay(&self, node: usize, delay: Duration) {
        let micros = delay.as_micros() as u64;
        self.each(node, |line| {
            line.delay_micros.store(micros, Ordering::Relaxed)
        });
    }

    /// Loses one of so many packets to a node and from it.
    pub(crate) fn lose_each(&self, node: usize, nth: u64) {
        self.each(node, |line| line.lose_each.store(nth, Ordering::Relaxed));
    }

    fn each(&self, node: usize, set: impl Fn(&Line)) {
        for (from, lines) in self.lines.iter().enumerate() {
            for (to, line) in lines.iter().enumerate() {
                if from == node || to == node {
                    set(line);
                }
            }
        }
    }
}

/// What stands in front of one node.
struct Relay {
    lines: Arc<Vec<Vec<Line>>>,
    nodes: Vec<SocketAddr>,
    node: usize,
    front: Arc<UdpSocket>,
    later: Sender<Packet>,
}

impl Relay {
    fn forward(self) {
        let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut packet = [0; PACKET];
        loop {
            // A client that has gone is part of the weather.
            let Ok((length, client)) = self.front.recv_from(&mut packet) else {
                continue;
            };
            let from = self.nodes.iter().position(|node| *node == client);
            let back = backs.entry(client).or_insert_with(|| {
                let back = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
                back.connect(self.nodes[self.node]).unwrap();
                self.backward(Arc::clone(&back), client, from);
                back
            });
            let line = from.map(|from| &self.lines[from][self.node]);
            send(&self.later, line, &packet[..length], back, None);
        }
    }

    fn backward(&self, back: Arc<UdpSocket>, client: SocketAddr, to: Option<usize>) {
        let (lines, later) = (Arc::clone(&self.lines), self.later.clone());
        let (front, node) = (Arc::clone(&self.front), self.node);
        thread::spawn(move || {
            let mut packet = [0; PACKET];
            loop {
                let Ok(length) = back.recv(&mut packet) else {
                    // Nobody listens there now: the error comes again with the next packet.
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let line = to.map(|to| &lines[node][to]);
                send(&later, line, &packet[..length], &front, Some(client));
            }
        });
    }
}

fn send(
    later: &Sender<Packet>,
    line: Option<&Line>,
    bytes: &[u8],
    by: &Arc<UdpSocket>,
    to: Option<SocketAddr>,
) {
    let mut due = Instant::now();
    if let Some(line) = line {
        let packet = line.packets.fetch_add(1, Ordering::Relaxed) + 1;
        let each = line.lose_each.load(Ordering::Relaxed);
        if line.is_cut.load(Ordering::Relaxed) || (each > 0 && packet.is_multiple_of(each)) {
            return;
        }
        due += Duration::from_micros(line.delay_micros.load(Ordering::Relaxed));
    }
    let _ = later.send((due, bytes.to_vec(), Arc::clone(by), to));
}

/// Sends packets when they are due, in the order in which they came.
fn deliver(due: &Receiver<Packet>) {
    let mut waiting: Vec<Packet> = Vec::new();
    loop {
        let now = Instant::now();
        let (ready, rest) = waiting
            .into_iter()
            .partition::<Vec<_>, _>(|packet| packet.0 <= now);
        waiting = rest;
        for (_, bytes, by, to) in ready {
            // A target that has gone is part of the weather.
            let _ = match to {
                Some(to) => by.send_to(&bytes, to),
                None => by.send(&bytes),
            };
        }
        let next = waiting.iter().map(|packet| packet.0).min();
        let wait = next.map_or(Duration::from_secs(1), |at| {
            at.saturating_duration_since(now)
        });
        if let Ok(packet) = due.recv_timeout(wait) {
            waiting.push(packet);
        }
    }
}
