//! The HTTP port of a node.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Config;
use super::validate::{Checked, require};

/// Environment variable with the token, in place of a file.
pub const TOKEN_VARIABLE: &str = "EKYA_TOKEN";

/// What a node shows over HTTP: dashboard, API and metrics, on one port. Without `[serve]`, nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Address and port that it listens at. Other than on the loopback, a token is asked for.
    pub listen: String,
    /// File whose first line is the token that clients have to show; `EKYA_TOKEN` in the environment
    /// does as well.
    pub token_file: Option<PathBuf>,
    /// Certificates in PEM, the server's first: with `key`, the port speaks HTTPS.
    pub certificate: Option<PathBuf>,
    /// The private key in PEM that belongs to it.
    pub key: Option<PathBuf>,
    /// Whether it may speak plain HTTP other than on the loopback: for a proxy that adds TLS, or a
    /// network that nobody else is on.
    pub plain: bool,
    /// Whether frames of the cameras may be seen.
    pub pictures: bool,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7480".to_owned(),
            token_file: None,
            certificate: None,
            key: None,
            plain: false,
            pictures: true,
        }
    }
}

impl ServeConfig {
    /// Where it listens, if that is an address.
    #[must_use]
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }
}

/// Checks what can be checked without reading files.
pub(super) fn check(config: &Config) -> Checked {
    let Some(serve) = &config.serve else {
        return Ok(());
    };
    require(
        serve.address().is_some(),
        "serve.listen",
        format!(
            "an IP address and a port, such as 127.0.0.1:7480, got '{}'",
            serve.listen
        ),
    )?;
    require(
        serve.certificate.is_some() == serve.key.is_some(),
        if serve.key.is_some() {
            "serve.key"
        } else {
            "serve.certificate"
        },
        "certificate and key go together",
    )?;
    let loopback = serve.address().is_some_and(|one| one.ip().is_loopback());
    let has_token = serve.token_file.is_some() || std::env::var_os(TOKEN_VARIABLE).is_some();
    require(
        loopback || has_token,
        "serve.listen",
        format!(
            "other machines may reach this address: set token_file, or {TOKEN_VARIABLE} in the environment"
        ),
    )?;
    require(
        loopback || serve.certificate.is_some() || serve.plain,
        "serve.listen",
        "other machines may reach this address, and the token would travel unprotected: set \
         certificate and key, or plain = true where a proxy adds TLS or nobody else is on the network",
    )
}
