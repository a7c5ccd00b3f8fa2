//! Read-only memory maps.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

/// Maps the regular file at `path` and returns its bytes; the map lives as long as any part of them.
///
/// # Errors
/// When the file cannot be opened or mapped, or is not a regular file (a pipe would block, a device has no size).
pub(super) fn map_file(path: &Path) -> io::Result<Bytes> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private and read-only, and everything made of it is a byte, so that no content is invalid.
    // It stays mapped while any `Bytes` refers to it. What remains is a process that rewrites or truncates the file
    // under us, which is outside of what a reader can prevent; writers that replace a file by renaming do no harm,
    // and the scan's bounds are those of the mapping, never lengths read twice.
    #[allow(unsafe_code, reason = "a memory map is the one way to leave gigabytes of weights where they are")]
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
