//! Everything that can be wrong with what comes from outside: files, prompts, settings.

use std::fmt;
use std::io;

use crate::memory::Bytes;
use crate::safetensors::clip;

/// What went wrong, one variant per way to be wrong.
///
/// Messages are one to three lines in lower case that say what, where and what would be accepted; characters that
/// a terminal would act on are escaped. Where the operating system refused something, its reason is the
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- configuration and training ----
    /// A setting that cannot be; the message names it.
    #[error("{0}")]
    Config(String),
    /// A parameter that the loss does not depend on.
    #[error("parameter `{name}` gets no gradient: the loss does not depend on it")]
    NoGradient {
        /// The parameter.
        name: String,
    },
    /// More memory would be needed than there is.
    #[error(
        "{what} needs about {} of memory, and {} are free\n{advice}",
        Bytes(*.needed), Bytes(*.free)
    )]
    TooLittleMemory {
        /// What would need it.
        what: &'static str,
        /// Bytes at the peak, roughly.
        needed: u64,
        /// Bytes that could be had.
        free: u64,
        /// What to do about it.
        advice: &'static str,
    },
    /// More would be written than there is room for.
    #[error(
        "the run needs about {} on the disk of {}, and {} are free\n\
         name a directory on another disk with -o, or keep fewer checkpoints",
        Bytes(*.needed), Shown(.name), Bytes(*.free)
    )]
    TooLittleDisk {
        /// The directory, as given.
        name: String,
        /// Bytes that the run would add, roughly.
        needed: u64,
        /// Bytes that may be written.
        free: u64,
    },
    /// Training diverged.
    #[error(
        "step {step}: loss {loss}, gradient norm {grad_norm}, the third in a row that is not finite{}\n\
         what was saved before is kept; a lower --learning-rate often helps, --resume with --detect-anomaly looks for the cause",
        in_gradient_of(.parameter)
    )]
    NotFinite {
        /// The step, counted from 1.
        step: u64,
        /// Mean loss of its batch.
        loss: f64,
        /// Norm of its gradient.
        grad_norm: f64,
        /// The first parameter with a gradient that is not finite, if there is one.
        parameter: Option<String>,
    },
    /// Where the first number that is not finite comes from.
    #[error("step {step}: not finite from {anomaly}\nin the batch {}", clip(.text))]
    Anomaly {
        /// The step, counted from 1.
        step: u64,
        /// The op, and what it read.
        anomaly: Box<weft_autograd::Anomaly>,
        /// The rows of the part of the batch in which it is.
        text: String,
    },

    /// The weights have left the numbers.
    #[error(
        "step {step}: the validation loss is {loss}\n\
         what was saved before is kept; a lower --learning-rate often helps"
    )]
    NotFiniteValidation {
        /// Updates made.
        step: u64,
        /// The mean loss of the validation split.
        loss: f64,
    },

    // ---- text: reading ----
    /// The file could not be opened or read.
    #[error("cannot read {}", Shown(.name))]
    Read {
        /// The file, as given.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory, pipe, socket or device: found before anything is read from it.
    #[error("{} is a {kind}, not a file{}", Shown(.name), not_a_file_advice(.kind))]
    NotAFile {
        /// The path, as given.
        name: String,
        /// What it is: "directory", "pipe", "device" …
        kind: &'static str,
    },
    /// Larger than [`MAX_BYTES`](crate::text::MAX_BYTES).
    #[error("{} has {bytes} bytes, more than the {limit} that are read into memory\ncut it into a smaller file", Shown(.name))]
    TooLarge {
        /// The file, as given.
        name: String,
        /// Its size as far as known.
        bytes: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Not a single byte, or nothing but white space.
    #[error("{} holds no text: {}", Shown(.name), if *.bytes == 0 { "it is empty" } else { "only white space" })]
    NoText {
        /// The file, as given.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Another Unicode encoding, told by its byte order mark or by where its zero bytes are.
    #[error("{} is {encoding}, not UTF-8\nconvert it first: iconv -f {} -t UTF-8", Shown(.name), iconv_name(.encoding))]
    OtherEncoding {
        /// The file, as given.
        name: String,
        /// Such as "UTF-16 (little-endian)".
        encoding: &'static str,
    },
    /// A zero byte: almost certainly no text.
    #[error(
        "{} has a NUL byte at offset {offset} (line {line}): it looks binary, not text\n\
         to go on with U+FFFD in place of each, pass --lossy",
        Shown(.name)
    )]
    Nul {
        /// The file, as given.
        name: String,
        /// Bytes before the first one.
        offset: u64,
        /// Its line, counted from 1.
        line: u64,
    },
    /// Bytes that are not UTF-8.
    #[error(
        "{} is not UTF-8: invalid byte 0x{byte:02x} at offset {offset} (line {line})\n\
         convert it with iconv, or pass --lossy to read U+FFFD in place of what is invalid",
        Shown(.name)
    )]
    NotUtf8 {
        /// The file, as given.
        name: String,
        /// Bytes before the first invalid one.
        offset: u64,
        /// The first invalid byte.
        byte: u8,
        /// Its line, counted from 1.
        line: u64,
    },

    // ---- text: splits and vocabulary ----
    /// Running text with nothing to predict.
    #[error(
        "{} has {chars} character as running text, and at least 2 are needed: one to read and one to predict\n\
         --format lines accepts it",
        Shown(.name)
    )]
    TextTooShort {
        /// The file, as given.
        name: String,
        /// Characters found.
        chars: usize,
    },
    /// Fractions that do not describe a split.
    #[error(
        "split {train}/{val}/{test}: train must be above 0, the others at least 0, and the sum 1 (such as 0.8/0.1/0.1)"
    )]
    SplitFractions {
        /// Fraction for training.
        train: f64,
        /// Fraction for validation.
        val: f64,
        /// Fraction for the final test.
        test: f64,
    },
    /// A character that the vocabulary lacks.
    #[error(
        "character '{}' (U+{:04X}) at position {position} is not in the vocabulary of {vocab_size}{}",
        .ch.escape_debug(), u32::from(*.ch), near_advice(.near)
    )]
    UnknownChar {
        /// The character.
        ch: char,
        /// Where it stands, in characters, counted from 1.
        position: usize,
        /// Tokens in the vocabulary.
        vocab_size: usize,
        /// The same letter in the other case, where the vocabulary has that.
        near: Option<char>,
    },
    /// A token id that the vocabulary lacks.
    #[error("token id {id} at position {position} is out of range: vocab_size is {vocab_size}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Where it stands, counted from 0.
        position: usize,
        /// Tokens in the vocabulary.
        vocab_size: usize,
    },
    /// A stored vocabulary that is not one.
    #[error("vocabulary: entry {index} {problem}")]
    BadVocab {
        /// The offending entry, counted from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A vocabulary of lines (with a boundary token) for running text, or the reverse.
    #[error(
        "the vocabulary was made for {} and the data is read as {}: pass --format {0}",
        vocab_format(*.vocab_has_boundary), vocab_format(!*.vocab_has_boundary)
    )]
    FormatMismatch {
        /// Whether the vocabulary has the boundary token of [`Format::Lines`](crate::text::Format::Lines).
        vocab_has_boundary: bool,
    },

    // ---- model files ----
    /// Another kind of file, or none.
    #[error("{} is not a safetensors file{}", Shown(.name), guess_and_advice(.guess, .advice))]
    NotSafetensors {
        /// The file, as given.
        name: String,
        /// What it is instead, as far as can be told, continuing "it …".
        guess: Option<&'static str>,
        /// What to do about it, or nothing.
        advice: &'static str,
    },
    /// Shorter or longer than its header says.
    #[error(
        "{} has {bytes} bytes and by its header it should have {expected}: {}\nfetch or copy it again",
        Shown(.name), if .bytes < .expected { "its end is missing" } else { "something was added to it" }
    )]
    WrongLength {
        /// The file, as given.
        name: String,
        /// Its length.
        bytes: u64,
        /// What the header asks for, as far as it could be read: at least this many.
        expected: u64,
    },
    /// A header that is not one, or that breaks the rules of the format.
    #[error("{} has a broken header: {}", Shown(.name), Escaped(.problem))]
    BadHeader {
        /// The file, as given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor in a file that cannot be used.
    #[error("{}: tensor {} {}", Shown(.name), Shown(.tensor), Escaped(.problem))]
    BadTensor {
        /// The file, as given.
        name: String,
        /// The tensor's key.
        tensor: String,
        /// What is wrong with it, and what would be accepted.
        problem: String,
    },
    /// A checkpoint that says nothing about its own integrity: not ours, or its header is damaged.
    #[error("{} has no checksum, and a checkpoint of weft always has one: it is damaged, or another program's", Shown(.name))]
    NoChecksum {
        /// The file, as given.
        name: String,
    },
    /// Bytes that are not those that were written.
    #[error("{} is damaged: its checksum is {found:016x} and should be {expected:016x}\nuse another copy", Shown(.name))]
    WrongChecksum {
        /// The file, as given.
        name: String,
        /// The checksum of its bytes.
        found: u64,
        /// The one that it carries.
        expected: u64,
    },
    /// Names, shapes and metadata of a model that no reader would accept.
    #[error(
        "the header of the model file would have {bytes} bytes, more than the {limit} that are read back: is the vocabulary that large?"
    )]
    HeaderTooLarge {
        /// Its length.
        bytes: usize,
        /// The most that is read.
        limit: usize,
    },

    /// A safetensors file without the description that weft writes beside the weights.
    #[error("{} holds weights but not the description of a model: another program wrote it", Shown(.name))]
    NotAModel {
        /// The file, as given.
        name: String,
    },
    /// A description of a model that cannot be read.
    #[error("{} does not describe a model: {}", Shown(.name), Escaped(.problem))]
    BadDescription {
        /// The file, as given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Written by a later version.
    #[error("{} has format version {version}, and this weft reads up to {known}\nuse the weft that wrote it, or a newer one", Shown(.name))]
    NewerFormat {
        /// The file, as given.
        name: String,
        /// Its version.
        version: u64,
        /// The newest that is read.
        known: u64,
    },
    /// Tensors that the configuration asks for and the file lacks, or the reverse.
    #[error("{}: {} {}: {}", Shown(.name), .names.len(), if *.missing { "tensors are missing" } else { "tensors do not belong to the model" }, first_names(.names))]
    WrongTensors {
        /// The file, as given.
        name: String,
        /// Whether they are missing, or else too many.
        missing: bool,
        /// Their names.
        names: Vec<String>,
    },
    /// A checkpoint without the state of the optimiser.
    #[error("{} has no optimiser state: it can be sampled from, not resumed", Shown(.name))]
    NotResumable {
        /// The file, as given.
        name: String,
    },
    /// None of the checkpoints of a run can be used.
    #[error("no checkpoint in {} can be used\n{}", Shown(.name), first_reasons(.reasons))]
    NoCheckpoint {
        /// The directory, as given.
        name: String,
        /// Why not, for each, newest first.
        reasons: Vec<Error>,
    },
    /// A file with the name of one to be kept, which the run did not make.
    #[error("{} is in the way of the checkpoint to keep: this run did not make it\nmove it away, or go on with --keep 0", Shown(.name))]
    InTheWay {
        /// The file.
        name: String,
    },
    /// Weights that cannot be a model.
    #[error(
        "step {step}: `{tensor}` is {value} at element {at}, so nothing is saved\n\
         what was saved before is kept; a lower --learning-rate often helps"
    )]
    NotFiniteTensor {
        /// Updates made.
        step: u64,
        /// The tensor.
        tensor: String,
        /// Its first number that is not finite.
        value: f32,
        /// Where that is.
        at: usize,
    },
    /// Nothing to load in a directory.
    #[error("{} holds no run: there is neither best.safetensors nor last.safetensors", Shown(.name))]
    NoRun {
        /// The directory, as given.
        name: String,
    },
    /// A directory that already holds a run.
    #[error(
        "{} already holds a run\n--resume {name} goes on with it, --force starts it afresh, -o DIR puts the new one elsewhere",
        Shown(.name), name = Escaped(.name)
    )]
    HoldsRun {
        /// The directory, as given.
        name: String,
    },

    // ---- run directories ----
    /// The operating system refused some step of a save. What was there before is still there, or else the whole new
    /// file is.
    #[error("cannot save {}", Shown(.name))]
    Save {
        /// The file, as given.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The lock file of a directory cannot be made or locked.
    #[error("cannot lock {}", Shown(.name))]
    Lock {
        /// The directory, as given.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process is at work in this directory.
    #[error("{} is in use by {}\nwait until it ends, or name another directory", Shown(.name), holder_name(.holder))]
    Locked {
        /// The directory, as given.
        name: String,
        /// Its process id, if it could be read.
        holder: Option<u32>,
    },
}

/// A name from outside between backticks, with everything escaped that a terminal would act on.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        self.0.chars().try_for_each(|c| escape(c, f))?;
        f.write_str("`")
    }
}

