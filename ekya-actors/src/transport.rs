//! How QUIC connections are set up: windows, streams, signs of life, certificates.

use std::sync::Arc;
use std::time::Duration;

use quinn::TransportConfig;

use crate::door::PLACES;
use crate::security::{Identity, IdentityError, tls};

/// Signs of life in the time after which a connection without any ends.
const KEEP_ALIVES: u32 = 5;
/// Bytes in flight from a peer, over all its streams, that this node buffers.
const RECEIVE_WINDOW: u32 = 16 << 20;
/// The same for one stream: what lies between sender and receiver is what a message waits behind
/// while a payload is on its way. Enough for a gigabit a second over two milliseconds; over a long
/// way, of 50 ms, a payload comes at 5 MB a second.
const STREAM_WINDOW: u32 = 256 << 10;

/// For those who dial this node.
///
/// # Errors
/// When TLS does not take the identity.
pub(crate) fn server(
    identity: &Identity,
    idle: Duration,
) -> Result<quinn::ServerConfig, IdentityError> {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls::server(identity)?));
    config.transport_config(transport(idle));
    config.max_incoming(PLACES);
    Ok(config)
}

/// For those whom this node dials.
///
/// # Errors
/// When TLS does not take the identity.
pub(crate) fn client(
    identity: &Identity,
    idle: Duration,
) -> Result<quinn::ClientConfig, IdentityError> {
    let mut config = quinn::ClientConfig::new(Arc::new(tls::client(identity)?));
    config.transport_config(transport(idle));
    Ok(config)
}

fn transport(idle: Duration) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(idle.try_into().ok())
        .keep_alive_interval(Some(idle / KEEP_ALIVES))
        .max_concurrent_bidi_streams(16_u32.into())
        .max_concurrent_uni_streams(16_u32.into())
        .receive_window(RECEIVE_WINDOW.into())
        .stream_receive_window(STREAM_WINDOW.into());
    Arc::new(transport)
}
