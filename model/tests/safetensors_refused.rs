//! Model files that are none, that lie, or that ask for too much: what is said about each.

mod malformed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use malformed::{BadHeader, DATA_LEN, HEADER, Malformed, NoChecksum, corpus, file, kind};
use weft_model::Error;
use weft_model::safetensors::*;

fn read(bytes: Vec<u8>) -> Result<SafeTensors<'static>, Error> {
    SafeTensors::from_bytes("m", bytes, Checksum::IfPresent)
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
fn every_malformed_file_is_refused_for_its_reason() {
    assert!(read(file(HEADER, DATA_LEN)).is_ok(), "what the corpus is made from is refused");
    let corpus = corpus();
    let names: BTreeSet<&str> = corpus.iter().map(|file| file.name.as_str()).collect();
    assert!(
        corpus.len() >= 150 && names.len() == corpus.len(),
        "{} files, {} names",
        corpus.len(),
        names.len()
    );
    for Malformed { name, bytes, kind: expected, message } in corpus {
        with_file("malformed", &bytes, |path| {
            let error = SafeTensors::read(path, Checksum::IfPresent).unwrap_err();
            let text = error.to_string();
            assert_eq!(kind(&error), Some(expected), "{name}: {text:.500}");
            assert!(text.contains(message), "{name}: {text:.500}\n  lacks: {message}");
            assert!(text.lines().count() <= 3 && text.len() < 2000, "{name}: {text:.500}");
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{name}: {text:?}");
            let held =
                SafeTensors::from_bytes(&path.to_string_lossy(), bytes.as_slice(), Checksum::IfPresent);
            assert_eq!(held.unwrap_err().to_string(), text, "{name}: the two ways in disagree");
        });
    }
    let error = SafeTensors::from_bytes("m", file(HEADER, DATA_LEN), Checksum::Required).unwrap_err();
    assert_eq!(kind(&error), Some(NoChecksum), "{error}");
}

#[test]
fn a_header_that_ends_at_any_byte_is_refused() {
    for end in 1..HEADER.len() {
        let error = read(file(&HEADER[..end], DATA_LEN)).unwrap_err();
        assert_eq!(kind(&error), Some(BadHeader), "{}: {error}", &HEADER[..end]);
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

    let named = |len: usize| {
        let entry = "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
        file(&format!("{{\"{}\":{entry}}}", "x".repeat(len)), 0)
    };
    assert!(read(named(MAX_NAME_BYTES)).is_ok());
    let error = read(named(MAX_NAME_BYTES + 1)).unwrap_err().to_string();
    assert!(error.contains("has 513 bytes"), "{error}");

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
        let pipe = directory.join("pipe");
        let _ = fs::remove_file(&pipe);
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success(), "mkfifo");
        let error = SafeTensors::read(&pipe, Checksum::Required).unwrap_err().to_string();
        assert!(error.contains("it is a pipe\nwrite what it sends to a file"), "{error}");
        fs::remove_file(&pipe).unwrap();
        // The path of a socket has at most 107 bytes: not in the target directory, which may lie deep.
        let socket = std::env::temp_dir().join(format!("weft-socket-{}", std::process::id()));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = SafeTensors::read(&socket, Checksum::Required).unwrap_err().to_string();
        fs::remove_file(&socket).unwrap();
        assert!(error.ends_with("it is a socket"), "{error}");
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
