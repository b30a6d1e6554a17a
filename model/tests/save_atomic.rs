//! A save that is cut off anywhere leaves the old file or the new one, whole.
//!
//! The disk here is simulated, and as unhelpful as a real one may be: until a file is synced a power cut leaves it
//! empty, cut off, or full of something else; until its directory is synced, any number of the latest changes of names
//! are undone. The tests cut the power after every operation, and make every operation fail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use weft_model::Error;
use weft_model::files::{Disk, FileSystem, save_atomic};

const PATH: &str = "run/last";
const TEMPORARY: &str = "run/.last.tmp";
const OLD: &[u8] = b"the old file";
const NEW: &[u8] = b"the new file, which is longer";
/// Bytes that one write takes: [`NEW`] needs several.
const SHORT_WRITE: usize = 11;

type Names = BTreeMap<PathBuf, usize>;

/// The state of the disk at one moment.
#[derive(Clone, Default)]
struct State {
    /// Every file ever made: what it holds, and whether that was synced.
    files: Vec<(Vec<u8>, bool)>,
    /// The names after the last sync of the directory, and after each operation on names since.
    names: Vec<Names>,
}

impl State {
    fn names(&self) -> &Names {
        self.names.last().expect("the names at the last sync")
    }

    fn rename_in(&mut self, change: impl FnOnce(&mut Names) -> Option<usize>) {
        let mut names = self.names().clone();
        change(&mut names);
        self.names.push(names);
    }

    fn content(&self, path: &str) -> Option<&[u8]> {
        self.names().get(Path::new(path)).map(|&file| self.files[file].0.as_slice())
    }

    /// Every state in which a power cut now could leave the disk.
    fn after_power_cut(&self) -> Vec<State> {
        type Damage = fn(&[u8]) -> Vec<u8>;
        let damages: [Damage; 4] = [
            |_| Vec::new(),
            |bytes| bytes[..bytes.len() / 2].to_vec(),
            |bytes| vec![0xa5; bytes.len()],
            |bytes| bytes.to_vec(),
        ];
        let damaged = |damage: Damage| {
            let lose = |(bytes, synced): &(Vec<u8>, bool)| {
                (if *synced { bytes.clone() } else { damage(bytes) }, true)
            };
            self.files.iter().map(lose).collect::<Vec<_>>()
        };
        let states = |names: &Names| damages.map(|d| State { files: damaged(d), names: vec![names.clone()] });
        self.names.iter().flat_map(states).collect()
    }
}

/// A disk that remembers its state after every operation, and can be told to fail at one.
#[derive(Default)]
struct Simulated {
    state: Rc<RefCell<State>>,
    history: Rc<RefCell<Vec<(String, State)>>>,
    /// Operations left until one fails.
    fails_in: Rc<Cell<Option<usize>>>,
    ignores_file_sync: bool,
    ignores_directory_sync: bool,
}

impl Simulated {
    fn with_old() -> Simulated {
        Simulated::starting_from(State {
            files: vec![(OLD.to_vec(), true)],
            names: vec![Names::from([(PATH.into(), 0)])],
        })
    }

    fn starting_from(state: State) -> Simulated {
        let disk = Simulated::default();
        *disk.state.borrow_mut() = state;
        disk
    }

    fn handle(&self) -> Simulated {
        Simulated {
            state: self.state.clone(),
            history: self.history.clone(),
            fails_in: self.fails_in.clone(),
            ..*self
        }
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
}

struct SimulatedFile {
    disk: Simulated,
    file: usize,
    n_writes: usize,
}

impl io::Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.n_writes += 1;
        if self.n_writes % 2 == 1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let taken = &bytes[..bytes.len().min(SHORT_WRITE)];
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

impl FileSystem for Simulated {
    type File = SimulatedFile;

    fn create(&self, path: &Path) -> io::Result<SimulatedFile> {
        let file = self.state.borrow().files.len();
        self.operate("create", |state| {
            state.files.push((Vec::new(), false));
            state.rename_in(|names| names.insert(path.into(), file));
        })?;
        Ok(SimulatedFile { disk: self.handle(), file, n_writes: 0 })
    }

