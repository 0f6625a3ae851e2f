//! A long action, recorded step by step, so that any later process can go on with it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EngineName, EnvironmentName, OperationId, SizeGb, StageStatus, StopMode, StoredError, UserName};

/// What an operation is to do: everything its steps need to know, stored before the first of them runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum OperationSpec {
    /// Launches an engine and waits until it is ready.
    Launch {
        /// Its name.
        engine: EngineName,
        /// Its owner.
        user: UserName,
        /// The engine type's name.
        engine_type: String,
        /// The boot disk's size; without it, the backend's default.
        boot_disk_gb: Option<SizeGb>,
        /// The idle policy it begins with.
        policy: super::IdlePolicy,
    },
    /// Starts a stopped or hibernated engine.
    Start {
        /// Which.
        engine: EngineName,
    },
    /// Stops or hibernates an engine.
    Stop {
        /// Which.
        engine: EngineName,
        /// How.
        mode: StopMode,
    },
    /// Terminates an engine: nothing of it is left.
    Terminate {
        /// Which.
        engine: EngineName,
    },
    /// Makes an engine's boot disk larger.
    ResizeEngine {
        /// Which.
        engine: EngineName,
        /// To what.
        size_gb: SizeGb,
        /// While it runs, or by a stop and a start.
        online: bool,
    },
    /// Creates a user's studio.
    CreateStudio {
        /// Whose.
        user: UserName,
        /// How large.
        size_gb: SizeGb,
    },
    /// Attaches a user's studio to an engine.
    Attach {
        /// Whose.
        user: UserName,
        /// To which.
        engine: EngineName,
    },
    /// Detaches a user's studio.
    Detach {
        /// Whose.
        user: UserName,
    },
    /// Makes a detached studio larger.
    ResizeStudio {
        /// Whose.
        user: UserName,
        /// To what.
        size_gb: SizeGb,
    },
    /// Deletes a detached studio and all data in it.
    DeleteStudio {
        /// Whose.
        user: UserName,
    },
    /// Brings a stuck studio back to available.
    ResetStudio {
        /// Whose.
        user: UserName,
    },
}

impl OperationSpec {
    /// Returns the kind's name, as serialized.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Launch { .. } => "launch",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Terminate { .. } => "terminate",
            Self::ResizeEngine { .. } => "resize_engine",
            Self::CreateStudio { .. } => "create_studio",
            Self::Attach { .. } => "attach",
            Self::Detach { .. } => "detach",
            Self::ResizeStudio { .. } => "resize_studio",
            Self::DeleteStudio { .. } => "delete_studio",
            Self::ResetStudio { .. } => "reset_studio",
        }
    }

    /// Returns the engine it is about, where the request names one.
    pub fn engine(&self) -> Option<&EngineName> {
        match self {
            Self::Launch { engine, .. }
            | Self::Start { engine }
            | Self::Stop { engine, .. }
            | Self::Terminate { engine }
            | Self::ResizeEngine { engine, .. }
            | Self::Attach { engine, .. } => Some(engine),
            _ => None,
        }
    }

    /// Returns the owner of the studio it is about.
    pub fn studio(&self) -> Option<&UserName> {
        match self {
            Self::CreateStudio { user, .. }
            | Self::Attach { user, .. }
            | Self::Detach { user }
            | Self::ResizeStudio { user, .. }
            | Self::DeleteStudio { user }
            | Self::ResetStudio { user } => Some(user),
            _ => None,
        }
    }
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// Its steps are being done, or wait for a process to go on with them.
    InProgress,
    /// A step failed or it was cancelled; what was done is being undone.
    Unwinding,
    /// Everything is done.
    Completed,
    /// It failed, and everything that was done is undone.
    Failed,
    /// It was cancelled, and everything that was done is undone.
    Cancelled,
}

impl OperationStatus {
    /// Returns whether there is something left to do.
    pub fn is_open(self) -> bool {
        matches!(self, Self::InProgress | Self::Unwinding)
    }

    /// Returns the stable name, as serialized.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Unwinding => "unwinding",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One step of an operation. A step that has not begun is not in the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its name: `attach_volume`.
    pub name: String,
    /// How far it is.
    pub status: StageStatus,
    /// When it began; intent is stored before effect.
    pub started_at: Timestamp,
    /// How long it took, once over.
    #[serde(rename = "duration_secs", default, with = "super::secs_opt", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// What later steps and the undo need to know of it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub output: serde_json::Value,
    /// How it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StoredError>,
    /// Whether it has been undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
}

/// A process that runs operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerId {
    /// The host's name.
    pub host: String,
    /// The host's boot id: the same pid after a restart is somebody else.
    pub boot_id: String,
    /// The process id.
    pub pid: u32,
    /// When the process began, in clock ticks since boot: the same pid later is somebody else.
    pub started: u64,
}

impl std::fmt::Display for RunnerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// A runner's hold on an operation. A runner that finds a higher epoch than its own has lost it and must not act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerLease {
    /// Who runs it; nobody when it was let go.
    pub owner: Option<RunnerId>,
    /// Grows with every taking.
    pub epoch: u64,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
}

impl RunnerLease {
    /// Returns whether the holder carries on with what another process began: creating an operation makes epoch 1, its first
    /// run epoch 2.
    pub fn carried_on(&self) -> bool {
        self.epoch > 2
    }
}

/// A stored operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// The environment it belongs to.
    pub environment: EnvironmentName,
    /// Who asked for it.
    pub requested_by: UserName,
    /// What it is to do.
    pub spec: OperationSpec,
    /// How it stands.
    pub status: OperationStatus,
    /// The steps that have begun, in order.
    pub steps: Vec<StepRecord>,
    /// Who has hold of it.
    pub lease: RunnerLease,
    /// Whether somebody interrupted it on purpose: it then waits to be resumed and is not picked up by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Whether somebody asked to cancel it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_requested: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StoredError>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

impl Operation {
    /// Returns a step that has begun.
    pub fn step(&self, name: &str) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// Returns the step in progress or, when none is, the last one that has begun.
    pub fn current_step(&self) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.status == StageStatus::InProgress).or(self.steps.last())
    }
}
