//! Results to an MQTT broker, under the topics that users of Frigate know (`topics`): whether the node is
//! there, how many objects of each class each stream sees, from when to when something of a class is seen
//! (`sights`), frames a second, and every result where that is wanted. `report` decides what is told;
//! `link` keeps the connection up.
//!
//! All is published with quality of service 1, so that what the broker has acknowledged is known. While it
//! is away, results wait in their queue, which loses the oldest.

mod link;
mod report;
mod sights;
mod topics;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, EventLoop, LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use self::link::{Link, State};
use self::report::{Message, Report};
use self::topics::Topics;
use super::outlets::ResultQueue;
use super::tally::Tally;
use crate::clock::unix_time;
use crate::config::{BrokerAddress, MQTT_PASSWORD_VARIABLE, MqttOutputConfig};
use crate::secret::read_secret;

/// How often the connection is tried out when nothing is to be told, and how soon a broker that has gone
/// without a word is missed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Messages on their way to the connection.
const ROOM: usize = 16;
/// Longest topic that MQTT knows, in bytes.
const TOPIC_MAX: usize = u16::MAX as usize;
/// Longest payload: a result with some ten thousand objects.
const PAYLOAD_MAX: usize = 2 << 20;
/// What a packet has beside its payload and topic, at most.
const HEAD_MAX: usize = 16;
/// As Frigate does by default.
const STATS_EVERY: Duration = Duration::from_secs(60);
/// Time for the broker to acknowledge what is left, at the end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A broker, before anything was told.
pub(super) struct Mqtt {
    runtime: Runtime,
    client: AsyncClient,
    events: EventLoop,
    broker: String,
    report: Report,
}

/// Tells the broker, as long as there is a connection.
struct Teller {
    client: AsyncClient,
    link: watch::Receiver<State>,
    report: Report,
    /// The connection that has been greeted.
    greeted: u64,
    /// Messages that are under way or done.
    sent: u64,
    tally: Arc<Tally>,
}

impl Mqtt {
    /// Reads certificates and the password. The broker may come later.
    ///
    /// # Errors
    /// What cannot be read, and why.
    pub(super) fn open(config: &MqttOutputConfig) -> Result<Self, (String, String)> {
        let broker = || config.broker.clone();
        let address = config.address().map_err(|reason| (broker(), reason))?;
        let report = Report::new(Topics::new(&config.topic), config.results);
        let (client, events) = AsyncClient::new(options(config, &address, &report)?, ROOM);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| (broker(), error.to_string()))?;
        Ok(Self {
            runtime,
            client,
            events,
            broker: broker(),
            report,
        })
    }

    /// Tells the broker of results until there are no more.
    pub(super) fn write(self, results: ResultQueue, tally: Arc<Tally>) {
        let (state, link) = watch::channel(State::default());
        let teller = Teller {
            client: self.client,
            link,
            report: self.report,
            greeted: 0,
            sent: 0,
            tally: Arc::clone(&tally),
        };
        let link = Link::new(self.events, self.broker, state, tally);
        self.runtime.block_on(async {
            tokio::select! {
                () = link.run() => {}
                () = teller.run(results) => {}
            }
        });
    }
}

fn options(
    config: &MqttOutputConfig,
    address: &BrokerAddress,
    report: &Report,
) -> Result<MqttOptions, (String, String)> {
    // An address of IPv6 is told from the port by brackets.
    let host = if address.host.contains(':') {
        format!("[{}]", address.host)
    } else {
        address.host.clone()
    };
    // Two of one name would put each other off.
    let id = format!("ekya-{:016x}", rand::random::<u64>());
    let mut options = MqttOptions::new(id, host, address.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_max_packet_size(PAYLOAD_MAX, HEAD_MAX + TOPIC_MAX + PAYLOAD_MAX);
    let will = report.available("offline");
    let will = LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, will.retain);
    options.set_last_will(will);
    if let Some(user) = &config.user {
        options.set_credentials(user, password(config)?);
        if !address.tls && !is_near(&address.host) {
            tracing::warn!(
                "the password for the MQTT broker travels unprotected: mqtts:// protects it"
            );
        }
    }
    if let Some(ca) = &config.ca {
        let tls = tls(ca).map_err(|reason| (ca.display().to_string(), reason))?;
        let tls = TlsConfiguration::Rustls(Arc::new(tls));
        options.set_transport(Transport::tls_with_config(tls));
    }
    Ok(options)
}

