//! Files that survive a kill at any moment: JSON replaced whole, and locks that end with their holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::map::io_error;
use crate::domain::{Error, ErrorKind, Result};

/// Replaces a file by the value as JSON. Readers see the old content or the new one, also after a power cut.
///
/// Two writers of one file need a lock between them.
///
/// # Errors
/// `Storage` when the directory is missing, full or read-only; the old content stays.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|source| Error::new(ErrorKind::Internal, "cannot serialize a record").with_source(source))?;
    text.push(b'\n');
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        sync_parent(path)
    };
    write().map_err(|source| io_error("cannot write", path, source))
}

/// Reads a file written by [`write_json`]; `None` when there is none.
///
/// # Errors
/// `Incompatible` when its `schema` is above the given one, `Storage` when it can't be read or understood.
pub fn read_json<T: DeserializeOwned>(path: &Path, schema: u64) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("cannot read", path, source)),
    };
    let damaged = |source: serde_json::Error| {
        Error::new(ErrorKind::Storage, format!("{} is damaged", path.display()))
            .with_context("path", path.display())
            .with_hint("restore that file from a backup, or move it away and run `dh doctor`")
            .with_source(source)
    };
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
    match value["schema"].as_u64() {
        Some(found) if found > schema => Err(Error::new(
            ErrorKind::Incompatible,
            format!("{} was written by a newer dh (schema {found}, this dh knows {schema})", path.display()),
        )
        .with_context("path", path.display())
        .with_hint("update dh on this machine and repeat the command")),
        _ => serde_json::from_value(value).map(Some).map_err(damaged),
    }
}

/// Makes an entry's name in its directory durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Locks a file, made if missing, against other processes and threads until the returned handle is dropped.
///
/// # Errors
/// `Unavailable` when another holds it for longer than `patience`.
pub fn lock(path: &Path, patience: Duration) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| io_error("cannot open", path, source))?;
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(io_error("cannot lock", path, source)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("another process has held {} for {} seconds", path.display(), patience.as_secs()),
                )
                .with_context("path", path.display())
                .with_hint("wait for that process to end, or end it, and repeat the command"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        write_json(&path, &1).unwrap();
        // The new content can't be put beside the old one: a directory has its name.
        std::fs::create_dir(dir.path().join("x.json.new")).unwrap();
        assert_eq!(write_json(&path, &2).unwrap_err().kind(), ErrorKind::Storage);
        assert_eq!(read_json::<u32>(&path, 1).unwrap(), Some(1));
    }

    #[test]
    fn damage_and_newer_schemas_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert!(read_json::<u32>(&path, 1).unwrap().is_none());
        std::fs::write(&path, "{").unwrap();
        assert_eq!(read_json::<u32>(&path, 1).unwrap_err().kind(), ErrorKind::Storage);
        std::fs::write(&path, "{\"schema\": 2, \"strange\": 1}").unwrap();
        let error = read_json::<u32>(&path, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_held_lock_is_reported_and_a_dropped_one_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path, Duration::ZERO).unwrap();
        assert_eq!(lock(&path, Duration::ZERO).unwrap_err().kind(), ErrorKind::Unavailable);
        drop(held);
        lock(&path, Duration::ZERO).unwrap();
    }
}
