//! Bytes in memory and their reading as numbers.

#![allow(unsafe_code, reason = "the one place where bytes become numbers; every block has its proof")]

use lrpc_ir::DType;

/// One cache line, the unit in which memory is taken so that it is aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const LINE: usize = size_of::<Line>();

/// A block of bytes that starts at a multiple of 64.
#[derive(Clone, Default)]
pub struct AlignedBytes {
    lines: Vec<Line>,
    length: usize,
}

impl AlignedBytes {
    /// `length` bytes of zeros, or `None` where memory is exhausted.
    pub fn zeroed(length: usize) -> Option<AlignedBytes> {
        let count = length.div_ceil(LINE);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).ok()?;
        lines.resize(count, Line([0; LINE]));
        Some(AlignedBytes { lines, length })
    }

    /// A copy of `bytes`, or `None` where memory is exhausted.
    pub fn copy_of(bytes: &[u8]) -> Option<AlignedBytes> {
        let mut copy = AlignedBytes::zeroed(bytes.len())?;
        copy.as_mut_slice().copy_from_slice(bytes);
        Some(copy)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `lines` holds `lines.len() * 64 >= length` initialised bytes in one allocation (`Line` has no
        // padding), and they stay borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

impl PartialEq for AlignedBytes {
    fn eq(&self, other: &AlignedBytes) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

/// Numbers without padding for which every pattern of bits is a value.
///
/// # Safety
/// Implemented for the primitive integers and floating-point numbers only; the trait is sealed by that promise.
pub unsafe trait Plain:
    Copy + Default + PartialEq + PartialOrd + Send + Sync + std::fmt::Debug + 'static
{
    /// The element type.
    const DTYPE: DType;
}

macro_rules! plain {
    ($($number:ty => $dtype:ident),*) => {
        // SAFETY: primitive numbers have no padding and no invalid patterns.
        $(unsafe impl Plain for $number { const DTYPE: DType = DType::$dtype; })*
    };
}

plain!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64, f32 => F32, f64 => F64);

/// The bytes as numbers; `None` where their address or count does not fit.
pub fn numbers<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: every pattern of bits is a value of `T`, so any aligned bytes may be read as `T`.
    match unsafe { bytes.align_to::<T>() } {
        ([], numbers, []) => Some(numbers),
        _ => None,
    }
}

/// The bytes as numbers to be written; `None` where their address or count does not fit.
pub fn numbers_mut<T: Plain>(bytes: &mut [u8]) -> Option<&mut [T]> {
    // SAFETY: as in `numbers`; and every `T` that is written leaves initialised bytes, since `T` has no padding.
    match unsafe { bytes.align_to_mut::<T>() } {
        ([], numbers, []) => Some(numbers),
        _ => None,
    }
}

/// The numbers as bytes in the machine's order.
pub fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: `T` has no padding, so all its bytes are initialised; a byte needs no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_zero() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let block = AlignedBytes::zeroed(length).unwrap();
            assert_eq!(block.as_slice().len(), length);
            assert_eq!(block.as_slice().as_ptr() as usize % 64, 0);
            assert!(block.as_slice().iter().all(|&byte| byte == 0));
        }
        assert!(AlignedBytes::zeroed(usize::MAX / 2).is_none());
    }

    #[test]
    fn misaligned_bytes_are_refused() {
        let block = AlignedBytes::copy_of(bytes_of(&[1.5f32, 2.5])).unwrap();
        assert_eq!(numbers::<f32>(block.as_slice()), Some(&[1.5f32, 2.5][..]));
        assert_eq!(numbers::<f32>(&block.as_slice()[1..5]), None);
        assert_eq!(numbers::<f64>(&block.as_slice()[..7]), None);
        assert_eq!(numbers::<f64>(&[]), Some(&[][..]));
    }
}
