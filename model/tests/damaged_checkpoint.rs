//! A checkpoint that is not what was written, be it by one bit, is never taken for one.

mod common;

use std::fs;

use common::{directory, trained};
use weft_model::Error;
use weft_model::checkpoint::Checkpoint;
use weft_model::safetensors::{Checksum, SafeTensors};
use weft_tensor::random::{Key, Purpose};

/// Flipped bits and cut lengths, spread over the file.
const N_FLIPS: u64 = 500;
const N_CUTS: u64 = 200;

fn data_start(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

/// `n` places in `0..len`, one in each of as many equal parts.
fn spread(n: u64, len: usize) -> impl Iterator<Item = usize> {
    let key = Key::new(1, Purpose::Test, 0, 0);
    (0..n).map(move |i| ((i as f64 + key.f64_at(i)) / n as f64 * len as f64) as usize)
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn every_bit_flip_and_truncation_of_a_checkpoint_is_detected() {
    let directory = directory("damaged");
    let whole = trained(&directory, 4);
    let (path, data_at) = (directory.join("damaged.safetensors"), data_start(&whole));
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Checkpoint::read(&path).map(drop)
    };
    assert!(read(&whole).is_ok(), "the undamaged file is refused");
    assert!(whole.len() > data_at + 1000 && data_at > 1000, "{data_at} of {} bytes", whole.len());
    let mut in_header = 0;
    for bit in spread(N_FLIPS, 8 * whole.len()) {
        let error = read(&flipped(&whole, bit)).expect_err(&format!("bit {bit} flipped, and accepted"));
        in_header += usize::from(bit < 8 * data_at);
        let is_checksum = matches!(error, Error::WrongChecksum { .. });
        assert!(is_checksum || bit < 8 * data_at, "bit {bit} of the data: {error}");
    }
    assert!((100..400).contains(&in_header), "{in_header} of {N_FLIPS} flips are in the header");
    for len in spread(N_CUTS, whole.len()) {
        let error = read(&whole[..len]).expect_err(&format!("cut to {len} bytes, and accepted"));
        let is_length = matches!(error, Error::WrongLength { .. } | Error::NotSafetensors { .. });
        assert!(is_length, "cut to {len} bytes: {error}");
    }
}

#[test]
fn no_flipped_bit_of_the_checksum_makes_it_another_programs() {
    let whole = trained(&directory("damaged-checksum"), 4);
    let entry = b"\"checksum\":\"0123456789abcdef\"";
    let at = whole.windows(12).position(|window| window == &entry[..12]).expect("it has a checksum");
    for bit in 8 * at..8 * (at + entry.len()) {
        let bytes = flipped(&whole, bit);
        let read = SafeTensors::from_bytes("m", &bytes, Checksum::IfPresent);
        let checkpoint = read.and_then(|file| Checkpoint::from_file(&file));
        assert!(checkpoint.is_err(), "bit {} of the entry flipped, and accepted", bit - 8 * at);
    }
}
