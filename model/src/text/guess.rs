//! Is it a list of documents, one per line, or running text?

use std::collections::BTreeSet;
use std::fmt;

use super::corpus::Format;

/// Lines looked at; a guess from ten thousand is as good as from a billion.
const MAX_LINES: usize = 10_000;
/// Nine of ten lines of a list have at most this many characters. Names, words, places and most compound terms do;
/// prose and verse are wrapped wider or not at all.
const MAX_CHARS: usize = 40;
/// A list has at most one blank line in so many lines. Paragraphs and scenes have far more.
const LINES_PER_BLANK: usize = 100;

/// The format guessed for a text, with the measurements it rests on.
///
/// The rule, on the first 10,000 lines: **lines** if nine of ten lines have at most 40 characters, at least half
/// of them are distinct, and at most one in a hundred is followed by a blank line with more text after it; else
/// **text**. `Display` gives one line that says so and how to override it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// What it looks like.
    pub format: Format,
    /// Lines looked at, blank ones not counted.
    pub lines: usize,
    /// Nine of ten of them have at most this many characters.
    pub chars_90: usize,
    /// How many different ones there are.
    pub distinct: usize,
    /// Gaps of one or more blank lines between two that are not.
    pub gaps: usize,
}

impl Guess {
    /// Measures `text` and applies the rule.
    pub fn of(text: &str) -> Guess {
        let mut lengths = Vec::new();
        let mut distinct = BTreeSet::new();
        let (mut gaps, mut blank) = (0, false);
        for line in text.split('\n').take(MAX_LINES).map(str::trim_end) {
            if line.is_empty() {
                blank = !lengths.is_empty();
                continue;
            }
            gaps += usize::from(std::mem::take(&mut blank));
            lengths.push(line.chars().count());
            distinct.insert(line);
        }
        lengths.sort_unstable();
        let lines = lengths.len();
        // The smallest length that at least nine tenths of the lines do not exceed.
        let chars_90 = lengths.get((lines * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or(0);
        let distinct = distinct.len();
        let listed = chars_90 <= MAX_CHARS && distinct * 2 >= lines && gaps * LINES_PER_BLANK <= lines;
        let format = if listed { Format::Lines } else { Format::Text };
        Guess { format, lines, chars_90, distinct, gaps }
    }
}

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guess { lines, chars_90, distinct, gaps, .. } = self;
        let (meaning, other) = match self.format {
            Format::Lines => ("one document per line", Format::Text),
            Format::Text => ("running text", Format::Lines),
        };
        write!(
            f,
            "read as {meaning}, a guess (of {lines} lines {distinct} are distinct, nine in ten have at most \
             {chars_90} characters, {gaps} blank gaps); --format {other} overrides it"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guess_is_what_a_reader_would_say() {
        let equal = "same\n".repeat(1000);
        let cases = [
            ("one byte", "a", Format::Lines),
            ("one name without end", "anna", Format::Lines),
            ("names, a trailing blank line", "anna\nbert\n\n", Format::Lines),
            ("words with CR left", "anna\r\nbert\r\n", Format::Lines),
            ("one long line", &"word ".repeat(40_000), Format::Text),
            ("paragraphs", "One.\nTwo.\n\nThree.\nFour.\n", Format::Text),
            ("equal lines", &equal, Format::Text),
            (
                "wrapped prose",
                &"the quick brown fox jumps over the lazy dog once more and\n".repeat(9),
                Format::Text,
            ),
        ];
        for (what, text, expected) in cases {
            let guess = Guess::of(text);
            assert_eq!(guess.format, expected, "{what}: {guess:?}");
        }
    }

    #[test]
    fn the_guess_says_how_to_override_it() {
        let shown = Guess::of("anna\nbert\n").to_string();
        assert!(shown.starts_with("read as one document per line, a guess"), "{shown}");
        assert!(shown.contains("--format text"), "{shown}");
    }
}
