//! What exists in the fake: machines, volumes, and how they change as time goes by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::{CallRecord, Latencies};
use crate::domain::{
    AttachmentState, Bootstrap, DeviceName, Error, ErrorKind, IdempotencyKey, IdlePolicy, IdleStatus, Machine,
    MachineId, MachineState, Result, Retry, StageName, UserName, Volume, VolumeId,
};
use crate::ports::{CommandOutput, CreateVolume, LaunchMachine, LogSource};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) boot: Duration,
    pub(super) wall: Timestamp,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) latencies: Latencies,
    pub(super) machines: BTreeMap<MachineId, FakeMachine>,
    pub(super) volumes: BTreeMap<VolumeId, FakeVolume>,
    pub(super) launches: BTreeMap<IdempotencyKey, (LaunchMachine, MachineId)>,
    pub(super) creations: BTreeMap<IdempotencyKey, (CreateVolume, VolumeId)>,
    pub(super) made: u64,
    pub(super) machine_zone: String,
    pub(super) volume_zone: String,
    pub(super) stage_faults: BTreeMap<StageName, StageFault>,
    pub(super) start_problems: Vec<String>,
    pub(super) commands: BTreeMap<String, CommandOutput>,
    pub(super) log: Vec<CallRecord>,
    /// Machines that have been given power since this was last looked at, each with its generation.
    pub(super) powered: Vec<(MachineId, u64)>,
}

/// How a bootstrap stage fails.
#[derive(Debug, Clone)]
pub(super) struct StageFault {
    pub(super) error: String,
    pub(super) log_tail: Vec<String>,
}

#[derive(Debug)]
pub(super) struct FakeMachine {
    /// Attachments stay empty here: those of the volumes count.
    pub(super) machine: Machine,
    pub(super) next: Option<(Duration, MachineState)>,
    /// Grows whenever it gets power, so that an agent of an earlier time knows that it is over.
    pub(super) generation: u64,
    pub(super) gpus: u32,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) bootstrap: Bootstrap,
    /// What is mounted or, while it has no power, will be again when it has.
    pub(super) mounts: BTreeMap<VolumeId, Mount>,
    pub(super) policy: IdlePolicy,
    pub(super) coffee_until: Option<Timestamp>,
    pub(super) idle: Option<IdleStatus>,
    pub(super) logs: HashMap<LogSource, Vec<String>>,
}

#[derive(Debug, Clone)]
pub(super) struct Mount {
    pub(super) user: UserName,
    pub(super) epoch: u64,
}

#[derive(Debug)]
pub(super) struct FakeVolume {
    /// The attachment stays empty here.
    pub(super) volume: Volume,
    pub(super) attachment: Option<FakeAttachment>,
    /// The highest epoch it was ever attached or mounted under.
    pub(super) epoch: u64,
    pub(super) filesystem: Option<Filesystem>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) formats: u64,
    pub(super) holders: BTreeSet<String>,
}

#[derive(Debug, Clone)]
pub(super) struct FakeAttachment {
    pub(super) machine: MachineId,
    pub(super) device: DeviceName,
    pub(super) state: AttachmentState,
    pub(super) until: Duration,
}

/// What is on a fake volume, as a signature check would find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Its type: `ext4`, or something that dh must never format nor mount, such as `LVM2_member`.
    pub kind: String,
    /// How much of the volume it fills.
    pub size_gb: u32,
}

/// Everything that exists in the fake and is not on its way out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Machines.
    pub machines: Vec<MachineId>,
    /// Volumes.
    pub volumes: Vec<VolumeId>,
    /// Volumes joined to machines.
    pub attachments: Vec<(VolumeId, MachineId)>,
    /// Volumes mounted on machines with power.
    pub mounts: Vec<(VolumeId, MachineId)>,
}

impl Leaks {
    /// Returns whether nothing exists.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |pairs: &[(VolumeId, MachineId)]| {
            pairs.iter().map(|(volume, machine)| format!("{volume} on {machine}")).collect::<Vec<_>>()
        };
        write!(
            f,
            "machines {:?}, volumes {:?}, attachments {:?}, mounts {:?}",
            self.machines.iter().map(MachineId::as_str).collect::<Vec<_>>(),
            self.volumes.iter().map(VolumeId::as_str).collect::<Vec<_>>(),
            join(&self.attachments),
            join(&self.mounts)
        )
    }
}

pub(super) fn conflict(reason: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Conflict, message).with_context("reason", reason)
}

