//! Train, validation and test: which part of the corpus is which, as token ids.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::corpus::{Corpus, Format};
use super::note::Note;
use super::random::{Purpose, shuffle};
use super::vocab::{BOUNDARY, Vocab};
use crate::error::Error;

/// One of the three parts of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitName {
    /// What the model learns from.
    Train,
    /// What decides when to stop and which settings are better.
    Val,
    /// What is looked at once, at the end.
    Test,
}

/// How large the splits are: 0.8, 0.1 and 0.1 by default. A fraction of 0 leaves that split empty.
///
/// Written as `0.8/0.1/0.1`: train, validation, test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SplitFractions {
    /// Above 0.
    pub train: f64,
    /// At least 0.
    pub val: f64,
    /// At least 0.
    pub test: f64,
}

impl Default for SplitFractions {
    fn default() -> SplitFractions {
        SplitFractions { train: 0.8, val: 0.1, test: 0.1 }
    }
}

impl fmt::Display for SplitFractions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.train, self.val, self.test)
    }
}

impl FromStr for SplitFractions {
    type Err = Error;

    /// Reads `train/val/test`.
    ///
    /// # Errors
    /// [`Error::SplitFractions`], with NaN for a number that is missing or none.
    fn from_str(text: &str) -> Result<SplitFractions, Error> {
        let parts: Vec<f64> = text.split('/').map(|part| part.trim().parse().unwrap_or(f64::NAN)).collect();
        let [train, val, test] = parts[..].try_into().unwrap_or([f64::NAN; 3]);
        SplitFractions { train, val, test }.validate()
    }
}

impl TryFrom<String> for SplitFractions {
    type Error = Error;

    fn try_from(text: String) -> Result<SplitFractions, Error> {
        text.parse()
    }
}

impl From<SplitFractions> for String {
    fn from(fractions: SplitFractions) -> String {
        fractions.to_string()
    }
}

impl SplitFractions {
    /// Checks that the fractions describe a split.
    ///
    /// # Errors
    /// [`Error::SplitFractions`] if `train` is not above 0, another below 0, or the sum not 1.
    pub fn validate(self) -> Result<SplitFractions, Error> {
        /// Decimal fractions such as 0.7 + 0.2 + 0.1 sum to 1 within a few units of the last place; thirds
        /// written with six digits within 10⁻⁶.
        const TOLERANCE: f64 = 2e-6;
        let SplitFractions { train, val, test } = self;
        // Also false for NaN.
        let ok = train > 0.0 && val >= 0.0 && test >= 0.0 && (train + val + test - 1.0).abs() <= TOLERANCE;
        if ok { Ok(self) } else { Err(Error::SplitFractions { train, val, test }) }
    }

    /// `n` things cut in the order train, test, val. At least `least` in each split that has a fraction, or `None`
    /// if `n` is too small for that.
    fn cut(self, n: usize, least: usize) -> Option<[Range<usize>; 3]> {
        let share = |fraction: f64| match fraction {
            0.0 => 0,
            _ => ((n as f64 * fraction).round() as usize).max(least),
        };
        let (val, test) = (share(self.val), share(self.test));
        let train = n.checked_sub(val + test).filter(|&train| train >= least)?;
        Some([0..train, train..train + test, train + test..n])
    }
}

/// One part of a data set, as token ids.
///
/// Documents of lines lie in one array with a boundary token before, between and after them; running text is one
/// document without. Either way document `d` gives the targets `tokens[offsets[d] + 1 ..= offsets[d + 1]]`, and what
/// precedes each target in the array is its context, back to `offsets[d]`. Cloning shares the arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    tokens: Arc<[u32]>,
    offsets: Arc<[u32]>,
    format: Format,
}

impl Split {
    fn of_lines(documents: &[&str], vocab: &Vocab) -> Result<Split, Error> {
        let mut tokens = Vec::with_capacity(documents.iter().map(|d| d.len() + 1).sum::<usize>() + 1);
        let mut offsets = vec![0];
        if !documents.is_empty() {
            tokens.push(BOUNDARY);
        }
        for document in documents {
            vocab.encode_into(document, &mut tokens)?;
            // At most MAX_BYTES characters and as many boundaries: fits.
            offsets.push(tokens.len() as u32);
            tokens.push(BOUNDARY);
        }
        Ok(Split { tokens: tokens.into(), offsets: offsets.into(), format: Format::Lines })
    }

