//! The memory that is free, so that what cannot fit is refused before it is begun.

use std::fmt;

use crate::Error;

/// A number of bytes, shown as `38 MB` or `2.7 GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 {
            n if n < 999.5e3 => write!(f, "{:.0} kB", n / 1e3),
            n if n < 999.5e6 => write!(f, "{:.0} MB", n / 1e6),
            n => write!(f, "{:.1} GB", n / 1e9),
        }
    }
}

/// Refuses what needs more bytes than are free now, where the system says how many that is. `what` begins the message, `advice` ends
/// it.
///
/// # Errors
/// [`Error::TooLittleMemory`].
pub fn check(what: &'static str, needed: u64, advice: &'static str) -> Result<(), Error> {
    match free() {
        Some(free) if needed > free => Err(Error::TooLittleMemory { what, needed, free, advice }),
        _ => Ok(()),
    }
}

/// Bytes that could be had without swapping (Linux).
pub fn free() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn bytes_are_short() {
        let shown = [900, 37_900_000, 999_600_000, 2_654_000_000].map(|n| Bytes(n).to_string());
        assert_eq!(shown, ["1 kB", "38 MB", "1.0 GB", "2.7 GB"]);
    }
}
