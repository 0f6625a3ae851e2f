//! What a backend knows: machines, volumes and how they are joined.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EngineName, EnvironmentName, MachineId, SizeGb, UserName, VolumeId};

/// A machine's state as the backend reports it, in EC2's terms, plus hibernated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Asked for, not yet running.
    Pending,
    /// Running.
    Running,
    /// On its way to stopped or hibernated.
    Stopping,
    /// Stopped; the boot disk is kept.
    Stopped,
    /// Stopped with its memory kept.
    Hibernated,
    /// On its way to terminated.
    Terminating,
    /// Gone, with its boot disk.
    Terminated,
}

/// How an engine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMode {
    /// Ends its processes; the boot disk is kept.
    #[default]
    Stop,
    /// Keeps its memory; start goes on where it was.
    Hibernate,
}

/// Who or what brought a machine into its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopCause {
    /// Somebody asked.
    User,
    /// The agent found it idle.
    Idle,
    /// It ended by itself: it was killed or crashed.
    Died,
    /// The machine it ran on was restarted.
    HostRebooted,
}

/// Why a machine is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReason {
    /// Who or what.
    pub cause: StopCause,
    /// One line for people.
    pub message: String,
    /// When it was noticed.
    pub at: Timestamp,
}

/// A machine as the backend describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The backend's id.
    pub id: MachineId,
    /// The engine it is.
    pub engine: EngineName,
    /// The environment it belongs to.
    pub environment: EnvironmentName,
    /// Its owner.
    pub user: UserName,
    /// Its state.
    pub state: MachineState,
    /// Why it is stopped.
    pub state_reason: Option<StateReason>,
    /// When it was last started.
    pub launched_at: Timestamp,
    /// The address others reach it at, where there is one.
    pub public_ip: Option<String>,
    /// The engine type's name it was launched as.
    pub engine_type: String,
    /// The backend's name for its hardware (`r6i.2xlarge`; `local`).
    pub instance_type: String,
    /// The size of its boot disk.
    pub boot_disk_gb: SizeGb,
    /// The zone it runs in; volumes of other zones can't be attached.
    pub zone: String,
    /// The volumes attached to it, by device name.
    pub attachments: BTreeMap<DeviceName, VolumeId>,
}

/// A device name by which a volume is attached: `/dev/sdf` to `/dev/sdp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(u8);

impl DeviceName {
    /// Returns every name, in the order in which they are given out.
    pub fn all() -> impl Iterator<Item = Self> {
        (b'f'..=b'p').map(Self)
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/dev/sd{}", self.0 as char)
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for DeviceName {
    type Error = super::Error;
    fn try_from(text: String) -> super::Result<Self> {
        Self::all().find(|name| name.to_string() == text).ok_or_else(|| {
            super::Error::new(super::ErrorKind::InvalidArgument, format!("{text:?} is not a device name of a studio"))
                .with_hint("device names of studios go from /dev/sdf to /dev/sdp")
        })
    }
}

/// How far a volume is joined to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentState {
    /// Being attached.
    Attaching,
    /// Attached.
    Attached,
    /// Being detached.
    Detaching,
    /// Still in use on the machine, so that it can't be detached.
    Busy,
}

/// A volume joined to a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The machine.
    pub machine: MachineId,
    /// Under which name.
    pub device: DeviceName,
    /// How far.
    pub state: AttachmentState,
}

/// The filesystem a new studio gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filesystem {
    /// ext4, which every Linux can make.
    #[default]
    Ext4,
    /// XFS; making one needs `xfsprogs`.
    Xfs,
}

/// A volume as the backend describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The backend's id.
    pub id: VolumeId,
    /// Its owner.
    pub user: UserName,
    /// The environment it belongs to.
    pub environment: EnvironmentName,
    /// Its size.
    pub size_gb: SizeGb,
    /// The zone it lies in.
    pub zone: String,
    /// Where it is attached.
    pub attachment: Option<Attachment>,
    /// The highest epoch it was ever attached under; 0 where the backend remembers none.
    #[serde(default)]
    pub epoch: u64,
    /// What about it differs from a block device of its size, in one line; `None` where nothing does.
    pub caveat: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_eleven_device_names() {
        let names: Vec<String> = DeviceName::all().map(String::from).collect();
        assert_eq!((names.len(), names[0].as_str(), names[10].as_str()), (11, "/dev/sdf", "/dev/sdp"));
        assert!(names.into_iter().all(|name| DeviceName::try_from(name).is_ok()));
        assert!(DeviceName::try_from("/dev/sda".to_owned()).is_err());
    }
}
