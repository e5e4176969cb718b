//! A certificate, its key, and the name and role in it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use webpki::EndEntityCert;

use super::DOMAIN;

/// Bytes of a name, as in DNS.
const NAME_MAX: usize = 63;

/// What a certificate allows its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs actors, and is a member of the cluster.
    Node,
    /// Calls actors, and spawns some.
    Client,
    /// Looks: at the state of nodes, and at no actor.
    Observer,
}

impl Role {
    /// Whether it may send messages to actors and fetch payloads.
    #[must_use]
    pub const fn may_call(self) -> bool {
        matches!(self, Self::Node | Self::Client)
    }
}

/// Who a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Who {
    /// Lower-case letters, digits and hyphens.
    #[serde(with = "crate::shared_text")]
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
}

/// A node's certificate and key, and the authorities that it trusts.
pub struct Identity {
    who: Who,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

/// Why there is no identity in what was given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Text that holds no certificate or key.
    #[error("no {what} in PEM format in {place}")]
    NotPem {
        /// What was looked for.
        what: &'static str,
        /// Where.
        place: String,
    },
    /// A certificate for nobody.
    #[error("the certificate names nobody: it needs a DNS name like edge-1.node.{DOMAIN}")]
    Nameless,
    /// No name.
    #[error("{0:?} is no name: lower-case letters, digits and hyphens, 1 to 63 of them")]
    Name(String),
    /// Certificate, key and authorities that TLS does not take.
    #[error("TLS refuses the certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// Authorities that TLS does not take.
    #[error("TLS refuses the authorities: {0}")]
    Authorities(String),
}

impl Identity {
    /// Reads `NAME.pem`, `NAME.key` and `ca.pem`, as `ekya certs` writes them, in a folder.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(folder: &Path, name: &str) -> Result<Self, IdentityError> {
        let read = |file: String| {
            let path = folder.join(file);
            let text = fs::read(&path);
            text.map_err(|source| IdentityError::Unreadable { path, source })
        };
        let certificate = read(format!("{name}.pem"))?;
        let key = read(format!("{name}.key"))?;
        Self::from_pem(&certificate, &key, &read("ca.pem".to_owned())?)
    }

    /// From a certificate (and what links it to an authority), its key, and the authorities to trust:
    /// two while they change over.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        authorities: &[u8],
    ) -> Result<Self, IdentityError> {
        let chain = certificates(certificate, "certificate")?;
        let authorities = certificates(authorities, "authority")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| not_pem("private key", "key"))?;
        let who = chain.first().and_then(Who::of_certificate);
        let identity = Self {
            who: who.ok_or(IdentityError::Nameless)?,
            chain,
            key,
            authorities,
        };
        // Whatever is wrong with it is said now, not at the first connection.
        super::tls::server(&identity)?;
        Ok(identity)
    }

    /// Whom it stands for.
    #[must_use]
    pub const fn who(&self) -> &Who {
        &self.who
    }
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

fn certificates(
    pem: &[u8],
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.ok().filter(|all| !all.is_empty());
    all.ok_or_else(|| not_pem("certificate", what))
}

fn not_pem(what: &'static str, place: &str) -> IdentityError {
    let place = format!("the {place}");
    IdentityError::NotPem { what, place }
}

impl Who {
    /// # Errors
    /// [`IdentityError::Name`].
    pub fn new(name: &str, role: Role) -> Result<Self, IdentityError> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = (1..=NAME_MAX).contains(&name.len())
            && name.bytes().all(letter)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !is_name {
            return Err(IdentityError::Name(name.to_owned()));
        }
        let name = name.into();
        Ok(Self { name, role })
    }

    /// The DNS name that says it.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.{}.{DOMAIN}", self.name, self.role)
    }

    /// Of a certificate that TLS has verified, or one's own.
    pub(crate) fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let mut names = certificate.valid_dns_names().filter_map(Self::from_dns);
        let who = names.next()?;
        // Two names would be a choice.
        names.next().is_none().then_some(who)
    }

    fn from_dns(name: &str) -> Option<Self> {
        let name = name.strip_suffix(DOMAIN)?.strip_suffix('.')?;
        let (name, role) = name.split_once('.')?;
        Self::new(name, role.parse().ok()?).ok()
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Client => "client",
            Self::Observer => "observer",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Node, Self::Client, Self::Observer];
        let role = all.into_iter().find(|role| role.to_string() == text);
        role.ok_or_else(|| format!("{text:?} is no role: node, client or observer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_dns() {
        let who = Who::new("edge-1", Role::Observer).unwrap();
        assert_eq!(who.dns_name(), "edge-1.observer.ekya");
        assert_eq!(Who::from_dns(&who.dns_name()), Some(who));
        for foreign in [
            "peer.ekya",
            "edge-1.king.ekya",
            "edge-1.node.other",
            "a.b.node.ekya",
        ] {
            assert_eq!(Who::from_dns(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        for name in ["", "Edge", "a.b", "-a", "a-", "ä", &long] {
            assert!(Who::new(name, Role::Node).is_err(), "{name}");
        }
    }
}
