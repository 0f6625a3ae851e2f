//! The agent of a dh engine: bootstrap, sensors, idle loop, mounts, and the supervisor of the local backend.

mod account;
mod boot;
mod bootstrap;
mod coffee;
mod files;
mod idle;
mod journal;
mod layout;
mod ledger;
mod mount;
mod once;
mod poke;
mod policy;
mod power;
mod report;
mod run;
mod sense;
mod session;
mod status;
mod supervise;
#[cfg(test)]
mod testing;
mod warn;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;
use dh_core::domain::{Error, ErrorKind, Result, StoredError};
use serde::Serialize;

/// The agent of a dh engine. People call `dh`; dh calls this.
#[derive(Debug, Parser)]
#[command(name = "dh-agent", version)]
enum Cli {
    /// Runs the agent: bootstrap, then the idle loop.
    Run,
    /// Looks once with every sensor and prints the verdict.
    Once,
    /// Keeps the engine awake for a time, or lets go of it.
    Coffee(coffee::CoffeeArgs),
    /// Prints the idle policy in force, or sets another.
    Policy(policy::PolicyArgs),
    /// Prints what the running agent last found.
    Status,
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
        Cli::Run => block_on(run::run()),
        Cli::Once => block_on(once::run()).and_then(|status| print(&status)),
        Cli::Coffee(args) => coffee::run(&args).and_then(|reply| print(&reply)),
        Cli::Policy(args) => policy::run(&args).and_then(|policy| print(&policy)),
        Cli::Status => status::run().and_then(|status| print(&status)),
        Cli::Mount(args) => mount::mount(&args).and_then(|reply| print(&reply)),
        Cli::Unmount(args) => mount::unmount(&args).and_then(|reply| print(&reply)),
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

/// Runs on one thread. What still hangs at the end, a sensor on a dead disk, is left behind.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::new(ErrorKind::Internal, "cannot start a runtime").with_source(source))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
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
