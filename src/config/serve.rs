//! The HTTP port of a node.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Config;
use super::flaw::Flaws;

/// Environment variable with the token, in place of a file.
pub const TOKEN_VARIABLE: &str = "EKYA_TOKEN";

/// What a node shows over HTTP: dashboard, API and metrics, on one port. Without `[serve]`, nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// IP address and TCP port that it listens at. Other than on the loopback, a token is asked for.
    pub listen: String,
    /// File whose first line is the token that clients have to show; `EKYA_TOKEN` in the environment
    /// does as well.
    #[schemars(extend("format" = "path"))]
    pub token_file: Option<PathBuf>,
    /// Certificates in PEM, the server's first: with `key`, the port speaks HTTPS.
    #[schemars(extend("format" = "path"))]
    pub certificate: Option<PathBuf>,
    /// The private key in PEM that belongs to the certificate.
    #[schemars(extend("format" = "path"))]
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
pub(super) fn check(config: &Config, flaws: &mut Flaws) {
    let Some(serve) = &config.serve else {
        return;
    };
    let Some(address) = serve.address() else {
        return flaws.add(
            "serve.listen",
            format!(
                "an IP address and a port, such as 127.0.0.1:7480, got '{}'",
                serve.listen
            ),
        );
    };
    flaws.require(
        serve.certificate.is_some() == serve.key.is_some(),
        if serve.key.is_some() {
            "serve.key"
        } else {
            "serve.certificate"
        },
        "certificate and key go together",
    );
    let loopback = address.ip().is_loopback();
    let has_token = serve.token_file.is_some() || std::env::var_os(TOKEN_VARIABLE).is_some();
    flaws.require(
        loopback || has_token,
        "serve.listen",
        format!(
            "other machines may reach this address: set token_file, or {TOKEN_VARIABLE} in the environment"
        ),
    );
    flaws.require(
        loopback || serve.certificate.is_some() || serve.plain,
        "serve.listen",
        "other machines may reach this address, and the token would travel unprotected: set \
         certificate and key, or plain = true where a proxy adds TLS or nobody else is on the network",
    );
}
