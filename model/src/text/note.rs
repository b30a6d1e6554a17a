//! What a user should hear about their data, as values; whoever has a terminal prints them.

use std::fmt;

/// Something done to the data, or a limit of it. [`Display`](fmt::Display) gives one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The file began with a byte order mark, which was skipped.
    ByteOrderMark,
    /// CRLF or CR line endings were read as LF.
    LineEndings {
        /// How many.
        count: usize,
    },
    /// Invalid bytes or NULs were read as U+FFFD (`lossy`).
    Replaced {
        /// How many U+FFFD were put in.
        count: usize,
        /// Bytes before the first one.
        first_offset: u64,
    },
    /// Lines of nothing but white space were left out.
    BlankLines {
        /// How many.
        count: usize,
    },
    /// Fewer documents than splits: some splits are the same documents.
    FewDocuments {
        /// How many there are.
        documents: usize,
    },
    /// Too short to cut by position: all splits are the entire text.
    ShortText {
        /// Its characters.
        chars: usize,
    },
    /// The text is shorter than `block_size`: rows are shorter too.
    ContextShortened {
        /// Tokens per row asked for.
        block_size: usize,
        /// Tokens per row there are.
        seq_len: usize,
    },
}

impl Note {
    /// Whether the result may differ from what the user had in mind, as opposed to plain information.
    pub fn is_warning(&self) -> bool {
        !matches!(self, Note::ByteOrderMark | Note::LineEndings { .. } | Note::BlankLines { .. })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::ByteOrderMark => write!(f, "skipped the byte order mark"),
            Note::LineEndings { count } => write!(f, "read {count} CR or CRLF line endings as LF"),
            Note::Replaced { count, first_offset } => {
                write!(f, "read invalid bytes as U+FFFD, {count} times, first at offset {first_offset}")
            }
            Note::BlankLines { count } => write!(f, "left out {count} blank lines"),
            Note::FewDocuments { documents } => {
                let s = if *documents == 1 { "" } else { "s" };
                write!(
                    f,
                    "only {documents} document{s}: splits share them, so losses do not show generalisation"
                )
            }
            Note::ShortText { chars } => {
                write!(
                    f,
                    "only {chars} characters: all splits are the same text, so losses do not show generalisation"
                )
            }
            Note::ContextShortened { block_size, seq_len } => {
                write!(
                    f,
                    "the training text is shorter than block_size {block_size}: rows of {seq_len} tokens"
                )
            }
        }
    }
}
