//! Files that are either as they were or as they should be, and directories with one owner.
//!
//! [`save_atomic`] replaces a file so that a crash, a full disk or a power cut at any moment leaves the old file or
//! the new one, whole. [`DirLock`] keeps a second process out of a run directory.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, IntoInnerError, Read as _, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// What saving asks of a file system: the seam at which tests make each step fail, or cut the power after it.
pub trait FileSystem: fmt::Debug {
    /// Makes an empty file for writing in place of whatever has that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
    /// Gives a file a second name; an error if that is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives `from` the name `to`, in place of whatever has that name, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names in `directory` would survive a power cut.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written. Its writes may be short or interrupted, as those of any [`Write`].
pub trait NewFile: Write {
    /// Returns when what was written would survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

impl NewFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl FileSystem for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        // Removed rather than emptied: a left-over may be read-only, or a link to a file that is not ours.
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(Box::new(File::create_new(path)?)),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Does nothing where a directory cannot be opened as a file, or where the file system says that it has no such
    /// operation (some network ones): then there is nothing to wait for.
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        if !cfg!(unix) {
            return Ok(());
        }
        match File::open(directory)?.sync_all() {
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            result => result,
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Writes a file so that, whenever it is interrupted, the file there is the old one or the new one, whole. Once it has
/// returned without an error, it is the new one even after a power cut.
///
/// What `write` writes goes to `.NAME.tmp` beside it, reaches the disk, and only then takes the name; the directory follows. A
/// left-over of that name from a crash is replaced, so there is never more than one; two writers of one file must
/// exclude each other (see [`DirLock`]). Where `path` is a link, the link is replaced.
///
/// # Errors
/// [`Error::Save`] if any step fails. The temporary file is then removed, and `path` is as it was; only if the very
/// last step failed, syncing the directory, it may already be the new file.
pub fn save_atomic(
    fs: &dyn FileSystem,
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let path = path.as_ref();
    let failed = |source| Error::Save { name: path.to_string_lossy().into_owned(), source };
    let (directory, temporary) = beside(path).map_err(failed)?;
    let written = write_synced(fs, &temporary, write);
    replace(fs, written, &temporary, path).and_then(|()| fs.sync_directory(&directory)).map_err(failed)
}

/// Gives the file `from` a second name, `to`, in place of whatever has that name. At no moment is either name without a file, if it
/// had one. It does not wait for the disk: whoever next syncs the directory does.
///
/// # Errors
/// [`Error::Save`], also where the file system has no second names.
pub fn link_atomic(fs: &dyn FileSystem, from: &Path, to: &Path) -> Result<(), Error> {
    let failed = |source| Error::Save { name: to.to_string_lossy().into_owned(), source };
    let (_, temporary) = beside(to).map_err(failed)?;
    let linked = match fs.link(from, &temporary) {
        // Left over from a crash.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs.remove(&temporary).and_then(|()| fs.link(from, &temporary))
        }
        result => result,
    };
    replace(fs, linked, &temporary, to).map_err(failed)?;
    // Nothing was renamed where both names are of one file already.
    let _ = fs.remove(&temporary);
    Ok(())
}

/// Moves a temporary file to its place if making it went well; else removes it.
fn replace(fs: &dyn FileSystem, made: io::Result<()>, temporary: &Path, path: &Path) -> io::Result<()> {
    let replaced = made.and_then(|()| fs.rename(temporary, path));
    if replaced.is_err() {
        // It may not exist, or not let itself be removed: the first error is the one to tell.
        let _ = fs.remove(temporary);
    }
    replaced
}

/// Returns with the file closed, as some systems do not rename an open one.
fn write_synced(
    fs: &dyn FileSystem,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = BufWriter::new(fs.create(path)?);
    write(&mut file)?; // goes on after a short write and tries again after an interrupted one
    file.into_inner().map_err(IntoInnerError::into_error)?.sync()
}

/// The directory of `path` and the name of its temporary file.
fn beside(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name");
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or_else(no_name)?);
    name.push(".tmp");
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Ok((directory.to_path_buf(), path.with_file_name(name)))
}

/// The name of the lock file in a directory.
pub const LOCK_FILE: &str = ".lock";

/// Keeps other processes that ask for it out of a directory, until it is dropped or the process ends in any way.
///
/// It is an advisory lock of the operating system on the file [`LOCK_FILE`], which also names the holder's process
/// id. The lock, not the file, says that the directory is taken, so one left over from a crash blocks nobody. And so the
/// file is left there on drop: were it removed, a second process could lock the old file, just opened, while a
/// third makes and locks a new one.
#[derive(Debug)]
pub struct DirLock {
    /// Closing it releases the lock.
    _file: File,
    is_exclusive: bool,
}

impl DirLock {
    /// Takes the directory, or says at once who has it.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process (or another `DirLock` of this one) holds it; [`Error::Lock`] if the lock
    /// file cannot be opened for writing: the directory is missing, or read-only.
    pub fn acquire(directory: impl AsRef<Path>) -> Result<DirLock, Error> {
        let directory = directory.as_ref();
        let name = || directory.to_string_lossy().into_owned();
        let failed = |source| Error::Lock { name: name(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false); // it may be another's: read it first
        let mut file = options.open(directory.join(LOCK_FILE)).map_err(failed)?;
        let is_exclusive = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { name: name(), holder: holder(&file) });
            }
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => false,
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        };
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(DirLock { _file: file, is_exclusive })
    }

    /// Whether others are really kept out: `false` on a file system without locks, where nobody can tell.
    pub fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }
}

/// The process id in a lock file, if there is one yet.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
