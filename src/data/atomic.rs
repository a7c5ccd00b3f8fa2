//! Output files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Cursor, Seek, Write};
use std::path::Path;

use super::error::DataError;

/// What an output can be written through.
pub trait WriteSeek: Write + Seek {}
impl<T: Write + Seek> WriteSeek for T {}

/// Lets `write` fill a temporary file beside `path`, brings it to the disk and renames it to `path`.
///
/// What stands at `path` before stays untouched until the new content is complete, and nothing is left behind when
/// something fails. A symbolic link is followed. Pipes and devices cannot be renamed to: they are written to directly,
/// once the content is complete.
///
/// # Errors
/// The folder cannot be written to, the disk is full, or `write` fails.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>,
) -> Result<(), DataError> {
    let result = match fs::metadata(path) {
        Ok(existing) if existing.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(existing) if existing.is_file() => path.canonicalize().and_then(|target| replace(&target, write)),
        Ok(_) => write_through(path, write),
        Err(error) if error.kind() == io::ErrorKind::NotFound => replace(path, write),
        Err(error) => Err(error),
    };
    result.map_err(|source| DataError::Write { path: path.to_path_buf(), source })
}

/// Checks that the folder of `path` exists, before work is done for a file that cannot be made.
///
/// # Errors
/// There is no such folder.
pub fn check_folder(path: &Path) -> Result<(), DataError> {
    let folder = folder_of(path);
    if folder.is_dir() {
        return Ok(());
    }
    let reason = format!("there is no folder {}", folder.display());
    Err(DataError::Write { path: path.to_path_buf(), source: io::Error::new(io::ErrorKind::NotFound, reason) })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lrpc-").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process's mask narrows this, as for every other new file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    // The name of the temporary file means nothing to whoever reads the error.
    let mut temporary = builder.tempfile_in(folder_of(path)).map_err(|error| io::Error::from(error.kind()))?;
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn write_through(path: &Path, write: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>) -> io::Result<()> {
    let mut content = Cursor::new(Vec::new());
    write(&mut content)?;
    let mut file: File = OpenOptions::new().write(true).open(path)?;
    file.write_all(content.get_ref())?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        for content in [b"first".as_slice(), b"second"] {
            write_atomically(&path, |file| file.write_all(content)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("interrupted"))
        })
        .unwrap_err();
        assert!(error.to_string().ends_with("a.bin: cannot be written: interrupted"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_folder_that_is_missing_or_in_the_way_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_atomically(&folder.path().join("no/such/a.bin"), |_| Ok(())).is_err());
        assert!(write_atomically(folder.path(), |_| Ok(())).is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_told_and_stays_a_device() {
        use std::os::unix::fs::FileTypeExt;
        let full = Path::new("/dev/full");
        let error = write_atomically(full, |file| file.write_all(b"x")).unwrap_err();
        assert!(matches!(&error, DataError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull));
        assert!(fs::metadata(full).unwrap().file_type().is_char_device());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_keeps_pointing_to_the_new_content() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_atomically(&link, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
