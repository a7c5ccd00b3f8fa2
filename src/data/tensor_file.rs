//! Named tensors and a manifest, in whichever format the file name asks for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, Write};
use std::path::Path;

use super::atomic::write_atomically;
use super::error::{DataError, FormatError};
use super::npy::{Array, read_npy, write_npy};
use super::npz::{read_npz, write_npz};
use super::safetensors::{read_safetensors, write_safetensors};
use super::tensor::Tensor;

/// The name under which the manifest stands in a file.
pub const MANIFEST: &str = "manifest";

/// Named tensors and what tells where they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    /// Every tensor by its name, in the order of names.
    pub tensors: BTreeMap<String, Tensor>,
    /// JSON text. In npz the unicode scalar `manifest`, in safetensors the metadata entry `manifest`.
    pub manifest: Option<String>,
}

/// Format of a file with tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One array of numpy, without a name.
    Npy,
    /// Named arrays of numpy.
    Npz,
    /// Named tensors of safetensors.
    Safetensors,
}

impl Format {
    /// The format that the ending of the file name tells, in upper or lower case.
    ///
    /// # Errors
    /// The name ends in none of .npz, .npy, .safetensors.
    pub fn of(path: &Path) -> Result<Format, DataError> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match extension.as_str() {
            "npy" => Ok(Format::Npy),
            "npz" => Ok(Format::Npz),
            "safetensors" => Ok(Format::Safetensors),
            _ => Err(DataError::UnknownFormat { path: path.to_path_buf(), expected: ".npz, .npy or .safetensors" }),
        }
    }
}

impl TensorFile {
    /// Reads the file at `path`, whose tensors may take `max_bytes` together. The array of an npy file has the name
    /// "" here.
    ///
    /// # Errors
    /// The file cannot be read, its ending or content is not of a known format, or it exceeds the limit. Memory is
    /// taken only as the file delivers data.
    pub fn read(path: &Path, max_bytes: u64) -> Result<TensorFile, DataError> {
        let format = Format::of(path)?;
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().and_then(|metadata| {
            if metadata.is_file() { Ok(metadata.len()) } else { Err(std::io::Error::other("not a regular file")) }
        });
        let length = length.map_err(unreadable)?;
        if length > max_bytes {
            return Err(DataError::Limit { path: path.to_path_buf(), needed: length, limit: max_bytes, unit: "bytes" });
        }
        decode(format, BufReader::new(file), length, max_bytes).map_err(|error| error.of_file(path))
    }

    /// Writes the file in the format that its name tells, whole or not at all.
    ///
    /// # Errors
    /// The ending is of no known format, npy is asked for but there is not exactly one tensor without a manifest, or
    /// the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let format = Format::of(path)?;
        write_atomically(path, |writer| self.encode(format, writer))
    }

    /// The bytes that [`TensorFile::write`] would write: for standard output. Equal content gives equal bytes.
    ///
    /// # Errors
    /// Npy is asked for but there is not exactly one tensor without a manifest.
    pub fn to_bytes(&self, format: Format) -> std::io::Result<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        self.encode(format, &mut bytes)?;
        Ok(bytes.into_inner())
    }

    fn encode(&self, format: Format, mut writer: impl Write + Seek) -> std::io::Result<()> {
        match format {
            Format::Npz => write_npz(writer, self),
            Format::Safetensors => write_safetensors(&mut writer, self),
            Format::Npy => match (self.tensors.values().next(), self.tensors.len(), &self.manifest) {
                (Some(tensor), 1, None) => write_npy(&mut writer, tensor),
                _ => Err(std::io::Error::new(
                    std::io::ErrorKind::InvalidInput,
                    "npy holds exactly one tensor and no manifest; choose .npz or .safetensors",
                )),
            },
        }
    }
}

/// Reads the one tensor of a file: an npy file, or an npz or safetensors file with a single entry.
///
/// # Errors
/// As [`TensorFile::read`], or the file holds none or several tensors, whose names are told.
pub fn read_tensor(path: &Path, max_bytes: u64) -> Result<Tensor, DataError> {
    let mut tensors = TensorFile::read(path, max_bytes)?.tensors;
    if tensors.len() == 1
        && let Some((_, tensor)) = tensors.pop_first()
    {
        return Ok(tensor);
    }
    let names: Vec<&str> = tensors.keys().map(String::as_str).take(8).collect();
    let reason = format!("one tensor is needed, the file holds {}: {}", tensors.len(), names.join(", "));
    Err(DataError::Malformed { path: path.to_path_buf(), reason })
}