    fn sync_file(&self, file: &SimulatedFile) -> io::Result<()> {
        self.operate("sync file", |state| state.files[file.file].1 |= !self.ignores_file_sync)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate("rename", |state| {
            state.rename_in(|names| {
                let file = names.remove(from).expect("a file to rename");
                names.insert(to.into(), file)
            });
        })
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        assert_eq!(directory, Path::new("run"));
        self.operate("sync directory", |state| {
            if !self.ignores_directory_sync {
                state.names = vec![state.names().clone()];
            }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let exists = self.state.borrow().names().contains_key(path);
        if !exists {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.operate("remove", |state| state.rename_in(|names| names.remove(path)))
    }
}

/// A way to save.
type Saver = fn(&Simulated) -> Result<(), Error>;

fn save(disk: &Simulated) -> Result<(), Error> {
    save_atomic(disk, PATH, NEW)
}

/// Cuts the power after every operation of `saver`, and says what goes wrong first. Counts the cases.
fn first_loss(disk: Simulated, saver: Saver) -> Result<usize, String> {
    disk.history.borrow_mut().push(("nothing".into(), disk.state.borrow().clone()));
    saver(&disk).expect("nothing fails here");
    let history = disk.history.borrow();
    let mut n_cases = 0;
    for (i, (operation, state)) in history.iter().enumerate() {
        let done = i + 1 == history.len();
        for after in state.after_power_cut() {
            n_cases += 1;
            match after.content(PATH) {
                Some(NEW) => {}
                Some(OLD) if !done => {}
                Some(OLD) => return Err("the save returned, and the file is the old one".into()),
                other => {
                    let content = other.map(String::from_utf8_lossy);
                    return Err(format!("after {operation} the file is {content:?}"));
                }
            }
            // The next save goes through, whatever was left lying around.
            let next = Simulated::starting_from(after);
            save(&next).map_err(|e| format!("after {operation}, the next save: {e}"))?;
            let names: Vec<_> = next.state.borrow().names().keys().cloned().collect();
            if names != [Path::new(PATH)] {
                return Err(format!("after {operation} and another save there is {names:?}"));
            }
        }
    }
    Ok(n_cases)
}

#[test]
fn a_power_cut_leaves_the_old_file_or_the_new_one() {
    let n_cases = first_loss(Simulated::with_old(), save).unwrap();
    // At least: nothing, create, three writes, sync, rename, sync, each with four kinds of damage.
    assert!(n_cases >= 8 * 4, "only {n_cases} cases");
}

/// The test above has teeth: it finds each of the ways in which such code is usually wrong.
#[test]
fn savers_that_skip_a_step_are_caught() {
    let unsynced_file = Simulated { ignores_file_sync: true, ..Simulated::with_old() };
    let loss = first_loss(unsynced_file, save).unwrap_err();
    assert!(loss.starts_with("after rename"), "without the sync of the file: {loss}");

    let unsynced_directory = Simulated { ignores_directory_sync: true, ..Simulated::with_old() };
    let loss = first_loss(unsynced_directory, save).unwrap_err();
    assert!(loss.contains("returned"), "without the sync of the directory: {loss}");

    let in_place: Saver = |disk| {
        let mut file = disk.create(Path::new(PATH)).unwrap();
        io::Write::write_all(&mut file, NEW).unwrap();
        disk.sync_file(&file).unwrap();
        disk.sync_directory(Path::new("run")).unwrap();
        Ok(())
    };
    let loss = first_loss(Simulated::with_old(), in_place).unwrap_err();
    assert!(loss.starts_with("after create"), "in place: {loss}");

    let synced_too_late: Saver = |disk| {
        let mut file = disk.create(Path::new(TEMPORARY)).unwrap();
        io::Write::write_all(&mut file, NEW).unwrap();
        disk.rename(Path::new(TEMPORARY), Path::new(PATH)).unwrap();
        disk.sync_file(&file).unwrap();
        disk.sync_directory(Path::new("run")).unwrap();
        Ok(())
    };
    let loss = first_loss(Simulated::with_old(), synced_too_late).unwrap_err();
    assert!(loss.starts_with("after rename"), "synced after the rename: {loss}");
}

#[test]
fn when_a_step_fails_it_is_told_and_nothing_is_left_over() {
    let mut failing = 0;
    loop {
        let disk = Simulated::with_old();
        disk.fails_in.set(Some(failing));
        let Err(error) = save(&disk) else { break };
        assert_eq!(error.to_string(), "cannot save `run/last`");
        assert_eq!(error.source().expect("the reason").to_string(), "simulated");
        let state = disk.state.borrow();
        let last = state.content(PATH);
        assert!(last == Some(OLD) || last == Some(NEW), "operation {failing} failed: {last:?}");
        assert_eq!(state.names().len(), 1, "operation {failing} failed: {:?} are there", state.names());
        failing += 1;
    }
    assert_eq!(failing, 7, "create, three writes, sync, rename, sync");
}

#[test]
fn the_first_file_appears_whole_or_not_at_all() {
    let disk = Simulated::starting_from(State { files: vec![], names: vec![Names::new()] });
    save(&disk).unwrap();
    for (operation, state) in disk.history.borrow().iter() {
        for after in state.after_power_cut() {
            assert!(matches!(after.content(PATH), None | Some(NEW)), "after {operation}");
        }
    }
}

/// A fresh directory for a test.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn on_a_real_disk_the_file_is_replaced_and_left_overs_are_gone() {
    let directory = directory("save_atomic_replaces");
    let path = directory.join("last");
    save_atomic(&Disk, &path, OLD).unwrap();
    std::fs::write(directory.join(".last.tmp"), "from a crash").unwrap();
    save_atomic(&Disk, &path, NEW).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), NEW);
    assert_eq!(names_in(&directory), ["last"]);
}

#[test]
#[cfg(unix)]
fn a_left_over_that_is_a_link_is_not_followed() {
    let directory = directory("save_atomic_link");
    let other = directory.join("other");
    std::fs::write(&other, OLD).unwrap();
    std::os::unix::fs::symlink(&other, directory.join(".last.tmp")).unwrap();
    save_atomic(&Disk, directory.join("last"), NEW).unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), OLD, "the linked file was written to");
    assert_eq!(names_in(&directory), ["last", "other"]);
}

#[test]
fn on_a_real_disk_errors_name_the_path_and_leave_nothing() {
    let directory = directory("save_atomic_errors");
    std::fs::create_dir(directory.join("taken")).unwrap();
    for path in [directory.join("none/last"), directory.join("taken"), directory.join("..")] {
        let error = save_atomic(&Disk, &path, NEW).unwrap_err();
        assert!(matches!(error, Error::Save { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("cannot save `{}`", path.display()));
        assert!(error.source().is_some(), "{error}");
    }
    assert_eq!(names_in(&directory), ["taken"]);
}
