//! Where things are on this engine.

use std::path::{Path, PathBuf};

use dh_core::backend::local::durable::read_json;
use dh_core::backend::local::map::io_error;
use dh_core::domain::{Error, ErrorKind, Result};
use dh_core::wire::{AGENT_CONFIG_VARIABLE, AgentConfig};

const DEFAULT_CONFIG: &str = "/etc/dh/agent.json";
const CONFIG_SCHEMA: u64 = 1;

/// The kernel's own boot id, for engines that are a machine of their own.
const KERNEL_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reads the configuration that `DH_AGENT_CONFIG` names.
pub fn load_config() -> Result<AgentConfig> {
    let path = std::env::var_os(AGENT_CONFIG_VARIABLE).map_or_else(|| PathBuf::from(DEFAULT_CONFIG), PathBuf::from);
    read_json(&path, CONFIG_SCHEMA)?.ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("there is no agent configuration at {}", path.display()))
            .with_context("path", path.display())
            .with_hint(format!("this program runs on engines; set {AGENT_CONFIG_VARIABLE} to an engine's agent.json"))
    })
}

/// The directories and files of one engine that the agent reads and writes.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn of(config: &AgentConfig) -> Self {
        Self::under(config.root.clone())
    }

    pub fn under(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file whose content changes with every boot. Under the local backend the machine's directory, above its disk,
    /// has one.
    pub fn boot_id(&self) -> PathBuf {
        match self.root.parent().map(|above| above.join("boot-id")) {
            Some(own) if own.exists() => own,
            _ => KERNEL_BOOT_ID.into(),
        }
    }

    /// What must be there before anything else can be written.
    pub fn make(&self) -> Result<()> {
        for directory in [self.var(), self.root.join("log")] {
            std::fs::create_dir_all(&directory).map_err(|source| io_error("cannot make", &directory, source))?;
        }
        Ok(())
    }

    pub fn var(&self) -> PathBuf {
        self.root.join("var")
    }

    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub fn studios(&self) -> PathBuf {
        self.root.join("studios")
    }

    pub fn primordial(&self) -> PathBuf {
        self.root.join("primordial")
    }

    /// What dh itself lays on the disk.
    pub fn opt(&self) -> PathBuf {
        self.root.join("opt/dh")
    }

    /// Variables of the engine, as a shell reads them.
    pub fn env(&self) -> PathBuf {
        self.root.join("etc/dh/env")
    }

    pub fn bootstrap_log(&self) -> PathBuf {
        self.root.join("log/bootstrap.log")
    }

    pub fn agent_log(&self) -> PathBuf {
        self.root.join("log/agent.log")
    }

    pub fn bootstrap(&self) -> PathBuf {
        self.var().join("bootstrap.json")
    }

    pub fn ledger(&self) -> PathBuf {
        self.var().join("ledger.jsonl")
    }

    pub fn idle(&self) -> PathBuf {
        self.var().join("idle.json")
    }

    pub fn status(&self) -> PathBuf {
        self.var().join("status.json")
    }

    pub fn policy(&self) -> PathBuf {
        self.var().join("policy.json")
    }

    pub fn coffee(&self) -> PathBuf {
        self.var().join("coffee")
    }

    /// Held while a stop is decided and asked for, and while coffee is poured: one of the two is first.
    pub fn commit_lock(&self) -> PathBuf {
        self.var().join("commit.lock")
    }

    /// Held by the one agent that runs.
    pub fn agent_lock(&self) -> PathBuf {
        self.var().join("agent.lock")
    }

    /// Where the running agent is told to look at once.
    pub fn poke(&self) -> PathBuf {
        self.var().join("agent.sock")
    }

    /// Whose descendants are the engine's processes, as the running agent found it.
    pub fn supervisor(&self) -> PathBuf {
        self.var().join("supervisor.json")
    }
}
