//! The protobuf wire format, as far as is needed to bound a file before it is decoded.
//!
//! Decoding multiplies: two bytes of an empty node become a few hundred bytes of memory, one byte of a packed integer
//! becomes eight. The scan walks the file once, allocates nothing, and counts what decoding would allocate. A file
//! whose structure is out of proportion to its size is refused; raw tensor bytes are not copied and do not count.

use super::error::ModelErrorReason as Reason;
use super::schema::{ATTRIBUTE_PROTO, MESSAGES, MODEL_PROTO, NODE_PROTO, TENSOR_PROTO};

/// How large and how deep a model's structure may be. Raw and external tensor data are not limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes, in all graphs and functions together.
    pub nodes: u64,
    /// Tensors: initializers and attributes.
    pub tensors: u64,
    /// Attributes of all nodes.
    pub attributes: u64,
    /// Messages inside messages; a graph inside a graph takes three levels.
    pub depth: u32,
    /// Fields of all messages; a number in a packed list is none.
    pub fields: u64,
    /// Integers in lists: elements of tensors that are not raw, and of attributes.
    pub integers: u64,
    /// Bytes that the decoded structure may take.
    pub decoded: u64,
    /// Bytes that the decoded structure may take whatever the size of the file; beyond, `amplification` counts.
    pub decoded_freely: u64,
    /// How many bytes of decoded structure one byte of the file's structure may become.
    pub amplification: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 1 << 20,
            tensors: 1 << 20,
            attributes: 1 << 23,
            depth: 64,
            fields: 1 << 25,
            integers: 1 << 22,
            decoded: 1 << 30,
            decoded_freely: 32 << 20,
            amplification: 20,
        }
    }
}

/// A message type: the bytes of its Rust type, and its fields.
pub(super) struct Message {
    pub size: usize,
    pub fields: &'static [Field],
}

/// A field of a message.
pub(super) struct Field {
    pub number: u32,
    pub kind: Kind,
    pub repeated: bool,
}

/// What a field holds: a message (its index in the table), text, bytes that stay in the map, or a number (a varint
/// with the bytes it decodes to).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Message(usize),
    String,
    Bytes,
    Varint(u64),
    Fixed32,
    Fixed64,
}

/// One field as it stands in the file.
pub(super) struct Entry<'a> {
    pub number: u32,
    /// The tag and the value, length prefix included.
    pub whole: &'a [u8],
    pub value: Value<'a>,
}

/// A value by wire type; numbers are not needed.
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed32,
    Fixed64,
    Delimited(&'a [u8]),
}

/// Reads the fields of one message in order.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next field, or `None` at the end.
    ///
    /// # Errors
    /// What is wrong at [`Reader::position`].
    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        let start = self.position;
        if start >= self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Invalid("a field number is too large"))?;
        if number == 0 {
            return Err(Malformed::Invalid("a field has the number 0"));
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed64)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
                Value::Delimited(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed32)?,
            3 | 4 => return Err(Malformed::Invalid("a group, which ONNX does not use")),
            _ => return Err(Malformed::Invalid("an unknown wire type")),
        };
        let whole = self.bytes.get(start..self.position).unwrap_or_default();
        Ok(Some(Entry { number, whole, value }))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.position.checked_add(length).ok_or(Malformed::Truncated)?;
        let taken = self.bytes.get(self.position..end).ok_or(Malformed::Truncated)?;
        self.position = end;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.position).ok_or(Malformed::Truncated)?;
            self.position = self.position.saturating_add(1);
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Invalid("an integer of more than ten bytes"))
    }
}

/// Why a field cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    Truncated,
    Invalid(&'static str),
}

/// What decoding would make of the file.
#[derive(Default)]
struct Counts {
    fields: u64,
    integers: u64,
    nodes: u64,
    tensors: u64,
    attributes: u64,
    decoded: u64,
    /// Bytes that stay in the map.
    raw: u64,
}

/// Checks that `bytes` has the form of an ONNX model and stays within `limits`.
///
/// # Errors
/// [`Reason::Truncated`], [`Reason::NotOnnx`] or [`Reason::TooComplex`].
pub(super) fn check(bytes: &[u8], limits: &Limits) -> Result<(), Reason> {
    let mut scan = Scan { start: bytes.as_ptr() as usize, limits, counts: Counts::default() };
    scan.message(MODEL_PROTO, bytes, 0)?;
    let structure = (bytes.len() as u64).saturating_sub(scan.counts.raw);
    let allowed = limits.decoded_freely.max(structure.saturating_mul(limits.amplification));
    scan.limit("bytes of decoded structure", scan.counts.decoded, allowed.min(limits.decoded))
}

