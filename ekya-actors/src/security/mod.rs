//! Who a node is, whom it talks to, and how both prove it.
//!
//! A site has a certificate authority. Every node, client and observer has a certificate of it with
//! two DNS names: the one that all peers have (`peer.ekya`), which is what TLS checks, and
//! `NAME.ROLE.ekya`, which says who it is. Both sides of a connection show theirs; what a peer says of
//! itself otherwise counts for nothing.

mod access;
pub mod authority;
mod identity;
pub(crate) mod tls;

pub use access::Access;
pub use identity::{Identity, IdentityError, Role, Who};

/// The DNS name that all certificates of a site carry.
pub(crate) const PEER: &str = "peer.ekya";

/// The domain of names.
pub(crate) const DOMAIN: &str = "ekya";