    fn of_text(tokens: &[u32]) -> Split {
        let offsets = if tokens.len() < 2 { vec![0] } else { vec![0, tokens.len() as u32 - 1] };
        Split { tokens: tokens.into(), offsets: offsets.into(), format: Format::Text }
    }

    /// Whether there is no target at all.
    pub fn is_empty(&self) -> bool {
        self.n_targets() == 0
    }

    /// Tokens to predict: for lines, the characters and one boundary per document; for running text, all
    /// characters but the first.
    pub fn n_targets(&self) -> usize {
        self.offsets[self.n_documents()] as usize
    }

    /// Number of documents; 1 for running text.
    pub fn n_documents(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The most targets that a document has: the smallest `block_size` at which none is cut.
    pub fn longest(&self) -> usize {
        self.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max().unwrap_or(0)
    }

    /// All token ids, boundaries included.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Where each document begins in [`tokens`](Split::tokens), and where the last one ends: `n_documents() + 1`
    /// positions.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// Document `d` with the tokens around it: for lines, boundary, characters, boundary.
    ///
    /// # Panics
    /// Unless `d < n_documents()`.
    #[track_caller]
    pub fn document(&self, d: usize) -> &[u32] {
        &self.tokens[self.offsets[d] as usize..=self.offsets[d + 1] as usize]
    }

    /// How the corpus was cut.
    pub fn format(&self) -> Format {
        self.format
    }
}

/// How many documents occur twice, where that makes a loss look better than it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedDocuments {
    /// Documents of the corpus equal to an earlier one.
    pub repeated: usize,
    /// Documents of the validation split that are also in the training split.
    pub val_in_train: usize,
    /// Documents of the test split that are also in the training split.
    pub test_in_train: usize,
}

/// A corpus as token ids, split for training, validation and test.
///
/// - **Lines** are shuffled by `seed` and cut. Equal documents are kept, and counted: [`SharedDocuments`].
/// - **Running text** is cut by position, in the order train, test, validation: validation is the *last* part, as in
///   nanoGPT, where the first nine tenths are trained on, so that validation losses compare with published ones.
///   `seed` plays no part.
///
/// Small data works from one document up: splits that would be empty are the same documents as others, with a
/// [`Note`]. The vocabulary is that of the entire corpus, so that no split has an unknown character.
#[derive(Clone, Debug)]
pub struct Dataset {
    vocab: Vocab,
    /// Train, val, test.
    splits: [Split; 3],
    shared: SharedDocuments,
    notes: Vec<Note>,
}

impl Dataset {
    /// Splits `corpus` and encodes it with the vocabulary of its characters.
    ///
    /// # Errors
    /// [`Error::SplitFractions`]; [`Error::TextTooShort`] for running text of one character.
    pub fn new(corpus: &Corpus, seed: u64, fractions: SplitFractions) -> Result<Dataset, Error> {
        let characters = corpus.documents().flat_map(str::chars);
        let vocab = Vocab::new(characters, corpus.format() == Format::Lines);
        Dataset::with_vocab(corpus, vocab, seed, fractions)
    }

    /// As [`new`](Dataset::new), with a vocabulary from elsewhere, such as a checkpoint's.
    ///
    /// # Errors
    /// As [`new`](Dataset::new); [`Error::FormatMismatch`] and [`Error::UnknownChar`] if the vocabulary is not for
    /// this corpus. The position counts from the beginning of the document.
    pub fn with_vocab(
        corpus: &Corpus,
        vocab: Vocab,
        seed: u64,
        fractions: SplitFractions,
    ) -> Result<Dataset, Error> {
        let fractions = fractions.validate()?;
        let vocab_has_boundary = vocab.boundary().is_some();
        if vocab_has_boundary != (corpus.format() == Format::Lines) {
            return Err(Error::FormatMismatch { vocab_has_boundary });
        }
        match corpus.format() {
            Format::Lines => Dataset::of_lines(corpus, vocab, seed, fractions),
            Format::Text => Dataset::of_text(corpus, vocab, fractions),
        }
    }

