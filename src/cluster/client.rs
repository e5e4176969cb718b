//! Somebody who is no node of a site and talks to those that are.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use ekya_actors::security::Identity;
use ekya_actors::{Node, NodeError};

/// Time for a client to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A client on a runtime of its own.
pub(super) struct Client {
    pub(super) node: Node,
    pub(super) runtime: tokio::runtime::Runtime,
}

impl Client {
    /// Whoever `identity` is, to talk to the site that `address`, a `host:port`, is of.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn start(identity: Identity, address: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let node = Node::builder(identity).listen(own_address(address)).start();
        Ok(Self {
            node: node.map_err(|error: NodeError| error.to_string())?,
            runtime: runtime.map_err(|error| error.to_string())?,
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Nobody depends on a client that goes.
        drop(self.node.shutdown(END_WITHIN));
    }
}

/// Where to be reached by answers: anywhere, as nodes of the site that `site` is of may be reached at other
/// addresses than that, a loopback's among them.
fn own_address(site: &str) -> SocketAddr {
    let first = site.to_socket_addrs().ok().and_then(|mut all| all.next());
    match first {
        Some(SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}

/// Connects to the node at a `host:port`; its name.
///
/// # Errors
/// Why it cannot be reached.
pub(super) async fn connect(node: &Node, address: &str) -> Result<String, String> {
    let addresses = address
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    let mut why = "no such address".to_owned();
    for address in addresses.collect::<Vec<_>>() {
        match node.connect(address).await {
            Ok(who) => return Ok(who.name.to_string()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_reaches_nodes_of_the_family_that_was_asked_for() {
        let of = |site| own_address(site).to_string();
        // The other nodes need not be on the loopback, where the first one is asked.
        assert_eq!(of("127.0.0.1:7443"), "0.0.0.0:0");
        assert_eq!(of("192.0.2.1:7443"), "0.0.0.0:0");
        assert_eq!(of("[::1]:7443"), "[::]:0");
        assert_eq!(of("nonsense"), "0.0.0.0:0");
    }
}
