//! Making a machine's directory: whole, or not at all.

use std::fs;
use std::io;

use jiff::Timestamp;

use super::backend::make_private_dir;
use super::config::LocalConfig;
use super::layout::{EngineDir, engines};
use super::lock::PowerLock;
use super::machine::{MachineRecord, RECORD_SCHEMA, random_hex};
use super::map::io_error;
use super::removal::NEW;
use super::{durable, ssh};
use crate::domain::{Error, ErrorKind, MachineId, MachineState, Result};
use crate::ports::LaunchMachine;
use crate::wire::{AgentConfig, AgentPower, AgentStore};

/// The version of the agent's configuration that is written.
const AGENT_SCHEMA: u32 = 1;

/// What an engine writes while it is set up, besides the copy of the agent that it may need, and some to spare.
const ROOM: u64 = 16 << 20;

/// Makes a machine under another name and renames it when it is whole; its power is ours then. `None` when somebody else
/// was quicker.
pub fn create(
    config: &LocalConfig,
    dir: &EngineDir,
    id: &MachineId,
    request: &LaunchMachine,
) -> Result<Option<(PowerLock, MachineRecord)>> {
    make_private_dir(&engines(&config.data))?;
    refuse_without_room(config)?;
    let new = EngineDir::new(engines(&config.data).join(format!("{NEW}{id}-{}", random_hex(8)?)));
    let made = fill(config, &new, dir, id, request).and_then(|made| match fs::rename(new.path(), dir.path()) {
        Ok(()) => {
            durable::sync_parent(dir.path()).map_err(|source| io_error("cannot write", dir.path(), source))?;
            Ok(Some(made))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            Ok(None)
        }
        Err(source) => Err(io_error("cannot make", dir.path(), source)),
    });
    if !matches!(made, Ok(Some(_))) {
        let _ = fs::remove_dir_all(new.path());
    }
    made
}

/// Refuses to begin what the disk has no room for: an engine that could write neither its logs nor that it failed.
fn refuse_without_room(config: &LocalConfig) -> Result<()> {
    let path = engines(&config.data);
    let failed = |source| io_error("cannot look at the disk of", &path, source);
    let disk = rustix::fs::statvfs(&path).map_err(|errno| failed(errno.into()))?;
    let agent = fs::metadata(&config.agent).map_or(0, |agent| agent.len());
    let (needed, free) = (agent + ROOM, disk.f_bavail.saturating_mul(disk.f_frsize));
    if free >= needed {
        return Ok(());
    }
    let mb = |bytes: u64| bytes.div_ceil(1_000_000);
    let text = format!("too little room for an engine in {}: it needs {} MB", config.data.display(), mb(needed));
    Err(Error::new(ErrorKind::Storage, format!("{text}, and {} MB are free", free / 1_000_000))
        .with_context("backend", "local")
        .with_context("path", path.display())
        .with_hint("free some space on that disk, or set DH_HOME to a folder on a larger one"))
}

fn fill(
    config: &LocalConfig,
    new: &EngineDir,
    dir: &EngineDir,
    id: &MachineId,
    request: &LaunchMachine,
) -> Result<(PowerLock, MachineRecord)> {
    make_private_dir(new.path())?;
    let lock = PowerLock::create(new)?;
    for path in new.directories() {
        fs::create_dir_all(&path).map_err(|source| io_error("cannot make", &path, source))?;
    }
    let agent = AgentConfig {
        schema: AGENT_SCHEMA,
        environment: request.environment.clone(),
        engine: request.engine.clone(),
        machine: id.clone(),
        user: request.user.clone(),
        root: dir.disk(),
        store: AgentStore::Sqlite { path: config.database.clone() },
        power: AgentPower::Supervisor { socket: dir.socket() },
        policy: request.policy.clone(),
        setup_script: config.settings.setup_script.clone(),
        primordial: config.settings.primordial.clone(),
        authorized_keys: ssh::authorized_keys(&config.data)?,
    };
    durable::write_json(&new.agent_config(), &agent)?;
    let record = MachineRecord {
        schema: RECORD_SCHEMA,
        id: id.clone(),
        key: request.key.clone(),
        engine: request.engine.clone(),
        environment: request.environment.clone(),
        user: request.user.clone(),
        engine_type: request.engine_type.clone(),
        boot_disk_gb: request.boot_disk_gb,
        state: MachineState::Pending,
        state_reason: None,
        launched_at: Timestamp::now(),
        boots: 0,
        boot: None,
        tags: std::collections::BTreeMap::new(),
    };
    record.save(new)?;
    Ok((lock, record))
}
