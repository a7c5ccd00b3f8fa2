//! The npz format: a zip archive with one npy file for each name.
//!
//! Entries are read stored or deflated, and written stored, in the order of their names, with one fixed date: equal
//! content gives equal bytes.

use std::io::{Read, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::error::FormatError;
use super::npy::{Array, read_npy, write_npy, write_npy_text};
use super::tensor_file::{MANIFEST, TensorFile};

/// More than deflate can shrink anything (1032 to 1).
const MAX_DEFLATE_RATIO: u64 = 1100;
/// Entries of this size and more need the 64-bit form of a zip entry; headers of npy are far below the difference.
const LARGE_ENTRY_BYTES: usize = (u32::MAX as usize) - (1 << 20);

/// Reads every array of an archive; together they may take `max_bytes`. Of entries with one name the last counts.
///
/// # Errors
/// The archive or an entry is malformed, an array other than `manifest` is text, or the limit is exceeded.
pub fn read_npz(reader: impl Read + Seek, max_bytes: u64) -> Result<TensorFile, FormatError> {
    let mut archive = ZipArchive::new(reader).map_err(|error| FormatError::malformed(format!("no npz: {error}")))?;
    let mut file = TensorFile::default();
    let mut total = 0u64;
    for position in 0..archive.len() {
        let mut entry = archive.by_index(position).map_err(|error| FormatError::malformed(error.to_string()))?;
        let entry_name = entry.name().to_string();
        let name = entry_name
            .strip_suffix(".npy")
            .ok_or_else(|| FormatError::malformed("entries must be npy files").of_entry(&entry_name))?;
        total = total.saturating_add(entry.size());
        if total > max_bytes {
            return Err(FormatError::Limit { needed: total, limit: max_bytes });
        }
        if entry.size() / MAX_DEFLATE_RATIO > entry.compressed_size() {
            let reason = format!("{} bytes cannot come out of {}", entry.size(), entry.compressed_size());
            return Err(FormatError::malformed(reason).of_entry(name));
        }
        let available = entry.size();
        let array = read_npy(&mut entry, available).map_err(|error| error.of_entry(name))?;
        // Reading past the data makes the archive check the sum over the entry.
        let rest =
            std::io::copy(&mut entry, &mut std::io::sink()).map_err(|error| FormatError::from(error).of_entry(name))?;
        if rest > 0 {
            return Err(FormatError::malformed("data follows after the array").of_entry(name));
        }
        insert(&mut file, name, array)?;
    }
    Ok(file)
}

fn insert(file: &mut TensorFile, name: &str, array: Array) -> Result<(), FormatError> {
    match array {
        Array::Text(text) if name == MANIFEST => file.manifest = Some(text),
        Array::Text(_) => {
            return Err(FormatError::malformed(format!("text is read under the name {MANIFEST:?} only")).of_entry(name));
        }
        Array::Tensor(tensor) => {
            file.tensors.insert(name.to_string(), tensor);
        }
    }
    Ok(())
}

/// Writes every tensor, and the manifest as a text scalar named `manifest`.
///
/// # Errors
/// Writing fails.
pub fn write_npz(writer: impl Write + Seek, file: &TensorFile) -> std::io::Result<()> {
    let mut archive = ZipWriter::new(writer);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::DEFAULT)
        .unix_permissions(0o644);
    for (name, tensor) in &file.tensors {
        archive.start_file(format!("{name}.npy"), options.large_file(tensor.bytes().len() >= LARGE_ENTRY_BYTES))?;
        write_npy(&mut archive, tensor)?;
    }
    if let Some(manifest) = &file.manifest {
        archive.start_file(format!("{MANIFEST}.npy"), options)?;
        write_npy_text(&mut archive, manifest)?;
    }
    archive.finish()?.flush()
}
