//! Why nodes do not connect, and why one does not listen.

use std::net::SocketAddr;

use thiserror::Error;

use crate::hello::HelloError;
use crate::link::Link;
use crate::security::IdentityError;

/// Why there is no connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody answers there, or TLS refuses one of the two.
    #[error("no connection to {address}: {why}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// The peer cannot be talked to.
    #[error("{who} cannot be talked to: {why}")]
    Hello {
        /// The peer.
        who: String,
        /// Why.
        why: HelloError,
    },
    /// The peer is not on the allow list, or its role is another.
    #[error("{0} is not let in here")]
    NotAllowed(String),
    /// The peer has no name that this site gives.
    #[error("the certificate of {0} names nobody")]
    Nameless(SocketAddr),
    /// It took too long.
    #[error("no greeting from {0} in time")]
    Late(SocketAddr),
    /// The peer closed the connection, or broke the protocol.
    #[error("{who} ended the connection: {why}")]
    Ended {
        /// The peer.
        who: String,
        /// What it said, or did.
        why: String,
    },
    /// Two nodes with the name of this one.
    #[error(
        "{0} has the name of this node: one of the two must be stopped, or given another certificate"
    )]
    OwnName(SocketAddr),
    /// More peers than a node keeps.
    #[error("{0} peers are known already")]
    TooMany(usize),
}

/// Why a node does not listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The port is in use, say.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS does not take the identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl ConnectError {
    pub(crate) fn unreachable(address: SocketAddr, why: &dyn std::error::Error) -> Self {
        let why = why.to_string();
        Self::Unreachable { address, why }
    }

    pub(crate) fn ended(link: &Link, why: &dyn std::error::Error) -> Self {
        Self::Ended {
            who: link.who().to_string(),
            why: why.to_string(),
        }
    }
}
