//! A disk that is as unhelpful as a real one may be: until a file is synced a power cut leaves it empty, cut off, or full of something
//! else; until its directory is synced, any of the latest changes of names may be undone, whatever came after them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use weft_model::files::{FileSystem, NewFile};

pub(crate) type Names = BTreeMap<PathBuf, usize>;

/// A change of names.
#[derive(Clone, Debug)]
enum Change {
    Create(PathBuf, usize),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Change {
    /// What it does, if there is the file that it is about.
    fn apply(&self, names: &mut Names) {
        match self {
            Change::Create(path, file) => drop(names.insert(path.clone(), *file)),
            Change::Link(from, to) => {
                if let Some(&file) = names.get(from) {
                    names.insert(to.clone(), file);
                }
            }
            // POSIX: nothing happens where both are names of one file.
            Change::Rename(from, to) if names.get(from) == names.get(to) => {}
            Change::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Change::Remove(path) => drop(names.remove(path)),
        }
    }
}

/// The state of the disk at one moment.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// Every file ever made: what it holds, and whether that was synced.
    files: Vec<(Vec<u8>, bool)>,
    /// The names after the last sync of the directory.
    synced: Names,
    /// What has changed since.
    changes: Vec<Change>,
}

impl State {
    /// One file, safely there.
    pub(crate) fn of(path: &str, content: &[u8]) -> State {
        let synced = Names::from([(path.into(), 0)]);
        State { files: vec![(content.to_vec(), true)], synced, changes: Vec::new() }
    }

    pub(crate) fn names(&self) -> Names {
        let mut names = self.synced.clone();
        self.changes.iter().for_each(|change| change.apply(&mut names));
        names
    }

    pub(crate) fn content(&self, path: &str) -> Option<&[u8]> {
        self.names().get(Path::new(path)).map(|&file| self.files[file].0.as_slice())
    }

    /// The files, by name.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, &[u8]> {
        self.names().into_iter().map(|(path, file)| (path, self.files[file].0.as_slice())).collect()
    }

    /// Every state in which a power cut now could leave the disk.
    pub(crate) fn after_power_cut(&self) -> Vec<State> {
        type Damage = fn(&[u8]) -> Vec<u8>;
        let damages: [Damage; 4] = [
            |_| Vec::new(),
            |bytes| bytes[..bytes.len() / 2].to_vec(),
            |bytes| vec![0xa5; bytes.len()],
            |bytes| bytes.to_vec(),
        ];
        let n = self.changes.len();
        assert!(n < 12, "{n} changes without a sync are too many to try all subsets");
        let mut states = Vec::new();
        for subset in 0..1 << n {
            let mut names = self.synced.clone();
            let happened = self.changes.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1);
            happened.for_each(|(_, change)| change.apply(&mut names));
            let is_damaged = names.values().any(|&file| !self.files[file].1);
            for damage in if is_damaged { &damages[..] } else { &damages[3..] } {
                let lose = |(bytes, synced): &(Vec<u8>, bool)| {
                    (if *synced { bytes.clone() } else { damage(bytes) }, true)
                };
                let files = self.files.iter().map(lose).collect();
                states.push(State { files, synced: names.clone(), changes: Vec::new() });
            }
        }
        states
    }
}

/// A disk that remembers its state after every operation, and can be told to fail at one.
#[derive(Clone, Default)]
pub(crate) struct Simulated {
    pub(crate) state: Rc<RefCell<State>>,
    pub(crate) history: Rc<RefCell<Vec<(String, State)>>>,
    /// Operations left until one fails.
    pub(crate) fails_in: Rc<Cell<Option<usize>>>,
    /// The most bytes that a write takes; then every second write is interrupted, too.
    pub(crate) short_write: Option<usize>,
    pub(crate) ignores_file_sync: bool,
    pub(crate) ignores_directory_sync: bool,
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.history.borrow().iter().map(|(operation, _)| operation)).finish()
    }
}

impl Simulated {
    pub(crate) fn starting_from(state: State) -> Simulated {
        let disk = Simulated::default();
        *disk.state.borrow_mut() = state;
        disk
    }

    /// Runs one operation, unless it is its turn to fail.
    fn operate(&self, name: &str, operation: impl FnOnce(&mut State)) -> io::Result<()> {
        if let Some(left) = self.fails_in.get() {
            self.fails_in.set(left.checked_sub(1));
            if left == 0 {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "simulated"));
            }
        }
        operation(&mut self.state.borrow_mut());
        self.history.borrow_mut().push((name.to_string(), self.state.borrow().clone()));
        Ok(())
    }

    fn change(&self, name: &str, change: Change) -> io::Result<()> {
        self.operate(name, |state| state.changes.push(change))
    }

    fn exists(&self, path: &Path) -> bool {
        self.state.borrow().names().contains_key(path)
    }
}

struct SimulatedFile {
    disk: Simulated,
    file: usize,
    n_writes: usize,
}

impl io::Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.n_writes += 1;
        if self.disk.short_write.is_some() && self.n_writes % 2 == 1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let taken = &bytes[..bytes.len().min(self.disk.short_write.unwrap_or(usize::MAX))];
        self.disk.operate("write", |state| {
            let (content, synced) = &mut state.files[self.file];
            content.extend_from_slice(taken);
            *synced = false;
        })?;
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for SimulatedFile {
    fn sync(&mut self) -> io::Result<()> {
        let ignored = self.disk.ignores_file_sync;
        self.disk.operate("sync file", |state| state.files[self.file].1 |= !ignored)
    }
}

impl FileSystem for Simulated {
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = self.state.borrow().files.len();
        self.operate("create", |state| {
            state.files.push((Vec::new(), false));
            state.changes.push(Change::Create(path.into(), file));
        })?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), file, n_writes: 0 }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.exists(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.exists(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change("link", Change::Link(from.into(), to.into()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert!(self.exists(from), "no file {} to rename", from.display());
        self.change("rename", Change::Rename(from.into(), to.into()))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let names = self.state.borrow().names();
        assert!(names.keys().all(|path| path.parent() == Some(directory)), "{directory:?}, not {names:?}");
        let ignored = self.ignores_directory_sync;
        self.operate("sync directory", |state| {
            if !ignored {
                state.synced = state.names();
                state.changes.clear();
            }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change("remove", Change::Remove(path.into()))
    }
}
