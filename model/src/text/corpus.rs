//! What was read: the documents, how they were found, and what was done to them.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::guess::Guess;
use super::note::Note;
use super::read;
use crate::error::Error;

/// How a file is cut into documents. Serialised as `"lines"` or `"text"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One document per line. White space at the end of a line is dropped, at its beginning kept; lines with
    /// nothing else are left out.
    Lines,
    /// Running text: one document, line feeds included, kept to the last character.
    Text,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Lines => "lines",
            Format::Text => "text",
        })
    }
}

/// A text in memory, cut into documents.
#[derive(Clone, Debug)]
pub struct Corpus {
    name: String,
    format: Format,
    guess: Option<Guess>,
    text: String,
    /// Where the documents are in `text`; never empty.
    documents: Vec<Range<usize>>,
    notes: Vec<Note>,
    fingerprint: u64,
}

impl Corpus {
    /// Reads a regular file of UTF-8 text of at most [`MAX_BYTES`](super::MAX_BYTES).
    ///
    /// A byte order mark is skipped; CRLF and CR become LF. Without `format` it is guessed: see [`Guess`]. With
    /// `lossy`, invalid bytes and NULs become U+FFFD instead of an error.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotAFile`], [`Error::TooLarge`], [`Error::NoText`], [`Error::OtherEncoding`],
    /// [`Error::Nul`], [`Error::NotUtf8`].
    pub fn read(path: impl AsRef<Path>, format: Option<Format>, lossy: bool) -> Result<Corpus, Error> {
        let path = path.as_ref();
        Corpus::from_bytes(&path.to_string_lossy(), &read::read_bytes(path)?, format, lossy)
    }

    /// As [`read`](Corpus::read), of bytes already in memory; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`read`](Corpus::read), except those of the file system.
    pub fn from_bytes(
        name: &str,
        bytes: &[u8],
        format: Option<Format>,
        lossy: bool,
    ) -> Result<Corpus, Error> {
        let mut notes = Vec::new();
        let text = read::decode(name, bytes, lossy, &mut notes)?;
        if text.trim_end().is_empty() {
            return Err(Error::NoText { name: name.to_string(), bytes: bytes.len() as u64 });
        }
        let guess = if format.is_none() { Some(Guess::of(&text)) } else { None };
        let format = format.or(guess.as_ref().map(|g| g.format)).expect("given or guessed");
        let documents = match format {
            Format::Lines => lines_of(&text, &mut notes),
            Format::Text => std::iter::once(0..text.len()).collect(),
        };
        Ok(Corpus {
            name: name.to_string(),
            format,
            guess,
            text,
            documents,
            notes,
            fingerprint: fnv1a(bytes),
        })
    }

    /// As [`from_bytes`](Corpus::from_bytes), of a string.
    ///
    /// # Errors
    /// [`Error::NoText`], [`Error::Nul`].
    pub fn from_str(name: &str, text: &str, format: Option<Format>) -> Result<Corpus, Error> {
        Corpus::from_bytes(name, text.as_bytes(), format, false)
    }

    /// The data set that is built in: 32,000 first names, one per line (`data/names.txt`).
    pub fn embedded() -> Corpus {
        const NAMES: &str = include_str!("../../../data/names.txt");
        Corpus::from_str("names.txt (built in)", NAMES, Some(Format::Lines)).expect("names are text")
    }

    /// The path, or the name given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it was cut into documents.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The guess and its reasons, unless the format was given.
    pub fn guess(&self) -> Option<&Guess> {
        self.guess.as_ref()
    }

    /// The documents, in order of the file. There is at least one, and none is empty.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = &str> {
        self.documents.iter().map(|range| &self.text[range.clone()])
    }

    /// What was done to the text.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// 64-bit FNV-1a of the bytes of the file as they were before anything was done to them; shown as 16
    /// hexadecimal digits. The same on every machine; tells versions of a file apart, not forgeries.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

fn lines_of(text: &str, notes: &mut Vec<Note>) -> Vec<Range<usize>> {
    let mut documents = Vec::new();
    let mut blank = 0;
    let mut start = 0;
    for line in text.split_terminator('\n') {
        let len = line.trim_end().len();
        if len == 0 {
            blank += 1;
        } else {
            documents.push(start..start + len);
        }
        start += line.len() + 1;
    }
    if blank > 0 {
        notes.push(Note::BlankLines { count: blank });
    }
    documents
}

/// Fowler, Noll & Vo: for each byte, xor then multiply by the prime.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str, format: Option<Format>) -> Vec<String> {
        Corpus::from_str("t", text, format).unwrap().documents().map(String::from).collect()
    }

    #[test]
    fn lines_lose_only_what_cannot_be_seen() {
        assert_eq!(documents(" anna \r\n\nb c\t\n  \ndora", Some(Format::Lines)), [" anna", "b c", "dora"]);
        let corpus = Corpus::from_str("t", "a\n\n \nb\n", Some(Format::Lines)).unwrap();
        assert_eq!(corpus.notes(), [Note::BlankLines { count: 2 }]);
    }

    #[test]
    fn running_text_keeps_every_character() {
        let text = "  One.\n\nTwo. \n\n";
        assert_eq!(documents(text, Some(Format::Text)), [text]);
        assert_eq!(documents(text, None), [text]);
    }

    #[test]
    fn the_fingerprint_is_fnv_1a_of_the_bytes() {
        // The published test vectors of the function.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        let lf = Corpus::from_str("t", "a\nb\n", None).unwrap();
        let crlf = Corpus::from_str("t", "a\r\nb\r\n", None).unwrap();
        assert_ne!(lf.fingerprint(), crlf.fingerprint(), "taken after the line endings were changed");
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        for (text, expected) in
            [("", "it is empty"), (" \n\r\n\t", "only white space"), ("\u{feff}", "only white")]
        {
            for format in [None, Some(Format::Lines), Some(Format::Text)] {
                let message = Corpus::from_str("t", text, format).unwrap_err().to_string();
                assert!(message.contains(expected), "{text:?}: {message}");
            }
        }
    }

    #[test]
    fn the_format_is_guessed_only_when_asked() {
        assert!(Corpus::from_str("t", "a\nb", None).unwrap().guess().is_some());
        let corpus = Corpus::from_str("t", "a\nb", Some(Format::Text)).unwrap();
        assert_eq!((corpus.guess(), corpus.format()), (None, Format::Text));
    }
}
