//! An engine: an ephemeral machine, and what dh remembers of it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    EngineName, EnvironmentName, IdlePolicy, Machine, MachineId, MachineState, OperationId, Reading, SizeGb,
    StateReason, UserName, secs,
};

/// An engine's state as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EngineState {
    /// Being launched: no machine yet, or its bootstrap is not over.
    Launching,
    /// Being started.
    Starting,
    /// Running and ready.
    Running,
    /// Being stopped or hibernated.
    Stopping,
    /// Stopped; its boot disk is kept.
    Stopped,
    /// Stopped with its memory kept.
    Hibernated,
    /// Being terminated.
    Terminating,
    /// Its bootstrap failed; `dh engine debug` tells where.
    Failed,
}

impl EngineState {
    /// Returns the stable name, as serialized.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Launching => "launching",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Hibernated => "hibernated",
            Self::Terminating => "terminating",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for EngineState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What dh stores of an engine. The machine itself is described by the backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// Its name, unique among the living engines of the environment.
    pub name: EngineName,
    /// The environment it belongs to.
    pub environment: EnvironmentName,
    /// Its owner.
    pub user: UserName,
    /// The engine type's name (`cpu`, `a10g`).
    pub engine_type: String,
    /// The machine, once there is one.
    pub machine: Option<MachineId>,
    /// The size of its boot disk.
    pub boot_disk_gb: SizeGb,
    /// The state as dh last set it; [`Engine::state`] weighs it against the machine's.
    pub state: EngineState,
    /// When the launch was asked for.
    pub created_at: Timestamp,
    /// How far its bootstrap is, as its agent reports.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// What its agent last found, stored when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleStatus>,
    /// What its agent could not do at its last start: studios it could not mount again. Empty when all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The policy its agent follows.
    #[serde(default)]
    pub policy: IdlePolicy,
    /// The operation that has hold of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
}

impl Engine {
    /// Returns the state to show: what the machine says, where it says more than our record.
    ///
    /// While an operation has hold of the engine, its own state (`Launching`, `Stopping`, …) is the better answer.
    pub fn state(&self, machine: Option<&Machine>) -> EngineState {
        if self.operation.is_some() {
            return self.state;
        }
        match (machine.map(|machine| machine.state), self.state) {
            (Some(MachineState::Running), EngineState::Failed) => EngineState::Failed,
            (Some(MachineState::Running), _) if self.bootstrap.failed().is_some() => EngineState::Failed,
            (Some(MachineState::Running), EngineState::Launching) => EngineState::Launching,
            (Some(MachineState::Running), _) => EngineState::Running,
            (Some(MachineState::Pending), EngineState::Starting) => EngineState::Starting,
            (Some(MachineState::Pending), _) => EngineState::Launching,
            (Some(MachineState::Stopping), _) => EngineState::Stopping,
            (Some(MachineState::Stopped), _) => EngineState::Stopped,
            (Some(MachineState::Hibernated), _) => EngineState::Hibernated,
            (Some(MachineState::Terminating | MachineState::Terminated), _) => EngineState::Terminating,
            (None, state) => state,
        }
    }
}

/// The nine stages of a bootstrap, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    /// The machine runs.
    InstanceRunning,
    /// What the agent needs is on the boot disk.
    DownloadingScripts,
    /// Packages, and the user's own set-up script.
    InstallingPackages,
    /// The shared drive.
    MountingPrimordial,
    /// Drivers, where there is a GPU.
    GpuDrivers,
    /// Directories, shell environment.
    CreatingEnvironment,
    /// The idle loop's policy.
    ConfiguringIdleDetector,
    /// Keys and the server's configuration.
    ConfiguringSsh,
    /// Done.
    Ready,
}

impl StageName {
    /// Every stage, in order.
    pub const ALL: [StageName; 9] = [
        Self::InstanceRunning,
        Self::DownloadingScripts,
        Self::InstallingPackages,
        Self::MountingPrimordial,
        Self::GpuDrivers,
        Self::CreatingEnvironment,
        Self::ConfiguringIdleDetector,
        Self::ConfiguringSsh,
        Self::Ready,
    ];

