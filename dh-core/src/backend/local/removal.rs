//! Taking a machine off the disk, without ever taking a studio's files with it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::layout::{EngineDir, engines};
use super::lock::PowerLock;
use super::machine::{MachineRecord, random_hex};
use super::map::io_error;
use super::volume::{Filesystem, Volumes, power_off};
use super::{cgroup, mountinfo, process};
use crate::domain::{Error, ErrorKind, MachineId, Result, Retry};

/// A machine that is being made has this before its id, until it is whole.
pub(super) const NEW: &str = ".new-";
const GONE: &str = ".gone-";

/// Ends whatever a dead machine has left: processes, mounts, loop devices. The caller holds the lock.
///
/// # Errors
/// As [`power_off`]. Processes that would not die are only logged: nothing more can be done.
pub fn clear(dir: &EngineDir, record: &MachineRecord) -> Result<()> {
    let groups = record.boot.as_ref().map(|boot| boot.cgroups.as_slice()).unwrap_or_default();
    for member in process::sweep(&record.id, groups) {
        tracing::warn!(machine = %record.id, pid = ?member.pid, name = member.name, "a leftover process does not die");
    }
    power_off(dir.path())
}

/// [`clear`] without a record to go by: every process of a machine bears its id.
///
/// # Errors
/// As [`clear`].
pub fn clear_unread(dir: &EngineDir) -> Result<()> {
    let id = dir.id()?;
    let groups = cgroup::of(&id);
    for member in process::sweep(&id, &groups) {
        tracing::warn!(machine = %id, pid = ?member.pid, name = member.name, "a leftover process does not die");
    }
    power_off(dir.path())
}

/// Removes a machine that has no process left: detaches its volumes, then deletes its directory. The caller holds the lock.
///
/// # Errors
/// `Storage` when something is still mounted below it: nothing is deleted then.
pub fn remove(dir: &EngineDir) -> Result<()> {
    let id = dir.id()?;
    power_off(dir.path())?;
    refuse_mounts(dir.path())?;
    let gone = engines(dir.data()).join(format!("{GONE}{id}-{}", random_hex(8)?));
    match fs::rename(dir.path(), &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        renamed => renamed.map_err(|source| io_error("cannot remove", dir.path(), source))?,
    }
    // Only now: from here on nothing can be attached to it any more.
    detach_all(dir.data(), &id)?;
    delete(&gone)
}

/// Finishes what was cut off: machines half made or half removed by processes that are gone.
pub fn sweep(data: &Path) {
    let Ok(entries) = fs::read_dir(engines(data)) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        let abandoned = || is_abandoned(&EngineDir::new(&path)).unwrap_or(false);
        if let Some(id) = name.strip_prefix(GONE).and_then(|rest| rest.rsplit_once('-')) {
            let finished = MachineId::new(id.0).and_then(|id| detach_all(data, &id)).and_then(|()| delete(&path));
            if let Err(error) = finished {
                tracing::warn!(path = %path.display(), error = %error.full_message(), "a removal cannot be finished");
            }
        } else if name.starts_with(NEW) && abandoned() {
            let _ = delete(&path);
        }
    }
}

/// Whether nobody is at a machine half made. Its lock is the first thing in it, so without one it has only begun.
fn is_abandoned(dir: &EngineDir) -> Option<bool> {
    if dir.lock().exists() {
        return PowerLock::is_held(dir).ok().map(|held| !held);
    }
    let begun = dir.path().metadata().ok()?.modified().ok()?;
    Some(begun.elapsed().ok()? > Duration::from_secs(60))
}

/// Detaches whatever is attached to a machine that is gone.
pub(super) fn detach_all(data: &Path, id: &MachineId) -> Result<()> {
    let volumes = Volumes::new(data, Filesystem::default());
    for (_, volume) in volumes.attached_to(id)? {
        volumes.detach(&volume, id)?;
    }
    Ok(())
}

fn refuse_mounts(path: &Path) -> Result<()> {
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error("cannot find", path, source)),
    };
    match mountinfo::mounts_below(&path)?.first() {
        None => Ok(()),
        Some(mount) => {
            let point = mount.mount_point.display();
            Err(Error::new(ErrorKind::Storage, format!("{point} is still mounted, so nothing was deleted"))
                .with_retry(Retry::Later)
                .with_context("backend", "local")
                .with_hint(format!("end the programs that use it and run 'umount {point}', then terminate again")))
        }
    }
}

fn delete(path: &Path) -> Result<()> {
    refuse_mounts(path)?;
    let mut result = fs::remove_dir_all(path);
    if matches!(&result, Err(error) if error.kind() == io::ErrorKind::PermissionDenied) {
        open_up(path);
        result = fs::remove_dir_all(path);
    }
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("cannot remove", path, error)),
        _ => Ok(()),
    }
}

/// Lets us into directories that a program has closed to its own user, as package caches do.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_directories_are_removed_and_what_links_lead_to_is_not() {
        let data = tempfile::tempdir().unwrap();
        let dir = EngineDir::new(data.path().join("engines/i-00000000000000001"));
        fs::create_dir_all(dir.home().join("cache/deep")).unwrap();
        fs::create_dir(data.path().join("studio")).unwrap();
        fs::write(data.path().join("studio/thesis"), "x").unwrap();
        std::os::unix::fs::symlink(data.path().join("studio"), dir.home().join("studio")).unwrap();
        fs::set_permissions(dir.home().join("cache"), fs::Permissions::from_mode(0o500)).unwrap();
        remove(&dir).unwrap();
        assert_eq!(fs::read_dir(data.path().join("engines")).unwrap().count(), 0);
        assert!(data.path().join("studio/thesis").exists());
        remove(&dir).unwrap();
    }

    #[test]
    fn what_was_cut_off_is_swept_and_what_is_being_made_is_not() {
        let data = tempfile::tempdir().unwrap();
        let engines = engines(data.path());
        let entry = |name: &str| {
            fs::create_dir_all(engines.join(name).join("disk")).unwrap();
            EngineDir::new(engines.join(name))
        };
        entry(".gone-i-00000000000000001-0123abcd");
        drop(PowerLock::create(&entry(".new-i-00000000000000002-0123abcd")).unwrap());
        let held = PowerLock::create(&entry(".new-i-00000000000000003-0123abcd")).unwrap();
        entry("i-00000000000000004");
        sweep(data.path());
        let mut left: Vec<_> = fs::read_dir(&engines).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".new-i-00000000000000003-0123abcd", "i-00000000000000004"]);
        drop(held);
    }
}