    fn of_lines(
        corpus: &Corpus,
        vocab: Vocab,
        seed: u64,
        fractions: SplitFractions,
    ) -> Result<Dataset, Error> {
        let mut documents: Vec<&str> = corpus.documents().collect();
        shuffle(&mut documents, seed, Purpose::Split);
        let (ranges, notes) = match fractions.cut(documents.len(), 1) {
            Some(ranges) => (ranges, vec![]),
            None => (few(documents.len()), vec![Note::FewDocuments { documents: documents.len() }]),
        };
        let [train, test, val] = ranges.map(|range| &documents[range]);
        let shared = SharedDocuments::count(&documents, train, val, test);
        let splits =
            [Split::of_lines(train, &vocab)?, Split::of_lines(val, &vocab)?, Split::of_lines(test, &vocab)?];
        Ok(Dataset { vocab, splits, shared, notes })
    }

    fn of_text(corpus: &Corpus, vocab: Vocab, fractions: SplitFractions) -> Result<Dataset, Error> {
        let text = corpus.documents().next().expect("a corpus has a document");
        let tokens = vocab.encode(text)?;
        let chars = tokens.len();
        if chars < 2 {
            return Err(Error::TextTooShort { name: corpus.name().to_string(), chars });
        }
        let (ranges, notes) = match fractions.cut(chars, 2) {
            Some(ranges) => (ranges, vec![]),
            None => (std::array::from_fn(|_| 0..chars), vec![Note::ShortText { chars }]),
        };
        let [train, test, val] = ranges.map(|range| Split::of_text(&tokens[range]));
        Ok(Dataset { vocab, splits: [train, val, test], shared: SharedDocuments::default(), notes })
    }

    /// The characters and their ids.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// What the model learns from. Never empty.
    pub fn train(&self) -> &Split {
        self.split(SplitName::Train)
    }

    /// The validation split.
    pub fn val(&self) -> &Split {
        self.split(SplitName::Val)
    }

    /// The test split.
    pub fn test(&self) -> &Split {
        self.split(SplitName::Test)
    }

    /// A split by name.
    pub fn split(&self, name: SplitName) -> &Split {
        &self.splits[name as usize]
    }

    /// The most targets that a document of any split has; see [`Split::longest`].
    pub fn longest(&self) -> usize {
        self.splits.iter().map(Split::longest).max().unwrap_or(0)
    }

    /// Documents that occur more than once. All zero for running text.
    pub fn shared_documents(&self) -> SharedDocuments {
        self.shared
    }

    /// What a user should know about the splits, in addition to [`Corpus::notes`].
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

fn sorted<'a>(documents: &[&'a str]) -> Vec<&'a str> {
    let mut sorted = documents.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Fewer documents than splits. One document is everything; otherwise one is set aside and validates and tests.
fn few(n: usize) -> [Range<usize>; 3] {
    match n {
        0 | 1 => [0..n, 0..n, 0..n],
        _ => [0..n - 1, n - 1..n, n - 1..n],
    }
}

