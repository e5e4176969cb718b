//! Darknet's files of weights: a short header, then the numbers of every convolution in the order of
//! the layers, without names or shapes.

use tch::{Device, TchError, Tensor};

use super::super::weights::Weights;
use super::network::{CONVOLUTIONS, Convolution};

/// Bytes of the version: major, minor, revision, each an i32.
const VERSION_BYTES: usize = 12;

/// The numbers of a file, or why it is none of darknet's. All are little-endian.
pub(super) fn values(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let word = |i: usize| {
        let word = bytes.get(4 * i..4 * i + 4)?;
        Some(i32::from_le_bytes(word.try_into().ok()?))
    };
    let (Some(major), Some(minor)) = (word(0), word(1)) else {
        return Err("not darknet's: too short for a header".into());
    };
    if !(0..10).contains(&major) || !(0..10).contains(&minor) {
        return Err(format!(
            "not darknet's: it says to be of version {major}.{minor}"
        ));
    }
    // Since 0.2 the pictures seen in training are counted in 64 bits.
    let counter = if major * 10 + minor >= 2 { 8 } else { 4 };
    let Some(body) = bytes.get(VERSION_BYTES + counter..) else {
        return Err("cut short in its header".into());
    };
    if !body.len().is_multiple_of(size_of::<f32>()) {
        let length = body.len();
        return Err(format!("cut short: {length} bytes are no whole numbers"));
    }
    let numbers = body.chunks_exact(4);
    Ok(numbers
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

/// The weights that a file's numbers are for that many classes, or why they cannot be.
pub(super) fn weights(values: &[f32], classes: usize, device: Device) -> Result<Weights, String> {
    let tensors: Vec<(String, Vec<i64>)> = CONVOLUTIONS
        .iter()
        .flat_map(|convolution| tensors(convolution, classes))
        .collect();
    let numel = |shape: &[i64]| shape.iter().product::<i64>().unsigned_abs() as usize;
    let expected: usize = tensors.iter().map(|(_, shape)| numel(shape)).sum();
    if values.len() != expected {
        return Err(format!(
            "holds {} numbers, yolov3-tiny for {classes} classes has {expected}",
            values.len()
        ));
    }
    let mut weights = Weights::none(device);
    let mut rest = values;
    for (name, shape) in tensors {
        let (own, others) = rest.split_at(numel(&shape));
        rest = others;
        insert(&mut weights, name, own, &shape).map_err(|error| error.to_string())?;
    }
    Ok(weights)
}

fn insert(
    weights: &mut Weights,
    name: String,
    values: &[f32],
    shape: &[i64],
) -> Result<(), TchError> {
    weights.insert(name, &Tensor::f_from_slice(values)?.f_reshape(shape)?)
}

/// Names and shapes of a convolution's tensors in the order in which darknet writes them.
fn tensors(convolution: &Convolution, classes: usize) -> Vec<(String, Vec<i64>)> {
    let shape = convolution.shape(classes);
    let before: &[&str] = if convolution.normed() {
        &["bn.bias", "bn.weight", "bn.running_mean", "bn.running_var"]
    } else {
        &["conv.bias"]
    };
    let name = convolution.name();
    before
        .iter()
        .map(|part| (format!("{name}.{part}"), vec![shape.outputs]))
        .chain([(format!("{name}.conv.weight"), shape.weight().to_vec())])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of numbers that count from 0.
    fn file(version: [i32; 3], counter: &[u8], numbers: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = version.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(counter);
        bytes.extend((0..numbers).flat_map(|i| (i as f32).to_le_bytes()));
        bytes
    }

    #[test]
    fn headers_of_both_lengths_are_skipped() {
        let old = values(&file([0, 1, 0], &[9; 4], 3)).unwrap();
        let new = values(&file([0, 2, 0], &[9; 8], 3)).unwrap();
        assert_eq!(
            (old.as_slice(), new.as_slice()),
            ([0.0, 1.0, 2.0].as_slice(), [0.0, 1.0, 2.0].as_slice())
        );
    }

    #[test]
    fn what_is_no_file_of_darknet_is_refused() {
        for (bytes, expected) in [
            (vec![0; 7], "too short"),
            (vec![0; 13], "header"),
            (
                file([0, 2, 0], &[0; 8], 1)[..23].to_vec(),
                "no whole numbers",
            ),
            (b"{\"features.0.weight\": []}".to_vec(), "version"),
        ] {
            let error = values(&bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = weights(&[0.0; 5], 80, Device::Cpu).unwrap_err();
        assert!(
            error.contains("5 numbers") && error.contains("8858734"),
            "{error}"
        );
    }

    #[test]
    fn numbers_come_in_the_order_of_darknet() {
        let classes = 2;
        let count = 8_858_734 - (512 + 256 + 2) * 3 * 78;
        let numbers: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let weights = weights(&numbers, classes, Device::Cpu).unwrap();
        let first = |name: &str| weights.get(name).unwrap().flatten(0, -1).double_value(&[0]);
        // Of the first convolution: 16 shifts, scales, means, variances, then 432 weights.
        for (name, position) in [
            ("layer0.bn.bias", 0.0),
            ("layer0.bn.weight", 16.0),
            ("layer0.bn.running_mean", 32.0),
            ("layer0.bn.running_var", 48.0),
            ("layer0.conv.weight", 64.0),
            ("layer2.bn.bias", 496.0),
        ] {
            assert_eq!(first(name), position, "{name}");
        }
        // The last one has 21 biases, then 21 × 256 weights to the end of the file.
        let last = f64::from(count - 21 * 256);
        assert_eq!(first("layer22.conv.weight"), last);
        assert_eq!(first("layer22.conv.bias"), last - 21.0);
        // Filters of one output are next to each other: input, row, column.
        let weight = weights.get("layer0.conv.weight").unwrap();
        assert_eq!(weight.double_value(&[1, 2, 0, 1]), 64.0 + 27.0 + 18.0 + 1.0);
    }
}
