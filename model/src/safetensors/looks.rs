//! What a file that is not safetensors may be instead, told by how it begins.

/// How many of a file's first bytes [`looks_like`] wants to see.
pub(super) const PREFIX: usize = 512;

/// What a file seems to be, continuing "it …", and a line on what to do about it, or nothing.
pub(super) type Kind = (&'static str, &'static str);

const CONVERT: &str = "convert it to safetensors with the program that made it";
const UNPACK: &str = "unpack it first";

/// Names the kind of file that begins with `prefix`.
pub(super) fn looks_like(prefix: &[u8]) -> Option<Kind> {
    const MAGIC: [(&[u8], Kind); 9] = [
        (b"PK\x03\x04", ("looks like a PyTorch checkpoint or another zip archive", CONVERT)),
        (b"GGUF", ("looks like a GGUF file", CONVERT)),
        (
            b"version https://git-lfs.github.com/spec/",
            ("looks like a Git LFS pointer", "the weights are elsewhere: fetch them with `git lfs pull`"),
        ),
        (b"\x1f\x8b", ("looks like a gzip archive", UNPACK)),
        (b"\x28\xb5\x2f\xfd", ("looks like a zstd archive", UNPACK)),
        (b"BZh", ("looks like a bzip2 archive", UNPACK)),
        (b"\xfd7zXZ\0", ("looks like an xz archive", UNPACK)),
        (b"\x93NUMPY", ("looks like a NumPy array", CONVERT)),
        (b"\x89HDF\r\n\x1a\n", ("looks like an HDF5 file", CONVERT)),
    ];
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| prefix.starts_with(magic)) {
        return Some(*kind);
    }
    if matches!(prefix, [0x80, 2..=5, ..]) {
        return Some(("looks like a Python pickle, such as a PyTorch checkpoint", CONVERT));
    }
    text_like(prefix)
}

fn text_like(prefix: &[u8]) -> Option<Kind> {
    // The end of the prefix may cut a character in two; anything else that is not UTF-8 is no text.
    let chunk = prefix.utf8_chunks().next()?;
    if chunk.valid().is_empty() || chunk.valid().len() + chunk.invalid().len() < prefix.len() {
        return None;
    }
    let text = chunk.valid().trim_start_matches('\u{feff}');
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c')) {
        return None;
    }
    let text = text.trim_start();
    let starts = |tag: &str| text.get(..tag.len()).is_some_and(|t| t.eq_ignore_ascii_case(tag));
    Some(match text.chars().next() {
        _ if starts("<!doctype") || starts("<html") => (
            "looks like a web page (HTML)",
            "the download brought a page instead of the file: look for its direct link",
        ),
        // A `[section]` is not JSON: someone named the configuration.
        Some('{') => ("looks like JSON", ""),
        Some('[') if !text[1..].starts_with(char::is_alphabetic) => ("looks like JSON", ""),
        _ => ("looks like plain text", ""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_recognised() {
        let cases: [(&[u8], Option<&str>); 18] = [
            (b"PK\x03\x04\0\0\x08\x08", Some("zip")),
            (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46", Some("pickle")),
            (b"GGUF\x03\0\0\0", Some("GGUF")),
            (b"\n <!DOCTYPE html><html>", Some("HTML")),
            (b"<HTML lang=en>", Some("HTML")),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:", Some("LFS")),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", Some("gzip")),
            (b"{\"a\": 1}", Some("JSON")),
            (b"[1, 2]", Some("JSON")),
            (b"[model]\nn_layer = 4", Some("plain text")),
            (b"once upon a time", Some("plain text")),
            ("\u{feff}שלום".as_bytes(), Some("plain text")),
            (b"caf\xc3", Some("plain text")),
            (b"<", Some("plain text")),
            (b"", None),
            (b"\x40\0\0\0\0\0\0\0{\"a\"", None),
            (b"\x7fELF\x02\x01", None),
            (b"ab\xffcd", None),
        ];
        for (prefix, expected) in cases {
            let found = looks_like(prefix);
            let fits = match (found, expected) {
                (Some((found, _)), Some(expected)) => found.contains(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(fits, "{:?} looks like {found:?}, not {expected:?}", prefix.escape_ascii().to_string());
        }
    }
}
