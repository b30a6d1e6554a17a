//! From an error to a message of one to three lines and an exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use weft_model::Error;

use crate::output::{escaped, say};

/// The longest message, in lines, and the longest line, in characters: what is quoted can be as long as one likes.
const LINES: usize = 3;
const CHARS: usize = 600;

/// A mistake on the command line or in a configuration: exit code 2.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error of usage or configuration.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Prints an error and gives its exit code. When the reader of standard output has gone away, nothing is said.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let is_broken_pipe = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    // Only standard output is written to as bare `io::Error`; files come with their name around it.
    if error.downcast_ref().is_some_and(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    print(&message(error));
    ExitCode::from(code(error))
}

/// Prints a message of at most [`LINES`] lines, control characters escaped.
pub(crate) fn print(message: &str) {
    say!("error: {}", shown(message));
}

fn shown(message: &str) -> String {
    let lines = message.lines().filter(|line| !line.trim().is_empty()).take(LINES);
    let shown = lines.map(|line| match line.char_indices().nth(CHARS) {
        Some((end, _)) => escaped(&line[..end]) + "…",
        None => escaped(line),
    });
    shown.collect::<Vec<_>>().join("\n  ")
}

/// The chain of causes: the reason of the operating system belongs on the first line, advice after it.
fn message(error: &anyhow::Error) -> String {
    let first = error.to_string();
    let causes: Vec<String> = error.chain().skip(1).map(|cause| cause.to_string()).collect();
    let (what, advice) = first.split_once('\n').unwrap_or((&first, ""));
    let mut message = what.to_string();
    for cause in causes {
        message += ": ";
        message += &cause;
    }
    format!("{message}\n{advice}")
}

fn code(error: &anyhow::Error) -> u8 {
    let is_usage = error.chain().any(|cause| {
        cause.is::<Usage>()
            || matches!(cause.downcast_ref(), Some(Error::Config(_) | Error::SplitFractions { .. }))
    });
    if is_usage { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_stands_on_the_first_line_and_advice_below() {
        let inner = io::Error::other("no luck");
        let error = anyhow::Error::from(inner).context("cannot do it\ntry again");
        assert_eq!(message(&error), "cannot do it: no luck\ntry again");
    }

    #[test]
    fn what_is_shown_is_short_and_tame() {
        assert_eq!(shown("a\u{1b}[2J\n\nb\nc\nd"), "a\\u{1b}[2J\n  b\n  c");
        assert_eq!(shown(&"é".repeat(CHARS + 1)), "é".repeat(CHARS) + "…");
    }

    #[test]
    fn configuration_is_usage_and_the_rest_is_not() {
        assert_eq!(code(&Error::Config("n_head".into()).into()), 2);
        assert_eq!(code(&usage("no")), 2);
        assert_eq!(code(&Error::NoText { name: "x".into(), bytes: 0 }.into()), 1);
    }
}