fn decode(
    format: Format,
    mut reader: impl Read + Seek,
    length: u64,
    max_bytes: u64,
) -> Result<TensorFile, FormatError> {
    match format {
        Format::Npz => read_npz(reader, max_bytes),
        Format::Npy => match read_npy(&mut reader, length)? {
            Array::Tensor(tensor) => {
                Ok(TensorFile { tensors: BTreeMap::from([(String::new(), tensor)]), manifest: None })
            }
            Array::Text(_) => Err(FormatError::malformed("holds text, not numbers")),
        },
        Format::Safetensors => {
            let mut bytes = Vec::new();
            reader.take(length).read_to_end(&mut bytes)?;
            read_safetensors(&bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MAX_BYTES: u64 = 1 << 20;

    fn example() -> TensorFile {
        TensorFile {
            tensors: BTreeMap::from([
                ("output/logits".into(), Tensor::from_slice(&[2, 2], &[1.0f32, -2.0, 0.5, 4.0]).unwrap()),
                ("relevance//features/0".into(), Tensor::from_slice(&[0, 3], &[0f64; 0]).unwrap()),
                ("index".into(), Tensor::from_slice(&[], &[-3i64]).unwrap()),
                ("mask".into(), Tensor::from_slice(&[2], &[true, false]).unwrap()),
            ]),
            manifest: Some("{\"composite\": \"ε\"}".into()),
        }
    }

    fn zip_of(entries: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, content) in entries {
            archive.start_file(*name, options).unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn npy_of(tensor: &Tensor) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_npy(&mut bytes, tensor).unwrap();
        bytes
    }

    fn refused(name: &str, content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        TensorFile::read(&path, MAX_BYTES).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["result.npz", "result.safetensors", "RESULT.NPZ"] {
            let path = folder.path().join(name);
            example().write(&path).unwrap();
            assert_eq!(TensorFile::read(&path, MAX_BYTES).unwrap(), example());
            assert_eq!(fs::read(&path).unwrap(), example().to_bytes(Format::of(&path).unwrap()).unwrap());
        }
    }

    #[test]
    fn one_tensor_is_read_from_every_format() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = Tensor::from_slice(&[3], &[1u16, 2, 3]).unwrap();
        let file = TensorFile { tensors: BTreeMap::from([("x".into(), tensor.clone())]), manifest: None };
        for name in ["x.npy", "x.npz", "x.safetensors"] {
            let path = folder.path().join(name);
            file.write(&path).unwrap();
            assert_eq!(read_tensor(&path, MAX_BYTES).unwrap(), tensor);
        }
        example().write(&folder.path().join("many.npz")).unwrap();
        let error = read_tensor(&folder.path().join("many.npz"), MAX_BYTES).unwrap_err().to_string();
        assert!(error.ends_with("the file holds 4: index, mask, output/logits, relevance//features/0"), "{error}");
    }

    #[test]
    fn deflated_archives_are_read() {
        let tensor = Tensor::from_slice(&[1000], &[7i32; 1000]).unwrap();
        let bytes = zip_of(&[("x.npy", &npy_of(&tensor))], zip::CompressionMethod::Deflated);
        assert!(bytes.len() < 1000);
        assert_eq!(read_npz(Cursor::new(bytes), MAX_BYTES).unwrap().tensors["x"], tensor);
    }

    #[test]
    fn bad_files_are_refused_with_entry_and_reason() {
        let stored = zip::CompressionMethod::Stored;
        let npy = npy_of(&Tensor::from_slice(&[4], &[1f32, 2.0, 3.0, 4.0]).unwrap());
        let good = zip_of(&[("x.npy", &npy)], stored);
        let mut corrupt = good.clone();
        let last = corrupt.windows(4).position(|bytes| bytes == 4f32.to_le_bytes()).unwrap();
        corrupt[last] ^= 1;
        let mut text = Vec::new();
        super::super::npy::write_npy_text(&mut text, "hello").unwrap();
        let bomb = npy_of(&Tensor::from_slice(&[2_000_000], &[0u8; 2_000_000]).unwrap());
        for (name, content, reason) in [
            ("a.npz", b"".to_vec(), "no npz"),
            ("a.npz", good[..good.len() - 30].to_vec(), "no npz"),
            ("a.npz", corrupt, "entry \"x\": Invalid checksum"),
            ("a.npz", zip_of(&[("x.txt", b"hello")], stored), "entry \"x.txt\": entries must be npy"),
            ("a.npz", zip_of(&[("x.npy", &npy[..npy.len() - 4])], stored), "entry \"x\": the header announces 16"),
            ("a.npz", zip_of(&[("x.npy", &[npy.clone(), vec![0; 9]].concat())], stored), "announces 16 bytes"),
            (
                "a.npz",
                zip_of(&[("x.npy", &text)], stored),
                "entry \"x\": text is read under the name \"manifest\" only",
            ),
            ("a.npz", zip_of(&[("x.npy", &bomb)], zip::CompressionMethod::Deflated), "the limit is 1048576"),
            ("a.npy", npy[..60].to_vec(), "a.npy: the file ends too early"),
            ("a.safetensors", vec![0xff; 16], "no safetensors"),
            ("a.safetensors", b"".to_vec(), "no safetensors"),
            ("a.npy", vec![0; 2 << 20], "holds 2097152 bytes, the limit is 1048576"),
            ("a.csv", vec![], "must end in .npz, .npy or .safetensors"),
        ] {
            let message = refused(name, &content);
            assert!(message.contains(reason), "{reason}: {message}");
        }
        assert!(matches!(TensorFile::read(Path::new("/no/such.npz"), 1), Err(DataError::Read { .. })));
    }

    #[test]
    fn npy_holds_one_tensor_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.npy");
        assert!(example().write(&path).unwrap_err().to_string().contains("exactly one tensor"));
        assert!(!path.exists());
    }

    #[test]
    fn damaged_files_never_bring_the_reader_down() {
        let tensor = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let one = TensorFile { tensors: BTreeMap::from([("x".into(), tensor.clone())]), manifest: None };
        let files = [(Format::Npz, &example()), (Format::Safetensors, &example()), (Format::Npy, &one)];
        let (mut refused, mut read) = (0, 0);
        for (format, file) in files {
            let good = file.to_bytes(format).unwrap();
            let damaged = (0..good.len()).flat_map(|position| {
                let flip = |mask: u8| {
                    let mut bytes = good.clone();
                    bytes[position] ^= mask;
                    bytes
                };
                [good[..position].to_vec(), flip(0x01), flip(0x80), flip(0xff)]
            });
            for bytes in damaged {
                let length = bytes.len() as u64;
                match decode(format, Cursor::new(bytes), length, MAX_BYTES) {
                    Ok(_) => read += 1,
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > read, "{refused} refused, {read} read");
    }
}
