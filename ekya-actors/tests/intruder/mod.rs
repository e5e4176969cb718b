//! A peer that has a certificate and holds to nothing: bare quinn, for tests.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Role, Who};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name that all certificates of a site carry.
const PEER: &str = "peer.ekya";

pub(crate) struct Intruder {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

impl Intruder {
    /// With a certificate of `own` for `name`, trusting `trusted`.
    pub(crate) fn new(own: &Authority, trusted: &Authority, name: &str, protocol: &[u8]) -> Self {
        let who = Who::new(name, Role::Node).unwrap();
        let issued = own.issue(&who, 1).unwrap();
        Self::with(&issued.certificate, &issued.key, trusted, protocol)
    }

    /// With this certificate and its key.
    pub(crate) fn with(certificate: &str, key: &str, trusted: &Authority, protocol: &[u8]) -> Self {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(trusted.certificate())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![der(certificate)], key)
            .unwrap();
        config.alpn_protocols = vec![protocol.to_vec()];
        let mut config =
            quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
        let mut transport = quinn::TransportConfig::default();
        transport.max_idle_timeout(Some(Duration::from_secs(10).try_into().unwrap()));
        config.transport_config(Arc::new(transport));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = quinn::Endpoint::client(any).unwrap();
        Self { endpoint, config }
    }

    /// # Errors
    /// When TLS fails.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), address, PEER);
        connecting.unwrap().await
    }

    /// Says `bytes` where a greeting belongs; why the other side has closed the connection.
    pub(crate) async fn say(&self, address: SocketAddr, bytes: &[u8]) -> quinn::ConnectionError {
        let connection = match self.connect(address).await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        if let Ok((mut send, recv)) = connection.open_bi().await {
            // It may be closed before all is said.
            let _ = send.write_all(bytes).await;
            let why = connection.closed().await;
            drop((send, recv));
            return why;
        }
        connection.closed().await
    }
}

/// A greeting of an honest node, of the protocol's present version.
pub(crate) fn greeting() -> Vec<u8> {
    let mut rest = Vec::new();
    // Incarnation, an empty address, no session, not new, nothing taken in.
    rest.extend(7_u64.to_le_bytes());
    rest.extend(0_u64.to_le_bytes());
    rest.push(0);
    rest.push(0);
    rest.extend(0_u64.to_le_bytes());
    let mut bytes = b"EKYA".to_vec();
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.push(1);
    bytes.extend((rest.len() as u16).to_le_bytes());
    bytes.extend(rest);
    bytes
}

/// The header of a frame.
pub(crate) fn header(length: u32, kind: u8, number: u64) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend([0; 3]);
    bytes.extend(number.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes
}
