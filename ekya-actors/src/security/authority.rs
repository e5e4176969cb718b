//! A certificate authority for development and for sites without one of their own.
//!
//! Its key signs certificates and is needed for nothing else: it stays where it is made, and on no
//! node.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use super::PEER;
use super::identity::Who;

/// What all authorities are called: which of them has signed, their keys tell.
const NAME: &str = "ekya site";

/// Clocks of edge devices may be behind by so much.
const CLOCK_DOUBT: Duration = Duration::hours(24);

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate and its key, in PEM format.
pub struct Issued {
    /// Public.
    pub certificate: String,
    /// Secret: the file must be its owner's alone.
    pub key: String,
}

/// Certificates could not be made.
#[derive(Debug, Error)]
#[error("certificates could not be made: {0}")]
pub struct AuthorityError(#[from] rcgen::Error);

impl Authority {
    /// A new one, valid for so many days from now.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn create(days: u32) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = authority_params();
        set_validity(&mut params, days);
        let certificate_pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            issuer,
            certificate_pem,
        })
    }

    /// One made earlier by [`create`](Self::create).
    ///
    /// # Errors
    /// When the key is none.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(key)?);
        Ok(Self {
            issuer,
            certificate_pem: certificate.to_owned(),
        })
    }

    /// Its certificate, which every node trusts, in PEM format.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key, in PEM format: secret.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a node, client or observer, valid for so many days from now.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn issue(&self, who: &Who, days: u32) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![PEER.to_owned(), who.dns_name()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let name = who.to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, days);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params
}

fn set_validity(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_DOUBT;
    params.not_after = now + Duration::days(days.into());
}
