//! Standard input and output, joined with an SSH server on the engine.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use dh_core::backend::local::EngineDir;
use dh_core::backend::local::control::SessionKind;
use dh_core::backend::local::map::io_error;
use dh_core::domain::Result;

/// Carries bytes both ways until the server ends.
///
/// The server gets one socket for both directions rather than our pipes: newer servers expect that in their inetd mode.
pub fn run(dir: &EngineDir) -> Result<i32> {
    let failed = |source| io_error("lost the session on", dir.path(), source);
    let (here, there) = UnixStream::pair().map_err(failed)?;
    let connection = super::begin(dir, SessionKind::Ssh, &[there.as_fd(), io::stderr().as_fd()])?;
    drop(there);
    let to_server = here.try_clone().map_err(failed)?;
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut &to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let carried = io::copy(&mut &here, &mut io::stdout().lock());
    drop(connection);
    match carried {
        // The client has what it wanted and is gone, or the server hung up with something unread: both are ends.
        Err(error) if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            Err(failed(error))
        }
        _ => Ok(0),
    }
}
