//! What the agent's commands do on a fake machine, and what they print.

use std::time::Duration;

use serde::Serialize;

use super::Call;
use super::world::{Filesystem, Mount, Now, World, not_now};
use crate::domain::{
    AttachmentState, Error, ErrorKind, IdlePolicy, IdleStatus, MachineId, MachineState, Result, StoredError, UserName,
    VolumeId,
};
use crate::ports::{CommandOutput, LogSource, RunCommand};
use crate::wire::{CoffeeReply, MountReply};

/// The output of an agent that failed.
pub(super) fn failure(error: &Error) -> CommandOutput {
    let line = serde_json::to_string(&StoredError::from(error)).expect("plain data is JSON");
    CommandOutput { exit_code: error.kind().exit_code().into(), stdout: String::new(), stderr: line + "\n" }
}

fn success(reply: &impl Serialize) -> CommandOutput {
    let line = serde_json::to_string(reply).expect("plain data is JSON");
    CommandOutput { exit_code: 0, stdout: line + "\n", stderr: String::new() }
}

fn refuse<T>(kind: ErrorKind, message: String) -> Result<T> {
    Err(Error::new(kind, message))
}

fn flag<'a>(argv: &'a [String], name: &str) -> Result<&'a str> {
    match argv.iter().position(|word| word == name).and_then(|index| argv.get(index + 1)) {
        Some(value) => Ok(value),
        None => refuse(ErrorKind::InvalidArgument, format!("the agent's command needs {name} and a value")),
    }
}

fn number(argv: &[String], name: &str) -> Result<u64> {
    let text = flag(argv, name)?;
    text.parse().or_else(|_| refuse(ErrorKind::InvalidArgument, format!("{text:?} after {name} is not a number")))
}

impl World {
    pub(super) fn run_command(&mut self, request: &RunCommand, now: Now) -> Result<CommandOutput> {
        let id = &request.machine;
        let state = self.machine(id)?.machine.state;
        if state != MachineState::Running {
            return Err(not_now(format!("no command can run on machine {id} in state {state:?}")));
        }
        let argv = request.argv.as_slice();
        let reply = match Call::of_command(argv) {
            Call::AgentMount => self.mount(id, argv).map(|reply| success(&reply)),
            Call::AgentUnmount => self.unmount(id, argv, now).map(|reply| success(&reply)),
            Call::AgentCoffee => self.coffee(id, argv, now).map(|reply| success(&reply)),
            Call::AgentPolicy => self.policy(id, argv, &request.stdin).map(|policy| success(&policy)),
            Call::AgentStatus => self.idle_status(id, now).map(|status| success(&status)),
            _ => return Ok(self.answer(argv)),
        };
        Ok(reply.unwrap_or_else(|error| failure(&error)))
    }

    /// Other programs print what the test said, or are not found, as a shell has it.
    fn answer(&self, argv: &[String]) -> CommandOutput {
        let program = argv.first().map_or("", String::as_str);
        self.commands.get(program).cloned().unwrap_or_else(|| CommandOutput {
            exit_code: 127,
            stdout: String::new(),
            stderr: format!("{program}: not found\n"),
        })
    }

