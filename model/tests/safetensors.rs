//! Model files: what is written is read, here and by the reference implementation; what is wrong is refused.

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

/// The message for a file of this header and so many bytes of data.
fn message(header: &str, data_len: usize) -> String {
    read(&file(header, data_len), Checksum::IfPresent).unwrap_err().to_string()
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
fn headers_that_lie_are_refused_by_name() {
    let tensor = |fields: &str| format!("{{\"a\":{{{fields}}}}}");
    let placed = |dtype: &str, shape: &str, offsets: &str| {
        tensor(&format!("\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}"))
    };
    let one = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let two = r#"{"dtype":"U8","shape":[1],"data_offsets":[1,2]}"#;
    let long = "n".repeat(513);
    let cases: Vec<(String, usize, &str)> = vec![
        ("{".into(), 0, "broken header: EOF"),
        ("{}x".into(), 0, "trailing characters"),
        ("{\"a\":1}".into(), 0, "expected an object"),
        ("{\"__metadata__\":{\"a\":1}}".into(), 0, "expected a string"),
        (format!("{{\"a\":{one},\"a\":{two}}}"), 2, "the key `a` stands there twice"),
        (format!("{{\"a\":{one},\"\\u0061\":{two}}}"), 2, "the key `a` stands there twice"),
        ("{\"__metadata__\":{},\"__metadata__\":{}}".into(), 0, "`__metadata__` stands there twice"),
        ("{\"__metadata__\":{\"k\":\"1\",\"\\u006b\":\"2\"}}".into(), 0, "`k` stands there twice"),
        (
            tensor(r#""dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]"#),
            1,
            "`shape` stands there twice",
        ),
        (
            tensor(r#""dtype":"U8","shape":[1],"data_offsets":[0,1],"x":"y""#),
            1,
            "tensor `a` has an unknown key `x`",
        ),
        (tensor(r#""shape":[1],"data_offsets":[0,1]"#), 1, "tensor `a` has no `dtype`"),
        (tensor(r#""dtype":[1],"shape":[1],"data_offsets":[0,1]"#), 1, "`dtype` that is not a string"),
        (tensor(r#""dtype":"U8","data_offsets":[0,1]"#), 1, "tensor `a` has no `shape`"),
        (tensor(r#""dtype":"U8","shape":[1]"#), 1, "tensor `a` has no `data_offsets`"),
        (tensor(r#""dtype":"U8","shape":"1","data_offsets":[0,1]"#), 1, "`shape` that is not an array"),
        (placed("F4", "[2]", "[0,1]"), 1, "tensor `a` has dtype `F4`; known are BOOL, U8"),
        (placed("U8", "[-1]", "[0,1]"), 1, "invalid value: integer `-1`"),
        (placed("U8", "[1.0]", "[0,1]"), 1, "invalid type: floating point"),
        (placed("U8", "[18446744073709551616]", "[0,1]"), 1, "invalid type: floating point"),
        (placed("U8", "[[1]]", "[0,1]"), 1, "invalid type: sequence"),
        (placed("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "has 9 dimensions, and at most 8"),
        (placed("U8", "[1]", "[0,1,2]"), 1, "has 3 `data_offsets` instead of 2"),
        (placed("F32", "[4294967296,4294967296]", "[0,0]"), 0, "impossible shape [4294967296, 4294967296]"),
        (placed("F64", "[2305843009213693952]", "[0,0]"), 0, "impossible shape"),
        (placed("U8", "[0,4294967296,4294967296]", "[0,0]"), 0, "impossible shape"),
        (placed("F32", "[2]", "[0,4]"), 4, "F32 [2] needs 8 bytes, and its data_offsets are [0, 4]"),
        (placed("U8", "[1]", "[1,0]"), 1, "data_offsets are [1, 0]"),
        (placed("U8", "[1]", "[1,2]"), 2, "begins at byte 1 of the data, and the one before it ends at 0"),
        (
            format!("{{\"a\":{one},\"b\":{one}}}"),
            1,
            "tensor `b` begins at byte 0 of the data, and the one before it ends at 1",
        ),
        (placed("U8", "[18446744073709551615]", "[0,18446744073709551615]"), 1, "its end is missing"),
        (placed("U8", "[1]", "[0,1]"), 2, "something was added"),
        (format!("{{\"\":{one}}}"), 1, "the tensor name `` has 0 bytes"),
        (format!("{{\"{long}\":{one}}}"), 1, "has 513 bytes: it must have between 1 and 512"),
        (format!("{{\"a\\u001b[2J\":{one}}}"), 1, "`a\\u{1b}[2J` has a control character"),
    ];
    for (header, data_len, expected) in cases {
        let message = message(&header, data_len);
        assert!(message.contains(expected), "{header}\n  {message}\n  lacks: {expected}");
        assert!(message.lines().count() <= 3 && !message.contains('\u{1b}'), "{message:?}");
    }
}

#[test]
fn messages_stay_short_whatever_the_file_says() {
    let long = "\\u001b".repeat(1 << 20);
    let headers = [
        format!("{{\"a\":{{\"dtype\":\"{long}\",\"shape\":[],\"data_offsets\":[0,0]}}}}"),
        format!("{{\"a\":{{\"{long}\":[],\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}}}"),
        format!("{{\"{long}\":{{}}}}"),
        format!("{{\"a\":{{\"shape\":[\"{long}\"]}}}}"),
        format!("{{\"__metadata__\":\"{long}\"}}"),
        format!("{{\"__metadata__\":{{\"{long}\":\"\",\"{long}\":\"\"}}}}").replace(&long, &long[..1 << 20]),
        format!("{}1", "[".repeat(1 << 20)).replace('[', "{\"a\":"),
    ];
    for header in headers {
        let message = message(&header, 0);
        assert!(
            message.len() < 4000 && !message.contains('\u{1b}'),
            "{} bytes: {:.200}",
            message.len(),
            message
        );
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

#[test]
fn limits_are_limits() {
    let header = |n: usize| {
        let one = |i| format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        format!("{{{}}}", (0..n).map(one).collect::<Vec<_>>().join(","))
    };
    assert!(read(&file(&header(MAX_TENSORS), 0), Checksum::IfPresent).is_ok());
    let error = message(&header(MAX_TENSORS + 1), 0);
    assert!(error.contains("65537 tensors, and at most 65536"), "{error}");

    let padded = |len: usize| file(&format!("{{}}{}", " ".repeat(len - 2)), 0);
    assert!(read(&padded(MAX_HEADER_BYTES), Checksum::IfPresent).is_ok());
    let error = read(&padded(MAX_HEADER_BYTES + 1), Checksum::IfPresent).unwrap_err().to_string();
    assert!(error.contains("it has 8388609 bytes, and at most 8388608 are read"), "{error}");

    let error = to_bytes(&[], &metadata(&[("vocab", &"x".repeat(MAX_HEADER_BYTES))])).unwrap_err();
    assert!(matches!(error, Error::HeaderTooLarge { limit: MAX_HEADER_BYTES, .. }), "{error:?}");
}

/// Runs `check` with the path of a file of these bytes, and removes it.
fn with_file(name: &str, bytes: &[u8], check: impl FnOnce(&Path)) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    check(&path);
    fs::remove_file(&path).unwrap();
}

#[test]
fn other_files_are_named() {
    let cases: [(&[u8], &str); 10] = [
        (b"", "it is empty"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "Python pickle"),
        (b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0", "PyTorch checkpoint or another zip"),
        (b"GGUF\x03\0\0\0\x10\0\0\0", "GGUF"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03abc", "gzip"),
        (b"{\"n_layer\": 4}", "JSON"),
        (b"To be", "plain text"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "is not a safetensors file"),
    ];
    for (bytes, expected) in cases {
        with_file("other", bytes, |path| {
            let read = SafeTensors::read(path, Checksum::Required).unwrap_err().to_string();
            assert!(read.contains(expected), "{}: {read}", bytes.escape_ascii());
            let name = path.to_string_lossy();
            let held = SafeTensors::from_bytes(&name, bytes, Checksum::Required).unwrap_err();
            assert_eq!(read, held.to_string(), "the two ways in disagree");
        });
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let error = SafeTensors::read(directory, Checksum::Required).unwrap_err().to_string();
    assert!(error.contains("is not a safetensors file: it is a directory\nname a"), "{error}");
    let error = SafeTensors::read(directory.join("none"), Checksum::Required).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error:?}");
    #[cfg(unix)]
    {
        let error = SafeTensors::read("/dev/zero", Checksum::Required).unwrap_err().to_string();
        assert!(error.ends_with("it is a device"), "{error}");
    }
}

#[test]
fn a_length_that_lies_is_found_before_anything_is_allocated() {
    let header = r#"{"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}"#;
    with_file("lies", &file(header, 3), |path| {
        let error = SafeTensors::read(path, Checksum::IfPresent).unwrap_err();
        assert!(matches!(error, Error::WrongLength { expected, .. } if expected > 1 << 40), "{error:?}");
    });
    let mut cut = (MAX_HEADER_BYTES as u64).to_le_bytes().to_vec();
    cut.push(b'{');
    with_file("cut", &cut, |path| {
        let error = SafeTensors::read(path, Checksum::IfPresent).unwrap_err();
        assert!(matches!(error, Error::WrongLength { bytes: 9, .. }), "{error:?}");
    });
}

#[test]
fn a_file_is_read_as_its_bytes_are() {
    let bytes = sample();
    with_file("whole", &bytes, |path| {
        let file = SafeTensors::read(path, Checksum::Required).unwrap();
        let held = read(&bytes, Checksum::Required).unwrap();
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
