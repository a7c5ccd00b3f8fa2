//! The npy format: one array, or one unicode string, behind a header that is a Python dictionary.
//!
//! Read: versions 1 to 3, both byte orders, C and Fortran order, every numeric type of [`DType`] that numpy has, and
//! scalars of type `U` as text. Objects and structured types are refused. Written: version 1, little-endian,
//! C order. Source of the format: `numpy/lib/format.py`, NEP 1.

use std::io::{self, Read, Write};

use super::error::FormatError;
use super::tensor::{DType, Tensor, byte_count};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read; headers of plain arrays have about 100 bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_AXES: usize = 64;
/// The data starts at a multiple of this many bytes.
const ALIGNMENT: usize = 64;

/// What an npy file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Numbers or booleans.
    Tensor(Tensor),
    /// A scalar of unicode text.
    Text(String),
}

/// Reads one array from `reader`, which holds `available` bytes.
///
/// # Errors
/// The header is malformed or of a type that is not read, the data is not as long as the header says, or reading fails.
/// Nothing is allocated beyond `available`.
pub fn read_npy(reader: &mut impl Read, available: u64) -> Result<Array, FormatError> {
    let (header, header_bytes) = read_header(reader)?;
    let count = byte_count(DType::U8, &header.shape)
        .ok()
        .and_then(|elements| elements.checked_mul(header.kind.size()))
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or_else(|| FormatError::malformed(format!("the shape {:?} is larger than any memory", header.shape)))?;
    let stored = available.saturating_sub(header_bytes);
    if stored != count as u64 {
        return Err(FormatError::malformed(format!(
            "the header announces {count} bytes of data ({}{:?}), but {stored} follow",
            header.kind, header.shape
        )));
    }
    let mut bytes = Vec::new();
    reader.take(stored).read_to_end(&mut bytes)?;
    if bytes.len() != count {
        return Err(FormatError::malformed(format!("{count} bytes of data expected, {} found", bytes.len())));
    }
    header.decode(bytes)
}

/// Writes `tensor`. The format has no bf16: it is widened to f32, which is exact.
///
/// # Errors
/// Writing fails.
pub fn write_npy(writer: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    if tensor.dtype() == DType::BF16 {
        write_header(writer, "<f4", tensor.shape())?;
        return tensor.to_f32().iter().try_for_each(|x| writer.write_all(&x.to_le_bytes()));
    }
    let descr = match tensor.dtype() {
        DType::F16 => "<f2",
        DType::F32 | DType::BF16 => "<f4",
        DType::F64 => "<f8",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
    };
    write_header(writer, descr, tensor.shape())?;
    writer.write_all(tensor.bytes())
}

/// Writes `text` as a scalar of type `U`, which numpy gives back as a `str`.
///
/// # Errors
/// Writing fails.
pub fn write_npy_text(writer: &mut impl Write, text: &str) -> io::Result<()> {
    // numpy has no string of length 0 as an element: an empty text is one padding character.
    let length = text.chars().count().max(1);
    write_header(writer, &format!("<U{length}"), &[])?;
    let mut bytes: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    bytes.resize(length * 4, 0);
    writer.write_all(&bytes)
}

fn write_header(writer: &mut impl Write, descr: &str, shape: &[usize]) -> io::Result<()> {
    let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let shape = match axes.as_slice() {
        [axis] => format!("({axis},)"),
        axes => format!("({})", axes.join(", ")),
    };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let fixed = MAGIC.len() + 2 + 2 + 1;
    let padded = (fixed + header.len()).next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', padded - fixed - header.len()));
    header.push('\n');
    writer.write_all(MAGIC)?;
    let length = u16::try_from(header.len()).map_err(|_| io::Error::other("the shape has too many axes for npy"))?;
    writer.write_all(&[1, 0])?;
    writer.write_all(&length.to_le_bytes())?;
    writer.write_all(header.as_bytes())
}

