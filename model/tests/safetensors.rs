//! Model files: what is written is read, here and by the reference implementation; what is damaged is found.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor as reference;
use weft_model::Error;
use weft_model::safetensors::*;

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// A file with everything that can make one difficult: several types, an empty tensor, a scalar, names and values that
/// JSON escapes, among them ones that imitate the checksum's entry.
fn sample() -> Vec<u8> {
    let values: Vec<f32> = (0..6).map(|i| i as f32 - 2.5).collect();
    let tensors = [
        TensorView { name: "wte.weight", shape: &[2, 3], data: Data::F32(&values) },
        TensorView { name: "x,\"checksum\":\"", shape: &[], data: Data::F32(&[7.0]) },
        TensorView { name: "empty", shape: &[0, 4], data: Data::F32(&[]) },
        TensorView { name: "halves", shape: &[3], data: Data::Bytes(Dtype::F16, &[0, 0x3c, 0, 0xc0, 1, 0]) },
        TensorView { name: "é👩‍👧", shape: &[1, 2], data: Data::Bytes(Dtype::U8, &[1, 255]) },
    ];
    let metadata =
        metadata(&[("a,\"checksum\":\"0123456789abcdef\"", "x"), ("vocab", "[\"\\n\",\"\u{1}\"]")]);
    to_bytes(&tensors, &metadata).unwrap()
}

fn read(bytes: &[u8], checksum: Checksum) -> Result<SafeTensors<'_>, Error> {
    SafeTensors::from_bytes("m", bytes, checksum)
}

fn file(header: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(std::iter::repeat_n(0, data_len));
    bytes
}

