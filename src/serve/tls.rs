//! The certificate that the port shows.

use std::path::Path;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ServeError;
use super::access::secret;
use crate::config::ServeConfig;

/// A certificate and its key.
pub(super) struct Tls(Arc<ServerConfig>);

impl Tls {
    /// What is configured, if anything is.
    pub(super) fn of(config: &ServeConfig) -> Result<Option<Self>, ServeError> {
        let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
            return Ok(None);
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable("certificate", certificate, &error))?;
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("key", key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let config = builder
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain, private)
            })
            .map_err(|error| unreadable("certificate", certificate, &error))?;
        Ok(Some(Self(Arc::new(config))))
    }

    pub(super) fn config(self) -> RustlsConfig {
        RustlsConfig::from_config(self.0)
    }
}

fn unreadable(key: &'static str, path: &Path, error: &dyn std::error::Error) -> ServeError {
    secret(key, format!("{}: {error}", path.display()))
}
