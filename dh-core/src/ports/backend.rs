//! Machines, volumes and a way to run commands on them.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::{
    DeviceName, EngineName, EnvironmentName, IdempotencyKey, IdlePolicy, Machine, MachineId, Result, SizeGb, StopMode,
    UserName, Volume, VolumeId,
};

/// What a backend can do. Data, so that logic can refuse a request before any I/O.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Machines can be stopped and started again.
    pub stop: bool,
    /// Machines can be stopped with their memory kept.
    pub hibernate: bool,
    /// Boot disks can grow.
    pub resize_boot_disk: bool,
    /// Boot disks can grow while the machine runs.
    pub resize_boot_disk_online: bool,
    /// Volumes can be created, attached and grown.
    pub volumes: bool,
    /// Engine types by name.
    pub engine_types: BTreeMap<String, EngineType>,
    /// The boot disk's size when none is asked for.
    pub default_boot_disk_gb: SizeGb,
    /// How long a launch usually takes before anything has been learned, in words: `2-3 minutes`.
    pub usual_launch: &'static str,
}

impl Capabilities {
    /// Returns the capabilities of a backend that can do everything, with these engine types.
    pub fn all(engine_types: BTreeMap<String, EngineType>, default_boot_disk_gb: SizeGb) -> Self {
        Self {
            stop: true,
            hibernate: true,
            resize_boot_disk: true,
            resize_boot_disk_online: true,
            volumes: true,
            engine_types,
            default_boot_disk_gb,
            usual_launch: "a few seconds",
        }
    }
}

/// An engine type: a name people use for hardware.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineType {
    /// One line about it: `8 vCPU, 64 GB RAM`.
    pub description: String,
    /// The backend's name for the hardware.
    pub instance_type: String,
    /// Processors it should have.
    pub vcpus: u32,
    /// Memory it should have.
    pub memory_gb: u32,
    /// GPUs it should have.
    pub gpus: u32,
}

/// A machine to launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchMachine {
    /// The same key never launches two machines.
    pub key: IdempotencyKey,
    /// The engine it will be.
    pub engine: EngineName,
    /// The environment it belongs to.
    pub environment: EnvironmentName,
    /// Its owner.
    pub user: UserName,
    /// The engine type's name, one of [`Capabilities::engine_types`].
    pub engine_type: String,
    /// Its boot disk.
    pub boot_disk_gb: SizeGb,
    /// The idle policy its agent begins with.
    pub policy: IdlePolicy,
}

/// A command to run on a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCommand {
    /// The machine.
    pub machine: MachineId,
    /// Program and arguments; `dh-agent` as program is the machine's own agent.
    pub argv: Vec<String>,
    /// What it reads on standard input.
    pub stdin: Vec<u8>,
    /// After this it is killed.
    pub timeout: Duration,
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// The exit code; 128 and the signal's number when a signal ended it.
    pub exit_code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A volume to create.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateVolume {
    /// The same key never creates two volumes.
    pub key: IdempotencyKey,
    /// Its owner.
    pub user: UserName,
    /// The environment it belongs to.
    pub environment: EnvironmentName,
    /// Its size.
    pub size_gb: SizeGb,
}

/// A volume to join to a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct AttachVolume {
    /// The volume.
    pub volume: VolumeId,
    /// The machine.
    pub machine: MachineId,
    /// Under which name.
    pub device: DeviceName,
    /// The studio's epoch: a backend that can remember one refuses an older one.
    pub epoch: u64,
}

/// One of an engine's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// What the bootstrap's stages printed.
    Bootstrap,
    /// What the agent has to say.
    Agent,
    /// Every tick's readings, decision and action, as JSON lines.
    Ledger,
    /// What the machine itself printed.
    Console,
}

/// An interactive or streaming session on a machine.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionRequest {
    /// Runs one command, with the caller's own standard streams.
    Exec(Vec<String>),
    /// A login shell on a terminal.
    Shell,
}

/// A program on this side that carries a session or a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables to set for it.
    pub env: BTreeMap<String, String>,
}

/// How plain `ssh` reaches a machine: the lines of one `Host` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshTarget {
    /// What goes into `HostName`.
    pub host_name: String,
    /// What goes into `User`.
    pub user: String,
    /// Program and arguments of `ProxyCommand`, not yet quoted; `%h` and `%p` are SSH's.
    pub proxy_command: Vec<String>,
    /// Further options, in order: `("IdentityFile", "/path")`.
    pub options: Vec<(String, String)>,
}

