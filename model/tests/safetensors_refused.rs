//! Model files that are none, that lie, or that ask for too much: what is said about each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use weft_model::Error;
use weft_model::safetensors::*;

fn read(bytes: Vec<u8>) -> Result<SafeTensors<'static>, Error> {
    SafeTensors::from_bytes("m", bytes, Checksum::IfPresent)
}

fn file(header: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(std::iter::repeat_n(0, data_len));
    bytes
}

/// The message for a file of this header and so many bytes of data.
fn message(header: &str, data_len: usize) -> String {
    read(file(header, data_len)).unwrap_err().to_string()
}

/// Runs `check` with the path of a file of these bytes, and removes it.
fn with_file(name: &str, bytes: &[u8], check: impl FnOnce(&Path)) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    check(&path);
    fs::remove_file(&path).unwrap();
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
fn limits_are_limits() {
    let header = |n: usize| {
        let one = |i| format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        format!("{{{}}}", (0..n).map(one).collect::<Vec<_>>().join(","))
    };
    assert!(read(file(&header(MAX_TENSORS), 0)).is_ok());
    let error = message(&header(MAX_TENSORS + 1), 0);
    assert!(error.contains("65537 tensors, and at most 65536"), "{error}");

    let padded = |len: usize| file(&format!("{{}}{}", " ".repeat(len - 2)), 0);
    assert!(read(padded(MAX_HEADER_BYTES)).is_ok());
    let error = read(padded(MAX_HEADER_BYTES + 1)).unwrap_err().to_string();
    assert!(error.contains("it has 8388609 bytes, and at most 8388608 are read"), "{error}");

    let error =
        to_bytes(&[], &BTreeMap::from([("vocab".to_string(), "x".repeat(MAX_HEADER_BYTES))])).unwrap_err();
    assert!(matches!(error, Error::HeaderTooLarge { limit: MAX_HEADER_BYTES, .. }), "{error:?}");
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
