//! What a classifier's file of weights says about its network.

use super::tensors::Metadata;
use crate::{Architecture, ArchitectureError};

/// Version of the metadata; files of a newer one are refused. Raise it, too, when a network changes
/// in a way that the shapes of its tensors do not show (a stride, the scaling of crops).
const VERSION: u32 = 1;

/// More classes, or more neurons in a head, than any file may claim.
const SIZE_MAX: usize = 1 << 20;

/// Keys of the metadata.
mod key {
    pub(super) const VERSION: &str = "ekya.version";
    pub(super) const ARCHITECTURE: &str = "architecture";
    pub(super) const CLASSES: &str = "classes";
    pub(super) const HEAD_WIDTH: &str = "head_width";
    pub(super) const INPUT_SIDE: &str = "input_side";
}

/// Which network a file's tensors belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) architecture: Architecture,
    pub(crate) classes: usize,
    pub(crate) head_width: usize,
    /// Side of the crops at full resolution, in pixels.
    pub(crate) input_side: usize,
}

impl Description {
    /// What a file says of it.
    pub(crate) fn metadata(&self) -> Metadata {
        let Self {
            architecture,
            classes,
            head_width,
            input_side,
        } = self;
        [
            (key::VERSION, VERSION.to_string()),
            (key::ARCHITECTURE, architecture.to_string()),
            (key::CLASSES, classes.to_string()),
            (key::HEAD_WIDTH, head_width.to_string()),
            (key::INPUT_SIDE, input_side.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// What a file says, version first.
    ///
    /// # Errors
    /// The reason why it is of no network that is known here.
    pub(crate) fn of(metadata: &Metadata) -> Result<Self, String> {
        let version: u32 = number(metadata, key::VERSION)?;
        if version > VERSION {
            return Err(format!(
                "version {version} is newer than {VERSION}, the newest known here; update ekya"
            ));
        }
        let name = value(metadata, key::ARCHITECTURE)?;
        let architecture: Architecture = name
            .parse()
            .map_err(|error: ArchitectureError| error.to_string())?;
        let size = |key| match number::<usize>(metadata, key)? {
            size @ 1..=SIZE_MAX => Ok(size),
            size => Err(format!("{key} is {size}, expected 1 to {SIZE_MAX}")),
        };
        Ok(Self {
            architecture,
            classes: size(key::CLASSES)?,
            head_width: size(key::HEAD_WIDTH)?,
            input_side: size(key::INPUT_SIDE)?,
        })
    }
}

fn value<'a>(metadata: &'a Metadata, key: &str) -> Result<&'a str, String> {
    metadata
        .get(key)
        .map(String::as_str)
        .ok_or_else(|| format!("not written by ekya: no {key} in its metadata"))
}

fn number<T: std::str::FromStr>(metadata: &Metadata, key: &str) -> Result<T, String> {
    let text = value(metadata, key)?;
    text.parse()
        .map_err(|_| format!("{key} is \"{text}\", expected a number"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::{Device, Kind, Tensor};

    use super::super::tensors::{Tensors, save};
    use super::*;
    use crate::{Classifier, ModelError, Placement};

    const SMALL: Description = Description {
        architecture: Architecture::Small,
        classes: 4,
        head_width: 8,
        input_side: 32,
    };

    fn reason(path: &Path) -> String {
        match Classifier::load(path, Placement::Cpu) {
            Err(ModelError::BadFile { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn metadata(changed: &str, to: &str) -> Metadata {
        let entries = [
            (key::VERSION, "1"),
            (key::ARCHITECTURE, "small"),
            (key::CLASSES, "4"),
            (key::HEAD_WIDTH, "8"),
            (key::INPUT_SIDE, "32"),
        ];
        let change = |(key, value): (&str, &str)| {
            (
                key.to_owned(),
                if key == changed { to } else { value }.to_owned(),
            )
        };
        entries.map(change).into()
    }

    #[test]
    fn metadata_is_read_back() {
        assert_eq!(Description::of(&metadata("", "")), Ok(SMALL));
    }

    #[test]
    fn metadata_that_cannot_be_right_is_refused() {
        for (key, value, expected) in [
            (key::VERSION, "2", "newer"),
            (key::VERSION, "one", "expected a number"),
            (key::ARCHITECTURE, "large", "large"),
            (key::CLASSES, "0", "classes is 0"),
            (key::HEAD_WIDTH, "99999999", "expected 1 to"),
            (key::INPUT_SIDE, "0", "input_side is 0"),
        ] {
            let refused = Description::of(&metadata(key, value)).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn what_is_said_is_read_back() {
        assert_eq!(Description::of(&SMALL.metadata()), Ok(SMALL));
    }

    /// Undamaged, but of another network than the file says.
    #[test]
    fn tensors_of_another_network_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("student.safetensors");
        let refused = |description: Description, tensors: &Tensors| {
            save(&path, description.metadata(), tensors).unwrap();
            reason(&path)
        };
        let own = network(SMALL);
        let with = |description| refused(description, &own);
        assert!(
            with(Description {
                classes: 5,
                ..SMALL
            })
            .contains("head.output.weight has shape [4, 8]")
        );
        assert!(
            with(Description {
                head_width: 9,
                ..SMALL
            })
            .contains("expected [9, 96]")
        );
        assert!(
            with(Description {
                architecture: Architecture::Teacher,
                ..SMALL
            })
            .contains("block0")
        );
        let mut fewer = network(SMALL);
        fewer.remove("head.output.bias");
        assert!(refused(SMALL, &fewer).contains("head.output.bias is missing"));
        let mut more = network(SMALL);
        let stray = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        more.insert("stray".to_owned(), stray);
        assert!(refused(SMALL, &more).contains("stray"));
    }

    fn network(description: Description) -> Tensors {
        let Description {
            architecture,
            classes,
            head_width,
            ..
        } = description;
        let classifier =
            Classifier::new(architecture, classes, head_width, Placement::Cpu, 1).unwrap();
        classifier
            .tensors()
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect()
    }
}
