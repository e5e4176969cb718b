//! Weights for backbones from files that others have published, by the names of their tensors.
//!
//! A file fits when it gives every tensor from the input up to some layer, and none of another
//! shape. Later layers may be missing (a file may end before the last convolution), and tensors
//! that no backbone has (a classifier's) are left alone. Two networks were first released under other
//! names than torchvision's; their files are brought to these.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use tch::Tensor;

use super::{Init, blocks, mobilenetv2, shufflenetv2_release};
use crate::{Architecture, BackboneReport};

impl BackboneReport {
    /// Compares a file's tensors with those of a network, by name and shape.
    fn new(architecture: Architecture, found: &BTreeMap<String, Tensor>) -> Self {
        let mut report = Self::default();
        let mut unknown: BTreeSet<&str> = found.keys().map(String::as_str).collect();
        let mut compare = |name: &str, shape: &[i64], _: Init| {
            unknown.remove(name);
            report.note(name, shape, found.get(name).map(Tensor::size));
            Ok::<_, Infallible>(Tensor::new())
        };
        let Ok(_) = blocks(architecture, &mut compare);
        report.unknown = unknown.into_iter().map(str::to_owned).collect();
        report
    }
}

/// The tensors of a file that the backbone of `architecture` has, by its names, and the report.
///
/// # Errors
/// The report when they do not fit.
pub(crate) fn matched(
    architecture: Architecture,
    mut found: BTreeMap<String, Tensor>,
) -> Result<(BTreeMap<String, Tensor>, BackboneReport), BackboneReport> {
    match architecture {
        Architecture::MobileNetV2(_) => found = mobilenetv2::renamed(found),
        Architecture::ShuffleNetV2(_) if shufflenetv2_release::is_release(&found) => {
            // What is no whole release stays as it is, and the report says how it differs.
            if let Ok((today, _)) = shufflenetv2_release::today(&found) {
                found = today;
            }
        }
        _ => {}
    }
    let report = BackboneReport::new(architecture, &found);
    if report.fits() {
        // A checkpoint's head must not be taken for that of the network to load into.
        found.retain(|name, _| report.loaded.contains(name));
        Ok((found, report))
    } else {
        Err(report)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// Tensors of a network, changed by `change`.
    fn tensors(
        name: &str,
        change: impl Fn(&str, &[i64]) -> Option<Vec<i64>>,
    ) -> BTreeMap<String, Tensor> {
        let mut tensors = BTreeMap::new();
        let mut make = |name: &str, shape: &[i64], _: Init| {
            if let Some(shape) = change(name, shape) {
                let tensor = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
                tensors.insert(name.to_owned(), tensor);
            }
            Ok::<_, Infallible>(Tensor::new())
        };
        let Ok(_) = blocks(name.parse().unwrap(), &mut make);
        tensors
    }

    fn same(_: &str, shape: &[i64]) -> Option<Vec<i64>> {
        Some(shape.to_vec())
    }

    fn report(
        name: &str,
        tensors: BTreeMap<String, Tensor>,
    ) -> Result<BackboneReport, BackboneReport> {
        matched(name.parse().unwrap(), tensors).map(|(_, report)| report)
    }

    #[test]
    fn a_whole_file_fits_whatever_else_is_in_it() {
        let mut file = tensors("shufflenetv2:0.5", same);
        file.insert("fc.weight".to_owned(), Tensor::new());
        let report = report("shufflenetv2:0.5", file).unwrap();
        assert_eq!((report.loaded.len(), report.missing.len()), (280, 0));
        assert_eq!(report.unknown, ["fc.weight"]);
        assert_eq!(
            report.to_string(),
            "280 tensors fit, 1 are unknown (first fc.weight)"
        );
    }

    #[test]
    fn a_file_may_end_early_but_have_no_gap() {
        let without = |part: &'static str| {
            tensors("resnet18", move |name, shape| {
                (!name.starts_with(part)).then(|| shape.to_vec())
            })
        };
        let missing = |part| report("resnet18", without(part)).map(|report| report.missing.len());
        assert_eq!(missing("layer4"), Ok(25));
        assert_eq!(
            missing("layer4.1.conv2").map_err(|report| report.missing.len()),
            Err(1)
        );
        assert_eq!(
            missing("layer4.1.bn2").map_err(|report| report.missing.len()),
            Err(4)
        );
        assert_eq!(
            missing("layer3").map_err(|report| report.missing.len()),
            Err(25)
        );
        assert_eq!(missing("").map_err(|report| report.missing.len()), Err(100));
    }

    #[test]
    fn another_network_does_not_fit() {
        let names = [
            "resnet18",
            "resnet101",
            "resnext101",
            "mobilenetv2:1.0",
            "mobilenetv2:0.5",
            "shufflenetv2:0.5",
            "shufflenetv2:1.0",
            "small",
            "teacher",
        ];
        for of in names {
            let file = || tensors(of, same);
            for into in names {
                assert_eq!(report(into, file()).is_ok(), of == into, "{of} into {into}");
            }
        }
    }

    #[test]
    fn a_report_names_both_shapes() {
        let refused = report("resnet18", tensors("resnet101", same))
            .unwrap_err()
            .to_string();
        let expected = "layer1.0.conv1.weight: [64, 64, 1, 1], expected [64, 64, 3, 3]";
        assert!(refused.contains(expected), "{refused}");
    }
}
