//! Retrainings of other nodes' students on this node's devices, as the scheduler grants them shares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekya_actors::{Ctx, Grant, JobId};
use ekya_sched::Share;
use parking_lot::Mutex;

use super::actor::SchedulerActor;
use super::device::ApplyGrants;
use crate::planning::Guest;

/// For so long a guest has its share without anybody saying so again: whoever leads plans oftener.
const LAPSES_AFTER: Duration = Duration::from_secs(15);

/// The guests that are here: by node and stream, the device and the job.
pub type Guests = Arc<Mutex<BTreeMap<(String, String), (usize, JobId)>>>;

impl SchedulerActor {
    /// Grants what was decided for guests, beside what the node's own jobs get; nothing to those of whom
    /// nothing was said, since the plan has given their shares to others.
    pub(super) fn grant_guests(&self, grants: &mut [Vec<Grant>]) {
        for ((of, stream), &(device, job)) in &*self.setup.guests.lock() {
            let decided = self.decided_for(of, stream);
            let decided = decided.filter(|guest| guest.device == device);
            let nothing = || self.grant(job, Share::ZERO);
            if let Some(grants) = grants.get_mut(device) {
                grants.push(decided.map_or_else(nothing, |guest| self.guest_grant(job, guest)));
            }
        }
    }

    fn decided_for(&self, of: &str, stream: &str) -> Option<&Guest> {
        let mut guests = self.guests.iter();
        guests.find(|guest| guest.of == of && guest.stream == stream)
    }

    fn guest_grant(&self, job: JobId, guest: &Guest) -> Grant {
        Grant {
            expires: Some(Instant::now() + LAPSES_AFTER),
            ..self.grant(job, guest.share)
        }
    }

    /// A guest has come, for which a share may have been decided before.
    pub(super) fn guest_came(&mut self, of: &str, stream: &str, _: &Ctx<Self>) {
        let key = (of.to_owned(), stream.to_owned());
        let here = self.setup.guests.lock().get(&key).copied();
        let decided = self.decided_for(of, stream).cloned();
        let (Some((device, job)), Some(guest)) = (here, decided) else {
            return;
        };
        self.sequence += 1;
        let grants = ApplyGrants(vec![self.guest_grant(job, &guest)]);
        if let Some((_, actor)) = self.setup.devices.get(device)
            && let Err(error) = actor.tell(grants)
        {
            tracing::error!(%error, "a device does not take grants");
        }
    }
}
