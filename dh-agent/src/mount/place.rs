//! Where things are on this engine.

use std::path::{Path, PathBuf};

use dh_core::backend::local::map::io_error;
use dh_core::backend::local::volume;
use dh_core::domain::{EngineName, MachineId, Result};
use dh_core::wire::{AgentConfig, AgentPower};

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
            .map_err(|source| io_error("cannot find the engine's root", &config.root, source))?;
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
