//! The vocabulary: which characters there are, and their token ids.

use serde::{Deserialize, Serialize};

use crate::error::{Error, escape};

/// The id of the boundary token, where a vocabulary has one.
pub const BOUNDARY: u32 = 0;

/// How the boundary token is shown to people.
pub const BOUNDARY_LABEL: &str = "⏎";

/// Characters (Unicode scalar values) and their token ids, sorted by code point.
///
/// A vocabulary for [`Format::Lines`](super::Format::Lines) has one token more, id 0, that begins and ends every
/// document; it is no character and never appears in text. An emoji sequence or a letter with combining marks is
/// several characters, kept as they are: nothing is normalised, so that decoding gives back the same bytes.
///
/// Serialised as a plain list of strings in order of id: one character each, and `""` for the boundary.
///
/// ```
/// use weft_model::text::Vocab;
/// let vocab = Vocab::new("hello".chars(), true);
/// assert_eq!(vocab.len(), 5); // the boundary, e, h, l, o
/// assert_eq!(vocab.encode("hole")?, [2, 4, 3, 1]);
/// assert_eq!(vocab.decode(&[2, 4, 3, 1, 0])?, "hole");
/// # Ok::<(), weft_model::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Vocab {
    /// Ascending.
    chars: Vec<char>,
    boundary: bool,
}

impl Vocab {
    /// The vocabulary of all characters in `chars`, with or without a boundary token.
    pub fn new(chars: impl IntoIterator<Item = char>, boundary: bool) -> Vocab {
        // One flag per code point: a megabyte, and linear in the text where a set would compare at every character.
        let mut seen = vec![false; char::MAX as usize + 1];
        for c in chars {
            seen[c as usize] = true;
        }
        let chars = ('\0'..=char::MAX).filter(|&c| seen[c as usize]).collect();
        Vocab { chars, boundary }
    }

    /// Number of tokens, the boundary included: the model's `vocab_size`.
    pub fn len(&self) -> usize {
        self.chars.len() + usize::from(self.boundary)
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The boundary token's id ([`BOUNDARY`]), if there is one.
    pub fn boundary(&self) -> Option<u32> {
        self.boundary.then_some(BOUNDARY)
    }

    /// The characters in order of id; the first has id 1 where there is a boundary token, else 0.
    pub fn chars(&self) -> &[char] {
        &self.chars
    }

    /// The character with this id; `None` for the boundary and beyond the end.
    pub fn char_of(&self, id: u32) -> Option<char> {
        let index = (id as usize).checked_sub(usize::from(self.boundary))?;
        self.chars.get(index).copied()
    }

    /// The id of a character.
    pub fn id_of(&self, c: char) -> Option<u32> {
        let index = self.chars.binary_search(&c).ok()?;
        Some((index + usize::from(self.boundary)) as u32)
    }

    /// How to print a token: the character, escaped if it would not show, or [`BOUNDARY_LABEL`].
    pub fn label(&self, id: u32) -> String {
        match self.char_of(id) {
            Some(c) => {
                let mut label = String::new();
                escape(c, &mut label).expect("a string takes everything");
                label
            }
            None if self.boundary() == Some(id) => BOUNDARY_LABEL.to_string(),
            None => format!("<{id}>"),
        }
    }

    /// Token ids of `text`, one per character, without boundaries.
    ///
    /// # Errors
    /// [`Error::UnknownChar`] names the first character that is not in the vocabulary and its position.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::with_capacity(text.len());
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// As [`encode`](Vocab::encode), appending to `ids`.
    pub(crate) fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Error> {
        for (i, ch) in text.chars().enumerate() {
            let id = self.id_of(ch).ok_or_else(|| self.unknown(ch, i + 1))?;
            ids.push(id);
        }
        Ok(())
    }

    fn unknown(&self, ch: char, position: usize) -> Error {
        let near = ch.to_lowercase().chain(ch.to_uppercase()).find(|&c| self.id_of(c).is_some());
        Error::UnknownChar { ch, position, vocab_size: self.len(), near }
    }

    /// The text of `ids`, up to the first boundary token. A boundary in first place is a beginning and is skipped.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] names an id that is not below [`len`](Vocab::len).
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let mut text = String::with_capacity(ids.len());
        for (position, &id) in ids.iter().enumerate() {
            match self.char_of(id) {
                Some(c) => text.push(c),
                None if self.boundary() != Some(id) => {
                    return Err(Error::TokenOutOfRange { id, position, vocab_size: self.len() });
                }
                None if position == 0 => {}
                None => break,
            }
        }
        Ok(text)
    }
}

