//! Switching a machine on, looking whether it still runs, and reaching its supervisor.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::control::Client;
use super::layout::EngineDir;
use super::lock::PowerLock;
use super::machine::{MachineRecord, Verdict, has_power, host_boot_id, judge};
use super::map::{io_error, no_answer, no_machine, not_running};
use super::removal;
use crate::domain::{Error, ErrorKind, MachineState, Result, StateReason, StopCause, StoredError};

/// How long a lock may be held by somebody who is about to let go of it, and a socket be missing that is about to be there.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// A machine as a caller finds it.
#[derive(Debug)]
pub(super) enum Access {
    /// Nobody has its power: the caller does now, and its record is true.
    Free(PowerLock, MachineRecord),
    /// A supervisor, or somebody switching it on, has its power.
    Held(MachineRecord),
}

/// What is needed to switch a machine on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Power<'a> {
    agent: &'a Path,
}

impl<'a> Power<'a> {
    pub fn new(agent: &'a Path) -> Self {
        Self { agent }
    }

    /// Starts a supervisor and passes the power on to it. Returns before the engine runs.
    pub fn switch_on(self, dir: &EngineDir, lock: PowerLock, mut record: MachineRecord) -> Result<MachineRecord> {
        record.set_state(MachineState::Pending, None);
        record.launched_at = Timestamp::now();
        record.save(dir)?;
        match self.spawn(dir, &lock) {
            Ok(()) => Ok(record),
            Err(error) => {
                let message = format!("its supervisor did not start: {}", error.full_message());
                let reason = StateReason { cause: StopCause::Died, message, at: Timestamp::now() };
                record.set_state(MachineState::Stopped, Some(reason));
                record.save(dir)?;
                Err(error)
            }
        }
    }

    fn spawn(self, dir: &EngineDir, lock: &PowerLock) -> Result<()> {
        let failed = |source| {
            io_error("cannot start", self.agent, source).with_hint("run 'dh doctor' to check dh-agent, or set DH_AGENT")
        };
        // The first process starts the lasting one in a session of its own and ends, so that the latter is nobody's child.
        let output = Command::new(self.agent)
            .arg("supervise")
            .arg("--dir")
            .arg(dir.path())
            .arg("--agent")
            .arg(self.agent)
            .current_dir("/")
            .stdin(Stdio::from(lock.share().map_err(failed)?))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        Err(match serde_json::from_str::<StoredError>(last) {
            Ok(error) => error.into(),
            Err(_) => Error::new(ErrorKind::Failed, format!("the engine's supervisor did not start: {last}"))
                .with_context("backend", "local")
                .with_hint("run 'dh doctor' to check dh-agent"),
        })
    }

    /// Returns a machine's record as it is now, for which one look is enough; `None` when it does not exist.
    pub fn observe(self, dir: &EngineDir, wanted: impl Fn(&MachineRecord) -> bool) -> Result<Option<MachineRecord>> {
        let record = match MachineRecord::load(dir)? {
            Some(record) if wanted(&record) => record,
            _ => return Ok(None),
        };
        if !has_power(record.state) || PowerLock::is_held(dir)? {
            return Ok(Some(record));
        }
        match PowerLock::try_take(dir) {
            Ok(Some(lock)) => settle(dir, &lock).or_else(|error| {
                // One machine that cannot be cleared away must not hide all others from a list.
                tracing::warn!(path = %dir.path().display(), error = %error.full_message(), "a machine is not settled");
                MachineRecord::load(dir)
            }),
            // Somebody else is at it this moment.
            Ok(None) => MachineRecord::load(dir),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a machine for a caller that wants to do something to it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn access(self, dir: &EngineDir) -> Result<Access> {
        let missing = || dir.id().map(|id| no_machine(id.as_str())).unwrap_or_else(|error| error);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = PowerLock::try_take(dir)? {
                let record = settle(dir, &lock)?.ok_or_else(missing)?;
                return Ok(Access::Free(lock, record));
            }
            let record = MachineRecord::load(dir)?.ok_or_else(missing)?;
            match record.state {
                // A supervisor that has only just begun does not listen yet; one that is at its end need not.
                MachineState::Pending | MachineState::Terminating => return Ok(Access::Held(record)),
                state if has_power(state) && Client::connect(&dir.socket()).is_ok() => return Ok(Access::Held(record)),
                // Held by somebody who looks at a dead machine, clears it away, or is about to switch it on.
                _ => {}
            }
            if Instant::now() > deadline {
                return Err(no_answer(&dir.lock()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Connects to the supervisor, also to one that has only just begun.
    ///
    /// # Errors
    /// `Conflict` when the machine does not run.
    pub fn reach(self, dir: &EngineDir) -> Result<Client> {
        reach(dir)
    }
}

/// Connects to a machine's supervisor, also to one that has only just begun.
///
/// # Errors
/// `NotFound` when there is no such machine, `Conflict` when it does not run, `Timeout` when nobody listens.
pub fn reach(dir: &EngineDir) -> Result<Client> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::connect(&dir.socket()) {
            Ok(client) => return Ok(client),
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(error) => return Err(error),
        }
        let id = dir.id()?;
        let record = MachineRecord::load(dir)?.ok_or_else(|| no_machine(id.as_str()))?;
        if !has_power(record.state) || !PowerLock::is_held(dir)? {
            return Err(not_running(id.as_str(), "stopped"));
        }
        if Instant::now() > deadline {
            return Err(no_answer(&dir.socket()));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reaches a machine's supervisor and begins something there; anew when the supervisor ends before it has answered.
///
/// # Errors
/// As [`reach`], and whatever the supervisor refuses.
pub fn begin<T>(dir: &EngineDir, mut begin: impl FnMut(Client) -> Result<T>) -> Result<T> {
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        match begin(reach(dir)?) {
            Err(error) if error.kind() == ErrorKind::Unavailable => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    begin(reach(dir)?)
}

/// Makes the record of a machine true whose power the caller has; `None` when it was being terminated, and now is gone.
fn settle(dir: &EngineDir, _lock: &PowerLock) -> Result<Option<MachineRecord>> {
    let Some(mut record) = MachineRecord::load(dir)? else { return Ok(None) };
    match judge(&record, &host_boot_id()?, Timestamp::now()) {
        Verdict::Keep => Ok(Some(record)),
        Verdict::Stopped(reason) => {
            let cleared = removal::clear(dir, &record);
            record.set_state(MachineState::Stopped, Some(reason));
            record.boot = None;
            // What cannot be done or recorded now (a busy mount, a full disk) the next look does again; it is stopped anyhow.
            if let Err(error) = cleared.and_then(|()| record.save(dir)) {
                tracing::warn!(machine = %record.id, error = %error.full_message(), "a machine's end is not recorded");
            }
            Ok(Some(record))
        }
        Verdict::Terminate => {
            removal::clear(dir, &record)?;
            removal::remove(dir)?;
            Ok(None)
        }
    }
}