/// A provider of machines and volumes.
///
/// A call that may be cut off is safe to repeat: those that create take an [`IdempotencyKey`]; all others reach for a
/// state and succeed at once when it is there. Dropping a future may leave the effect done or not done, never half.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait EngineBackend: Debug + Display + Send + Sync + 'static {
    /// Returns what this backend can do. No I/O.
    fn capabilities(&self) -> &Capabilities;

    /// Launches a machine; the same key returns the machine it launched before. It may still be pending.
    ///
    /// # Errors
    /// `Capacity`, `QuotaExceeded`, `Denied`, `InvalidArgument` for an unknown type.
    async fn launch_machine(&self, request: LaunchMachine) -> Result<Machine>;

    /// Describes a machine; `None` when it does not exist or is terminated. One request.
    async fn describe_machine(&self, id: &MachineId) -> Result<Option<Machine>>;

    /// Lists the machines of an environment that are not terminated, by id. One request per page.
    async fn list_machines(&self, environment: &EnvironmentName) -> Result<Vec<Machine>>;

    /// Starts a stopped or hibernated machine; a running one is left alone. Returns before it runs.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is stopping; `Capacity`.
    async fn start_machine(&self, id: &MachineId) -> Result<()>;

    /// Stops a machine; a stopped one is left alone. Returns before it has stopped.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` when it cannot be done in that mode.
    async fn stop_machine(&self, id: &MachineId, mode: StopMode) -> Result<()>;

    /// Terminates a machine with its boot disk; volumes stay. A missing one is success. Returns before it is gone.
    async fn terminate_machine(&self, id: &MachineId) -> Result<()>;

    /// Makes a boot disk larger; one of that size or more is left alone.
    ///
    /// # Errors
    /// `Unsupported`; `Conflict` when the machine runs and that needs a stop.
    async fn resize_boot_disk(&self, id: &MachineId, size_gb: SizeGb) -> Result<()>;

    /// Sets tags on a machine; others stay.
    async fn tag_machine(&self, id: &MachineId, tags: &BTreeMap<String, String>) -> Result<()>;

    /// Creates a volume; the same key returns the volume it created before.
    async fn create_volume(&self, request: CreateVolume) -> Result<Volume>;

    /// Describes a volume; `None` when it does not exist.
    async fn describe_volume(&self, id: &VolumeId) -> Result<Option<Volume>>;

    /// Lists the volumes of an environment, by id.
    async fn list_volumes(&self, environment: &EnvironmentName) -> Result<Vec<Volume>>;

    /// Joins a volume to a machine; one joined there under that name is left alone. Returns before it is attached.
    ///
    /// # Errors
    /// `Conflict` with context `reason` = `volume_in_use`, `device_in_use` or `stale_epoch`; `NotFound`.
    async fn attach_volume(&self, request: AttachVolume) -> Result<()>;

    /// Parts a volume from a machine; one not joined to it is left alone. Returns before it is detached.
    async fn detach_volume(&self, volume: &VolumeId, machine: &MachineId) -> Result<()>;

    /// Makes a volume larger; one of that size or more is left alone. The filesystem grows at the next mount.
    async fn grow_volume(&self, id: &VolumeId, size_gb: SizeGb) -> Result<()>;

    /// Deletes a volume and its data. A missing one is success.
    ///
    /// # Errors
    /// `Conflict` while it is attached.
    async fn delete_volume(&self, id: &VolumeId) -> Result<()>;

    /// Runs a command on a running machine and waits for its end.
    ///
    /// # Errors
    /// `Conflict` when the machine does not run; `Timeout` when the command was killed. A command that ends with another
    /// code than 0 is no error.
    async fn run_command(&self, request: RunCommand) -> Result<CommandOutput>;

    /// Returns the last lines of a log, oldest first; empty when there is none yet.
    async fn read_log(&self, id: &MachineId, source: LogSource, lines: usize) -> Result<Vec<String>>;

    /// Returns the program that opens a session on a machine. No I/O.
    fn session(&self, id: &MachineId, request: SessionRequest) -> Result<LocalCommand>;

    /// Returns how plain `ssh` reaches a machine, as its owner or as the administrator. No I/O.
    fn ssh_target(&self, machine: &Machine, admin: bool) -> Result<SshTarget>;
}

#[cfg(feature = "mock")]
impl Display for MockEngineBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mock")
    }
}
