//! The stage `installing_packages`: directories for tools, and the user's own set-up script.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dh_core::domain::{Error, ErrorKind, Result, describe_duration};
use dh_core::wire::AgentConfig;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::process::Command;

use super::log::StageLog;
use super::{Done, disk};
use crate::layout::Layout;

/// How long a set-up script may take.
pub const DEADLINE: Duration = Duration::from_secs(3_600);

/// How long something killed may take to be gone.
const DEATH: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Marks whatever a set-up script begins, so that an agent which comes after a killed one can find it.
const MARK: &str = "DH_SETUP_OF";

/// Runs the script with its output to the log, in the home directory.
pub async fn run(
    config: &AgentConfig,
    layout: &Layout,
    log: &StageLog,
    interrupted: bool,
    deadline: Duration,
) -> Result<Done> {
    for directory in [layout.home(), layout.home().join(".local/bin"), layout.opt().join("bin")] {
        disk::make_dir(&directory)?;
    }
    let Some(script) = &config.setup_script else {
        return Ok(Done::Completed(Some("no set-up script is configured".into())));
    };
    if !script.is_file() {
        return Err(Error::new(ErrorKind::NotFound, format!("the set-up script {} is not there", script.display()))
            .with_hint("set 'setup_script' of the environment to a script, or remove it"));
    }
    if interrupted {
        let left = end_leftovers(config);
        log.line(&format!("begun again after an interruption; ended {left} process(es) of the first try"));
    }
    let child = match spawn(config, layout, log, script, runs_by_itself(script)) {
        // A script without '#!'.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            spawn(config, layout, log, script, false)
        }
        spawned => spawned,
    };
    let mut child = child.map_err(|source| {
        Error::new(ErrorKind::Failed, format!("the set-up script {} cannot be run", script.display()))
            .with_source(source)
    })?;
    let group = child.id().and_then(|id| Pid::from_raw(id as i32));
    match tokio::time::timeout(deadline, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(Done::Completed(Some(format!("{} ran", script.display())))),
        Ok(Ok(status)) => Err(Error::new(ErrorKind::Failed, format!("the set-up script {}", described(status)))),
        Ok(Err(source)) => Err(Error::new(ErrorKind::Failed, "the set-up script was lost").with_source(source)),
        Err(_) => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            end_leftovers(config);
            let text = format!("the set-up script took longer than {}", describe_duration(deadline));
            Err(Error::new(ErrorKind::Timeout, text))
        }
    }
}

fn runs_by_itself(script: &Path) -> bool {
    fs::metadata(script).is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
}

fn spawn(
    config: &AgentConfig,
    layout: &Layout,
    log: &StageLog,
    script: &Path,
    by_itself: bool,
) -> io::Result<tokio::process::Child> {
    let mut command = if by_itself { Command::new(script) } else { Command::new("/bin/sh") };
    if !by_itself {
        command.arg(script);
    }
    let output = || log.share().map_err(io::Error::other);
    command
        .current_dir(layout.home())
        .envs(disk::variables(config, layout))
        .env("HOME", layout.home())
        .env("PATH", disk::search_path(layout, std::env::var_os("PATH")))
        .env(MARK, config.machine.as_str())
        .stdin(Stdio::null())
        .stdout(output()?)
        .stderr(output()?)
        .process_group(0)
        .spawn()
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended without saying how".into(),
    }
}

/// Kills what an interrupted set-up of this very engine has left running. Returns how many processes that were.
fn end_leftovers(config: &AgentConfig) -> usize {
    let mark = format!("{MARK}={}", config.machine);
    let mut ended = 0;
    // Again until none is found: one may have begun another meanwhile.
    for _ in 0..10 {
        let found: usize = processes().into_iter().filter(|pid| end_if_marked(*pid, &mark)).count();
        if found == 0 {
            break;
        }
        ended += found;
    }
    ended
}

fn processes() -> Vec<Pid> {
    let own = rustix::process::getpid();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| *pid != own).collect()
}

/// Kills a process that bears the mark. Its handle is taken first: a process id may be somebody else's a moment later.
fn end_if_marked(pid: Pid, mark: &str) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let environment = fs::read(format!("/proc/{pid}/environ", pid = pid.as_raw_nonzero())).unwrap_or_default();
    let marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
    if !marked || pidfd_send_signal(&handle, Signal::KILL).is_err() {
        return false;
    }
    // Until it is gone it can be found again, and still write.
    let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&DEATH));
    true
}
