//! From a path to a `String`: what is refused, what is repaired, and what is said about it.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::path::Path;

use super::note::Note;
use crate::error::Error;

/// The largest file that is read, in bytes: 1 GiB.
///
/// A character costs up to six bytes of memory here (itself, its token of four, and its share of the tables), and
/// positions are kept as `u32`.
pub const MAX_BYTES: u64 = 1 << 30;

/// The content of a regular file of at most [`MAX_BYTES`].
///
/// The kind of file is looked at before it is opened: opening a pipe would wait for a writer, and reading
/// `/dev/zero` would not end. It is asked again of the open file, which a rename cannot exchange any more.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let name = path.to_string_lossy().into_owned();
    let failed = |source| Error::Read { name: name.clone(), source };
    refuse_unless_file(&name, &fs::metadata(path).map_err(failed)?)?;
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    refuse_unless_file(&name, &metadata)?;
    let too_large = |bytes| Error::TooLarge { name: name.clone(), bytes, limit: MAX_BYTES };
    if metadata.len() > MAX_BYTES {
        return Err(too_large(metadata.len()));
    }
    // The length may lie (files below /proc say 0) or grow meanwhile, hence `take`.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

fn refuse_unless_file(name: &str, metadata: &Metadata) -> Result<(), Error> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::NotAFile { name: name.to_string(), kind: kind_of(metadata) })
}

/// What something that is not a regular file is.
pub(crate) fn kind_of(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        return "directory";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "pipe";
        }
        if kind.is_socket() {
            return "socket";
        }
    }
    "device"
}

/// Decodes UTF-8: skips a byte order mark, turns CRLF and CR into LF, and refuses what is not text.
///
/// `lossy` reads U+FFFD in place of invalid bytes and of NULs. Another encoding is refused even then, since every
/// other character would be one.
pub(super) fn decode(name: &str, bytes: &[u8], lossy: bool, notes: &mut Vec<Note>) -> Result<String, Error> {
    if let Some(encoding) = other_encoding(bytes) {
        return Err(Error::OtherEncoding { name: name.to_string(), encoding });
    }
    let body = bytes.strip_prefix(b"\xef\xbb\xbf");
    if body.is_some() {
        notes.push(Note::ByteOrderMark);
    }
    let body = body.unwrap_or(bytes);
    let skipped = (bytes.len() - body.len()) as u64;

    let first_bad = first_bad(body);
    let text = match (first_bad, lossy) {
        (None, _) => std::str::from_utf8(body).expect("first_bad found nothing").to_string(),
        (Some(at), false) => return Err(bad_byte(name, body, at, skipped)),
        (Some(at), true) => {
            let (text, count) = replace_bad(body);
            notes.push(Note::Replaced { count, first_offset: at as u64 + skipped });
            text
        }
    };
    Ok(normalise_line_endings(text, notes))
}

/// Names UTF-16 and UTF-32, by their byte order mark or, for mostly Latin UTF-16, by every other byte being zero.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] => return Some("UTF-32 (little-endian)"),
        [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32 (big-endian)"),
        [0xff, 0xfe, ..] => return Some("UTF-16 (little-endian)"),
        [0xfe, 0xff, ..] => return Some("UTF-16 (big-endian)"),
        _ => {}
    }
    let pairs = bytes.chunks_exact(2).take(1024);
    let (n, first, second) = pairs.fold((0, 0, 0), |(n, first, second), pair| {
        (n + 1, first + usize::from(pair[0] == 0), second + usize::from(pair[1] == 0))
    });
    match (first, second) {
        (0, zeros) if zeros * 2 > n => Some("UTF-16LE (by its zero bytes)"),
        (zeros, 0) if zeros * 2 > n => Some("UTF-16BE (by its zero bytes)"),
        _ => None,
    }
}

/// The offset of the first NUL or the first byte that is not UTF-8.
fn first_bad(body: &[u8]) -> Option<usize> {
    let valid = std::str::from_utf8(body).map_or_else(|e| e.valid_up_to(), str::len);
    let nul = body[..valid].iter().position(|&b| b == 0);
    nul.or((valid < body.len()).then_some(valid))
}

