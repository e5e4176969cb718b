//! The actor in front of a device: grants reach the ledger as messages.

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
    fn handle(&mut self, ApplyGrants(grants): ApplyGrants, _: &mut Ctx<Self>) {
        if let Err(error) = self.0.grant_all(&grants) {
            // The plan was checked against the capacity, so this is a bug; the old shares hold.
            tracing::error!(%error, "grants refused, the shares before stay in force");
        }
    }
}
