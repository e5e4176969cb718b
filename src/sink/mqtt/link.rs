//! The connection with a broker: made again whenever it is lost, after pauses that grow.

use std::collections::VecDeque;
use std::sync::Arc;

use rumqttc::{
    ConnectReturnCode, ConnectionError, Event, EventLoop, Outgoing, Packet, Request, StateError,
};
use tokio::sync::watch;

use crate::pauses::Pauses;
use crate::sink::tally::Tally;

/// A broker that has closed so many connections in a row before it acknowledged anything does not like what
/// it is sent.
const FRUITLESS_MAX: u32 = 5;

/// What others know of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// Whether there is one.
    pub(super) connected: bool,
    /// Counts connections.
    pub(super) connections: u64,
    /// Messages that are done with: acknowledged, or given up.
    pub(super) done: u64,
}

/// The connection with a broker.
pub(super) struct Link {
    events: EventLoop,
    /// For the log.
    broker: String,
    state: watch::Sender<State>,
    tally: Arc<Tally>,
    /// Messages that were not acknowledged before the connection was lost. They are sent again; the event
    /// loop itself would forget them, since the session is a new one.
    kept: VecDeque<Request>,
    /// What the log was told last: a broker that stays away does not flood it.
    told: Option<String>,
    /// Connections since a message was acknowledged.
    fruitless: u32,
    pauses: Pauses,
}

impl Link {
    pub(super) fn new(
        events: EventLoop,
        broker: String,
        state: watch::Sender<State>,
        tally: Arc<Tally>,
    ) -> Self {
        // Until it is connected.
        tally.set_up(false);
        Self {
            events,
            broker,
            state,
            tally,
            kept: VecDeque::new(),
            told: None,
            fruitless: 0,
            pauses: Pauses::new(rand::random()),
        }
    }

    /// Keeps the connection up, until it was told to disconnect.
    pub(super) async fn run(mut self) {
        loop {
            match self.events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.handle_connection(),
                Ok(Event::Incoming(Packet::PubAck(_))) => self.handle_acknowledgement(),
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(_) => {}
                Err(error) => {
                    self.handle_loss(&error);
                    tokio::time::sleep(self.pauses.next()).await;
                }
            }
        }
    }

    fn handle_connection(&mut self) {
        self.fruitless += 1;
        self.events.pending.append(&mut self.kept);
        self.state.send_modify(|state| {
            state.connected = true;
            state.connections += 1;
        });
    }

    fn handle_acknowledgement(&mut self) {
        self.fruitless = 0;
        self.pauses.reset();
        self.tally.add_written(1);
        self.state.send_modify(|state| state.done += 1);
        if self.tally.set_up(true) {
            let (output, broker) = (self.tally.name(), &self.broker);
            tracing::info!(output, broker, lost = self.tally.lost(), "connected");
            self.told = None;
        }
    }

    fn handle_loss(&mut self, error: &ConnectionError) {
        self.tally.set_up(false);
        self.kept.append(&mut self.events.pending);
        self.state.send_modify(|state| state.connected = false);
        let (output, broker, why) = (self.tally.name(), &self.broker, describe(error));
        if self.told.as_ref() != Some(&why) {
            tracing::warn!(
                output,
                broker,
                why,
                "not connected: results wait, and the oldest will be lost"
            );
            self.told = Some(why);
        }
        if self.fruitless >= FRUITLESS_MAX && !self.kept.is_empty() {
            self.give_up_what_is_kept();
        }
    }

    fn give_up_what_is_kept(&mut self) {
        self.fruitless = 0;
        let count = self.kept.drain(..).len() as u64;
        self.tally.add_lost(count);
        self.state.send_modify(|state| state.done += count);
        let (output, broker) = (self.tally.name(), &self.broker);
        tracing::warn!(
            output,
            broker,
            count,
            "messages that the broker does not take are given up"
        );
    }
}

fn describe(error: &ConnectionError) -> String {
    use ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
    match error {
        ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized) => {
            "the broker refuses this user or password".to_owned()
        }
        ConnectionError::ConnectionRefused(code) => format!("the broker refuses: {code:?}"),
        ConnectionError::NetworkTimeout
        | ConnectionError::FlushTimeout
        | ConnectionError::MqttState(StateError::AwaitPingResp) => {
            "the broker does not answer in time".to_owned()
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            "the broker has closed the connection".to_owned()
        }
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
            error.to_string()
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rumqttc::{AsyncClient, MqttOptions, QoS};

    use super::*;

    /// A packet: its first byte, and what comes after its length, which is short here.
    fn packet(from: &mut TcpStream) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        from.read_exact(&mut head).unwrap();
        assert!(head[1] < 128);
        let mut body = vec![0; usize::from(head[1])];
        from.read_exact(&mut body).unwrap();
        (head[0], body)
    }

    /// The next one that connects, who is let in, and the first that it publishes.
    fn let_in(listener: &TcpListener) -> (TcpStream, Vec<u8>) {
        let mut client = listener.accept().unwrap().0;
        let (kind, _) = packet(&mut client);
        assert_eq!(kind >> 4, 1, "it connects first");
        client.write_all(&[0x20, 2, 0, 0]).unwrap();
        let (kind, published) = packet(&mut client);
        assert_eq!(kind >> 4, 3);
        (client, published)
    }

    /// The event loop forgets what was under way when the broker knows nothing of an earlier session.
    #[test]
    fn what_a_broker_has_not_acknowledged_is_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = std::thread::spawn(move || {
            let (client, lost) = let_in(&listener);
            drop(client);
            let (mut client, again) = let_in(&listener);
            let topic = usize::from(u16::from_be_bytes([again[0], again[1]]));
            let number = &again[2 + topic..][..2];
            client.write_all(&[0x40, 2, number[0], number[1]]).unwrap();
            (lost, again, client)
        });
        let (client, events) = AsyncClient::new(MqttOptions::new("test", "127.0.0.1", port), 4);
        let (tally, (state, mut seen)) = (Tally::new("mqtt"), watch::channel(State::default()));
        let link = Link::new(events, "test".to_owned(), state, Arc::clone(&tally));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let publish = client.publish("topic", QoS::AtLeastOnce, false, "payload");
            publish.await.unwrap();
            tokio::select! {
                () = link.run() => panic!("nobody has told it to disconnect"),
                done = seen.wait_for(|state| state.done == 1) => assert_eq!(done.unwrap().connections, 2),
                () = tokio::time::sleep(Duration::from_secs(60)) => panic!("not acknowledged"),
            }
        });
        let (lost, again, _client) = broker.join().unwrap();
        assert!(again.ends_with(b"payload"));
        assert_eq!(lost, again);
        assert_eq!((tally.written(), tally.lost(), tally.is_up()), (1, 0, true));
    }
}
