//! Where a machine keeps what: the one place that knows the names.

use std::path::{Path, PathBuf};

use crate::domain::{MachineId, Result};
use crate::ports::LogSource;

/// A machine's directory, `<data>/engines/<machine id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineDir(PathBuf);

impl EngineDir {
    /// Takes a path. No I/O.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory of a machine below a data directory.
    pub fn of(data: &Path, id: &MachineId) -> Self {
        Self(engines(data).join(id.as_str()))
    }

    /// Returns the directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns whether there is such a directory. What cannot be looked at counts as one.
    pub fn exists(&self) -> bool {
        self.0.try_exists().unwrap_or(true)
    }

    /// Returns the machine's id, which is the directory's name.
    ///
    /// # Errors
    /// `InvalidArgument` when the name is no id.
    pub fn id(&self) -> Result<MachineId> {
        MachineId::new(self.0.file_name().unwrap_or_default().to_string_lossy())
    }

    /// Returns the data directory that the machine's lies in.
    pub fn data(&self) -> &Path {
        self.0.parent().and_then(Path::parent).unwrap_or(Path::new("/"))
    }

    /// Returns the machine's record.
    pub fn record(&self) -> PathBuf {
        self.0.join("machine.json")
    }

    /// Returns the lock that is held for as long as the machine has power.
    pub fn lock(&self) -> PathBuf {
        self.0.join("machine.lock")
    }

    /// Returns the supervisor's control socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Returns the agent's configuration.
    pub fn agent_config(&self) -> PathBuf {
        self.0.join("agent.json")
    }

    /// Returns the file that holds a new random id after every start and every thaw.
    pub fn boot_id(&self) -> PathBuf {
        self.0.join("boot-id")
    }

    /// Returns the boot disk.
    pub fn disk(&self) -> PathBuf {
        self.0.join("disk")
    }

    /// Returns the home directory of whoever logs in.
    pub fn home(&self) -> PathBuf {
        self.0.join("disk/home")
    }

    /// Returns the directory of the SSH server's keys and configuration.
    pub fn ssh(&self) -> PathBuf {
        self.0.join("disk/etc/ssh")
    }

    /// Returns the host key as clients should know it.
    pub fn known_hosts(&self) -> PathBuf {
        self.0.join("disk/etc/ssh/known_hosts")
    }

    /// Returns one of the logs.
    pub fn log(&self, source: LogSource) -> PathBuf {
        self.0.join(match source {
            LogSource::Bootstrap => "disk/log/bootstrap.log",
            LogSource::Agent => "disk/log/agent.log",
            LogSource::Ledger => "disk/var/ledger.jsonl",
            LogSource::Console => "disk/log/console.log",
        })
    }

    /// Returns every directory that a new machine has, parents first.
    pub fn directories(&self) -> Vec<PathBuf> {
        ["disk", "disk/home", "disk/log", "disk/var", "disk/etc", "disk/etc/ssh", "disk/studios", "disk/dev/by-id"]
            .iter()
            .map(|name| self.0.join(name))
            .collect()
    }
}

/// Returns where all machines' directories are.
pub fn engines(data: &Path) -> PathBuf {
    data.join("engines")
}

/// Returns the private key by which dh logs in to its own engines; the public one has `.pub` after it.
pub fn client_key(data: &Path) -> PathBuf {
    data.join("ssh/id_ed25519")
}
