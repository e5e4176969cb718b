//! What a file of weights gives a backbone, tensor by tensor.

use std::fmt;

/// What a file of weights gives a backbone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackboneReport {
    /// Tensors that were loaded, from the input on.
    pub loaded: Vec<String>,
    /// Tensors that the file lacks, from the input on.
    pub missing: Vec<String>,
    /// Tensors that have another shape in the file, from the input on.
    pub misfits: Vec<Misfit>,
    /// Tensors of the file for which there is no place.
    pub unknown: Vec<String>,
    /// Whether a tensor is there after one that is missing, or a layer is there in part.
    gap: bool,
}

/// A tensor that has another shape in a file than in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Its name.
    pub name: String,
    /// The network's shape.
    pub expected: Vec<i64>,
    /// The file's shape.
    pub found: Vec<i64>,
}

impl fmt::Display for BackboneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors fit", self.loaded.len())?;
        if let [first, ..] = &*self.misfits {
            let Misfit {
                name,
                expected,
                found,
            } = first;
            let count = self.misfits.len();
            write!(
                f,
                ", {count} have another shape (first {name}: {found:?}, expected {expected:?})"
            )?;
        }
        for (names, what) in [(&self.missing, "missing"), (&self.unknown, "unknown")] {
            if let [first, ..] = &**names {
                write!(f, ", {} are {what} (first {first})", names.len())?;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "torch")]
impl BackboneReport {
    /// Notes the next tensor of the network, and the shape that the file has it in.
    pub(crate) fn note(&mut self, name: &str, shape: &[i64], found: Option<Vec<i64>>) {
        let name = name.to_owned();
        let begins_layer = shape.len() == 4;
        self.gap |= match found {
            None => self.missing.is_empty() && !begins_layer,
            Some(_) => !self.missing.is_empty(),
        };
        match found {
            None => self.missing.push(name),
            Some(found) if found == shape => self.loaded.push(name),
            Some(found) => self.misfits.push(Misfit {
                name,
                expected: shape.to_vec(),
                found,
            }),
        }
    }

    /// Whether all layers from the input to some layer can be loaded.
    pub(crate) fn fits(&self) -> bool {
        !self.loaded.is_empty() && self.misfits.is_empty() && !self.gap
    }
}
