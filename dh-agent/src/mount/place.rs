//! Where things are on this engine.

use std::path::{Path, PathBuf};

use dh_core::backend::local::durable::{read_json, storage_error};
use dh_core::backend::local::volume;
use dh_core::domain::{EngineName, Error, ErrorKind, MachineId, Result};
use dh_core::wire::{AGENT_CONFIG_VARIABLE, AgentConfig, AgentPower};

const DEFAULT_CONFIG: &str = "/etc/dh/agent.json";
const CONFIG_SCHEMA: u64 = 1;

/// The engine and its directories, free of symlinks.
#[derive(Debug, Clone)]
pub struct Place {
    pub engine: EngineName,
    pub machine: MachineId,
    /// The engine's root.
    pub root: PathBuf,
    /// Where the links to volumes' devices are.
    pub by_id: PathBuf,
    /// Where the kernel describes devices.
    pub sys: PathBuf,
    /// Under the local backend, where the volumes are.
    pub local_volumes: Option<PathBuf>,
}

impl Place {
    pub fn of(config: &AgentConfig) -> Result<Self> {
        let root = config
            .root
            .canonicalize()
            .map_err(|source| storage_error("cannot find the engine's root", &config.root, source))?;
        let own_machine = root == Path::new("/");
        let local_volumes = match &config.power {
            AgentPower::Supervisor { .. } if !own_machine => {
                Some(volume::volumes_beside(root.parent().unwrap_or(&root))?)
            }
            _ => None,
        };
        Ok(Self {
            engine: config.engine.clone(),
            machine: config.machine.clone(),
            by_id: if own_machine { PathBuf::from("/dev/disk/by-id") } else { root.join("dev/by-id") },
            sys: PathBuf::from("/sys"),
            local_volumes,
            root,
        })
    }

    pub fn var(&self) -> PathBuf {
        self.root.join("var")
    }

    pub fn studios(&self) -> PathBuf {
        self.root.join("studios")
    }
}

/// Reads the configuration that `DH_AGENT_CONFIG` names.
pub fn load_config() -> Result<AgentConfig> {
    let path = std::env::var_os(AGENT_CONFIG_VARIABLE).map_or_else(|| PathBuf::from(DEFAULT_CONFIG), PathBuf::from);
    read_json(&path, CONFIG_SCHEMA)?.ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("there is no agent configuration at {}", path.display()))
            .with_context("path", path.display())
            .with_hint(format!("this program runs on engines; set {AGENT_CONFIG_VARIABLE} to an engine's agent.json"))
    })
}
