//! Tensor data in other files: found, confined to the model's folder, and mapped once each.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::error::TensorError;
use super::map::map_file;
use super::proto::TensorProto;

/// The files beside a model that hold data of its tensors, by the location that the model gives.
#[derive(Debug, Default)]
pub(super) struct ExternalData {
    files: BTreeMap<String, Bytes>,
}

/// The entry of a tensor about its external data.
struct Entry {
    location: String,
    offset: u64,
    length: Option<u64>,
}

impl ExternalData {
    /// Maps the file that `tensor` refers to, unless that is done. `folder` is the folder of the model.
    ///
    /// # Errors
    /// When the entry is malformed, or the file is not a regular file inside `folder`.
    pub(super) fn open(&mut self, tensor: &TensorProto, folder: &Path) -> Result<(), TensorError> {
        let Entry { location, .. } = entry(tensor)?;
        if self.files.contains_key(&location) {
            return Ok(());
        }
        let path = confine(&location, folder)?;
        let bytes = map_file(&path).map_err(|source| TensorError::ExternalIo { location: location.clone(), source })?;
        self.files.insert(location, bytes);
        Ok(())
    }

    /// Whether the file that `tensor` refers to has been opened.
    pub(super) fn has(&self, tensor: &TensorProto) -> bool {
        entry(tensor).is_ok_and(|entry| self.files.contains_key(&entry.location))
    }

    /// The bytes of `tensor`; without a length in its entry, `size` bytes.
    ///
    /// # Errors
    /// When the entry is malformed, its file has not been opened, or the range is not inside it.
    pub(super) fn range(&self, tensor: &TensorProto, size: u64) -> Result<Bytes, TensorError> {
        let Entry { location, offset, length } = entry(tensor)?;
        let Some(bytes) = self.files.get(&location) else {
            return Err(TensorError::ExternalRefused { location, why: "it was not opened with the model" });
        };
        let end = offset.saturating_add(length.unwrap_or(size));
        match (usize::try_from(offset), usize::try_from(end)) {
            (Ok(from), Ok(to)) if to <= bytes.len() => Ok(bytes.slice(from..to)),
            _ => Err(TensorError::ExternalRange { location, offset, end, size: bytes.len() as u64 }),
        }
    }
}

fn entry(tensor: &TensorProto) -> Result<Entry, TensorError> {
    let malformed = |what: &str| TensorError::ExternalEntry(what.to_string());
    let find = |key: &str| tensor.external_data.iter().find(|pair| pair.key() == key).map(|pair| pair.value());
    let number = |key: &str| match find(key) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| malformed(&format!("{key} is {text:?}, not a number"))),
    };
    let location = find("location").filter(|location| !location.is_empty());
    Ok(Entry {
        location: location.ok_or_else(|| malformed("it names no location"))?.to_string(),
        offset: number("offset")?.unwrap_or(0),
        length: number("length")?,
    })
}

/// The path of `location` inside `folder`, or why it is refused.
fn confine(location: &str, folder: &Path) -> Result<PathBuf, TensorError> {
    let refuse = |why| TensorError::ExternalRefused { location: location.to_string(), why };
    let unreadable = |source| TensorError::ExternalIo { location: location.to_string(), source };
    for component in Path::new(location).components() {
        match component {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => return Err(refuse("it leads out of the model's folder by ..")),
            Component::RootDir | Component::Prefix(_) => return Err(refuse("it is an absolute path")),
        }
    }
    let folder = folder.canonicalize().map_err(unreadable)?;
    let path = folder.join(location).canonicalize().map_err(unreadable)?;
    if !path.starts_with(&folder) {
        return Err(refuse("a symbolic link leads out of the model's folder"));
    }
    let metadata = std::fs::metadata(&path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    if has_other_links(&metadata) {
        return Err(refuse("the file has hard links, so that it may also stand outside of the model's folder"));
    }
    Ok(path)
}

#[cfg(unix)]
fn has_other_links(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) > 1
}

/// Elsewhere the standard library does not tell the number of links.
#[cfg(not(unix))]
fn has_other_links(_: &std::fs::Metadata) -> bool {
    false
}