impl From<Vocab> for Vec<String> {
    fn from(vocab: Vocab) -> Vec<String> {
        let boundary = vocab.boundary.then(String::new);
        boundary.into_iter().chain(vocab.chars.iter().map(char::to_string)).collect()
    }
}

impl TryFrom<Vec<String>> for Vocab {
    type Error = Error;

    /// Reads the serialised form.
    ///
    /// # Errors
    /// [`Error::BadVocab`] if an entry is not one character (or `""` in first place), or the order does not ascend.
    fn try_from(entries: Vec<String>) -> Result<Vocab, Error> {
        let boundary = entries.first().is_some_and(String::is_empty);
        let mut chars: Vec<char> = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate().skip(usize::from(boundary)) {
            let mut all = entry.chars();
            let (Some(c), None) = (all.next(), all.next()) else {
                return Err(Error::BadVocab { index, problem: "is not a single character" });
            };
            if chars.last().is_some_and(|&last| last >= c) {
                return Err(Error::BadVocab { index, problem: "is out of order: code points must ascend" });
            }
            chars.push(c);
        }
        Ok(Vocab { chars, boundary })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRICKY: &str = "👩‍👩‍👧 e\u{301} שלום مرحبا 日本 \u{202e}\u{10ffff}\u{0}";

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        for boundary in [false, true] {
            let vocab = Vocab::new(TRICKY.chars(), boundary);
            let ids = vocab.encode(TRICKY).unwrap();
            assert_eq!(ids.len(), TRICKY.chars().count());
            assert_eq!(vocab.decode(&ids).unwrap(), TRICKY);
            let json = serde_json::to_string(&vocab).unwrap();
            assert_eq!(serde_json::from_str::<Vocab>(&json).unwrap(), vocab, "{json}");
        }
    }

    #[test]
    fn the_boundary_begins_and_ends_a_document() {
        let vocab = Vocab::new("ab".chars(), true);
        assert_eq!(vocab.decode(&[0, 1, 2, 0, 1]).unwrap(), "ab");
        assert_eq!(vocab.char_of(0), None);
        assert_eq!((vocab.label(0), vocab.label(1)), ("⏎".into(), "a".into()));
        assert_eq!(serde_json::to_string(&vocab).unwrap(), r#"["","a","b"]"#);
    }

    #[test]
    fn an_unknown_character_is_named_with_its_position() {
        let vocab = Vocab::new("abc".chars(), true);
        let error = vocab.encode("abé").unwrap_err();
        assert!(matches!(error, Error::UnknownChar { ch: 'é', position: 3, near: None, .. }), "{error:?}");
        let error = vocab.encode("B").unwrap_err();
        assert!(matches!(error, Error::UnknownChar { near: Some('b'), .. }), "{error:?}");
        assert!(vocab.encode("").unwrap().is_empty());
    }

    #[test]
    fn ids_out_of_range_are_refused() {
        let vocab = Vocab::new("ab".chars(), false);
        let error = vocab.decode(&[0, 1, 2]).unwrap_err();
        assert_eq!(error.to_string(), "token id 2 at position 2 is out of range: vocab_size is 2");
    }

    #[test]
    fn a_stored_list_that_is_no_vocabulary_is_refused() {
        for (json, index) in
            [(r#"["a","bc"]"#, 1), (r#"["a",""]"#, 1), (r#"["b","a"]"#, 1), (r#"["","a","a"]"#, 2)]
        {
            let error = serde_json::from_str::<Vocab>(json).unwrap_err().to_string();
            assert!(error.contains(&format!("entry {index}")), "{json}: {error}");
        }
    }
}
