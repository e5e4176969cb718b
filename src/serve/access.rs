//! Who may look: whoever has the token, or without one, whoever sits at this machine.
//!
//! A browser shows the token once, in the address, and has it in a cookie from then on. Without a token,
//! only requests to a name of the loopback are answered: else a page from elsewhere could have its own
//! name resolve to this machine, and read along.

use std::net::IpAddr;
use std::path::Path;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::ServeError;
use super::routes::Refusal;
use crate::config::{ServeConfig, TOKEN_VARIABLE};
use crate::secret::read_secret;

/// What is asked for without showing anything: whether the node is well.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];
const COOKIE_NAME: &str = "ekya_token";
/// Shorter ones can be guessed.
const TOKEN_MIN: usize = 16;

/// Who may look.
#[derive(Clone)]
pub(super) enum Access {
    /// Requests to a name of the loopback.
    Loopback,
    /// Whoever shows the token of this digest; digests are compared, so that the time it takes says
    /// nothing about the token.
    Token {
        digest: [u8; 32],
        /// Whether the cookie is for HTTPS only.
        secure: bool,
    },
}

impl Access {
    pub(super) fn new(config: &ServeConfig) -> Result<Self, ServeError> {
        let token = match &config.token_file {
            Some(path) => Some(read_token(path)?),
            None => std::env::var(TOKEN_VARIABLE).ok(),
        };
        let Some(token) = token else {
            let private = config.address().is_some_and(|one| one.ip().is_loopback());
            // Checked with the configuration, but then the variable may have been there.
            return if private {
                Ok(Self::Loopback)
            } else {
                Err(secret("token_file", "other machines may reach the address"))
            };
        };
        if token.len() < TOKEN_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(secret(
                "token_file",
                format!(
                    "a token has {TOKEN_MIN} or more printable characters without spaces; \
                     `openssl rand -hex 32` makes one"
                ),
            ));
        }
        Ok(Self::Token {
            digest: Sha256::digest(token.as_bytes()).into(),
            secure: config.certificate.is_some(),
        })
    }

    /// Whether a request with these headers may look.
    fn lets_in(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        match self {
            Self::Loopback => host(headers, uri).is_some_and(is_loopback),
            Self::Token { .. } => {
                let shown = bearer(headers).or_else(|| cookie(headers));
                shown.is_some_and(|token| self.is_token(token))
            }
        }
    }

    fn is_token(&self, token: &str) -> bool {
        match self {
            Self::Loopback => false,
            Self::Token { digest, .. } => {
                let shown: [u8; 32] = Sha256::digest(token.as_bytes()).into();
                shown == *digest
            }
        }
    }
}

/// Refuses, or lets the request through.
pub(super) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    if OPEN.contains(&uri.path()) {
        return next.run(request).await;
    }
    if let Some(token) = token_of_query(uri) {
        return greet(&access, token);
    }
    if access.lets_in(headers, uri) {
        return next.run(request).await;
    }
    match access {
        Access::Loopback => Refusal::new(
            StatusCode::FORBIDDEN,
            "ask for localhost or 127.0.0.1: without a token, other names are not answered",
        ),
        Access::Token { .. } => Refusal::new(
            StatusCode::UNAUTHORIZED,
            "show the token: in a browser open /?token=TOKEN once, else send 'Authorization: Bearer TOKEN'",
        ),
    }
    .into_response()
}

/// Gives the right token to the browser to keep, and has it ask again without.
fn greet(access: &Access, token: &str) -> Response {
    let &Access::Token { secure, .. } = access else {
        return (StatusCode::SEE_OTHER, [(LOCATION, "/")]).into_response();
    };
    if !access.is_token(token) {
        return Refusal::new(StatusCode::UNAUTHORIZED, "this is not the token").into_response();
    }
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    let headers = [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn token_of_query(uri: &Uri) -> Option<&str> {
    let query = uri.query().filter(|_| uri.path() == "/")?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(COOKIE).iter();
    let mut pairs = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split("; "));
    pairs.find_map(|pair| pair.strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

/// The name that was asked for, without its port.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()))?;
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => host.split(':').next(),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .parse()
        .is_ok_and(|address: IpAddr| address.is_loopback());
    address || host.eq_ignore_ascii_case("localhost")
}

fn read_token(path: &Path) -> Result<String, ServeError> {
    let token = read_secret(path);
    let token =
        token.map_err(|error| secret("token_file", format!("{}: {error}", path.display())))?;
    Ok(token.trim().to_owned())
}

pub(super) fn secret(key: &'static str, reason: impl Into<String>) -> ServeError {
    ServeError::Secret {
        key,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        let lets_in = |host| Access::Loopback.lets_in(&headers(HOST, host), &Uri::from_static("/"));
        for host in [
            "localhost",
            "LocalHost:7480",
            "127.0.0.1:7480",
            "[::1]:7480",
            "127.9.9.9",
        ] {
            assert!(lets_in(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:7480",
            "10.0.0.1",
            "",
            "[::2]",
        ] {
            assert!(!lets_in(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_shown_in_a_header_or_a_cookie() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let config = ServeConfig {
            token_file: Some(file),
            ..ServeConfig::default()
        };
        let access = Access::new(&config).unwrap();
        let lets_in = |name, value| access.lets_in(&headers(name, value), &Uri::from_static("/"));
        assert!(lets_in(AUTHORIZATION, "Bearer 0123456789abcdef"));
        assert!(lets_in(COOKIE, "a=b; ekya_token=0123456789abcdef"));
        assert!(!lets_in(AUTHORIZATION, "Bearer 0123456789abcdeF"));
        assert!(!lets_in(AUTHORIZATION, "0123456789abcdef"));
        assert!(!lets_in(COOKIE, "ekya_tokens=0123456789abcdef"));
        assert!(!lets_in(HOST, "localhost"));
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let config = ServeConfig {
            token_file: Some(file.clone()),
            ..ServeConfig::default()
        };
        for token in ["", "short\n", "with spaces and all of that"] {
            std::fs::write(&file, token).unwrap();
            assert!(Access::new(&config).is_err(), "{token:?}");
        }
    }
}
