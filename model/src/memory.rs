//! The memory that is free, so that what cannot fit is refused before it is begun.

use crate::Error;

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
