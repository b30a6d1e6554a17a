//! The two streams: the product on standard output, everything else on standard error.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes a line to standard error. That it cannot be written is no reason to stop.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::output::say_line(&format!($($arg)*))
    };
}
/// As `say!`, unless `--quiet`.
macro_rules! tell {
    ($($arg:tt)*) => {
        if !$crate::output::is_quiet() {
            $crate::output::say_line(&format!($($arg)*))
        }
    };
}
pub(crate) use {say, tell};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves only warnings and errors on standard error.
pub(crate) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether `--quiet` was given.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// See `say!`.
pub(crate) fn say_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Standard output with a buffer; whoever writes flushes, so that an error is seen.
pub(crate) fn stdout() -> impl Write {
    io::BufWriter::new(io::stdout().lock())
}

/// Whether a stream may be coloured: it is a terminal, and the user does not mind (<https://no-color.org>).
fn may_colour(is_terminal: bool) -> bool {
    let unset = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    is_terminal && unset && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard output may be coloured.
pub(crate) fn colours_on_stdout() -> bool {
    may_colour(io::stdout().is_terminal())
}

/// Whether standard error may be coloured.
pub(crate) fn colours_on_stderr() -> bool {
    may_colour(io::stderr().is_terminal())
}

/// The text with everything escaped that a terminal would act on.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => escaped.push(c),
            _ => escaped.extend(c.escape_debug()),
        }
    }
    escaped
}

/// A generated text as it may be shown: on a terminal, control characters other than line feed and tab are escaped.
pub(crate) fn shown(text: &str, to_terminal: bool) -> String {
    if !to_terminal || !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return text.to_string();
    }
    text.chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') { c.escape_debug().to_string() } else { c.into() }
        })
        .collect()
}

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        for (n, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), expected);
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(escaped("a\u{1b}[2J\n"), "a\\u{1b}[2J\\n");
        assert_eq!(shown("a\u{1b}b\n", true), "a\\u{1b}b\n");
        assert_eq!(shown("a\u{1b}b\n", false), "a\u{1b}b\n");
    }
}
