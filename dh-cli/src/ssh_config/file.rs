//! Writes the SSH configuration: one writer at a time, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dh_core::domain::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};

/// What became of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The file, symbolic links followed.
    pub path: PathBuf,
    /// Whether it was written.
    pub changed: bool,
}

/// How often an edit is begun anew because somebody else wrote the file meanwhile.
const TRIES: usize = 8;

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make it writable, or leave the SSH config alone with --skip-ssh-config"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space on that disk, then run it again",
        _ => "look at the path, then run: dh engine config-ssh",
    };
    Error::new(ErrorKind::Storage, format!("cannot {what} {}", path.display()))
        .with_context("path", path.display())
        .with_hint(hint)
        .with_source(error)
}

/// Returns the file's content; a missing one is empty.
pub fn state(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// Follows symbolic links, also one whose target does not exist yet.
fn resolve(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(link) => Ok(path.parent().unwrap_or(Path::new("/")).join(link)),
            Err(_) => Ok(path.to_owned()),
        },
        Err(error) => Err(failed("find", path, error)),
    }
}

/// Edits the file under a lock. It is created with mode 0600 when missing, its folder with 0700; otherwise its mode and
/// owner stay. An edit that changes nothing writes nothing.
///
/// # Errors
/// Those of the edit, the file then being untouched; `Storage` when it cannot be read or written.
pub fn apply(path: &Path, edit: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<Applied> {
    let unchanged = |path: PathBuf| Ok(Applied { path, changed: false });
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.exists() {
        if edit(b"")?.is_empty() {
            return unchanged(path.to_owned());
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failed("create", folder, error))?;
    }
    // The folder itself is locked: a lock file would be one more thing of ours in the user's folder.
    let lock = File::open(folder).map_err(|error| failed("open", folder, error))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed("lock", folder, error.into()))?;
    let target = resolve(path)?;
    for _ in 0..TRIES {
        let before = read_with_metadata(&target)?;
        let text = before.as_ref().map_or(&[][..], |(text, _)| text);
        let edited = edit(text)?;
        if edited == text {
            return unchanged(target);
        }
        if write(&target, &edited, before.as_ref())? {
            return Ok(Applied { path: target, changed: true });
        }
    }
    Err(Error::new(ErrorKind::Conflict, format!("{} is being changed by another program", target.display()))
        .with_hint("run it again: dh engine config-ssh"))
}

fn read_with_metadata(path: &Path) -> Result<Option<(Vec<u8>, fs::Metadata)>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path, error)),
    };
    let mut text = Vec::new();
    let metadata = file.metadata().and_then(|metadata| file.read_to_end(&mut text).map(|_| metadata));
    metadata.map(|metadata| Some((text, metadata))).map_err(|error| failed("read", path, error))
}

fn is_same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    let facts = |m: &fs::Metadata| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    facts(a) == facts(b)
}

/// Replaces the file in one step. Returns false, with nothing done, when it has changed since it was read.
fn write(target: &Path, text: &[u8], before: Option<&(Vec<u8>, fs::Metadata)>) -> Result<bool> {
    // A file that its owner made read-only is not to be replaced behind its back.
    if before.is_some() {
        OpenOptions::new().write(true).open(target).map_err(|error| failed("write", target, error))?;
    }
    let folder = target.parent().unwrap_or(Path::new("/"));
    let temporary = folder.join(format!(".dh-ssh-config.{}", std::process::id()));
    let written = write_temporary(&temporary, text, before.map(|(_, metadata)| metadata));
    let replaced = written.and_then(|()| {
        let now = fs::metadata(target).ok();
        let same = match (before, &now) {
            (None, None) => true,
            (Some((_, before)), Some(now)) => is_same(before, now),
            _ => false,
        };
        if same {
            fs::rename(&temporary, target)?;
            File::open(folder)?.sync_all()?;
        }
        Ok(same)
    });
    if !matches!(replaced, Ok(true)) {
        let _ = fs::remove_file(&temporary);
    }
    replaced.map_err(|error| failed("write", target, error))
}

fn write_temporary(path: &Path, text: &[u8], like: Option<&fs::Metadata>) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    if let Some(like) = like {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".ssh/config");
        (home, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn append(text: &[u8]) -> Result<Vec<u8>> {
        Ok([text, b"x"].concat())
    }

    #[test]
    fn folder_and_file_are_created_private() {
        let (_home, path) = home();
        assert!(apply(&path, append).unwrap().changed);
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    }

    #[test]
    fn nothing_is_created_for_nothing() {
        let (_home, path) = home();
        assert!(!apply(&path, |text| Ok(text.to_vec())).unwrap().changed);
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn mode_and_symbolic_link_stay() {
        let (home, path) = home();
        let target = home.path().join("dotfiles");
        fs::write(&target, "Host a\n").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        fs::create_dir(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("../dotfiles", &path).unwrap();
        apply(&path, append).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"Host a\nx");
        assert_eq!(mode(&target), 0o640);
    }

    #[test]
    fn a_dangling_link_gets_its_target() {
        let (home, path) = home();
        fs::create_dir(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(home.path().join("later"), &path).unwrap();
        apply(&path, append).unwrap();
        assert_eq!(fs::read(home.path().join("later")).unwrap(), b"x");
    }

    #[test]
    fn a_refused_edit_leaves_file_and_folder_alone() {
        let (_home, path) = home();
        apply(&path, append).unwrap();
        let refuse = |_: &[u8]| Err(Error::new(ErrorKind::Config, "no"));
        assert_eq!(apply(&path, refuse).unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(fs::read(&path).unwrap(), b"x");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_change_by_somebody_else_is_not_lost() {
        let (_home, path) = home();
        apply(&path, append).unwrap();
        let first = std::cell::Cell::new(true);
        apply(&path, |text| {
            if first.replace(false) {
                fs::write(&path, "theirs").unwrap();
            }
            append(text)
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"theirsx");
    }

    #[test]
    fn writers_wait_for_one_another() {
        let (_home, path) = home();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| apply(&path, append).unwrap());
            }
        });
        assert_eq!(fs::read(&path).unwrap().len(), 16);
    }
}