fn header_len(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

/// Every tensor that was read has the size that it says.
fn assert_sizes(file: &SafeTensors, context: &str) {
    for tensor in file.tensors() {
        let n: usize = tensor.shape.iter().product();
        assert_eq!(file.bytes(tensor).len(), n * tensor.dtype.size(), "{context}: {tensor:?}");
        assert_eq!(tensor.n_elements(), n, "{context}: {tensor:?}");
        match file.to_f32(tensor) {
            Ok(y) => assert_eq!(y.len(), n, "{context}: {tensor:?}"),
            Err(error) => assert!(matches!(error, Error::BadTensor { .. }), "{context}: {error}"),
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample();
    let file = read(&bytes, Checksum::Required).unwrap();
    let names: Vec<_> = file.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["wte.weight", "x,\"checksum\":\"", "empty", "halves", "é👩‍👧"]);
    let f32s = |name: &str| file.to_f32(file.get(name).unwrap()).unwrap();
    assert_eq!(f32s("wte.weight"), [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]);
    assert_eq!(f32s("x,\"checksum\":\""), [7.0]);
    assert_eq!(f32s("halves"), [1.0, -2.0, 2f32.powi(-24)]);
    assert_eq!(file.get("empty").unwrap().shape, [0, 4]);
    assert_eq!(file.bytes(file.get("é👩‍👧").unwrap()), [1, 255]);
    assert_eq!(file.metadata()["vocab"], "[\"\\n\",\"\u{1}\"]");
    assert_eq!(header_len(&bytes) % 64, 0, "the data is not aligned");
    let padding = bytes[..header_len(&bytes)].iter().rev().take_while(|byte| **byte == b' ').count();
    assert!(padding < 64, "{padding} spaces behind the header");
    assert_sizes(&file, "sample");
    let error = file.to_f32(file.get("é👩‍👧").unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`m`: tensor `é👩\\u{200d}👧` has dtype U8; F32, F16, BF16 and F64 can be read as numbers"
    );
}

#[test]
fn the_bytes_are_the_same_every_time_and_rewriting_changes_nothing() {
    let bytes = sample();
    assert_eq!(bytes, sample());
    let file = read(&bytes, Checksum::Required).unwrap();
    let views: Vec<_> = file
        .tensors()
        .iter()
        .map(|t| TensorView { name: &t.name, shape: &t.shape, data: Data::Bytes(t.dtype, file.bytes(t)) })
        .collect();
    assert_eq!(to_bytes(&views, file.metadata()).unwrap(), bytes);
}

#[test]
fn a_tensor_larger_than_a_run_of_the_writer_is_written_whole() {
    let values: Vec<f32> = (0..40_000).map(|i| i as f32).collect();
    let view = TensorView { name: "x", shape: &[values.len()], data: Data::F32(&values) };
    let bytes = to_bytes(&[view], &BTreeMap::new()).unwrap();
    let file = read(&bytes, Checksum::Required).unwrap();
    assert_eq!(file.to_f32(file.get("x").unwrap()).unwrap(), values);
}

#[test]
fn a_file_without_tensors_is_one() {
    let bytes = to_bytes(&[], &BTreeMap::new()).unwrap();
    assert!(read(&bytes, Checksum::Required).unwrap().tensors().is_empty());
}

#[test]
fn all_floats_widen() {
    let cases: [(Dtype, &[u8], f32); 4] = [
        (Dtype::F16, &[0x00, 0x7c], f32::INFINITY),
        (Dtype::BF16, &[0xc0, 0x3f], 1.5),
        (Dtype::F32, &[0, 0, 0xc0, 0x3f], 1.5),
        (Dtype::F64, &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f], 1.5),
    ];
    for (dtype, bytes, expected) in cases {
        let view = TensorView { name: "x", shape: &[1], data: Data::Bytes(dtype, bytes) };
        let bytes = to_bytes(&[view], &BTreeMap::new()).unwrap();
        let file = read(&bytes, Checksum::Required).unwrap();
        assert_eq!(file.to_f32(&file.tensors()[0]).unwrap(), [expected], "{dtype:?}");
    }
}

#[test]
fn the_reference_reads_ours() {
    let bytes = sample();
    let theirs = reference::SafeTensors::deserialize(&bytes).unwrap();
    let ours = read(&bytes, Checksum::Required).unwrap();
    assert_eq!(theirs.len(), ours.tensors().len());
    for tensor in ours.tensors() {
        let view = theirs.tensor(&tensor.name).unwrap();
        assert_eq!(
            (view.shape(), view.data()),
            (tensor.shape.as_slice(), ours.bytes(tensor)),
            "{}",
            tensor.name
        );
        assert_eq!(view.dtype().to_string(), tensor.dtype.name());
    }
    let (_, header) = reference::SafeTensors::read_metadata(&bytes).unwrap();
    let strings: BTreeMap<_, _> = header.metadata().clone().unwrap().into_iter().collect();
    assert_eq!(&strings, ours.metadata());
}

#[test]
fn we_read_the_references() {
    use reference::Dtype as Theirs;
    let types = [
        (Theirs::F64, "F64", 8),
        (Theirs::I64, "I64", 8),
        (Theirs::U64, "U64", 8),
        (Theirs::C64, "C64", 8),
        (Theirs::F32, "F32", 4),
        (Theirs::I32, "I32", 4),
        (Theirs::U32, "U32", 4),
        (Theirs::BF16, "BF16", 2),
        (Theirs::F16, "F16", 2),
        (Theirs::I16, "I16", 2),
        (Theirs::U16, "U16", 2),
        (Theirs::F8_E4M3, "F8_E4M3", 1),
        (Theirs::F8_E5M2, "F8_E5M2", 1),
        (Theirs::F8_E8M0, "F8_E8M0", 1),
        (Theirs::I8, "I8", 1),
        (Theirs::U8, "U8", 1),
        (Theirs::BOOL, "BOOL", 1),
    ];
    let data: Vec<u8> = (0..48).collect();
    let views: Vec<_> = types
        .iter()
        .map(|&(dtype, name, size)| {
            (name, reference::TensorView::new(dtype, vec![2, 3], &data[..6 * size]).unwrap())
        })
        .collect();
    let strings =
        HashMap::from([("format".to_string(), "pt".to_string()), ("checksum".into(), "sha1:ab".into())]);
    let bytes = reference::serialize(views, Some(strings)).unwrap();
    let ours = read(&bytes, Checksum::IfPresent).unwrap();
    for (_, name, size) in types {
        let tensor = ours.get(name).unwrap();
        assert_eq!((tensor.dtype.name(), tensor.shape.as_slice()), (name, [2, 3].as_slice()));
        assert_eq!(ours.bytes(tensor), &data[..6 * size], "{name}");
    }
    assert_eq!(ours.metadata()["format"], "pt");
    assert!(matches!(read(&bytes, Checksum::Required), Err(Error::NoChecksum { .. })));
}

#[test]
fn the_golden_files_are_read() {
    for name in ["gpt2", "llama", "cosine"] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/golden").join(format!("{name}.safetensors"));
        let ours = SafeTensors::read(&path, Checksum::IfPresent).unwrap();
        let bytes = fs::read(&path).unwrap();
        let theirs = reference::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(ours.tensors().len(), theirs.len(), "{name}");
        for (key, view) in theirs.tensors() {
            assert_eq!(ours.bytes(ours.get(&key).unwrap()), view.data(), "{name}: {key}");
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample();
    for len in 0..bytes.len() {
        let error = read(&bytes[..len], Checksum::IfPresent).map(|_| ()).unwrap_err();
        let fits = matches!(error, Error::WrongLength { .. })
            || len < 8 && matches!(error, Error::NotSafetensors { .. });
        assert!(fits, "{len} of {} bytes: {error:?}", bytes.len());
    }
    let longer = [&bytes[..], b"\0"].concat();
    let error = read(&longer, Checksum::IfPresent).unwrap_err();
    assert!(error.to_string().contains("something was added"), "{error}");
}

#[test]
fn every_flipped_bit_is_refused_with_a_checksum_and_harmless_without() {
    let bytes = sample();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes, Checksum::Required).is_err(), "bit {bit} flipped, and accepted");
        // A flip in the name of the entry itself hides the checksum: then at least the sizes hold.
        if let Ok(file) = read(&bytes, Checksum::IfPresent) {
            assert!(bit / 8 < header_len(&bytes), "bit {bit} of the data flipped, and accepted");
            assert_sizes(&file, &format!("bit {bit}"));
        }
    }
}

