//! Telling the running agent that something has changed, so that it looks at once rather than at its next tick.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Listens for pokes at a path, in place of whoever did before.
pub fn listen(path: &Path) -> io::Result<tokio::net::UnixDatagram> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = through_directory(path, UnixDatagram::bind)?;
    socket.set_nonblocking(true)?;
    tokio::net::UnixDatagram::from_std(socket)
}

/// Pokes the agent. Where none listens its next look is soon enough.
pub fn poke(path: &Path) {
    let send = |short: PathBuf| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(b"look", short)
    };
    if let Err(error) = through_directory(path, send) {
        tracing::debug!(%error, "no agent was there to be poked");
    }
}

/// Calls with a path that is short however deep its directory lies: a socket's address has 108 bytes.
fn through_directory<T>(path: &Path, call: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    call(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}
