//! SQLite's failures as dh's errors.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::domain::{Effect, Error, ErrorKind, Retry};

/// Whether another process was at the file: the call changed nothing and may be made again.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether the file's content is broken.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Makes the error that people see of a failed call on the file.
pub(super) fn to_error(error: rusqlite::Error, path: &Path) -> Error {
    let shown = path.display();
    let folder = path.parent().unwrap_or(path).display().to_string();
    let mapped = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(ErrorKind::Unavailable, format!("the state in {shown} is held by another process"))
                .with_retry(Retry::Later)
                .with_hint("wait for the other dh commands to end, then run the command again")
        }
        _ if is_damage(&error) => damaged(path),
        Some(ErrorCode::DiskFull) => full(path),
        Some(ErrorCode::SystemIoFailure) if is_full(path) => full(path),
        Some(ErrorCode::SystemIoFailure) => {
            Error::new(ErrorKind::Storage, format!("cannot read or write the state in {shown}"))
                // The disk may have taken a commit that it then failed to confirm.
                .with_effect(Effect::Unknown)
                .with_hint(format!("look at the disk that holds {folder}, then run the command again"))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) if is_on_read_only(path) => {
            on_read_only(path)
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => read_only(path),
        Some(ErrorCode::CannotOpen) => {
            Error::new(ErrorKind::Storage, format!("cannot open the state in {shown}")).with_hint(writable_hint(path))
        }
        _ => Error::new(ErrorKind::Internal, format!("the state in {shown} refused a statement"))
            .with_hint("this is a bug in dh: please report it with the command that met it"),
    };
    match error {
        // The code's own source would say the same once more.
        rusqlite::Error::SqliteFailure(_, Some(text)) => mapped.with_source(text),
        rusqlite::Error::SqliteFailure(code, None) => mapped.with_source(code),
        other => mapped.with_source(other),
    }
}

/// Makes the error of a file that could not be made or looked at.
pub(super) fn from_io(error: std::io::Error, path: &Path) -> Error {
    use std::io::ErrorKind as Io;
    let mapped = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => full(path),
        Io::ReadOnlyFilesystem => on_read_only(path),
        Io::PermissionDenied => read_only(path),
        _ => Error::new(ErrorKind::Storage, format!("cannot open the state in {}", path.display()))
            .with_hint(writable_hint(path)),
    };
    mapped.with_source(error)
}

/// The file is not a database, or parts of it are broken.
fn damaged(path: &Path) -> Error {
    let shown = path.display();
    Error::new(ErrorKind::Storage, format!("the state in {shown} is damaged"))
        .with_hint(format!("put a backup of {shown} back, or move {shown}* aside and run 'dh doctor --adopt'"))
}

/// A dh that came later wrote the file.
pub(super) fn newer(path: &Path, found: usize, known: usize) -> Error {
    Error::new(
        ErrorKind::Incompatible,
        format!("the state in {} was written by a newer dh (schema {found}; this dh knows {known})", path.display()),
    )
    .with_hint("upgrade dh on this machine, then run the command again")
}

/// The file is a database of some other program.
pub(super) fn foreign(path: &Path) -> Error {
    Error::new(ErrorKind::Storage, format!("{} is the database of another program", path.display()))
        .with_hint(format!("move {} aside, or set DH_HOME to another folder", path.display()))
}

/// The file, or the folder it is in, cannot be written.
pub(super) fn read_only(path: &Path) -> Error {
    Error::new(ErrorKind::Storage, format!("cannot write the state in {}", path.display()))
        .with_hint(writable_hint(path))
}

/// The disk takes no writes at all.
fn on_read_only(path: &Path) -> Error {
    let folder = path.parent().unwrap_or(path).display();
    Error::new(ErrorKind::Storage, format!("the disk is read-only: cannot write the state in {}", path.display()))
        .with_hint(format!(
            "make the disk that holds {folder} writable again, or set DH_HOME to a folder on another one"
        ))
}

fn full(path: &Path) -> Error {
    let folder = path.parent().unwrap_or(path).display().to_string();
    Error::new(ErrorKind::Storage, format!("the disk is full: cannot write the state in {}", path.display()))
        .with_hint(format!("free some space on the disk that holds {folder}, then run the command again"))
}

fn writable_hint(path: &Path) -> String {
    let folder = path.parent().unwrap_or(path).display();
    format!("make {folder} a folder you can write to, or set DH_HOME to one")
}

/// Some failures of a full disk reach us as plain I/O errors (the shared index of the write-ahead log, for one).
fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path.parent().unwrap_or(path)).is_ok_and(|disk| disk.f_bavail < 16)
}

fn is_on_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path.parent().unwrap_or(path))
        .is_ok_and(|disk| disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn every_failure_people_can_meet_has_its_kind_and_a_next_step() {
        let path = Path::new("/nonexistent/dh/dh.sqlite3");
        for (code, kind, says) in [
            (ffi::SQLITE_BUSY, ErrorKind::Unavailable, "held by another process"),
            (ffi::SQLITE_LOCKED, ErrorKind::Unavailable, "held by another process"),
            (ffi::SQLITE_CORRUPT, ErrorKind::Storage, "damaged"),
            (ffi::SQLITE_NOTADB, ErrorKind::Storage, "damaged"),
            (ffi::SQLITE_FULL, ErrorKind::Storage, "full"),
            (ffi::SQLITE_IOERR_WRITE, ErrorKind::Storage, "read or write"),
            (ffi::SQLITE_READONLY, ErrorKind::Storage, "cannot write"),
            (ffi::SQLITE_PERM, ErrorKind::Storage, "cannot write"),
            (ffi::SQLITE_CANTOPEN, ErrorKind::Storage, "cannot open"),
            (ffi::SQLITE_CONSTRAINT, ErrorKind::Internal, "refused"),
        ] {
            let error = to_error(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None), path);
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.message().contains(says) && error.message().contains("dh.sqlite3"), "{error}");
            assert!(error.hint().is_some(), "{code}");
        }
    }

    #[test]
    fn a_commit_on_a_failing_disk_may_have_happened() {
        let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None);
        assert_eq!(to_error(failure, Path::new("/x/y")).effect(), Effect::Unknown);
    }
}
