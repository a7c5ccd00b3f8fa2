//! What identifies a model: a hash of its structure, and one of its weights.

use sha2::{Digest as _, Sha256};

use super::proto::tensor_proto::DataType;
use super::schema::{ATTRIBUTE_PROTO, GRAPH_PROTO, MODEL_PROTO, NODE_PROTO};
use super::tensor::TensorRef;
use super::wire::{Entry, Reader, Value};

/// The fields of a tensor that hold its elements: `float_data`, `int32_data`, `int64_data`, `raw_data`, `double_data`,
/// `uint64_data`.
const DATA_FIELDS: [u32; 6] = [4, 5, 7, 9, 10, 11];
/// The field of a tensor that holds its shape.
const DIMS_FIELD: u32 = 1;
/// The field of a tensor that holds its element type.
const DATA_TYPE_FIELD: u32 = 2;

/// The hash of a model file without the elements of floating-point initializers. Single numbers, which have no axes, are
/// part of the structure: they are constants of formulas, and graphs hold them.
pub(super) fn structure(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    feed_message(&mut hash, MODEL_PROTO, bytes);
    text(hash)
}

/// The hash of weights, given in the order of their names.
pub(super) fn weights<'a>(weights: impl Iterator<Item = (&'a str, TensorRef<'a>)>) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in weights {
        let header = format!("{name:?} {:?} {:?}\n", tensor.dtype(), tensor.dims());
        hash.update(header.as_bytes());
        hash.update(tensor.bytes());
    }
    text(hash)
}

fn text(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The messages on the way to an initializer: (message, field, the message in that field).
const WAY: [(usize, u32, usize); 5] = [
    (MODEL_PROTO, 7, GRAPH_PROTO),
    (GRAPH_PROTO, 1, NODE_PROTO),
    (NODE_PROTO, 5, ATTRIBUTE_PROTO),
    (ATTRIBUTE_PROTO, 6, GRAPH_PROTO),
    (ATTRIBUTE_PROTO, 11, GRAPH_PROTO),
];

/// Feeds the fields of a message of the type `index`. A message that is entered loses its length and gets an end
/// mark instead (0, which begins no field), so that the hash does not depend on what is left out.
fn feed_message(hash: &mut Sha256, index: usize, bytes: &[u8]) {
    for entry in entries(bytes) {
        let Value::Delimited(content) = entry.value else {
            hash.update(entry.whole);
            continue;
        };
        let child = WAY.iter().find(|(message, field, _)| *message == index && *field == entry.number);
        if let Some((_, _, child)) = child {
            hash.update(entry.number.to_le_bytes());
            feed_message(hash, *child, content);
            hash.update([0]);
        } else if index == GRAPH_PROTO && entry.number == 5 {
            hash.update(entry.number.to_le_bytes());
            feed_initializer(hash, content);
            hash.update([0]);
        } else {
            hash.update(entry.whole);
        }
    }
}

fn feed_initializer(hash: &mut Sha256, bytes: &[u8]) {
    let floating = entries(bytes).any(|entry| match (entry.number, entry.value) {
        (DATA_TYPE_FIELD, Value::Varint(number)) => is_floating(number),
        _ => false,
    });
    let has_axes = entries(bytes).any(|entry| entry.number == DIMS_FIELD);
    for entry in entries(bytes) {
        if !(floating && has_axes && DATA_FIELDS.contains(&entry.number)) {
            hash.update(entry.whole);
        }
    }
}

fn is_floating(number: u64) -> bool {
    let types = [DataType::Float, DataType::Double, DataType::Float16, DataType::Bfloat16];
    types.iter().any(|floating| u64::try_from(i32::from(*floating)) == Ok(number))
}

/// The fields of a message that the scan has found well-formed.
fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || reader.next().ok().flatten())
}
