//! Why a node cannot be one among others.

use std::io;
use std::path::PathBuf;

use ekya_actors::security::IdentityError;
use thiserror::Error;

/// Why a node cannot be one among others.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Its certificate cannot be used.
    #[error("node '{name}': {source}")]
    Identity {
        /// Its name in the configuration.
        name: String,
        /// What is wrong.
        source: IdentityError,
    },
    /// Its certificate is not one of a node, or is another one's.
    #[error(
        "node '{name}': its certificate is for {who}; `ekya certs issue {name}` makes one, in the site's folder"
    )]
    Role {
        /// Its name in the configuration.
        name: String,
        /// Whom the certificate names.
        who: String,
    },
    /// It could not be started.
    #[error(transparent)]
    Node(#[from] ekya_actors::NodeError),
    /// The term cannot be kept.
    #[error("{}: cannot keep the term in which nodes are led: {source}", path.display())]
    Term {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or an actor could not be started.
    #[error("cannot start: {0}")]
    Start(String),
}