struct Scan<'a> {
    start: usize,
    limits: &'a Limits,
    counts: Counts,
}

impl Scan<'_> {
    fn message(&mut self, index: usize, bytes: &[u8], depth: u32) -> Result<(), Reason> {
        self.limit("levels of nesting", depth.into(), self.limits.depth.into())?;
        let Some(message) = MESSAGES.get(index) else { return Ok(()) };
        let mut reader = Reader::new(bytes);
        loop {
            let at = (bytes.as_ptr() as usize).saturating_sub(self.start).saturating_add(reader.position);
            let Some(entry) = reader.next().map_err(|malformed| reason(malformed, at))? else { return Ok(()) };
            self.counts.fields += 1;
            self.limit("fields", self.counts.fields, self.limits.fields)?;
            self.limit("bytes of decoded structure", self.counts.decoded, self.limits.decoded)?;
            let Some(field) = message.fields.iter().find(|field| field.number == entry.number) else { continue };
            if let (Kind::Message(child), Value::Delimited(content)) = (field.kind, &entry.value) {
                self.count_message(child, field.repeated)?;
                self.message(child, content, depth.saturating_add(1))?;
            } else {
                self.count_value(field, &entry.value).map_err(|malformed| reason(malformed, at))?;
                self.limit("integers in lists", self.counts.integers, self.limits.integers)?;
            }
        }
    }

    fn count_message(&mut self, index: usize, repeated: bool) -> Result<(), Reason> {
        let size = MESSAGES.get(index).map_or(0, |message| message.size as u64);
        self.decoded(size, repeated);
        match index {
            NODE_PROTO => self.counts.nodes += 1,
            TENSOR_PROTO => self.counts.tensors += 1,
            ATTRIBUTE_PROTO => self.counts.attributes += 1,
            _ => return Ok(()),
        }
        self.limit("nodes", self.counts.nodes, self.limits.nodes)?;
        self.limit("tensors", self.counts.tensors, self.limits.tensors)?;
        self.limit("attributes", self.counts.attributes, self.limits.attributes)
    }

    fn count_value(&mut self, field: &Field, value: &Value) -> Result<(), Malformed> {
        match (field.kind, value) {
            (Kind::String, Value::Delimited(text)) => {
                self.decoded(size_of::<String>() as u64, field.repeated);
                self.decoded(text.len() as u64, false);
            }
            (Kind::Bytes, Value::Delimited(bytes)) => {
                self.decoded(size_of::<bytes::Bytes>() as u64, field.repeated);
                self.counts.raw = self.counts.raw.saturating_add(bytes.len() as u64);
            }
            (Kind::Varint(size), Value::Varint(_)) => self.integers(u64::from(field.repeated), size),
            (Kind::Fixed32, Value::Fixed32) => self.decoded(4, field.repeated),
            (Kind::Fixed64, Value::Fixed64) => self.decoded(8, field.repeated),
            (Kind::Varint(size), Value::Delimited(packed)) if field.repeated => {
                if packed.last().is_some_and(|last| *last >= 0x80) {
                    return Err(Malformed::Invalid("a packed integer has no end"));
                }
                // None takes more than ten bytes, so that what is far too long is not even read.
                let fewest = packed.len() as u64 / 10;
                let within = fewest <= self.limits.integers;
                let count = if within { packed.iter().filter(|byte| **byte < 0x80).count() as u64 } else { fewest };
                self.integers(count, size);
            }
            (Kind::Fixed32 | Kind::Fixed64, Value::Delimited(packed)) if field.repeated => {
                self.decoded(packed.len() as u64, true);
            }
            _ => return Err(Malformed::Invalid("a field has a type that ONNX does not give it")),
        }
        Ok(())
    }

    fn integers(&mut self, count: u64, size: u64) {
        self.counts.integers = self.counts.integers.saturating_add(count);
        self.decoded(count.saturating_mul(size), true);
    }

    /// Counts memory of the decoded form. A vector that grows may hold twice what it needs.
    fn decoded(&mut self, size: u64, repeated: bool) {
        let size = if repeated { size.saturating_mul(2) } else { size };
        self.counts.decoded = self.counts.decoded.saturating_add(size);
    }

    fn limit(&self, what: &'static str, found: u64, limit: u64) -> Result<(), Reason> {
        if found <= limit { Ok(()) } else { Err(Reason::TooComplex { what, limit }) }
    }
}

fn reason(malformed: Malformed, offset: usize) -> Reason {
    match malformed {
        Malformed::Truncated => Reason::Truncated { offset },
        Malformed::Invalid(why) => Reason::NotOnnx { offset, why },
    }
}
