//! What a file of weights says about its network: which it is, what it knows, for which input.

use super::coco::coco_names;
use super::detector::Setup;
use super::network::Network;
use crate::checkpoint::Metadata;

/// Version of the metadata; files of a newer one are refused.
const VERSION: u32 = 1;

/// Keys of the metadata.
mod key {
    pub(super) const VERSION: &str = "ekya.version";
    pub(super) const NETWORK: &str = "network";
    pub(super) const CLASSES: &str = "classes";
    pub(super) const INPUT_SIDE: &str = "input_side";
}

/// What is said about a network that is saved.
pub(super) fn metadata<N: Network>(setup: &Setup) -> Metadata {
    [
        (key::VERSION, VERSION.to_string()),
        (key::NETWORK, N::NAME.to_owned()),
        (
            key::CLASSES,
            serde_json::Value::from(setup.classes.names()).to_string(),
        ),
        (key::INPUT_SIDE, setup.side.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Names of a network's outputs and side of its input; those of COCO and the published side when the
/// file says nothing. The error is the reason why it cannot be this network.
pub(super) fn describe<N: Network>(metadata: &Metadata) -> Result<(Vec<String>, usize), String> {
    let Some(network) = metadata.get(key::NETWORK) else {
        return Ok((coco_names(), N::SIDE));
    };
    if network != N::NAME {
        return Err(format!("holds a {network}, not a {}", N::NAME));
    }
    let version = parsed::<u32>(metadata, key::VERSION)?;
    if version > VERSION {
        return Err(format!(
            "version {version} is newer than {VERSION}, the newest known here; update ekya"
        ));
    }
    Ok((
        parsed(metadata, key::CLASSES)?,
        parsed(metadata, key::INPUT_SIDE)?,
    ))
}

/// A value of the metadata; numbers and lists of names are written as in JSON.
fn parsed<T: serde::de::DeserializeOwned>(metadata: &Metadata, key: &str) -> Result<T, String> {
    let text = metadata
        .get(key)
        .ok_or_else(|| format!("no {key} in its metadata"))?;
    serde_json::from_str(text).map_err(|error| format!("{key} in its metadata is {text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::coco::ClassMap;
    use super::super::fastestdet::FastestDetNetwork;
    use super::*;

    fn setup() -> Setup {
        let names = ["a \"b\"".to_owned(), "c".to_owned()];
        Setup {
            classes: ClassMap::new(&names, &names[1..]).unwrap(),
            side: 96,
        }
    }

    fn refusal(key: &str, value: &str) -> String {
        let mut metadata = metadata::<FastestDetNetwork>(&setup());
        metadata.insert(key.to_owned(), value.to_owned());
        describe::<FastestDetNetwork>(&metadata).unwrap_err()
    }

    #[test]
    fn what_is_said_is_read_back() {
        let (names, side) =
            describe::<FastestDetNetwork>(&metadata::<FastestDetNetwork>(&setup())).unwrap();
        assert_eq!((names.as_slice(), side), (setup().classes.names(), 96));
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        for (key, value, expected) in [
            (key::NETWORK, "other", "holds a other, not a fastestdet"),
            (key::VERSION, "2", "newer"),
            (key::CLASSES, "a, b", "classes"),
            (key::INPUT_SIDE, "-1", "input_side"),
        ] {
            let error = refusal(key, value);
            assert!(error.contains(expected), "{error}");
        }
    }
}
