//! A UDP relay that delays, loses and blocks packets: a bad network on the loopback.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::UdpSocket;

/// Bytes of a packet.
const PACKET: usize = 2048;

/// Relays packets for as long as the runtime that it was started on lives.
pub(crate) struct Relay {
    address: SocketAddr,
    weather: Arc<Weather>,
    target: Arc<OnceLock<SocketAddr>>,
}

#[derive(Default)]
struct Weather {
    is_blocked: AtomicBool,
    /// One of so many packets is lost; none at 0.
    lose_each: AtomicU64,
    delay_micros: AtomicU64,
    packets: AtomicU64,
}

impl Relay {
    /// A relay that leads nowhere yet.
    pub(crate) async fn start() -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = front.local_addr().unwrap();
        let relay = Self {
            address,
            weather: Arc::default(),
            target: Arc::default(),
        };
        let (weather, target) = (Arc::clone(&relay.weather), Arc::clone(&relay.target));
        tokio::spawn(forward(front, target, weather));
        relay
    }

    /// Where packets come out.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.target.set(target).unwrap();
    }

    /// Where packets go in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether no packet comes through.
    pub(crate) fn block(&self, is_blocked: bool) {
        self.weather.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// Loses one of so many packets.
    pub(crate) fn lose_each(&self, nth: u64) {
        self.weather.lose_each.store(nth, Ordering::Relaxed);
    }

    /// Packets that came in, in both directions.
    pub(crate) fn packets(&self) -> u64 {
        self.weather.packets.load(Ordering::Relaxed)
    }

    /// Delays every packet.
    pub(crate) fn delay(&self, delay: Duration) {
        let micros = delay.as_micros() as u64;
        self.weather.delay_micros.store(micros, Ordering::Relaxed);
    }
}

impl Weather {
    /// How long the next packet takes; `None` when it is lost.
    fn next(&self) -> Option<Duration> {
        let packet = self.packets.fetch_add(1, Ordering::Relaxed) + 1;
        let each = self.lose_each.load(Ordering::Relaxed);
        let is_lost = each > 0 && packet.is_multiple_of(each);
        if is_lost || self.is_blocked.load(Ordering::Relaxed) {
            return None;
        }
        Some(Duration::from_micros(
            self.delay_micros.load(Ordering::Relaxed),
        ))
    }
}

async fn forward(front: Arc<UdpSocket>, target: Arc<OnceLock<SocketAddr>>, weather: Arc<Weather>) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut packet = [0; PACKET];
    while let Ok((length, client)) = front.recv_from(&mut packet).await {
        let Some(target) = target.get() else {
            continue;
        };
        if let std::collections::hash_map::Entry::Vacant(e) = backs.entry(client) {
            let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            back.connect(target).await.unwrap();
            tokio::spawn(backward(
                Arc::clone(&front),
                Arc::clone(&back),
                client,
                Arc::clone(&weather),
            ));
            e.insert(back);
        }
        let back = Arc::clone(&backs[&client]);
        send_later(
            &weather,
            packet[..length].to_vec(),
            move |bytes| async move {
                // A target that has gone is part of the weather.
                let _ = back.send(&bytes).await;
            },
        );
    }
}

async fn backward(
    front: Arc<UdpSocket>,
    back: Arc<UdpSocket>,
    client: SocketAddr,
    weather: Arc<Weather>,
) {
    let mut packet = [0; PACKET];
    loop {
        let Ok(length) = back.recv(&mut packet).await else {
            continue;
        };
        let front = Arc::clone(&front);
        send_later(
            &weather,
            packet[..length].to_vec(),
            move |bytes| async move {
                let _ = front.send_to(&bytes, client).await;
            },
        );
    }
}

fn send_later<F>(
    weather: &Weather,
    bytes: Vec<u8>,
    send: impl FnOnce(Vec<u8>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    if let Some(delay) = weather.next() {
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            send(bytes).await;
        });
    }
}
