//! The safetensors format: weights in a file that holds nothing that could run.
//!
//! A file is the length of the header (8 bytes, little-endian), the header (JSON: for each tensor its type, shape and
//! place; under `__metadata__` strings for strings), and the tensors' elements one after the other. The reader trusts
//! none of it: every length is compared with the file's before anything of that size is allocated.
//!
//! Files written here carry a checksum among the metadata; see [`to_bytes`]. With [`Checksum::Required`] the reader
//! accepts no file without one.
//!
//! ```
//! use std::collections::BTreeMap;
//! use weft_model::safetensors::{Checksum, Data, SafeTensors, TensorView, to_bytes};
//!
//! let weight = TensorView { name: "weight", shape: &[2, 1], data: Data::F32(&[1.5, -2.0]) };
//! let metadata = BTreeMap::from([("step".to_string(), "300".to_string())]);
//! let bytes = to_bytes(&[weight], &metadata)?;
//!
//! let file = SafeTensors::from_bytes("example", &bytes, Checksum::Required)?;
//! let weight = file.get("weight").expect("it was written above");
//! assert_eq!(weight.shape, [2, 1]);
//! assert_eq!(file.to_f32(weight)?, [1.5, -2.0]);
//! assert_eq!(file.metadata()["step"], "300");
//! # Ok::<(), weft_model::Error>(())
//! ```

mod dtype;
mod header;
mod looks;
mod write;
pub(crate) mod xxh64;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;

use self::header::Header;
pub(crate) use self::header::clip;
use self::xxh64::Xxh64;
use crate::Error;
use crate::text::kind_of;

pub use self::dtype::Dtype;
pub use self::write::{Data, Image, TensorView, to_bytes};

/// The longest header that is read, in bytes. 65,536 tensors with names of 60 bytes fit.
pub const MAX_HEADER_BYTES: usize = 8 << 20;
/// The most tensors that are read.
pub const MAX_TENSORS: usize = 1 << 16;
/// The most dimensions of a tensor.
pub const MAX_RANK: usize = 8;
/// The longest name of a tensor, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// The key of the header that is no tensor.
const METADATA: &str = "__metadata__";
/// The metadata key of the checksum, and the length of its value.
const CHECKSUM: &str = "checksum";
const DIGITS: usize = 16;
/// Where data may begin: a cache line, so that a file mapped into memory can be used in place.
const ALIGNMENT: usize = 64;

/// Whether a file without a checksum will do. One that is there is verified either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// For files of other programs. A `checksum` that is not 16 lower-case hexadecimal digits is taken for theirs.
    IfPresent,
    /// For checkpoints: a damaged header cannot hide the checksum.
    Required,
}

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its key, of 1 to 512 bytes without control characters. Never to be used as a path.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its extents. No product of some of them and the element's size overflows a `u64`.
    pub shape: Vec<usize>,
    /// Its bytes, counted from the end of the header.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// The number of elements.
    pub fn n_elements(&self) -> usize {
        self.range.len() / self.dtype.size()
    }
}

/// A safetensors file in memory, every promise of its header checked.
#[derive(Clone, Debug)]
pub struct SafeTensors<'a> {
    name: String,
    bytes: Cow<'a, [u8]>,
    data_at: usize,
    tensors: Vec<TensorInfo>,
    index: BTreeMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl SafeTensors<'static> {
    /// Reads a file. The header is checked before the data is read.
    ///
    /// # Errors
    /// [`Error::Read`] from the file system; [`Error::NotSafetensors`] for another kind of file or a directory;
    /// otherwise as [`from_bytes`](SafeTensors::from_bytes).
    pub fn read(path: impl AsRef<Path>, checksum: Checksum) -> Result<SafeTensors<'static>, Error> {
        let path = path.as_ref();
        let name = path.to_string_lossy();
        let failed = |source| Error::Read { name: name.to_string(), source };
        // Looked at before it is opened, since opening a pipe would wait, and once more when it is.
        refuse_unless_file(&name, &fs::metadata(path).map_err(failed)?)?;
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        refuse_unless_file(&name, &metadata)?;

        let len = metadata.len();
        let mut bytes = Vec::new();
        extend(&mut bytes, &mut file, looks::PREFIX as u64).map_err(failed)?;
        let data_at = data_start(&name, &bytes, len)?;
        extend(&mut bytes, &mut file, data_at as u64).map_err(failed)?;
        // A file that shrank under us has a shorter header than it said; parsing what there is finds that.
        let header = Header::parse(&name, bytes.get(8..data_at).unwrap_or_default())?;
        check_len(&name, len, data_at, &header)?;
        extend(&mut bytes, &mut file, len).map_err(failed)?;
        SafeTensors::new(&name, bytes.into(), data_at, header, checksum)
    }
}

