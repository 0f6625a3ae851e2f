//! Who holds a machine's power: a lock on a file, passed on from whoever starts the machine to its supervisor.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::layout::EngineDir;
use super::map::{incomplete, io_error, no_machine};
use crate::domain::Result;

/// A machine's power. It lasts until every copy of the descriptor is closed, in whatever process.
#[derive(Debug)]
pub struct PowerLock(File);

impl PowerLock {
    /// Makes the lock of a new machine, and takes it.
    ///
    /// # Errors
    /// `Storage`.
    pub fn create(dir: &EngineDir) -> Result<Self> {
        let path = dir.lock();
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|source| io_error("cannot make", &path, source))?;
        file.lock().map_err(|source| io_error("cannot lock", &path, source))?;
        Ok(Self(file))
    }

    /// Takes the power; `None` when somebody has it.
    ///
    /// # Errors
    /// `NotFound` when there is no such machine; `Storage` when there is, but not its lock.
    pub fn try_take(dir: &EngineDir) -> Result<Option<Self>> {
        let Some(file) = open(dir)? else {
            return Err(if dir.exists() { incomplete(&dir.lock()) } else { no_machine(&dir.id()?.to_string()) });
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(io_error("cannot lock", &dir.lock(), source)),
        }
        // Between the opening and the locking the machine may have been terminated, and another one launched.
        let same = |file: &File| Some(file.metadata().ok()?.ino() == dir.lock().metadata().ok()?.ino());
        match same(&file) {
            Some(true) => Ok(Some(Self(file))),
            _ => Err(no_machine(&dir.id()?.to_string())),
        }
    }

    /// Returns whether somebody has the power. Never makes a holder wait; a missing machine has none.
    ///
    /// # Errors
    /// As [`Self::try_take`], but for `NotFound`.
    pub fn is_held(dir: &EngineDir) -> Result<bool> {
        let Some(file) = open(dir)? else {
            return if dir.exists() { Err(incomplete(&dir.lock())) } else { Ok(false) };
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(io_error("cannot lock", &dir.lock(), source)),
        }
    }

    /// Returns a copy of the descriptor, for the process that the power is passed on to.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn share(&self) -> std::io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// Takes over the power from a descriptor that another process passed on.
    pub fn from_passed(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// Returns whether this is the lock of a machine's directory.
    pub fn belongs_to(&self, dir: &EngineDir) -> bool {
        match (self.0.metadata(), dir.lock().metadata()) {
            (Ok(mine), Ok(there)) => (mine.dev(), mine.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

fn open(dir: &EngineDir) -> Result<Option<File>> {
    match File::open(dir.lock()) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("cannot open", &dir.lock(), source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorKind;

    #[test]
    fn power_lasts_until_the_last_copy_is_closed() {
        let data = tempfile::tempdir().unwrap();
        let dir = EngineDir::new(data.path().join("engines/i-00000000000000001"));
        assert_eq!(PowerLock::try_take(&dir).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::create_dir_all(dir.path()).unwrap();
        assert_eq!(PowerLock::try_take(&dir).unwrap_err().kind(), ErrorKind::Storage, "it exists, but not whole");
        let lock = PowerLock::create(&dir).unwrap();
        let passed = PowerLock::from_passed(lock.share().unwrap());
        assert!(passed.belongs_to(&dir));
        drop(lock);
        assert!(PowerLock::is_held(&dir).unwrap() && PowerLock::try_take(&dir).unwrap().is_none());
        drop(passed);
        assert!(!PowerLock::is_held(&dir).unwrap() && PowerLock::try_take(&dir).unwrap().is_some());
    }

    #[test]
    fn a_terminated_machines_lock_is_nobodys() {
        let data = tempfile::tempdir().unwrap();
        let dir = EngineDir::new(data.path().join("i-00000000000000001"));
        std::fs::create_dir_all(dir.path()).unwrap();
        let lock = PowerLock::create(&dir).unwrap();
        std::fs::remove_dir_all(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path()).unwrap();
        std::fs::write(dir.lock(), "").unwrap();
        assert!(!lock.belongs_to(&dir));
    }
}
