//! What a command does to this machine besides calling the control plane.

use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use async_trait::async_trait;
use dh_core::connect::variables;
use dh_core::domain::{EnvironmentName, Error, ErrorKind, OperationId, Result};
use dh_core::ports::LocalCommand;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The machine as a command sees it.
#[async_trait]
pub trait Host: Debug + Send + Sync {
    /// Returns the time.
    fn now(&self) -> Timestamp;

    /// Returns the time zone in which times are shown.
    fn zone(&self) -> TimeZone;

    /// Returns where the SSH configuration is.
    fn ssh_config(&self) -> Result<PathBuf>;

    /// Returns where OpenSSH looks for it by itself, where that is known: it goes by the machine's list of users and
    /// knows nothing of `HOME`.
    fn ssh_reads(&self) -> Option<PathBuf>;

    /// Starts a process that runs an operation and outlives this one.
    fn spawn_worker(&self, environment: &EnvironmentName, id: &OperationId) -> Result<()>;

    /// Replaces this process by a program. Returns only when that fails.
    fn become_program(&self, program: &LocalCommand) -> Error;

    /// Waits for Ctrl-C.
    async fn interrupted(&self);
}

/// This machine.
#[derive(Debug)]
pub struct ThisHost {
    /// Where workers write what they say.
    pub logs: PathBuf,
}

#[async_trait]
impl Host for ThisHost {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn zone(&self) -> TimeZone {
        TimeZone::system()
    }

    fn ssh_config(&self) -> Result<PathBuf> {
        match variables::HOME.get().map(PathBuf::from) {
            Some(home) if home.is_absolute() => Ok(home.join(".ssh/config")),
            _ => Err(Error::new(ErrorKind::Config, "there is no home directory for the SSH config")
                .with_hint("set HOME to an absolute path, or leave the SSH config alone with --skip-ssh-config")),
        }
    }

    fn ssh_reads(&self) -> Option<PathBuf> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        Some(home_of(rustix::process::getuid().as_raw(), &passwd)?.join(".ssh/config"))
    }

    fn spawn_worker(&self, environment: &EnvironmentName, id: &OperationId) -> Result<()> {
        let log = self.logs.join(format!("{id}.log"));
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Storage, format!("cannot start a process that goes on with {id}"))
                .with_context("operation", id)
                .with_hint(format!("go on with it here: dh ops resume {id}"))
                .with_source(error)
        };
        fs::create_dir_all(&self.logs).map_err(failed)?;
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        Command::new(std::env::current_exe().map_err(failed)?)
            .args(["ops", "resume", id.as_str(), "--quiet", "--worker", "--env", environment.as_str()])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map(drop)
            .map_err(failed)
    }

    fn become_program(&self, program: &LocalCommand) -> Error {
        let Some((name, args)) = program.argv.split_first() else {
            return Error::new(ErrorKind::Internal, "the backend named no program for the session");
        };
        let error = Command::new(name).args(args).envs(&program.env).exec();
        Error::new(ErrorKind::Failed, format!("cannot run {name}"))
            .with_hint("see what is missing with: dh doctor")
            .with_source(error)
    }

    async fn interrupted(&self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler Ctrl-C simply ends the process; the operation is then picked up by the next command.
            std::future::pending::<()>().await;
        }
    }
}

fn home_of(uid: u32, passwd: &str) -> Option<PathBuf> {
    let mut fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let home = fields.find(|fields| fields.get(2) == Some(&uid.to_string().as_str()))?.get(5).map(PathBuf::from)?;
    home.is_absolute().then_some(home)
}

/// Leaves the session of the command that began this worker, so that the end of its terminal is not ours.
pub fn detach() {
    // Fails only for a process group's leader, which a terminal's Ctrl-C and hang-up reach no more than a session's.
    let _ = rustix::process::setsid();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_that_ssh_goes_by_is_the_listed_one() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nbob:x:1000:1000:Bob,,,:/home/bob:/bin/sh\nno:x:7:7:::\n";
        let homes = [1000, 7, 8].map(|uid| home_of(uid, passwd));
        assert_eq!(homes, [Some("/home/bob".into()), None, None]);
    }
}
