//! TLS for both ends: version 1.3, certificates on both sides, one provider of cryptography.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::identity::{Identity, IdentityError};
use crate::hello::MAJOR;

/// What a connection is for; refused at once between major versions.
fn protocol() -> Vec<u8> {
    format!("ekya/{MAJOR}").into_bytes()
}

/// # Errors
/// When certificate, key and authorities are not what TLS takes.
pub(crate) fn server(identity: &Identity) -> Result<QuicServerConfig, IdentityError> {
    let provider = provider();
    let roots = Arc::new(roots(identity)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| IdentityError::Authorities(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![protocol()];
    // Nothing is taken before the handshake is over, and none is abridged: a revoked peer would come
    // back by a ticket.
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(config).map_err(unsuitable)
}

/// # Errors
/// As [`server`].
pub(crate) fn client(identity: &Identity) -> Result<QuicClientConfig, IdentityError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![protocol()];
    config.resumption = rustls::client::Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(unsuitable)
}

/// Named, because rustls panics where a program has two and neither is.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(identity: &Identity) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for authority in &identity.authorities {
        roots.add(authority.clone())?;
    }
    Ok(roots)
}

fn unsuitable(_: quinn::crypto::rustls::NoInitialCipherSuite) -> IdentityError {
    IdentityError::Authorities("no cipher suite for QUIC".to_owned())
}