fn is_near(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn password(config: &MqttOutputConfig) -> Result<String, (String, String)> {
    match &config.password_file {
        Some(path) => {
            let password = read_secret(path);
            password.map_err(|error| (path.display().to_string(), error.to_string()))
        }
        None => Ok(std::env::var(MQTT_PASSWORD_VARIABLE).unwrap_or_default()),
    }
}

/// TLS with a broker that one of these authorities vouches for.
fn tls(ca: &Path) -> Result<ClientConfig, String> {
    let certificates =
        CertificateDer::pem_file_iter(ca).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        return Err("no certificate in it".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Teller {
    async fn run(mut self, mut results: ResultQueue) {
        if !self.tell_all(&mut results).await {
            // The broker is away at the end, or has got stuck.
            self.give_up(results);
            return;
        }
        for message in self.report.farewell(unix_time()) {
            if !self.tell(message, &mut results).await {
                return self.give_up(results);
            }
        }
        let sent = self.sent;
        let all = self.link.wait_for(|state| state.done == sent);
        if timeout(END_WITHIN, all).await.is_err() {
            return self.give_up(results);
        }
        // The link ends when that is said; this must not end before.
        if self.client.disconnect().await.is_ok() {
            tokio::time::sleep(END_WITHIN).await;
        }
    }

    /// Tells of all results to the last; false where that could not be done.
    async fn tell_all(&mut self, results: &mut ResultQueue) -> bool {
        let (start, mut told) = (Instant::now(), Instant::now());
        let mut stats = interval_at(start + STATS_EVERY, STATS_EVERY);
        stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let State {
                connected,
                connections,
                ..
            } = *self.link.borrow_and_update();
            if !connected {
                tokio::select! {
                    _ = self.link.changed() => continue,
                    () = results.closed() => return false,
                }
            }
            let messages = if self.greeted != connections {
                self.greeted = connections;
                self.report.greeting()
            } else {
                tokio::select! {
                    result = results.next() => match result {
                        Some(result) => self.report.handle(&result),
                        None => return true,
                    },
                    now = stats.tick() => {
                        let since = now - std::mem::replace(&mut told, now);
                        let uptime = now - start;
                        vec![self.report.stats(since.as_secs_f64(), uptime.as_secs_f64())]
                    }
                    _ = self.link.changed() => continue,
                }
            };
            for message in messages {
                if !self.tell(message, results).await {
                    return false;
                }
            }
        }
    }

    /// Has a message published; false where that takes too long and the end has come.
    async fn tell(&mut self, message: Message, results: &mut ResultQueue) -> bool {
        if message.topic.len() > TOPIC_MAX || message.payload.len() > PAYLOAD_MAX {
            self.tally.add_lost(1);
            return true;
        }
        let Message {
            topic,
            payload,
            retain,
        } = message;
        let publish = self
            .client
            .publish(topic, QoS::AtLeastOnce, retain, payload);
        let end = async {
            results.closed().await;
            tokio::time::sleep(END_WITHIN).await;
        };
        tokio::select! {
            published = publish => {
                // It is refused for its topic only, which cannot be.
                self.sent += u64::from(published.is_ok());
                true
            }
            () = end => false,
        }
    }

    /// Counts what was not told.
    fn give_up(self, results: ResultQueue) {
        self.tally.add_lost(self.sent - self.link.borrow().done);
        results.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        assert!(tls(&ca).is_err());
        std::fs::write(&ca, "a letter").unwrap();
        assert_eq!(tls(&ca).unwrap_err(), "no certificate in it");
    }
}
