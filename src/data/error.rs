//! Errors of files, with the path and the way out.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file of tensors or an image was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be opened or read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file cannot be written; nothing of it is left behind.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The name does not tell the format.
    #[error("{}: the file name must end in {expected}", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The endings that are known here.
        expected: &'static str,
    },
    /// The content is not what the format allows.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and with which entry.
        reason: String,
    },
    /// The preprocessing that was asked for is impossible for the image.
    #[error("{}: {reason}", path.display())]
    Preprocess {
        /// The image.
        path: PathBuf,
        /// What is impossible.
        reason: String,
    },
    /// The content is larger than allowed.
    #[error("{}: holds {needed} {unit}, the limit is {limit}", path.display())]
    Limit {
        /// The file.
        path: PathBuf,
        /// What the file holds, at least.
        needed: u64,
        /// What is allowed.
        limit: u64,
        /// What is counted: `bytes`, `pixels`.
        unit: &'static str,
    },
}

/// Why the content of a file was refused, before it is known which file it is.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The content is not what the format allows.
    #[error("{0}")]
    Malformed(String),
    /// The content is larger than allowed.
    #[error("holds {needed} bytes, the limit is {limit}")]
    Limit {
        /// Bytes that the content takes, at least.
        needed: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FormatError {
    pub(crate) fn malformed(reason: impl Into<String>) -> FormatError {
        FormatError::Malformed(reason.into())
    }

    /// The same error, told of one entry of a file.
    pub(crate) fn of_entry(self, name: &str) -> FormatError {
        match self {
            FormatError::Malformed(reason) => FormatError::Malformed(format!("entry {name:?}: {reason}")),
            FormatError::Io(error) => FormatError::Malformed(format!("entry {name:?}: {error}")),
            limit @ FormatError::Limit { .. } => limit,
        }
    }

    /// The same error, told of the file at `path`.
    pub(crate) fn of_file(self, path: &Path) -> DataError {
        let path = path.to_path_buf();
        match self {
            FormatError::Malformed(reason) => DataError::Malformed { path, reason },
            FormatError::Limit { needed, limit } => DataError::Limit { path, needed, limit, unit: "bytes" },
            FormatError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                DataError::Malformed { path, reason: "the file ends too early".into() }
            }
            FormatError::Io(source) => DataError::Read { path, source },
        }
    }
}