/// A text that may quote a file, escaped likewise.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| escape(c, f))
    }
}

/// Writes `c` as it is if it prints on its own, else as Rust would write it in a string.
pub(crate) fn escape(c: char, f: &mut impl fmt::Write) -> fmt::Result {
    match c {
        '\'' | '"' | '\\' => f.write_char(c),
        _ => write!(f, "{}", c.escape_debug()),
    }
}

fn not_a_file_advice(kind: &str) -> &'static str {
    match kind {
        "directory" => "\nname a text file in it",
        "pipe" => "\nwrite what it sends to a file and name that",
        _ => "",
    }
}

fn iconv_name(encoding: &str) -> &str {
    encoding.split(' ').next().unwrap_or(encoding)
}

fn near_advice(near: &Option<char>) -> String {
    near.map(|c| format!("; '{}' is", c.escape_debug())).unwrap_or_default()
}

fn vocab_format(has_boundary: bool) -> &'static str {
    if has_boundary { "lines" } else { "text" }
}

fn guess_and_advice(guess: &Option<&'static str>, advice: &'static str) -> String {
    let line = if advice.is_empty() { "" } else { "\n" };
    guess.map(|guess| format!(": it {guess}{line}{advice}")).unwrap_or_default()
}

/// The first five of a list of names, escaped.
fn first_names(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(5).map(|name| Shown(name).to_string()).collect();
    format!("{}{}", first.join(", "), if names.len() > 5 { ", …" } else { "" })
}

