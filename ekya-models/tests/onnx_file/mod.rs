//! Writes a tiny ONNX file: its outputs are the means of the three channels of its input.

/// A field of a message: its number, and bytes with their length before them.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(number < 16);
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        field.push((length % 128) as u8 | 128);
        length /= 128;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}

/// A field that is a small number.
fn number(number: u8, value: i64) -> Vec<u8> {
    assert!(number < 16 && (0..128).contains(&value));
    vec![number << 3, value as u8]
}

/// `ValueInfoProto`: a tensor of f32; a side that is not known has a name.
fn value(name: &str, shape: &[Option<i64>]) -> Vec<u8> {
    let side = |side: &Option<i64>| match side {
        Some(side) => field(1, &number(1, *side)),
        None => field(1, &field(2, b"N")),
    };
    let shape: Vec<u8> = shape.iter().flat_map(side).collect();
    let tensor = [number(1, 1), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// `NodeProto` of one input and one output.
fn node(operator: &str, input: &str, output: &str) -> Vec<u8> {
    [
        field(1, input.as_bytes()),
        field(2, output.as_bytes()),
        field(4, operator.as_bytes()),
    ]
    .concat()
}

/// `ModelProto`: input `batch × 3 × side × side` (below 128), output `batch × 3`; without `batch` any
/// number of pictures.
pub(crate) fn mean_of_channels(side: i64, batch: Option<i64>) -> Vec<u8> {
    let graph = [
        field(1, &node("GlobalAveragePool", "picture", "means")),
        field(1, &node("Flatten", "means", "outputs")),
        field(2, b"means of channels"),
        field(
            11,
            &value("picture", &[batch, Some(3), Some(side), Some(side)]),
        ),
        field(12, &value("outputs", &[batch, Some(3)])),
    ]
    .concat();
    // Version 8 of the format, version 13 of the operators. These come first: a file that is cut
    // short anywhere has no graph then.
    [number(1, 8), field(8, &number(2, 13)), field(7, &graph)].concat()
}
