//! Ctrl-C and SIGTERM: the first asks to stop after the current step, a second one ends the process at once. And the signal that
//! a file grows too large, which is to be an error like others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    code: Arc<AtomicUsize>,
}

impl Stop {
    /// Catches the signals from now on.
    pub(crate) fn on_signals() -> std::io::Result<Stop> {
        let stop = Stop::default();
        let armed = Arc::new(AtomicBool::new(false));
        for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
            // In this order: the first signal finds the trap not yet armed, and arms it.
            flag::register_conditional_shutdown(signal, code, armed.clone())?;
            flag::register(signal, armed.clone())?;
            flag::register_usize(signal, stop.code.clone(), code as usize)?;
        }
        Ok(stop)
    }

    /// The exit code that the signal asks for, if one has come.
    pub(crate) fn code(&self) -> Option<u8> {
        match self.code.load(Ordering::Relaxed) {
            0 => None,
            code => Some(code as u8),
        }
    }
}

/// Lets a write beyond the limit on the size of a file (`ulimit -f`) fail, where the system would end the process.
pub(crate) fn let_large_files_fail() -> std::io::Result<()> {
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
    Ok(())
}