    /// Returns the name on the wire: `instance_running`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InstanceRunning => "instance_running",
            Self::DownloadingScripts => "downloading_scripts",
            Self::InstallingPackages => "installing_packages",
            Self::MountingPrimordial => "mounting_primordial",
            Self::GpuDrivers => "gpu_drivers",
            Self::CreatingEnvironment => "creating_environment",
            Self::ConfiguringIdleDetector => "configuring_idle_detector",
            Self::ConfiguringSsh => "configuring_ssh",
            Self::Ready => "ready",
        }
    }

    /// Returns the name for people: `Instance Running`.
    pub fn title(self) -> &'static str {
        match self {
            Self::InstanceRunning => "Instance Running",
            Self::DownloadingScripts => "Downloading Scripts",
            Self::InstallingPackages => "Installing Packages",
            Self::MountingPrimordial => "Mounting Primordial Drive",
            Self::GpuDrivers => "Installing GPU Drivers",
            Self::CreatingEnvironment => "Creating Environment",
            Self::ConfiguringIdleDetector => "Configuring Idle Detector",
            Self::ConfiguringSsh => "Configuring SSH",
            Self::Ready => "Ready",
        }
    }
}

/// How far a stage or step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageStatus {
    /// Begun.
    InProgress,
    /// Done.
    Completed,
    /// Not needed here; the note says why.
    Skipped,
    /// Failed; the error says how.
    Failed,
}

/// One stage of a bootstrap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Which.
    pub name: StageName,
    /// How far.
    pub status: StageStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, once it is over.
    #[serde(rename = "duration_secs", default, with = "super::secs_opt", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Why it was skipped, or what is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The last lines of its log, when it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
}

/// A bootstrap: the stages that have begun, in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The stages.
    pub stages: Vec<Stage>,
}

impl Bootstrap {
    /// Returns whether every stage is over and none failed.
    pub fn is_ready(&self) -> bool {
        self.stages.iter().any(|stage| stage.name == StageName::Ready && stage.status == StageStatus::Completed)
    }

    /// Returns the stage that failed.
    pub fn failed(&self) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.status == StageStatus::Failed)
    }

    /// Returns the stage in progress or, when none is, the last one that has begun.
    pub fn current(&self) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.status == StageStatus::InProgress).or(self.stages.last())
    }
}

/// What an engine's agent last found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdleStatus {
    /// Whether everything is quiet.
    pub is_idle: bool,
    /// Since when, on the wall clock, for display; the agent itself counts on the boot clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// The timeout in force.
    #[serde(rename = "timeout_secs", with = "secs")]
    pub timeout: Duration,
    /// Why active, or that all is idle.
    pub reason: String,
    /// What each sensor saw, in display order.
    pub readings: Vec<Reading>,
    /// Until when a coffee lock holds the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coffee_until: Option<Timestamp>,
    /// When the engine will be stopped, once people have been warned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<Timestamp>,
    /// When the agent found this.
    pub at: Timestamp,
}

impl IdleStatus {
    /// Returns for how long the engine has been idle at a moment.
    pub fn idle_for(&self, now: Timestamp) -> Duration {
        self.idle_since
            .map_or(Duration::ZERO, |since| Duration::try_from(now.duration_since(since)).unwrap_or_default())
    }
}

/// An engine with everything a caller may want to show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineView {
    /// What dh stores.
    #[serde(flatten)]
    pub engine: Engine,
    /// The state to show; it stands for the stored one.
    #[serde(rename = "observed_state")]
    pub state: EngineState,
    /// Why it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<StateReason>,
    /// The machine, where it exists.
    #[serde(rename = "described", default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// The owners of the studios attached to it.
    pub studios: Vec<UserName>,
}
