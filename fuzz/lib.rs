//! What the fuzz targets share: mending an input where nothing can be learnt from its being refused.

use std::fs;
use std::path::PathBuf;

use weft_model::Error;
use weft_model::safetensors::{Checksum, SafeTensors};

/// A safetensors file of this header and these data. Its length is made to suit the header, as far as that can be told, and its
/// checksum is made right: no fuzzer guesses it, and behind it is most of the reader.
pub fn mended(header: &[u8], data: &[u8]) -> Vec<u8> {
    /// More data than that are not made up.
    const MOST: u64 = 1 << 16;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(data);
    let read = |file: &[u8]| SafeTensors::from_bytes("fuzz", file, Checksum::IfPresent).map(drop);
    if let Err(Error::WrongLength { expected, .. }) = read(&file)
        && (8 + header.len() as u64..=MOST).contains(&expected)
    {
        file.resize(expected as usize, 0);
    }
    // It does not depend on the digits that stand there.
    if let Err(Error::WrongChecksum { found, expected, .. }) = read(&file) {
        let (found, expected) = (format!("{found:016x}"), format!("{expected:016x}"));
        let at = file.windows(expected.len()).position(|bytes| bytes == expected.as_bytes());
        let at = at.expect("the digits that were read");
        file[at..at + found.len()].copy_from_slice(found.as_bytes());
    }
    file
}

/// A file of this process alone, in memory where there is such a place.
pub fn scratch_file(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let directory =
        if fs::metadata(&memory).is_ok_and(|it| it.is_dir()) { memory } else { std::env::temp_dir() };
    directory.join(format!("weft-fuzz-{}-{name}", std::process::id()))
}
