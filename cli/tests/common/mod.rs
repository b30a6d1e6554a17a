//! Running the binary in a fresh directory.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A directory of its own, gone at the end.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Place {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("weft-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A command in this directory, with nothing of the surroundings that changes what it does.
    pub(crate) fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        command.env("RUST_BACKTRACE", "1").env_remove("WEFT_SIMD").env_remove("NO_COLOR");
        command
    }

    /// Runs `weft` with these words.
    pub(crate) fn weft(&self, line: &str) -> Run {
        self.run(line.split_whitespace())
    }

    pub(crate) fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        Run::of(self.command(args))
    }

    /// A run of two steps on a few names, in `dir`.
    pub(crate) fn tiny_run(&self, dir: &str) {
        self.write("tiny.txt", "emma\nolivia\nava\nmia\namelia\nnoah\nliam\nella\nleo\nnora\n");
        self.weft(&format!("train tiny.txt -o {dir} --max-iters 2 {TINY}")).ok();
    }
}

/// A model that learns little and fast.
pub(crate) const TINY: &str = "--n-layer 1 --n-head 2 --n-embd 8 --batch-size 4";

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How long a command may take before it is said to hang, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a run of the binary left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Run {
    /// Runs a command to its end. One that hangs is killed, so that the test fails and names it.
    #[track_caller]
    pub(crate) fn of(mut command: Command) -> Run {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let id = child.id().to_string();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        match receiver.recv_timeout(PATIENCE) {
            Ok(output) => Run::from(output.unwrap()),
            Err(_) => {
                let killed = Command::new("kill").args(["-9", &id]).status();
                panic!("still at work after {PATIENCE:?}, {killed:?}: {command:?}");
            }
        }
    }

    /// It ended with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Run {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It ended with `code` and a message of one to three lines that holds `expected`, with nothing on standard output.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, expected: &str) {
        let message = self.err.find("error:").map_or("", |at| &self.err[at..]);
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!((1..=3).contains(&message.lines().count()), "not one to three lines: {self:?}");
        assert!(message.contains(expected), "not `{expected}`: {self:?}");
        assert!(!self.err.chars().any(|c| c.is_control() && c != '\n'), "a control character: {self:?}");
        for word in ["panicked", "unwrap", ".rs:", "RUST_BACKTRACE", "Backtrace"] {
            assert!(!self.err.contains(word), "{word}: {self:?}");
        }
    }
}
