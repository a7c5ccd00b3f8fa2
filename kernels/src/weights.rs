//! Where weights come from.

use std::borrow::Cow;

use lrpc_ir::DType;

use crate::memory::AlignedBytes;

/// Gives the bytes of weights.
pub trait WeightSource {
    /// The little-endian elements of the weight called `name` in the element type that the plan states for the file
    /// ([`lrpc_ir::plan::PlanWeight::dtype`]), at any address; from the sidecar file where `sidecar` holds. Bytes that
    /// are borrowed, aligned and of the storage type are used where they lie.
    ///
    /// # Errors
    /// Why the weight cannot be read.
    fn weight(&self, name: &str, sidecar: bool) -> Result<Cow<'_, [u8]>, String>;
}

/// A weight's elements in their storage type.
pub(crate) enum WeightBytes<'w> {
    Borrowed(&'w [u8]),
    Owned(AlignedBytes),
}

impl WeightBytes<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            WeightBytes::Borrowed(bytes) => bytes,
            WeightBytes::Owned(bytes) => bytes.as_slice(),
        }
    }

    /// Bytes that the executor itself holds.
    pub(crate) fn owned(&self) -> usize {
        match self {
            WeightBytes::Borrowed(_) => 0,
            WeightBytes::Owned(bytes) => bytes.as_slice().len(),
        }
    }
}

/// Brings little-endian elements of type `from` into storage type `to`; `elements` is the expected number.
pub(crate) fn load(bytes: Cow<'_, [u8]>, from: DType, to: DType, elements: usize) -> Result<WeightBytes<'_>, String> {
    if from.size().checked_mul(elements) != Some(bytes.len()) {
        return Err(format!("{} bytes do not hold {elements} elements of {from}", bytes.len()));
    }
    let no_memory = || format!("no memory for {elements} elements of {to}");
    if from == to {
        if let Cow::Borrowed(borrowed) = bytes
            && borrowed.as_ptr().addr().is_multiple_of(to.size())
        {
            return Ok(WeightBytes::Borrowed(borrowed));
        }
        return AlignedBytes::copy_of(&bytes).map(WeightBytes::Owned).ok_or_else(no_memory);
    }
    let mut owned = AlignedBytes::zeroed(to.size() * elements).ok_or_else(no_memory)?;
    let target = owned.as_mut_slice();
    match (from, to) {
        (DType::F32, DType::F64) => {
            convert(&bytes, target, |b: [u8; 4]| f64::from(f32::from_le_bytes(b)).to_ne_bytes())
        }
        (DType::F16, DType::F32) => convert(&bytes, target, |b| half::f16::from_le_bytes(b).to_f32().to_ne_bytes()),
        (DType::F16, DType::F64) => convert(&bytes, target, |b| half::f16::from_le_bytes(b).to_f64().to_ne_bytes()),
        (DType::Bf16, DType::F32) => convert(&bytes, target, |b| half::bf16::from_le_bytes(b).to_f32().to_ne_bytes()),
        (DType::Bf16, DType::F64) => convert(&bytes, target, |b| half::bf16::from_le_bytes(b).to_f64().to_ne_bytes()),
        _ => return Err(format!("elements of {from} are not stored as {to}")),
    }
    Ok(WeightBytes::Owned(owned))
}

fn convert<const FROM: usize, const TO: usize>(source: &[u8], target: &mut [u8], f: impl Fn([u8; FROM]) -> [u8; TO]) {
    let (source, _) = source.as_chunks::<FROM>();
    let (target, _) = target.as_chunks_mut::<TO>();
    for (element, slot) in source.iter().zip(target) {
        *slot = f(*element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::numbers;

    #[test]
    fn elements_are_widened() {
        let bytes: Vec<u8> =
            [half::f16::from_f32(1.5), half::f16::from_f32(-2.0)].iter().flat_map(|x| x.to_le_bytes()).collect();
        let loaded = load(Cow::Borrowed(&bytes), DType::F16, DType::F64, 2).unwrap();
        assert_eq!(numbers::<f64>(loaded.as_slice()), Some(&[1.5, -2.0][..]));
    }

    #[test]
    fn aligned_bytes_stay_and_others_are_copied() {
        let block = AlignedBytes::zeroed(64).unwrap();
        let aligned = load(Cow::Borrowed(&block.as_slice()[4..12]), DType::F32, DType::F32, 2).unwrap();
        assert_eq!(aligned.owned(), 0);
        let shifted = load(Cow::Borrowed(&block.as_slice()[5..13]), DType::F32, DType::F32, 2).unwrap();
        assert_eq!(shifted.owned(), 8);
    }

    #[test]
    fn sizes_and_types_are_checked() {
        assert!(load(Cow::Borrowed(&[0; 7]), DType::F32, DType::F32, 2).is_err());
        assert!(load(Cow::Borrowed(&[0; 8]), DType::I64, DType::F32, 1).is_err());
    }
}
