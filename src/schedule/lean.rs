//! Leans what a plan gives towards inference.
//!
//! A plan's shares are what jobs need in the mean. Frames cannot wait for a mean: one that comes
//! while others compute has to be served soon. The device's queue is work-conserving, so what
//! inference is given beyond its need training gets back as soon as no frame waits; it loses its
//! turn, not its time.

use ekya_sched::Share;

/// Inference gets so many thirds more than it needs. Without, three frames of a hundred were dropped
/// beside training on the demo's middle load, and none with it, at equal or better accuracy.
const THIRDS_MORE: u64 = 2;

/// Shares of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) device: usize,
    pub(super) inference: Share,
    pub(super) training: Share,
}

/// Gives inference more at the cost of the training on its device, which keeps at least half; the sum
/// stays what it is, but for what rounding down leaves over.
pub(super) fn lean(granted: &mut [Granted], devices: usize) {
    for device in 0..devices {
        let here = || granted.iter().filter(|one| one.device == device);
        let inference: u64 = here().map(|one| u64::from(one.inference.micro())).sum();
        let training: u64 = here().map(|one| u64::from(one.training.micro())).sum();
        let moved = (THIRDS_MORE * inference / 3).min(training / 2);
        if moved == 0 {
            continue;
        }
        // No more than the share itself, since no more than the whole moves.
        let part = |share: Share, whole: u64| u64::from(share.micro()) * moved / whole;
        for one in granted.iter_mut().filter(|one| one.device == device) {
            let gets = part(one.inference, inference.max(1)) as u32;
            let pays =
                part(one.training, training.max(1)) as u32 + u32::from(one.training > Share::ZERO);
            one.inference = Share::from_micro(one.inference.micro() + gets);
            one.training = one.training.saturating_sub(Share::from_micro(pays));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn granted(device: usize, inference: u32, training: u32) -> Granted {
        Granted {
            device,
            inference: Share::from_micro(inference),
            training: Share::from_micro(training),
        }
    }

    #[test]
    fn training_pays_in_proportion_on_its_own_device() {
        let mut shares = [
            granted(0, 300_000, 0),
            granted(0, 0, 500_000),
            granted(1, 900_000, 0),
        ];
        lean(&mut shares, 2);
        assert_eq!(
            shares,
            [
                granted(0, 500_000, 0),
                granted(0, 0, 299_999),
                granted(1, 900_000, 0),
            ]
        );
    }

    #[test]
    fn training_keeps_half() {
        let mut shares = [granted(0, 800_000, 100_000)];
        lean(&mut shares, 1);
        assert_eq!(shares, [granted(0, 850_000, 49_999)]);
    }

    proptest! {
        #[test]
        fn no_device_gets_fuller(
            shares in prop::collection::vec((0..3_usize, 0..400_000_u32, 0..400_000_u32), 0..8),
        ) {
            let mut shares: Vec<Granted> = shares
                .into_iter()
                .map(|(device, inference, training)| granted(device, inference, training))
                .collect();
            let sum = |shares: &[Granted], device: usize| -> u64 {
                let here = shares.iter().filter(|one| one.device == device);
                here.map(|one| u64::from(one.inference.micro() + one.training.micro())).sum()
            };
            let before = shares.clone();
            lean(&mut shares, 3);
            for device in 0..3 {
                let (before, after) = (sum(&before, device), sum(&shares, device));
                prop_assert!(after <= before && before - after <= 16);
            }
            for (before, after) in before.iter().zip(&shares) {
                prop_assert!(after.inference >= before.inference);
                prop_assert!(after.training.micro() + 2 >= before.training.micro() / 2);
            }
        }
    }
}
