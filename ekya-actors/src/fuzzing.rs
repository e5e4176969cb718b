//! What sees bytes of other nodes, for fuzz targets: whatever comes, it is understood or refused, and
//! never panics.

use std::time::Duration;

use bytes::BytesMut;

use crate::dialogue::Dialogue;
use crate::frame;
use crate::hello::{Hello, PREFIX, Prefix};
use crate::membership::{Detection, Member, Membership};
use crate::peer::Address;

/// A greeting.
pub fn greeting(bytes: &[u8]) {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return;
    };
    if let Ok(prefix) = Prefix::from_bytes(*prefix)
        && let Some(rest) = rest.get(..prefix.length)
    {
        let _ = Hello::from_rest(rest);
    }
}

/// Frames of a peer that has greeted: all that it brings about short of the actors.
pub fn frames(bytes: &[u8]) {
    let mut dialogue: Dialogue<u64> = Dialogue::new(1, true);
    let hello = Hello {
        incarnation: 2,
        address: String::new(),
        session: None,
        is_new: false,
        taken_in: 0,
    };
    if dialogue.greet(&hello, false, &mut Vec::new()).is_err() {
        return;
    }
    // Something to be answered: one ask and one stream.
    let session = dialogue.session().unwrap_or(0);
    let to = Address {
        actor: 1,
        message: 1,
        version: 1,
        trace: 0,
    };
    let _ = dialogue.ask(session, to, &[], 1000, 1);
    let _ = dialogue.stream(session, to, &[], 4, 2);
    let mut read = BytesMut::from(bytes);
    while let Ok(Some(frame)) = frame::take(&mut read) {
        if dialogue.receive(1, frame).is_err() {
            break;
        }
        let mut out = BytesMut::new();
        let _ = dialogue.write(1, &mut out, 1 << 16, true);
    }
}

/// A packet of the membership's gossip.
pub fn packet(bytes: &[u8]) {
    let me = Member {
        name: "a".into(),
        address: "127.0.0.1:1".into(),
        incarnation: 1,
        rejoined: 0,
    };
    let mut membership = Membership::new(me, Detection::default(), 3, 1);
    membership.receive(Duration::ZERO, "b", bytes);
    membership.tick(Duration::from_secs(1));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// What the fuzz targets begin with, and what is one change away from it.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new("../fuzz/seeds").join(target);
        let files = fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        let seeds: Vec<_> = files.map(|file| fs::read(file).unwrap()).collect();
        assert!(!seeds.is_empty(), "{} is empty", folder.display());
        seeds
    }

    #[test]
    fn seeds_and_their_neighbours_do_no_harm() {
        for (target, run) in [
            ("greeting", greeting as fn(&[u8])),
            ("frames", frames),
            ("packet", packet),
        ] {
            for seed in seeds(target) {
                run(&seed);
                for at in 0..seed.len() {
                    for byte in [0, 1, 0x7f, 0xff] {
                        let mut near = seed.clone();
                        near[at] = byte;
                        run(&near);
                        run(&near[..at]);
                    }
                }
            }
        }
    }

    /// The seeds are of the present version.
    #[test]
    fn seeds_are_understood() {
        let hello = &seeds("greeting")[0];
        let (prefix, rest) = hello.split_at(PREFIX);
        assert!(Prefix::from_bytes(prefix.try_into().unwrap()).is_ok());
        assert!(Hello::from_rest(rest).is_ok());
        let mut read = BytesMut::from(&seeds("frames")[0][..]);
        let mut count = 0;
        while let Some(frame) = frame::take(&mut read).unwrap() {
            count += 1;
            assert_eq!(frame.number, count);
        }
        assert!(count >= 8);
    }

    proptest! {
        #[test]
        fn noise_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
            greeting(&bytes);
            frames(&bytes);
            packet(&bytes);
        }
    }
}
