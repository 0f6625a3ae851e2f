//! What the operating system says, as dh's errors: the one table for whatever this backend and the agent do with files.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::domain::{Effect, Error, ErrorKind, Retry};

/// Makes the error of a failed access to a path: `what` is a fragment such as `cannot start`.
pub fn io_error(what: &str, path: &Path, source: io::Error) -> Error {
    let (kind, retry, hint) = verdict(&source);
    Error::new(kind, format!("{what} {}", path.display()))
        .with_retry(retry)
        .with_context("path", path.display())
        .with_hint(hint)
        .with_source(source)
}

/// Makes the error of a machine that does not exist.
pub fn no_machine(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no machine {id} here"))
        .with_context("backend", "local")
        .with_hint("run 'dh engine list' to see which engines there are")
}

/// Makes the error of something only a running machine can do.
pub fn not_running(id: &str, state: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("machine {id} is {state}"))
        .with_context("backend", "local")
        .with_context("reason", "not_running")
        .with_hint("run 'dh engine start' with the engine's name first")
}

/// Makes the error of a control socket at which nobody listens.
pub fn no_supervisor(socket: &Path, source: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the engine has no supervisor")
        .with_retry(Retry::Later)
        .with_context("backend", "local")
        .with_context("path", socket.display())
        .with_hint("run 'dh engine list' to see the engine's state")
        .with_source(source)
}

/// Makes the error of a supervisor that does not answer in time.
pub fn no_answer(path: &Path) -> Error {
    Error::new(ErrorKind::Timeout, "the engine's supervisor does not answer")
        .with_effect(Effect::Unknown)
        .with_context("backend", "local")
        .with_context("path", path.display())
        .with_hint("run 'dh engine logs NAME --source console' to see what it is doing")
}

fn verdict(source: &io::Error) -> (ErrorKind, Retry, &'static str) {
    use ErrorKind::{Denied, Storage, Unavailable};
    use Retry::{Later, Never};
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => {
            (Storage, Never, "free some space on that disk, then run the command again")
        }
        Some(Errno::ROFS) => (Storage, Never, "set DH_HOME to a directory on a disk that can be written"),
        Some(Errno::IO) => (Storage, Never, "the disk reports errors: run 'dh doctor' and look at the kernel's log"),
        Some(Errno::NAMETOOLONG) => (Storage, Never, "set DH_HOME to a directory with a shorter path"),
        Some(Errno::ACCESS | Errno::PERM) => {
            (Denied, Never, "run dh as the user who owns that path, or set DH_HOME to a directory of your own")
        }
        // Not `NotFound`, which speaks of engines and studios: what dh keeps is damaged.
        Some(Errno::NOENT | Errno::NOTDIR) => (Storage, Never, "run 'dh doctor' to see what is missing"),
        Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM) => {
            (Unavailable, Later, "close some programs or raise the limits on processes and open files, then try again")
        }
        Some(Errno::CONNREFUSED | Errno::CONNRESET | Errno::PIPE) => {
            (Unavailable, Later, "the engine's supervisor ended just now: run 'dh engine list' to see its state")
        }
        Some(Errno::BUSY) => (Storage, Later, "close the programs that use that path, then run the command again"),
        Some(Errno::NOEXEC) => (Denied, Never, "that file is no program for this machine: run 'dh doctor'"),
        _ => (Storage, Never, "look at that path, then run the command again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_os_error_of_the_table_has_its_kind_and_a_hint() {
        for (errno, kind, retry) in [
            (Errno::NOSPC, ErrorKind::Storage, Retry::Never),
            (Errno::DQUOT, ErrorKind::Storage, Retry::Never),
            (Errno::ROFS, ErrorKind::Storage, Retry::Never),
            (Errno::IO, ErrorKind::Storage, Retry::Never),
            (Errno::NAMETOOLONG, ErrorKind::Storage, Retry::Never),
            (Errno::ACCESS, ErrorKind::Denied, Retry::Never),
            (Errno::PERM, ErrorKind::Denied, Retry::Never),
            (Errno::NOENT, ErrorKind::Storage, Retry::Never),
            (Errno::NOTDIR, ErrorKind::Storage, Retry::Never),
            (Errno::MFILE, ErrorKind::Unavailable, Retry::Later),
            (Errno::NOMEM, ErrorKind::Unavailable, Retry::Later),
            (Errno::CONNREFUSED, ErrorKind::Unavailable, Retry::Later),
            (Errno::BUSY, ErrorKind::Storage, Retry::Later),
            (Errno::NOEXEC, ErrorKind::Denied, Retry::Never),
            (Errno::XDEV, ErrorKind::Storage, Retry::Never),
        ] {
            let error = io_error("cannot write", Path::new("/x/machine.json"), errno.into());
            assert_eq!((error.kind(), error.retry()), (kind, retry), "{errno}");
            assert!(error.hint().is_some() && error.full_message().starts_with("cannot write /x/machine.json: "));
        }
    }

    #[test]
    fn an_error_that_is_not_the_systems_is_a_io_error() {
        let error = io_error("cannot read", Path::new("/x"), io::Error::other("odd"));
        assert_eq!(error.kind(), ErrorKind::Storage);
    }
}
