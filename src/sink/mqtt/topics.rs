//! Names of topics. Names of streams and classes may be anything; in a topic, a level of its own is made of
//! each.

use std::fmt::Write as _;

/// Levels beside the classes of a stream. A class of such a name is written in another way.
const RESERVED: [&str; 2] = [ALL, RESULTS];
const ALL: &str = "all";
const RESULTS: &str = "results";

/// The topics under a prefix.
#[derive(Debug, Clone)]
pub(super) struct Topics(String);

impl Topics {
    pub(super) fn new(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    /// Whether the node is there.
    pub(super) fn available(&self) -> String {
        format!("{}/available", self.0)
    }

    /// What is seen from when to when.
    pub(super) fn events(&self) -> String {
        format!("{}/events", self.0)
    }

    /// Frames a second.
    pub(super) fn stats(&self) -> String {
        format!("{}/stats", self.0)
    }

    /// How many objects of a class a stream sees.
    pub(super) fn count(&self, stream: &str, class: &str) -> String {
        let mut class = level(class);
        if RESERVED.contains(&class.as_str()) {
            let first = class.remove(0);
            class.insert_str(0, &format!("%{:02X}", u32::from(first)));
        }
        format!("{}/{}/{class}", self.0, level(stream))
    }

    /// How many objects a stream sees.
    pub(super) fn all(&self, stream: &str) -> String {
        format!("{}/{}/{ALL}", self.0, level(stream))
    }

    /// The result of every frame of a stream.
    pub(super) fn results(&self, stream: &str) -> String {
        format!("{}/{}/{RESULTS}", self.0, level(stream))
    }
}

/// A name as one level: what means something in topics is written as in URLs.
fn level(name: &str) -> String {
    let mut level = String::new();
    for one in name.chars() {
        if "/+#%".contains(one) || one.is_control() {
            let mut bytes = [0; 4];
            for byte in one.encode_utf8(&mut bytes).bytes() {
                // Writing to a string does not fail.
                let _ = write!(level, "%{byte:02X}");
            }
        } else {
            level.push(one);
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_one_level_each() {
        let topics = Topics::new("site/edge-1");
        for (stream, class, topic) in [
            ("gate", "car", "site/edge-1/gate/car"),
            (
                "north / harbour",
                "a+b#",
                "site/edge-1/north %2F harbour/a%2Bb%23",
            ),
            ("50%", "größe\u{0}", "site/edge-1/50%25/größe%00"),
            ("gate", "all", "site/edge-1/gate/%61ll"),
            ("gate", "results", "site/edge-1/gate/%72esults"),
        ] {
            assert_eq!(topics.count(stream, class), topic);
        }
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_topic(names in proptest::collection::btree_set(".{0,4}|all|results|%61ll", 0..8)) {
            let topics = Topics::new("ekya");
            let mut found: BTreeSet<_> = names.iter().map(|name| topics.count("gate", name)).collect();
            prop_assert!(found.iter().all(|topic| rumqttc::valid_topic(topic)));
            found.extend([topics.all("gate"), topics.results("gate")]);
            prop_assert_eq!(found.len(), names.len() + 2);
        }
    }
}
