//! The agent of a dh engine: bootstrap, sensors, idle loop, mounts, and the supervisor of the local backend.

mod account;
mod bootstrap;
mod mount;
mod session;
mod supervise;

use std::process::ExitCode;

use clap::Parser;
use dh_core::domain::{Error, ErrorKind, Result, StoredError};
use serde::Serialize;

/// The agent of a dh engine. People call `dh`; dh calls this.
#[derive(Debug, Parser)]
#[command(name = "dh-agent", version)]
enum Cli {
    /// Mounts a studio's volume, formatting it if it is blank.
    Mount(mount::MountArgs),
    /// Unmounts a studio's volume.
    Unmount(mount::UnmountArgs),
    /// Mounts again what was mounted when the engine was last stopped.
    Remount,
    /// Keeps an engine of this machine running, until it is stopped or terminated.
    Supervise(supervise::SuperviseArgs),
    /// Opens a session on an engine of this machine.
    Session(session::SessionArgs),
    /// Writes the SSH server's keys and configuration anew.
    ConfigureSsh,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) if !usage.use_stderr() => usage.exit(),
        Err(usage) => {
            eprint!("{usage}");
            return fail(&Error::new(ErrorKind::InvalidArgument, "dh-agent was called with wrong arguments"));
        }
    };
    let result = match cli {
        Cli::Mount(args) => mount::mount(&args).and_then(|reply| print(&reply)),
        Cli::Unmount(args) => mount::unmount(&args),
        Cli::Remount => mount::remount(),
        Cli::Supervise(args) => supervise::run(&args),
        // A session talks to a person, and its exit code is that of the command.
        Cli::Session(args) => return session::run(&args),
        Cli::ConfigureSsh => bootstrap::ssh::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn print<T: Serialize>(reply: &T) -> Result<()> {
    let line = serde_json::to_string(reply)
        .map_err(|source| Error::new(ErrorKind::Internal, "cannot serialize the reply").with_source(source))?;
    println!("{line}");
    Ok(())
}

/// Ends with the kind's exit code; the last line of standard error is what dh on the other side reads.
fn fail(error: &Error) -> ExitCode {
    match serde_json::to_string(&StoredError::from(error)) {
        Ok(line) => eprintln!("{line}"),
        Err(_) => eprintln!("{}", error.full_message()),
    }
    ExitCode::from(error.kind().exit_code())
}