#[test]
fn every_changed_header_byte_without_a_checksum_is_harmless() {
    let header = r#"{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"shape":[],"data_offsets":[24,26],"dtype":"BF16"}}"#;
    let bytes = file(header, 26);
    assert_sizes(&read(&bytes, Checksum::IfPresent).unwrap(), "unchanged");
    for at in 0..8 + header.len() {
        for value in 0..=255 {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            if let Ok(file) = read(&bytes, Checksum::IfPresent) {
                assert_sizes(&file, &format!("byte {at} is {value}"));
            }
        }
    }
}

#[test]
fn offsets_may_be_in_another_order_than_the_keys() {
    let header = r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    let bytes = file(header, 3);
    let file = read(&bytes, Checksum::IfPresent).unwrap();
    let names: Vec<_> = file.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

/// Runs `check` with the path of a file of these bytes, and removes it.
fn with_file(name: &str, bytes: &[u8], check: impl FnOnce(&Path)) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    check(&path);
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_is_read_as_its_bytes_are() {
    let bytes = sample();
    with_file("whole", &bytes, |path| {
        let file = SafeTensors::read(path, Checksum::Required).unwrap();
        let held = read(&bytes, Checksum::Required).unwrap();
        assert_eq!((file.name(), held.name()), (&*path.to_string_lossy(), "m"));
        assert_eq!((file.tensors(), file.metadata()), (held.tensors(), held.metadata()));
        assert!(file.tensors().iter().all(|t| file.bytes(t) == held.bytes(t)), "the data differs");
    });
    // A flipped bit of the data, and a header longer than what is read first.
    let long = metadata(&[("vocab", &"x".repeat(5000))]);
    let view = TensorView { name: "x", shape: &[1], data: Data::F32(&[1.0]) };
    let mut bytes = to_bytes(&[view], &long).unwrap();
    with_file("long", &bytes, |path| assert!(SafeTensors::read(path, Checksum::Required).is_ok()));
    *bytes.last_mut().unwrap() ^= 1;
    with_file("flipped", &bytes, |path| {
        let error = SafeTensors::read(path, Checksum::IfPresent).unwrap_err();
        assert!(matches!(error, Error::WrongChecksum { .. }), "{error:?}");
    });
}

#[test]
fn misuse_of_the_writer_panics() {
    let view = |name, shape, data| TensorView { name, shape, data: Data::F32(data) };
    let one: &[f32] = &[1.0];
    let cases: [(&str, Vec<TensorView>); 5] = [
        ("shape", vec![view("a", &[2], one)]),
        ("taken", vec![view("a", &[1], one), view("a", &[1], one)]),
        ("taken", vec![view("__metadata__", &[1], one)]),
        ("control", vec![view("a\n", &[1], one)]),
        ("dimensions", vec![view("a", &[1; 9], one)]),
    ];
    for (expected, tensors) in cases {
        let panic = std::panic::catch_unwind(|| to_bytes(&tensors, &BTreeMap::new())).unwrap_err();
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.contains(expected), "{message}");
    }
}