/// Somebody may call again once a transition is over.
pub(super) fn not_now(message: String) -> Error {
    conflict("incorrect_state", message).with_retry(Retry::Later)
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the fake backend was told not to support {what}"))
        .with_hint("ask capabilities() before the call")
}

impl FakeMachine {
    pub(super) fn has_power(&self) -> bool {
        !matches!(self.machine.state, MachineState::Stopped | MachineState::Terminated)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.machine.state == MachineState::Terminated
    }

    pub(super) fn line(&mut self, source: LogSource, line: impl Into<String>) {
        self.logs.entry(source).or_default().push(line.into());
    }
}

impl World {
    pub(super) fn new(latencies: Latencies) -> Self {
        Self {
            latencies,
            machines: BTreeMap::new(),
            volumes: BTreeMap::new(),
            launches: BTreeMap::new(),
            creations: BTreeMap::new(),
            made: 0,
            machine_zone: "fake-1a".into(),
            volume_zone: "fake-1a".into(),
            stage_faults: BTreeMap::new(),
            start_problems: Vec::new(),
            commands: BTreeMap::new(),
            log: Vec::new(),
            powered: Vec::new(),
        }
    }

    /// Returns a machine that is not terminated.
    pub(super) fn machine(&mut self, id: &MachineId) -> Result<&mut FakeMachine> {
        self.machines.get_mut(id).filter(|machine| !machine.is_gone()).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no machine {id}")).with_hint("list the engines: dh engine list")
        })
    }

    pub(super) fn volume(&mut self, id: &VolumeId) -> Result<&mut FakeVolume> {
        self.volumes.get_mut(id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no volume {id}")).with_hint("list the studios: dh studio list")
        })
    }

    /// Returns whether a machine with power has a volume mounted.
    pub(super) fn is_mounted(&self, volume: &VolumeId) -> bool {
        self.machines.values().any(|machine| machine.has_power() && machine.mounts.contains_key(volume))
    }

    /// Lets everything happen that was due by now.
    pub(super) fn settle(&mut self, now: Duration) {
        let mut off = Vec::new();
        for (id, machine) in &mut self.machines {
            let Some((due, state)) = machine.next else { continue };
            if due > now {
                continue;
            }
            machine.next = None;
            machine.machine.state = state;
            if matches!(state, MachineState::Stopped | MachineState::Terminated) {
                off.push((id.clone(), state == MachineState::Terminated));
            }
        }
        for (id, terminated) in off {
            self.power_off(&id, terminated);
        }
        for volume in self.volumes.values_mut() {
            let Some(attachment) = &mut volume.attachment else { continue };
            if attachment.until > now {
                continue;
            }
            match attachment.state {
                AttachmentState::Attaching => attachment.state = AttachmentState::Attached,
                AttachmentState::Detaching => volume.attachment = None,
                AttachmentState::Attached | AttachmentState::Busy => {}
            }
        }
    }

    /// What ends with a machine's power: whoever held files open, and a detach that waited for them.
    pub(super) fn power_off(&mut self, id: &MachineId, terminated: bool) {
        let Some(machine) = self.machines.get_mut(id) else { return };
        for (volume_id, volume) in &mut self.volumes {
            if machine.mounts.contains_key(volume_id) {
                volume.holders.clear();
            }
            let Some(attachment) = &volume.attachment else { continue };
            if attachment.machine == *id && (terminated || attachment.state == AttachmentState::Busy) {
                volume.attachment = None;
                machine.mounts.remove(volume_id);
            }
        }
        if terminated {
            machine.mounts.clear();
        }
    }

    pub(super) fn leaks(&self) -> Leaks {
        let on_its_way_out = |id: &MachineId| {
            self.machines.get(id).is_none_or(|machine| {
                matches!(machine.machine.state, MachineState::Terminating | MachineState::Terminated)
            })
        };
        let mut leaks = Leaks::default();
        for (id, machine) in &self.machines {
            if on_its_way_out(id) {
                continue;
            }
            leaks.machines.push(id.clone());
            if machine.has_power() {
                leaks.mounts.extend(machine.mounts.keys().map(|volume| (volume.clone(), id.clone())));
            }
        }
        for (id, volume) in &self.volumes {
            leaks.volumes.push(id.clone());
            if let Some(attachment) = &volume.attachment
                && attachment.state != AttachmentState::Detaching
                && !on_its_way_out(&attachment.machine)
            {
                leaks.attachments.push((id.clone(), attachment.machine.clone()));
            }
        }
        leaks
    }
}
