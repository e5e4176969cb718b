//! The actor in front of a device: grants reach the ledger as messages.

use std::collections::BTreeSet;

use ekya_actors::{Actor, Ctx, Device, Grant, Handler, Message};

/// Put these grants in force together, from the next minibatch on.
#[derive(Debug, Clone)]
pub struct ApplyGrants(pub Vec<Grant>);

impl Message for ApplyGrants {
    type Reply = ();
}

/// Owns the right to change the shares of one device.
pub struct DeviceActor(pub Device);

impl Actor for DeviceActor {}

impl Handler<ApplyGrants> for DeviceActor {
    fn handle(&mut self, ApplyGrants(mut grants): ApplyGrants, _: &mut Ctx<Self>) {
        // A stream may have gone, with its jobs, while the grants were on their way: those of the others
        // hold all the same.
        let here: BTreeSet<_> = self.0.usage().into_iter().map(|used| used.job).collect();
        grants.retain(|grant| here.contains(&grant.job));
        if let Err(error) = self.0.grant_all(&grants) {
            // The plan was checked against the capacity, so this is a bug; the old shares hold.
            tracing::error!(%error, "grants refused, the shares before stay in force");
        }
    }
}