/// What went wrong, without advice, and the reason of the operating system if there is one.
fn first_line(error: &Error) -> String {
    let message = error.to_string();
    let line = message.lines().next().unwrap_or_default();
    std::error::Error::source(error).map_or_else(|| line.to_string(), |source| format!("{line}: {source}"))
}

fn in_gradient_of(parameter: &Option<String>) -> String {
    parameter.as_ref().map(|name| format!(" (first in the gradient of {})", Shown(name))).unwrap_or_default()
}

/// Two lines of reasons: one for each, or the first and how many more there are.
fn first_reasons(reasons: &[Error]) -> String {
    match reasons {
        [] => String::new(),
        [one] => first_line(one),
        [one, two] => format!("{}\n{}", first_line(one), first_line(two)),
        [one, rest @ ..] => format!("{}\nand {} more", first_line(one), rest.len()),
    }
}

fn holder_name(holder: &Option<u32>) -> String {
    holder.map_or("another process".into(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn control_characters_in_names_are_escaped() {
        let error = Error::NoText { name: "a\u{1b}[2J\n\u{202e}b".into(), bytes: 0 };
        assert_eq!(error.to_string(), "`a\\u{1b}[2J\\n\\u{202e}b` holds no text: it is empty");
    }

    #[test]
    fn the_operating_systems_reason_is_the_source() {
        let error = Error::Read { name: "x".into(), source: io::ErrorKind::NotFound.into() };
        assert_eq!(error.to_string(), "cannot read `x`");
        assert!(error.source().is_some(), "no source");
    }

    #[test]
    fn messages_say_what_where_and_what_to_do() {
        let unknown = Error::UnknownChar { ch: 'E', position: 1, vocab_size: 27, near: Some('e') };
        assert_eq!(
            unknown.to_string(),
            "character 'E' (U+0045) at position 1 is not in the vocabulary of 27; 'e' is"
        );
        let nul = Error::UnknownChar { ch: '\0', position: 3, vocab_size: 27, near: None };
        assert!(nul.to_string().starts_with("character '\\0' (U+0000) at position 3"), "{nul}");
        let mismatch = Error::FormatMismatch { vocab_has_boundary: true };
        assert_eq!(
            mismatch.to_string(),
            "the vocabulary was made for lines and the data is read as text: pass --format lines"
        );
    }
}
