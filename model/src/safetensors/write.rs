//! From tensors to the bytes of a file, the same on every machine and in every run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};

use super::header::{byte_len, check_name};
use super::xxh64::Xxh64;
use super::{ALIGNMENT, CHECKSUM, DIGITS, Dtype, MAX_HEADER_BYTES, MAX_RANK, MAX_TENSORS, METADATA};
use crate::Error;

/// A tensor to write.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Its key: 1 to 512 bytes without control characters.
    pub name: &'a str,
    /// Its extents, at most 8.
    pub shape: &'a [usize],
    /// Its elements, row-major.
    pub data: Data<'a>,
}

/// The elements of a tensor to write.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Any type, already as little-endian bytes.
    Bytes(Dtype, &'a [u8]),
}

impl Data<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Data::F32(_) => Dtype::F32,
            Data::Bytes(dtype, _) => *dtype,
        }
    }

    fn byte_len(&self) -> usize {
        match self {
            Data::F32(values) => size_of_val(*values),
            Data::Bytes(_, bytes) => bytes.len(),
        }
    }

    /// The bytes, in runs.
    pub(crate) fn for_each_run(&self, f: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Data::Bytes(_, bytes) => f(bytes),
            Data::F32(values) => {
                let mut run = [0; RUN * size_of::<f32>()];
                for values in values.chunks(RUN) {
                    let (bytes, _) = run.as_chunks_mut();
                    bytes.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
                    f(&run[..size_of_val(values)])?;
                }
                Ok(())
            }
        }
    }
}

/// Numbers that are turned into bytes at a time, so that a file needs no memory of its own size.
const RUN: usize = 1 << 14;

/// A safetensors file that is ready to be written.
pub struct Image<'a> {
    header: String,
    tensors: &'a [TensorView<'a>],
}

impl<'a> Image<'a> {
    /// A file of these tensors, in the order given, and of metadata in the order of its keys, the header padded with spaces so that
    /// the data begins at a multiple of 64 bytes.
    ///
    /// A metadata entry `checksum` is added, or replaced: the 16 lower-case hexadecimal digits of the XXH64 of the whole
    /// file with these digits as zeros.
    ///
    /// # Errors
    /// [`Error::HeaderTooLarge`] above [`MAX_HEADER_BYTES`], for which only the metadata has room.
    ///
    /// # Panics
    /// If a name is not allowed or stands there twice, a tensor's data has not the length of its shape, or there are
    /// more dimensions or tensors than are read back ([`MAX_RANK`], [`MAX_TENSORS`]).
    #[track_caller]
    pub fn new(
        tensors: &'a [TensorView<'a>],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Image<'a>, Error> {
        check(tensors);
        let (header, digits_at) = header(tensors, metadata);
        if header.len() > MAX_HEADER_BYTES {
            return Err(Error::HeaderTooLarge { bytes: header.len(), limit: MAX_HEADER_BYTES });
        }
        let mut image = Image { header, tensors };
        let mut hash = Xxh64::new();
        image
            .for_each_run(|bytes| {
                hash.update(bytes);
                Ok(())
            })
            .expect("a hash takes everything");
        let checksum = format!("{:016x}", hash.finish());
        image.header.replace_range(digits_at..digits_at + DIGITS, &checksum);
        Ok(image)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of `file`.
    pub fn write_to(&self, file: &mut dyn Write) -> io::Result<()> {
        self.for_each_run(|bytes| file.write_all(bytes))
    }

    fn for_each_run(&self, mut f: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        f(&(self.header.len() as u64).to_le_bytes())?;
        f(self.header.as_bytes())?;
        self.tensors.iter().try_for_each(|tensor| tensor.data.for_each_run(&mut f))
    }
}

/// The bytes of a safetensors file, as [`Image`] writes them.
///
/// # Errors
/// As [`Image::new`].
///
/// # Panics
/// As [`Image::new`].
#[track_caller]
pub fn to_bytes(tensors: &[TensorView<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, Error> {
    let mut file = Vec::new();
    Image::new(tensors, metadata)?.write_to(&mut file).expect("memory takes everything");
    Ok(file)
}

#[track_caller]
fn check(tensors: &[TensorView<'_>]) {
    assert!(tensors.len() <= MAX_TENSORS, "safetensors: {} tensors, at most {MAX_TENSORS}", tensors.len());
    let mut names = BTreeSet::from([METADATA]);
    for TensorView { name, shape, data } in tensors {
        if let Err(problem) = check_name(name) {
            panic!("safetensors: the tensor name {name:?} {problem}");
        }
        assert!(names.insert(name), "safetensors: the tensor name {name:?} is already taken");
        assert!(shape.len() <= MAX_RANK, "safetensors: {name:?} has {} dimensions", shape.len());
        let (len, needed) = (data.byte_len() as u64, byte_len(data.dtype(), shape.iter().map(|&d| d as u64)));
        assert_eq!(Some(len), needed, "safetensors: bytes of {name:?} and of its shape {shape:?}");
    }
}

/// The padded JSON with a checksum of zeros, and where in it the digits are.
fn header(tensors: &[TensorView<'_>], metadata: &BTreeMap<String, String>) -> (String, usize) {
    let mut metadata = metadata.clone();
    metadata.insert(CHECKSUM.into(), "0".repeat(DIGITS));
    let mut json = format!("{{\"{METADATA}\":{{");
    let mut digits_at = 0;
    for (i, (key, value)) in metadata.iter().enumerate() {
        write!(json, "{}{}:", comma(i), quoted(key)).expect("strings take everything");
        if key == CHECKSUM {
            digits_at = json.len() + 1;
        }
        json += &quoted(value);
    }
    json += "}";
    let mut begin = 0;
    for TensorView { name, shape, data } in tensors {
        let (name, dtype, end) = (quoted(name), data.dtype().name(), begin + data.byte_len());
        let shape: Vec<_> = shape.iter().map(usize::to_string).collect();
        let shape = shape.join(",");
        write!(json, r#",{name}:{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{begin},{end}]}}"#)
            .expect("strings take everything");
        begin = end;
    }
    json += "}";
    let padding = (8 + json.len()).next_multiple_of(ALIGNMENT) - (8 + json.len());
    json.extend(std::iter::repeat_n(' ', padding));
    (json, digits_at)
}

fn comma(i: usize) -> &'static str {
    if i == 0 { "" } else { "," }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string can be written as JSON")
}
