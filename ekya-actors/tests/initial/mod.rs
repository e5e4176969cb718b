//! The first packets of QUIC connections (RFC 9000 and 9001), made by hand: what a node gets that is
//! flooded with them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::Side;
use rustls::pki_types::ServerName;
use rustls::quic::{ClientConnection, Suite, Version};

/// Bytes of a first packet, at least.
const PACKET: usize = 1200;
/// Bytes of the names that the two sides of a connection give it.
const NAME: usize = 8;
/// Bytes of a packet's number.
const NUMBER: usize = 4;
/// Bytes of an authentication tag.
const TAG: usize = 16;
/// First packets sent before answers are waited for.
const AT_ONCE: u64 = 8;
/// How long the next answer is waited for. A node answers every one of them, so that they come as fast as
/// it takes them, and its buffer has room for those of others.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);

/// Begins connections and goes on with none.
pub(crate) struct Beginner {
    socket: UdpSocket,
    shows_address: bool,
    suite: Suite,
    /// What it says in TLS, the same every time.
    hello: Vec<u8>,
}

impl Beginner {
    /// One that shows, where it is asked to, that it gets what is sent to it; or one that does not.
    pub(crate) fn new(target: SocketAddr, shows_address: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(target).unwrap();
        socket.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        Self {
            socket,
            shows_address,
            suite: suite(),
            hello: client_hello(),
        }
    }

    /// Begins some connections, and waits for what is answered to them. How many.
    pub(crate) fn begin_some(&self) -> u64 {
        for _ in 0..AT_ONCE {
            let name: [u8; NAME] = rand::random();
            // A full buffer is the node's to deal with.
            let _ = self.socket.send(&self.initial(&name, &[]));
        }
        let mut packet = [0; 2048];
        for _ in 0..AT_ONCE {
            let Ok(length) = self.socket.recv(&mut packet) else {
                break;
            };
            if let Some((name, token)) = retry(&packet[..length]).filter(|_| self.shows_address) {
                let _ = self.socket.send(&self.initial(name, token));
            }
        }
        AT_ONCE
    }

    /// The first packet of a connection that the other side is to call `name`.
    fn initial(&self, name: &[u8], token: &[u8]) -> Vec<u8> {
        let mut packet = vec![0b1100_0000 | (NUMBER as u8 - 1), 0, 0, 0, 1];
        for name in [name, &[0; NAME]] {
            packet.push(name.len() as u8);
            packet.extend(name);
        }
        packet.extend(two_bytes(token.len()));
        packet.extend(token);
        let number = packet.len() + 2;
        let body = PACKET - number - NUMBER - TAG;
        packet.extend(two_bytes(NUMBER + body + TAG));
        packet.extend([0; NUMBER]);
        // A piece of TLS, from its beginning; zeros fill the rest.
        let mut payload = vec![6, 0];
        payload.extend(two_bytes(self.hello.len()));
        payload.extend(&self.hello);
        payload.resize(body, 0);
        let keys = self.suite.keys(name, Side::Client, Version::V1).local;
        let tag = keys.packet.encrypt_in_place(0, &packet, &mut payload);
        packet.extend(payload);
        packet.extend(tag.unwrap().as_ref());
        let (header, sample) = packet.split_at_mut(number + NUMBER);
        let (first, rest) = header.split_first_mut().unwrap();
        let protected = &mut rest[number - 1..];
        let hidden = keys
            .header
            .encrypt_in_place(&sample[..TAG], first, protected);
        hidden.unwrap();
        packet
    }
}

/// Of a packet that asks to come again: the name and the token to come with.
fn retry(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = packet.split_first()?;
    if first & 0xf0 != 0xf0 {
        return None;
    }
    let rest = rest.get(4..)?;
    let (&length, rest) = rest.split_first()?;
    let (_ours, rest) = rest.split_at_checked(length.into())?;
    let (&length, rest) = rest.split_first()?;
    let (theirs, rest) = rest.split_at_checked(length.into())?;
    Some((theirs, rest.get(..rest.len().checked_sub(TAG)?)?))
}

/// A length as QUIC writes it, in two bytes.
fn two_bytes(length: usize) -> [u8; 2] {
    (0x4000 | length as u16).to_be_bytes()
}

/// What first packets are protected with, whatever is spoken later.
fn suite() -> Suite {
    let suites = rustls::crypto::ring::ALL_CIPHER_SUITES.iter();
    let aes = |suite: &&rustls::SupportedCipherSuite| {
        suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
    };
    let suite = suites.filter(aes).find_map(|suite| suite.tls13());
    suite.unwrap().quic_suite().unwrap()
}

/// The beginning of TLS, as a node has it.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"ekya/1".to_vec()];
    // The name that this side gives the connection.
    let mut parameters = vec![0x0f, NAME as u8];
    parameters.extend([0; NAME]);
    let name = ServerName::try_from("peer.ekya").unwrap();
    let config = Arc::new(config);
    let mut connection = ClientConnection::new(config, Version::V1, name, parameters).unwrap();
    let mut hello = Vec::new();
    connection.write_hs(&mut hello);
    hello
}