/// Element type as the header tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Number(DType),
    Text { characters: usize },
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Kind::Number(dtype) => dtype.size(),
            Kind::Text { characters } => characters.saturating_mul(4),
        }
    }

    fn swap_unit(self) -> usize {
        match self {
            Kind::Number(dtype) => dtype.size(),
            Kind::Text { .. } => 4,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Number(dtype) => write!(f, "{dtype}"),
            Kind::Text { characters } => write!(f, "text of {characters}"),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Header {
    kind: Kind,
    big_endian: bool,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn decode(self, mut bytes: Vec<u8>) -> Result<Array, FormatError> {
        if self.big_endian {
            bytes.chunks_exact_mut(self.kind.swap_unit()).for_each(<[u8]>::reverse);
        }
        match self.kind {
            Kind::Text { .. } if self.shape.is_empty() => decode_text(&bytes).map(Array::Text),
            Kind::Text { .. } => Err(FormatError::malformed("arrays of text are not read, only single texts")),
            Kind::Number(dtype) => {
                if self.fortran_order && self.shape.len() > 1 {
                    bytes = fortran_to_c(&bytes, &self.shape, dtype.size());
                }
                let tensor = Tensor::new(dtype, self.shape, bytes);
                tensor.map(Array::Tensor).map_err(|error| FormatError::malformed(error.to_string()))
            }
        }
    }
}

fn decode_text(bytes: &[u8]) -> Result<String, FormatError> {
    let mut text = String::new();
    for unit in bytes.chunks_exact(4) {
        let code = unit.try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX);
        text.push(char::from_u32(code).ok_or_else(|| FormatError::malformed(format!("{code:#x} is no character")))?);
    }
    text.truncate(text.trim_end_matches('\0').len());
    Ok(text)
}

/// Elements of an array stored with its first axis fastest, in the order with its last axis fastest. `bytes` holds
/// exactly the elements of `shape`.
fn fortran_to_c(bytes: &[u8], shape: &[usize], element: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = element;
    for &size in shape {
        strides.push(stride);
        stride = stride.saturating_mul(size);
    }
    let mut index = vec![0usize; shape.len()];
    let mut ordered = Vec::with_capacity(bytes.len());
    while ordered.len() < bytes.len() {
        let offset: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        ordered.extend_from_slice(bytes.get(offset..offset + element).unwrap_or_default());
        for (position, &size) in index.iter_mut().zip(shape).rev() {
            *position += 1;
            if *position < size {
                break;
            }
            *position = 0;
        }
    }
    ordered
}

/// The header and the number of bytes before the data.
fn read_header(reader: &mut impl Read) -> Result<(Header, u64), FormatError> {
    let mut prefix = [0; 8];
    reader.read_exact(&mut prefix)?;
    let [magic @ .., major, _minor] = prefix;
    if &magic != MAGIC {
        return Err(FormatError::malformed("the npy magic number is missing"));
    }
    let (length, prefix_bytes) = match major {
        1 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            (usize::from(u16::from_le_bytes(length)), 10)
        }
        2 | 3 => {
            let mut length = [0; 4];
            reader.read_exact(&mut length)?;
            (usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX), 12)
        }
        _ => return Err(FormatError::malformed(format!("version {major} of the npy format is not known"))),
    };
    if length > MAX_HEADER_BYTES {
        return Err(FormatError::malformed(format!("a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text)?;
    let text = std::str::from_utf8(&text).map_err(|_| FormatError::malformed("the header is no text"))?;
    Ok((parse_header(text)?, prefix_bytes + length as u64))
}

fn parse_header(text: &str) -> Result<Header, FormatError> {
    let mut scanner = Scanner { rest: text };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    scanner.expect('{')?;
    while !scanner.accept('}') {
        let key = scanner.string()?;
        scanner.expect(':')?;
        match key {
            "descr" if descr.is_none() => descr = Some(scanner.string()?),
            "fortran_order" if fortran_order.is_none() => fortran_order = Some(scanner.boolean()?),
            "shape" if shape.is_none() => shape = Some(scanner.tuple()?),
            _ => return Err(FormatError::malformed(format!("the header has an unexpected key {key:?}"))),
        }
        if !scanner.accept(',') {
            scanner.expect('}')?;
            break;
        }
    }
    let (Some(descr), Some(fortran_order), Some(shape)) = (descr, fortran_order, shape) else {
        return Err(FormatError::malformed("the header lacks one of descr, fortran_order, shape"));
    };
    let (kind, big_endian) = parse_descr(descr)?;
    Ok(Header { kind, big_endian, fortran_order, shape })
}

fn parse_descr(descr: &str) -> Result<(Kind, bool), FormatError> {
    let refused = || {
        FormatError::malformed(format!(
            "the type {descr:?} is not read; f2, f4, f8, i1 to i8, u1 to u8, b1 and single texts are"
        ))
    };
    let big_endian = descr.starts_with('>');
    let name = descr.strip_prefix(['>', '<', '=', '|']).unwrap_or(descr);
    let dtype = match name {
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "b1" => DType::Bool,
        _ => {
            let characters = name.strip_prefix('U').and_then(|digits| digits.parse().ok()).ok_or_else(refused)?;
            return Ok((Kind::Text { characters }, big_endian));
        }
    };
    Ok((Kind::Number(dtype), big_endian))
}

/// Reads the few Python literals that headers consist of.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn accept(&mut self, symbol: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: char) -> Result<(), FormatError> {
        if self.accept(symbol) { Ok(()) } else { Err(self.unexpected(&format!("{symbol:?}"))) }
    }

    fn string(&mut self) -> Result<&'a str, FormatError> {
        let quote = if self.accept('\'') {
            '\''
        } else if self.accept('"') {
            '"'
        } else {
            return Err(self.unexpected("a string"));
        };
        let Some((string, rest)) = self.rest.split_once(quote) else {
            return Err(self.unexpected("the end of a string"));
        };
        self.rest = rest;
        Ok(string)
    }

    fn boolean(&mut self) -> Result<bool, FormatError> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(self.unexpected("True or False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, FormatError> {
        let mut sizes = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            if sizes.len() == MAX_AXES {
                return Err(FormatError::malformed(format!("the shape has more than {MAX_AXES} axes")));
            }
            sizes.push(self.size()?);
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(sizes)
    }

    fn size(&mut self) -> Result<usize, FormatError> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        let size = digits.parse().map_err(|_| self.unexpected("the size of an axis"))?;
        // Python 2 wrote long integers with a suffix.
        self.rest = rest.strip_prefix('L').unwrap_or(rest);
        Ok(size)
    }

    fn unexpected(&self, expected: &str) -> FormatError {
        let found: String = self.rest.chars().take(20).collect();
        FormatError::malformed(format!("the header has {found:?} where {expected} belongs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(data);
        file
    }

    fn read(file: &[u8]) -> Result<Array, FormatError> {
        read_npy(&mut &file[..], file.len() as u64)
    }

    fn read_tensor(header: &str, data: &[u8]) -> Tensor {
        match read(&npy(header, data)).unwrap() {
            Array::Tensor(tensor) => tensor,
            Array::Text(text) => panic!("text {text:?}"),
        }
    }

    #[test]
    fn tensors_survive_the_round_trip() {
        for shape in [&[][..], &[6], &[2, 3], &[3, 0]] {
            let count = shape.iter().product();
            let tensor = Tensor::from_slice(shape, &vec![0.25f64; count]).unwrap();
            let mut file = Vec::new();
            write_npy(&mut file, &tensor).unwrap();
            assert_eq!((file.len() - count * 8) % ALIGNMENT, 0);
            assert_eq!(read(&file).unwrap(), Array::Tensor(tensor));
        }
    }

    #[test]
    fn the_header_is_what_numpy_writes() {
        let mut file = Vec::new();
        write_npy(&mut file, &Tensor::from_slice(&[2], &[1u8, 2]).unwrap()).unwrap();
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(std::str::from_utf8(&file[10..128]).unwrap(), format!("{header:<117}\n"));
        assert_eq!(&file[128..], [1, 2]);
    }

    #[test]
    fn bf16_is_widened() {
        let values = [0.5, -3.0].map(half::bf16::from_f32);
        let mut file = Vec::new();
        write_npy(&mut file, &Tensor::from_slice(&[2], &values).unwrap()).unwrap();
        assert_eq!(read(&file).unwrap(), Array::Tensor(Tensor::from_slice(&[2], &[0.5f32, -3.0]).unwrap()));
    }

    #[test]
    fn text_survives_the_round_trip() {
        for text in ["", "{\"seed\": 1}", "Größe → 3·10⁻⁶ 🎲"] {
            let mut file = Vec::new();
            write_npy_text(&mut file, text).unwrap();
            assert_eq!(read(&file).unwrap(), Array::Text(text.to_string()));
        }
    }

    #[test]
    fn fortran_order_is_transposed() {
        let tensor = read_tensor("{'descr':'|u1','fortran_order':True,'shape':(2,3)}", &[0, 3, 1, 4, 2, 5]);
        assert_eq!(tensor, Tensor::from_slice(&[2, 3], &[0u8, 1, 2, 3, 4, 5]).unwrap());
        let data: Vec<u8> = [0i16, 4, 2, 6, 1, 5, 3, 7].iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = read_tensor("{'shape': (2, 2, 2), 'fortran_order': True, 'descr': '<i2', }\n", &data);
        assert_eq!(tensor.to_vec::<i16>().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn big_endian_is_converted() {
        let tensor = read_tensor("{'descr': '>i4', 'fortran_order': False, 'shape': (2L,)}", &[0, 0, 1, 2, 0, 0, 0, 7]);
        assert_eq!(tensor.to_vec::<i32>().unwrap(), [258, 7]);
    }

    #[test]
    fn hostile_files_are_refused_with_the_reason() {
        let refused = |header: &str, data: &[u8]| read(&npy(header, data)).unwrap_err().to_string();
        let shape = |shape: &str| format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}");
        for (header, reason) in [
            (shape("(4294967296, 4294967296)"), "larger than any memory"),
            (shape("(2305843009213693952,)"), "larger than any memory"),
            (shape("(1000000000000,)"), "the header announces 8000000000000 bytes of data (f64[1000000000000]), but 8"),
            (shape("(99999999999999999999,)"), "the size of an axis"),
            (shape("(-1,)"), "the size of an axis"),
            (shape(&format!("({})", "1,".repeat(65))), "more than 64 axes"),
            (shape("(1,"), "the size of an axis"),
            (shape("(1,), 'shape': (1,)"), "unexpected key \"shape\""),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".into(), "the type \"|O\" is not read"),
            ("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': ()}".into(), "where a string belongs"),
            ("{'descr': '<U99999999999999999999', 'fortran_order': False, 'shape': ()}".into(), "is not read"),
            ("{'descr': '<U2', 'fortran_order': False, 'shape': (1,)}".into(), "arrays of text"),
            ("{'descr': '<f8', 'shape': (1,)}".into(), "lacks one of"),
            ("{'descr': 'é', 'fortran_order': False, 'shape': (1,)}".into(), "is not read"),
            ("".into(), "where '{' belongs"),
        ] {
            let message = refused(&header, &[0; 8]);
            assert!(message.contains(reason), "{header}: {message}");
        }
        assert!(refused("{'descr': '|b1', 'fortran_order': False, 'shape': (1,)}", &[2]).contains("only 0 and 1"));
        assert!(
            refused("{'descr': '<U1', 'fortran_order': False, 'shape': ()}", &[0, 0, 0x11, 0]).contains("character")
        );
        assert!(read(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").unwrap_err().to_string().contains("a header of"));
        assert!(read(b"PK\x03\x04 something").unwrap_err().to_string().contains("magic"));
        assert!(read(b"\x93NUM").is_err());
    }
}
