//! What an engine's agent is told at launch, and what it answers.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{EngineName, EnvironmentName, IdlePolicy, MachineId, UserName};

/// The variable that names the agent's configuration file; without it, `/etc/dh/agent.json`.
pub const AGENT_CONFIG_VARIABLE: &str = "DH_AGENT_CONFIG";

/// The agent's configuration: who it is, where it may write, and what the bootstrap has to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The version of this form.
    pub schema: u32,
    /// The environment.
    pub environment: EnvironmentName,
    /// The engine.
    pub engine: EngineName,
    /// Its machine.
    pub machine: MachineId,
    /// Its owner.
    pub user: UserName,
    /// The engine's root: its boot disk's directory under the local backend, `/` on a machine of its own.
    pub root: PathBuf,
    /// Where state is reported to.
    pub store: AgentStore,
    /// How the agent stops its own engine.
    pub power: AgentPower,
    /// The idle policy until another is set.
    pub policy: IdlePolicy,
    /// A script of the user's, run in `installing_packages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<PathBuf>,
    /// A directory shared between engines, shown as the Primordial drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primordial: Option<PathBuf>,
    /// Public keys that may log in by SSH.
    #[serde(default)]
    pub authorized_keys: Vec<String>,
}

/// Where an agent reports to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum AgentStore {
    /// A SQLite file on this machine.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
}

/// How an agent stops its own engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum AgentPower {
    /// It asks the supervisor of the local backend.
    Supervisor {
        /// The supervisor's control socket.
        socket: PathBuf,
    },
}

/// What `dh-agent mount` and `dh-agent unmount` print on success, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountReply {
    /// Where the studio's files are.
    pub mount_point: String,
    /// Whether a filesystem was made: the volume bore none.
    pub formatted: bool,
    /// Whether the filesystem grew.
    pub grown: bool,
}

/// What `dh-agent coffee` prints on success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoffeeReply {
    /// Until when the engine is held; nothing after a cancel.
    pub until: Option<Timestamp>,
}
