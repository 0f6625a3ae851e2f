//! The agent of a dh engine: bootstrap, sensors, idle loop, mounts, and the supervisor of the local backend.

mod account;
mod bootstrap;
mod session;
mod supervise;

use std::process::ExitCode;

use clap::Parser;
use dh_core::domain::{Error, ErrorKind, StoredError};

/// The agent of a dh engine. People call `dh`; dh calls this.
#[derive(Debug, Parser)]
#[command(name = "dh-agent", version)]
enum Cli {
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

/// Ends with the kind's exit code; the last line of standard error is what dh on the other side reads.
fn fail(error: &Error) -> ExitCode {
    match serde_json::to_string(&StoredError::from(error)) {
        Ok(line) => eprintln!("{line}"),
        Err(_) => eprintln!("{}", error.full_message()),
    }
    ExitCode::from(error.kind().exit_code())
}
