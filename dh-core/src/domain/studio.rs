//! A studio: one user's persistent volume.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DeviceName, EngineName, EnvironmentName, MachineId, OperationId, SizeGb, UserName, VolumeId};

/// The most studios attached to one engine (the seed's limit; `/dev/sd[f-p]` would give eleven names).
pub const STUDIOS_PER_ENGINE: usize = 10;

/// A studio's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StudioStatus {
    /// Being created: no volume yet.
    Creating,
    /// Ready to attach.
    Available,
    /// Being attached.
    Attaching,
    /// Attached to an engine.
    Attached,
    /// Being detached.
    Detaching,
    /// Being made larger.
    Resizing,
    /// Being deleted.
    Deleting,
    /// Stuck; `dh studio reset` brings it back.
    Error,
}

impl StudioStatus {
    /// Returns the stable name, as serialized.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Available => "available",
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
            Self::Resizing => "resizing",
            Self::Deleting => "deleting",
            Self::Error => "error",
        }
    }
}

impl std::fmt::Display for StudioStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a studio is attached, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudioAttachment {
    /// The engine.
    pub engine: EngineName,
    /// Its machine.
    pub machine: MachineId,
    /// The device name chosen, once one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceName>,
    /// Where its files are on the engine, once mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<String>,
}

/// What dh stores of a studio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Studio {
    /// Its owner; one studio a user an environment.
    pub user: UserName,
    /// The environment it belongs to.
    pub environment: EnvironmentName,
    /// Its volume, once there is one.
    pub volume: Option<VolumeId>,
    /// Its size.
    pub size_gb: SizeGb,
    /// Its status.
    pub status: StudioStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Where it is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<StudioAttachment>,
    /// Grows with every attach; a mount under an older one is refused.
    #[serde(default)]
    pub epoch: u64,
    /// The operation that has hold of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// What about its volume differs from a block device of its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caveat: Option<String>,
}
