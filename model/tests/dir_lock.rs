//! One run directory, one trainer.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use common::directory;
use weft_model::Error;
use weft_model::files::{DirLock, LOCK_FILE};

fn holder(directory: &Path) -> Option<u32> {
    match DirLock::acquire(directory).unwrap_err() {
        Error::Locked { holder, .. } => holder,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_second_is_told_who_was_first() {
    let directory = directory("lock_second");
    let lock = DirLock::acquire(&directory).unwrap();
    assert!(lock.is_exclusive(), "no locks here");
    let error = DirLock::acquire(&directory).unwrap_err();
    let expected = format!("`{}` is in use by process {}\n", directory.display(), std::process::id());
    assert!(error.to_string().starts_with(&expected), "{error}");
    // Asking has not disturbed the holder's entry.
    assert_eq!(holder(&directory), Some(std::process::id()));
    drop(lock);
    DirLock::acquire(&directory).unwrap();
}

#[test]
fn what_was_left_over_does_not_block_or_mislead() {
    let directory = directory("lock_left_over");
    for content in [&b"4294967295\nand more"[..], b"", b"\xff\0", &[b'9'; 100]] {
        fs::write(directory.join(LOCK_FILE), content).unwrap();
        let lock = DirLock::acquire(&directory).unwrap();
        assert_eq!(holder(&directory), Some(std::process::id()), "{}", content.escape_ascii());
        drop(lock);
    }
}

#[test]
fn a_holder_that_cannot_be_read_is_another_process() {
    let directory = directory("lock_unreadable");
    let _lock = DirLock::acquire(&directory).unwrap();
    for content in [&b""[..], b"\xff", b"pid", b"-1", &[b'9'; 100]] {
        fs::write(directory.join(LOCK_FILE), content).unwrap();
        let error = DirLock::acquire(&directory).unwrap_err().to_string();
        assert!(error.contains("in use by another process\n"), "{}: {error}", content.escape_ascii());
    }
}

#[test]
fn a_missing_directory_is_named() {
    let missing = directory("lock_missing").join("none");
    let error = DirLock::acquire(&missing).unwrap_err();
    assert!(matches!(error, Error::Lock { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot lock `{}`", missing.display()));
}

/// Where the process started by [`a_killed_process_lets_go`] finds its directory.
const DIRECTORY: &str = "WEFT_TEST_LOCK_DIRECTORY";

#[test]
#[ignore = "runs in the process that `a_killed_process_lets_go` starts"]
fn hold_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let _lock = DirLock::acquire(directory).unwrap();
    std::io::stdout().write_all(b"\nheld\n").unwrap();
    // Returns when the pipe is closed, should the other process die first.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_killed_process_lets_go() {
    let directory = directory("lock_killed");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_until_killed", "--ignored", "--nocapture"])
        .env(DIRECTORY, &directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"), "the other process did not take the lock");
    assert_eq!(holder(&directory), Some(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    DirLock::acquire(&directory).unwrap();
}
