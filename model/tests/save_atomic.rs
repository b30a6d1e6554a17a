//! A save that is cut off anywhere leaves the old file or the new one, whole.
//!
//! The tests cut the power after every operation of a simulated disk, and make every operation fail.

mod common;
mod simulated;

use std::error::Error as _;
use std::path::Path;

use common::directory;
use simulated::{Simulated, State};
use weft_model::Error;
use weft_model::files::{Disk, FileSystem as _, save_atomic};

const PATH: &str = "run/last";
const TEMPORARY: &str = "run/.last.tmp";
const OLD: &[u8] = b"the old file";
const NEW: &[u8] = b"the new file, which is longer";
/// Bytes that one write takes: [`NEW`] needs several.
const SHORT_WRITE: usize = 11;

fn simulated(state: State) -> Simulated {
    Simulated { short_write: Some(SHORT_WRITE), ..Simulated::starting_from(state) }
}

fn with_old() -> Simulated {
    simulated(State::of(PATH, OLD))
}

/// A way to save.
type Saver = fn(&Simulated) -> Result<(), Error>;

fn save(disk: &Simulated) -> Result<(), Error> {
    save_atomic(disk, PATH, |file| file.write_all(NEW))
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
            let next = simulated(after);
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
    let n_cases = first_loss(with_old(), save).unwrap();
    // Nothing, create, three writes, sync, rename, sync; and four kinds of damage where the name may be there and its content not.
    assert!(n_cases >= 8 + 4 * 4, "only {n_cases} cases");
}

/// The test above has teeth: it finds each of the ways in which such code is usually wrong.
#[test]
fn savers_that_skip_a_step_are_caught() {
    let unsynced_file = Simulated { ignores_file_sync: true, ..with_old() };
    let loss = first_loss(unsynced_file, save).unwrap_err();
    assert!(loss.starts_with("after rename"), "without the sync of the file: {loss}");

    let unsynced_directory = Simulated { ignores_directory_sync: true, ..with_old() };
    let loss = first_loss(unsynced_directory, save).unwrap_err();
    assert!(loss.contains("returned"), "without the sync of the directory: {loss}");

    let in_place: Saver = |disk| {
        let mut file = disk.create(Path::new(PATH)).unwrap();
        file.write_all(NEW).unwrap();
        file.sync().unwrap();
        disk.sync_directory(Path::new("run")).unwrap();
        Ok(())
    };
    let loss = first_loss(with_old(), in_place).unwrap_err();
    assert!(loss.starts_with("after create"), "in place: {loss}");

    let synced_too_late: Saver = |disk| {
        let mut file = disk.create(Path::new(TEMPORARY)).unwrap();
        file.write_all(NEW).unwrap();
        disk.rename(Path::new(TEMPORARY), Path::new(PATH)).unwrap();
        file.sync().unwrap();
        disk.sync_directory(Path::new("run")).unwrap();
        Ok(())
    };
    let loss = first_loss(with_old(), synced_too_late).unwrap_err();
    assert!(loss.starts_with("after rename"), "synced after the rename: {loss}");
}

#[test]
fn when_a_step_fails_it_is_told_and_nothing_is_left_over() {
    let mut failing = 0;
    loop {
        let disk = with_old();
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
    let disk = simulated(State::default());
    save(&disk).unwrap();
    for (operation, state) in disk.history.borrow().iter() {
        for after in state.after_power_cut() {
            assert!(matches!(after.content(PATH), None | Some(NEW)), "after {operation}");
        }
    }
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
    save_atomic(&Disk, &path, |file| file.write_all(OLD)).unwrap();
    std::fs::write(directory.join(".last.tmp"), "from a crash").unwrap();
    save_atomic(&Disk, &path, |file| file.write_all(NEW)).unwrap();
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
    save_atomic(&Disk, directory.join("last"), |file| file.write_all(NEW)).unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), OLD, "the linked file was written to");
    assert_eq!(names_in(&directory), ["last", "other"]);
}

#[test]
fn on_a_real_disk_errors_name_the_path_and_leave_nothing() {
    let directory = directory("save_atomic_errors");
    std::fs::create_dir(directory.join("taken")).unwrap();
    for path in [directory.join("none/last"), directory.join("taken"), directory.join("..")] {
        let error = save_atomic(&Disk, &path, |file| file.write_all(NEW)).unwrap_err();
        assert!(matches!(error, Error::Save { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("cannot save `{}`", path.display()));
        assert!(error.source().is_some(), "{error}");
    }
    assert_eq!(names_in(&directory), ["taken"]);
}