impl SharedDocuments {
    fn count(all: &[&str], train: &[&str], val: &[&str], test: &[&str]) -> SharedDocuments {
        let train = sorted(train);
        let in_train =
            |documents: &[&str]| documents.iter().filter(|d| train.binary_search(d).is_ok()).count();
        let mut distinct = sorted(all);
        distinct.dedup();
        SharedDocuments {
            repeated: all.len() - distinct.len(),
            val_in_train: in_train(val),
            test_in_train: in_train(test),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(text: &str, format: Format) -> Dataset {
        let corpus = Corpus::from_str("t", text, Some(format)).unwrap();
        Dataset::new(&corpus, 3, SplitFractions::default()).unwrap()
    }

    fn documents(split: &Split, vocab: &Vocab) -> Vec<String> {
        (0..split.n_documents()).map(|d| vocab.decode(split.document(d)).unwrap()).collect()
    }

    #[test]
    fn lines_are_shuffled_and_cut_without_loss() {
        let text: String = (0..100).map(|i| format!("w{i}\n")).collect();
        let data = dataset(&text, Format::Lines);
        let parts = [data.train(), data.val(), data.test()].map(|s| documents(s, data.vocab()));
        assert_eq!(parts.each_ref().map(Vec::len), [80, 10, 10]);
        let mut all = parts.concat();
        assert_ne!(all[..3], ["w0", "w1", "w2"], "not shuffled");
        all.sort_unstable();
        let mut expected: Vec<&str> = text.lines().collect();
        expected.sort_unstable();
        assert_eq!(all, expected);

        let corpus = Corpus::from_str("t", &text, Some(Format::Lines)).unwrap();
        let again = |seed| Dataset::new(&corpus, seed, SplitFractions::default()).unwrap().train().clone();
        assert_eq!(&again(3), data.train(), "not a function of the seed");
        assert_ne!(&again(4), data.train(), "the seed does nothing");
    }

    #[test]
    fn running_text_validates_on_its_last_part() {
        let text: String = ('a'..='z').chain('A'..='Z').collect();
        let data = dataset(&text, Format::Text);
        let [train, val, test] =
            [data.train(), data.val(), data.test()].map(|s| data.vocab().decode(s.tokens()).unwrap());
        assert_eq!(train + &test + &val, text);
        assert_eq!(val, "VWXYZ");
        assert_eq!(data.val().n_targets(), 4);
    }

    #[test]
    fn small_data_works_from_one_document_up() {
        for n in 1..12 {
            let text: String = ('a'..='z').take(n).flat_map(|c| [c, '\n']).collect();
            let data = dataset(&text, Format::Lines);
            for split in [data.train(), data.val(), data.test()] {
                assert!(!split.is_empty(), "{n} documents leave a split empty");
            }
            assert_eq!(data.notes().is_empty(), n > 2, "{n} documents: {:?}", data.notes());
            assert_eq!(data.shared_documents().val_in_train, usize::from(n == 1), "{n} documents");
        }
        for n in 2..30 {
            let text: String = ('a'..='z').cycle().take(n).collect();
            let data = dataset(&text, Format::Text);
            for split in [data.train(), data.val(), data.test()] {
                assert!(!split.is_empty(), "{n} characters leave a split empty");
            }
            assert_eq!(data.notes().is_empty(), n > 5, "{n} characters: {:?}", data.notes());
        }
        let one = Corpus::from_str("t", "a", Some(Format::Text)).unwrap();
        let error = Dataset::new(&one, 1, SplitFractions::default()).unwrap_err();
        assert!(matches!(error, Error::TextTooShort { chars: 1, .. }), "{error:?}");
    }

    #[test]
    fn equal_documents_are_kept_and_counted() {
        let data = dataset(&"same\n".repeat(100), Format::Lines);
        assert_eq!(data.train().n_documents(), 80);
        let expected = SharedDocuments { repeated: 99, val_in_train: 10, test_in_train: 10 };
        assert_eq!(data.shared_documents(), expected);
    }

    #[test]
    fn fractions_are_checked() {
        let corpus = Corpus::from_str("t", "a\nb\nc\nd\n", Some(Format::Lines)).unwrap();
        for (train, val, test) in [
            (0.0, 0.5, 0.5),
            (0.8, 0.1, 0.2),
            (1.1, -0.1, 0.0),
            (f64::NAN, 0.1, 0.1),
            (f64::INFINITY, 0.0, 0.0),
        ] {
            let result = Dataset::new(&corpus, 1, SplitFractions { train, val, test });
            assert!(matches!(result, Err(Error::SplitFractions { .. })), "{train}/{val}/{test}");
        }
        let all = Dataset::new(&corpus, 1, SplitFractions { train: 1.0, val: 0.0, test: 0.0 }).unwrap();
        assert_eq!((all.train().n_documents(), all.val().n_documents()), (4, 0));
        assert!(all.val().is_empty() && all.notes().is_empty());
    }

    #[test]
    fn a_vocabulary_from_elsewhere_must_fit() {
        let corpus = Corpus::from_str("t", "ab\nac\n", Some(Format::Lines)).unwrap();
        let with = |vocab| Dataset::with_vocab(&corpus, vocab, 1, SplitFractions::default());
        assert!(with(Vocab::new("abcd".chars(), true)).is_ok());
        assert!(matches!(with(Vocab::new("ab".chars(), true)), Err(Error::UnknownChar { ch: 'c', .. })));
        assert!(matches!(with(Vocab::new("abc".chars(), false)), Err(Error::FormatMismatch { .. })));
    }
}