impl<'a> SafeTensors<'a> {
    /// Takes a file that is already in memory, borrowed or owned; `name` stands for the path in messages.
    ///
    /// # Errors
    /// - [`Error::NotSafetensors`] if it does not begin like one,
    /// - [`Error::WrongLength`] if it is cut off or has been added to,
    /// - [`Error::BadHeader`] and [`Error::BadTensor`] if the header is not well-formed: above all names that are
    ///   empty, long or twice there, unknown types, shapes and places that contradict each other, gaps, overlaps,
    ///   and what exceeds the limits of this module,
    /// - [`Error::WrongChecksum`] and [`Error::NoChecksum`] as `checksum` says.
    pub fn from_bytes(
        name: &str,
        bytes: impl Into<Cow<'a, [u8]>>,
        checksum: Checksum,
    ) -> Result<SafeTensors<'a>, Error> {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        let data_at = data_start(name, &bytes[..bytes.len().min(looks::PREFIX)], len)?;
        let header = Header::parse(name, &bytes[8..data_at])?;
        SafeTensors::new(name, bytes, data_at, header, checksum)
    }

    fn new(
        name: &str,
        bytes: Cow<'a, [u8]>,
        data_at: usize,
        header: Header,
        checksum: Checksum,
    ) -> Result<SafeTensors<'a>, Error> {
        check_len(name, bytes.len() as u64, data_at, &header)?;
        let Header { tensors, metadata, .. } = header;
        match metadata.get(CHECKSUM).filter(|digits| is_checksum(digits)) {
            Some(digits) => verify(name, &bytes, data_at, digits)?,
            None if checksum == Checksum::Required => {
                return Err(Error::NoChecksum { name: name.to_string() });
            }
            None => {}
        }
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(SafeTensors { name: name.to_string(), bytes, data_at, tensors, index, metadata })
    }

    /// The path, or the name given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// Whether the file carries a checksum of ours; then it was found to be right.
    pub fn has_checksum(&self) -> bool {
        self.metadata.get(CHECKSUM).is_some_and(|digits| is_checksum(digits))
    }

    /// The strings that come with the tensors, the checksum among them.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The bytes of a tensor: as many as its elements have.
    ///
    /// # Panics
    /// If `tensor` is not of this file and lies beyond its end.
    #[track_caller]
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.bytes[self.data_at..][tensor.range.clone()]
    }

    /// The elements of a tensor of F32, F16, BF16 or F64. Exact, except that F64 rounds to the nearest f32.
    ///
    /// # Errors
    /// [`Error::BadTensor`] for any other type.
    ///
    /// # Panics
    /// As [`bytes`](SafeTensors::bytes).
    #[track_caller]
    pub fn to_f32(&self, tensor: &TensorInfo) -> Result<Vec<f32>, Error> {
        let mut y = vec![0.0; tensor.n_elements()];
        self.copy_f32(tensor, &mut y)?;
        Ok(y)
    }

    /// As [`to_f32`](SafeTensors::to_f32), to where they are wanted.
    ///
    /// # Errors
    /// As [`to_f32`](SafeTensors::to_f32).
    ///
    /// # Panics
    /// If `y` has not [`n_elements`](TensorInfo::n_elements), and as [`bytes`](SafeTensors::bytes).
    #[track_caller]
    pub fn copy_f32(&self, tensor: &TensorInfo, y: &mut [f32]) -> Result<(), Error> {
        assert_eq!(y.len(), tensor.n_elements(), "safetensors: room for {} and its elements", tensor.name);
        if dtype::widen(tensor.dtype, self.bytes(tensor), y) {
            return Ok(());
        }
        let problem =
            format!("has dtype {}; F32, F16, BF16 and F64 can be read as numbers", tensor.dtype.name());
        Err(Error::BadTensor { name: self.name.clone(), tensor: tensor.name.clone(), problem })
    }
}

