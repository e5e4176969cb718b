//! The actor in front of a device: grants reach the ledger as messages.

use std::collections::BTreeSet;

use ekya_actors::{Actor, Ctx, Device, Grant, Handler, JobId, JobUsage, Message};
use ekya_sched::Share;

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
        fit(&mut grants, &self.0.usage());
        if let Err(error) = self.0.grant_all(&grants) {
            // They were made to fit, so this is a bug; the old shares hold.
            tracing::error!(%error, "grants refused, the shares before stay in force");
        }
    }
}

/// Makes grants such that the device takes them as it is `now`, when they have come: plans come close upon
/// each other, and what one has granted to a guest or a new stream is not known yet where the next is made.
///
/// Grants to jobs that have gone meanwhile are left out. Shares become smaller, in proportion, where they
/// do not fit beside what jobs that the grants do not name have now: streams and guests that the decisions
/// do not know, or of which they know nothing any more.
fn fit(grants: &mut Vec<Grant>, now: &[JobUsage]) {
    let here: BTreeSet<JobId> = now.iter().map(|used| used.job).collect();
    grants.retain(|grant| here.contains(&grant.job));
    let named: BTreeSet<JobId> = grants.iter().map(|grant| grant.job).collect();
    let others = now.iter().filter(|used| !named.contains(&used.job));
    let kept: u64 = others.map(|used| u64::from(used.share.micro())).sum();
    let room = u64::from(Share::WHOLE.micro()).saturating_sub(kept);
    let wanted = grants.iter().map(|grant| u64::from(grant.share.micro()));
    let sum: u64 = wanted.sum();
    if sum > room {
        for grant in grants {
            // Below a whole device.
            let micro = u64::from(grant.share.micro()) * room / sum;
            grant.share = Share::from_micro(micro as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use ekya_actors::{Device, JobHandle};
    use proptest::prelude::*;

    use super::*;

    /// Grants to jobs of a device, among others that have shares already.
    fn fitted(shares: &[u32], others: &[u32]) -> Vec<u32> {
        let device = Device::new("cpu0", 1);
        let share = |micro: &u32| Share::from_micro(*micro);
        let kept = (others.iter()).map(|micro| device.job_with("another job", share(micro)));
        let _kept: Vec<_> = kept.collect::<Result<_, _>>().unwrap();
        let jobs: Vec<_> = shares.iter().map(|_| device.job("a job")).collect();
        let grant = |(job, micro): (&JobHandle, &u32)| Grant {
            job: job.id(),
            share: share(micro),
            term: 1,
            sequence: 1,
            expires: None,
        };
        let mut grants: Vec<_> = jobs.iter().zip(shares).map(grant).collect();
        fit(&mut grants, &device.usage());
        device.grant_all(&grants).unwrap();
        grants.iter().map(|grant| grant.share.micro()).collect()
    }

    #[test]
    fn what_is_too_much_shrinks_in_proportion() {
        assert_eq!(
            fitted(&[600_000, 300_000, 300_000], &[]),
            [500_000, 250_000, 250_000]
        );
        assert_eq!(fitted(&[600_000, 400_000], &[]), [600_000, 400_000]);
        assert!(fitted(&[], &[]).is_empty());
    }

    #[test]
    fn a_stream_that_no_decision_knows_yet_keeps_its_share() {
        assert_eq!(fitted(&[600_000, 400_000], &[150_000]), [510_000, 340_000]);
        assert_eq!(fitted(&[500_000], &[150_000]), [500_000]);
    }

    #[test]
    fn a_job_that_has_gone_does_not_cost_the_others_their_grants() {
        let device = Device::new("cpu0", 1);
        let stays = device.job("stays");
        let goes = device.job("goes");
        let grant = |job: &JobHandle| Grant {
            job: job.id(),
            share: Share::from_micro(500_000),
            term: 1,
            sequence: 1,
            expires: None,
        };
        let mut grants = vec![grant(&goes), grant(&stays)];
        drop(goes);
        fit(&mut grants, &device.usage());
        device.grant_all(&grants).unwrap();
        assert_eq!(stays.usage().share, Share::from_micro(500_000));
    }

    proptest! {
        #[test]
        fn a_device_takes_what_was_made_to_fit(
            shares in prop::collection::vec(0..=1_000_000_u32, 0..12),
            others in prop::collection::vec(0..=200_000_u32, 0..5),
        ) {
            fitted(&shares, &others);
        }
    }
}