    fn mount(&mut self, id: &MachineId, argv: &[String]) -> Result<MountReply> {
        let volume_id = VolumeId::new(flag(argv, "--volume")?)?;
        let user = UserName::new(flag(argv, "--user")?)?;
        let epoch = number(argv, "--epoch")?;
        let device = flag(argv, "--device")?;
        number(argv, "--size-gb")?;
        let Some(volume) = self.volumes.get_mut(&volume_id) else {
            return refuse(ErrorKind::NotFound, format!("no volume {volume_id} on this engine"));
        };
        match &volume.attachment {
            Some(joined) if joined.machine == *id && joined.state == AttachmentState::Attached => {
                if joined.device.to_string() != device {
                    return refuse(ErrorKind::Conflict, format!("{device} does not bear volume {volume_id}"));
                }
            }
            _ => {
                return refuse(ErrorKind::Conflict, format!("volume {volume_id} is not attached to this engine"));
            }
        }
        if epoch < volume.epoch {
            return refuse(
                ErrorKind::Conflict,
                format!("volume {volume_id} was attached under epoch {}, and this is {epoch}", volume.epoch),
            );
        }
        if volume.volume.user != user {
            return refuse(ErrorKind::Conflict, format!("volume {volume_id} is not {user}'s"));
        }
        let size_gb = volume.volume.size_gb.get();
        let (mut formatted, mut grown) = (false, false);
        match &mut volume.filesystem {
            None => {
                volume.filesystem = Some(Filesystem { kind: "ext4".into(), size_gb });
                volume.files.clear();
                volume.formats += 1;
                formatted = true;
            }
            Some(filesystem) if matches!(filesystem.kind.as_str(), "ext4" | "xfs") => {
                grown = filesystem.size_gb < size_gb;
                filesystem.size_gb = filesystem.size_gb.max(size_gb);
            }
            Some(filesystem) => {
                return refuse(
                    ErrorKind::Failed,
                    format!("volume {volume_id} bears {}, which is no studio's filesystem", filesystem.kind),
                );
            }
        }
        volume.epoch = epoch;
        let machine = self.machine(id)?;
        machine.line(LogSource::Agent, format!("mounted {volume_id} for {user} under epoch {epoch}"));
        let mount_point = format!("/studios/{user}");
        machine.mounts.insert(volume_id, Mount { user, epoch });
        Ok(MountReply { mount_point, formatted, grown })
    }

    fn unmount(&mut self, id: &MachineId, argv: &[String], now: Now) -> Result<MountReply> {
        let volume_id = VolumeId::new(flag(argv, "--volume")?)?;
        let user = UserName::new(flag(argv, "--user")?)?;
        let until = now.boot + self.latencies.detaching;
        let reply = MountReply { mount_point: format!("/studios/{user}"), formatted: false, grown: false };
        match self.machine(id)?.mounts.get(&volume_id) {
            None => return Ok(reply),
            Some(mount) if mount.user != user => {
                return refuse(ErrorKind::Conflict, format!("volume {volume_id} is {}'s, not {user}'s", mount.user));
            }
            Some(_) => {}
        }
        if let Some(volume) = self.volumes.get_mut(&volume_id) {
            if !volume.holders.is_empty() {
                let holders: Vec<&str> = volume.holders.iter().map(String::as_str).collect();
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("files of {user}'s studio are open in {}", holders.join(", ")),
                )
                .with_hint("close them, then run the command again"));
            }
            // A detach that waited for the unmount goes on.
            if let Some(joined) = &mut volume.attachment
                && joined.state == AttachmentState::Busy
            {
                joined.state = AttachmentState::Detaching;
                joined.until = until;
            }
        }
        let machine = self.machine(id)?;
        machine.mounts.remove(&volume_id);
        machine.line(LogSource::Agent, format!("unmounted {volume_id}"));
        self.settle(now.boot);
        Ok(reply)
    }

    fn coffee(&mut self, id: &MachineId, argv: &[String], now: Now) -> Result<CoffeeReply> {
        let until = match argv.iter().any(|word| word == "--cancel") {
            true => None,
            false => Some(now.wall + Duration::from_secs(number(argv, "--for")?)),
        };
        self.machine(id)?.coffee_until = until;
        Ok(CoffeeReply { until })
    }

    fn policy(&mut self, id: &MachineId, argv: &[String], stdin: &[u8]) -> Result<IdlePolicy> {
        let machine = self.machine(id)?;
        if argv.iter().any(|word| word == "--set") {
            machine.policy = serde_json::from_slice(stdin).map_err(|error| {
                Error::new(ErrorKind::InvalidArgument, "what came in is no idle policy").with_source(error)
            })?;
        }
        Ok(machine.policy.clone())
    }

    fn idle_status(&mut self, id: &MachineId, now: Now) -> Result<IdleStatus> {
        let machine = self.machine(id)?;
        let coffee_until = machine.coffee_until.filter(|until| *until > now.wall);
        if let Some(status) = &machine.idle {
            return Ok(status.clone());
        }
        let (is_idle, reason) = match coffee_until {
            Some(_) => (false, "coffee lock"),
            None => (true, "all sensors are idle"),
        };
        Ok(IdleStatus {
            is_idle,
            idle_since: is_idle.then_some(machine.machine.launched_at),
            timeout: machine.policy.idle_timeout,
            reason: reason.to_owned(),
            readings: Vec::new(),
            coffee_until,
            stop_at: None,
            at: now.wall,
        })
    }
}