fn refuse_unless_file(name: &str, metadata: &fs::Metadata) -> Result<(), Error> {
    if metadata.is_file() {
        return Ok(());
    }
    let (guess, advice) = match kind_of(metadata) {
        "directory" => ("is a directory", "name a .safetensors file in it"),
        "pipe" => ("is a pipe", "write what it sends to a file and name that"),
        "socket" => ("is a socket", ""),
        _ => ("is a device", ""),
    };
    Err(Error::NotSafetensors { name: name.to_string(), guess: Some(guess), advice })
}

/// Reads until `bytes` has `len`, or the file ends. The caller has compared `len` with the file's length; what memory
/// there is not, is an error.
fn extend(bytes: &mut Vec<u8>, file: &mut File, len: u64) -> io::Result<()> {
    let missing = len.saturating_sub(bytes.len() as u64);
    let room = usize::try_from(missing).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.try_reserve_exact(room).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(missing).read_to_end(bytes)?;
    Ok(())
}

/// Where the data of a file of `len` bytes begins, by the first bytes of it; at most `len`.
fn data_start(name: &str, prefix: &[u8], len: u64) -> Result<usize, Error> {
    if len == 0 {
        return Err(Error::NotSafetensors { name: name.to_string(), guess: Some("is empty"), advice: "" });
    }
    let Some((&header_len, rest)) = prefix.split_first_chunk::<8>() else {
        return Err(not_safetensors(name, prefix).unwrap_or_else(|| wrong_length(name, len, 8)));
    };
    let header_len = u64::from_le_bytes(header_len);
    let plausible = header_len <= MAX_HEADER_BYTES as u64;
    match rest.first() {
        Some(b'{') | None if plausible => {}
        Some(b'{') => {
            let problem = format!("it has {header_len} bytes, and at most {MAX_HEADER_BYTES} are read");
            let broken = || Error::BadHeader { name: name.to_string(), problem };
            return Err(not_safetensors(name, prefix).unwrap_or_else(broken));
        }
        _ => {
            let unknown = || Error::NotSafetensors { name: name.to_string(), guess: None, advice: "" };
            return Err(not_safetensors(name, prefix).unwrap_or_else(unknown));
        }
    }
    match 8 + header_len {
        data_at if data_at <= len => Ok(data_at as usize),
        data_at => Err(wrong_length(name, len, data_at)),
    }
}

fn not_safetensors(name: &str, prefix: &[u8]) -> Option<Error> {
    let (guess, advice) = looks::looks_like(prefix)?;
    Some(Error::NotSafetensors { name: name.to_string(), guess: Some(guess), advice })
}

fn wrong_length(name: &str, bytes: u64, expected: u64) -> Error {
    Error::WrongLength { name: name.to_string(), bytes, expected }
}

fn check_len(name: &str, len: u64, data_at: usize, header: &Header) -> Result<(), Error> {
    let expected = (data_at as u64).saturating_add(header.data_len);
    if expected == len { Ok(()) } else { Err(wrong_length(name, len, expected)) }
}

fn is_checksum(digits: &str) -> bool {
    digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Compares the checksum that the file carries with that of its bytes.
fn verify(name: &str, bytes: &[u8], data_at: usize, digits: &str) -> Result<(), Error> {
    // A `{` or `,` and then a quote: inside a string the quote would end it, and what follows would be no JSON. So
    // this is a key, and as no other key here has a string for its value, the one of the metadata.
    let entry = format!("\"{CHECKSUM}\":\"{digits}\"");
    let is_entry = |at: &usize| {
        matches!(bytes[at - 1], b'{' | b',') && bytes[*at..data_at].starts_with(entry.as_bytes())
    };
    let Some(at) = (8..data_at).find(is_entry) else {
        let problem = format!("`{CHECKSUM}` is not written as weft writes it");
        return Err(Error::BadHeader { name: name.to_string(), problem });
    };
    let end = at + entry.len() - 1;
    let found = Xxh64::of([&bytes[..end - DIGITS], &[b'0'; DIGITS], &bytes[end..]]);
    let expected = u64::from_str_radix(digits, 16).expect("16 hexadecimal digits");
    if found == expected {
        Ok(())
    } else {
        Err(Error::WrongChecksum { name: name.to_string(), found, expected })
    }
}