fn bad_byte(name: &str, body: &[u8], at: usize, skipped: u64) -> Error {
    let name = name.to_string();
    let line = 1 + body[..at].iter().filter(|&&b| b == b'\n').count() as u64;
    let offset = at as u64 + skipped;
    match body[at] {
        0 => Error::Nul { name, offset, line },
        byte => Error::NotUtf8 { name, offset, byte, line },
    }
}

/// `body` with U+FFFD for each NUL and each maximal invalid sequence, and how many.
fn replace_bad(body: &[u8]) -> (String, usize) {
    let mut text = String::with_capacity(body.len());
    let mut count = 0;
    for chunk in body.utf8_chunks() {
        for c in chunk.valid().chars() {
            count += usize::from(c == '\0');
            text.push(if c == '\0' { char::REPLACEMENT_CHARACTER } else { c });
        }
        if !chunk.invalid().is_empty() {
            count += 1;
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    (text, count)
}

fn normalise_line_endings(text: String, notes: &mut Vec<Note>) -> String {
    if !text.contains('\r') {
        return text;
    }
    let mut normal = String::with_capacity(text.len());
    let mut count = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\r' {
            count += 1;
            chars.next_if_eq(&'\n');
            normal.push('\n');
        } else {
            normal.push(c);
        }
    }
    notes.push(Note::LineEndings { count });
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], lossy: bool) -> (Result<String, Error>, Vec<Note>) {
        let mut notes = Vec::new();
        (decode("t", bytes, lossy, &mut notes), notes)
    }

    #[test]
    fn the_first_bad_byte_is_named() {
        let cases: [(&[u8], &str); 5] = [
            (b"ok\nab\xff", "invalid byte 0xff at offset 5 (line 2)"),
            (b"\xef\xbb\xbfab\xc3", "invalid byte 0xc3 at offset 5 (line 1)"),
            (b"a\0b\xff", "NUL byte at offset 1"),
            (b"\0\0\0\0", "NUL byte at offset 0"),
            (b"ab\xff\0", "invalid byte 0xff at offset 2"),
        ];
        for (bytes, expected) in cases {
            let message = decoded(bytes, false).0.unwrap_err().to_string();
            assert!(message.contains(expected), "{bytes:?}: {message}");
            assert!(message.contains("--lossy"), "{bytes:?}: {message}");
        }
    }

    #[test]
    fn lossy_replaces_and_counts() {
        let (text, notes) = decoded(b"a\0b\xff\xfec\xe2\x82", true);
        assert_eq!(text.unwrap(), "a\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}");
        assert_eq!(notes, [Note::Replaced { count: 4, first_offset: 1 }]);
    }

    #[test]
    fn other_encodings_are_named_even_when_lossy() {
        let le = |s: &str| s.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let be = |s: &str| s.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
        let cases = [
            (le("\u{feff}anna\n"), "UTF-16 (little-endian)"),
            (be("\u{feff}anna\n"), "UTF-16 (big-endian)"),
            (le("anna\nbérta\n"), "UTF-16LE"),
            (be("anna\nbérta\n"), "UTF-16BE"),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32 (little-endian)"),
        ];
        for (bytes, expected) in cases {
            for lossy in [false, true] {
                let message = decoded(&bytes, lossy).0.unwrap_err().to_string();
                assert!(message.contains(expected) && message.contains("iconv -f UTF-"), "{message}");
            }
        }
    }

    #[test]
    fn marks_and_line_endings_are_normalised() {
        let (text, notes) = decoded(b"\xef\xbb\xbfa\r\nb\rc\n", false);
        assert_eq!(text.unwrap(), "a\nb\nc\n");
        assert_eq!(notes, [Note::ByteOrderMark, Note::LineEndings { count: 2 }]);
    }

    #[test]
    fn clean_text_is_left_alone() {
        let text = "👩‍👩‍👧\u{301} \u{feff}שלום\u{fffd}\n";
        let (read, notes) = decoded(text.as_bytes(), false);
        assert_eq!((read.unwrap().as_str(), notes), (text, vec![]));
    }
}
