//! A machine's record, and what becomes of it when nobody holds its power any more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::durable;
use super::layout::EngineDir;
use super::map::{REMOVE_HINT, incomplete, io_error};
use super::types::INSTANCE_TYPE;
use crate::domain::{
    DeviceName, EngineName, EnvironmentName, ErrorKind, IdempotencyKey, Machine, MachineId, MachineState, Result,
    SizeGb, StateReason, StopCause, UserName, VolumeId,
};

/// The version of the record's form.
pub const RECORD_SCHEMA: u64 = 1;

const HOST_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A machine as its directory remembers it. Written only by whoever holds its lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// The version of this form.
    pub schema: u64,
    /// Its id.
    pub id: MachineId,
    /// The key it was launched by.
    pub key: IdempotencyKey,
    /// The engine it is.
    pub engine: EngineName,
    /// The environment it belongs to.
    pub environment: EnvironmentName,
    /// Its owner.
    pub user: UserName,
    /// The engine type's name.
    pub engine_type: String,
    /// The size of its boot disk.
    pub boot_disk_gb: SizeGb,
    /// Its state as last written.
    pub state: MachineState,
    /// Why it is stopped, or about to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<StateReason>,
    /// When it was last started.
    pub launched_at: Timestamp,
    /// How often a supervisor has taken it up.
    #[serde(default)]
    pub boots: u64,
    /// What the last supervisor left to find its processes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// One span of power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The boot of the host it began in.
    pub host: String,
    /// The supervisor's process.
    pub supervisor: i32,
    /// The control groups its processes were put into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<PathBuf>,
}

impl MachineRecord {
    /// Reads a machine's record; `None` when there is no such machine, which is when its directory is gone.
    ///
    /// # Errors
    /// `Storage` when it is missing or damaged: the machine may live all the same. `Incompatible` when a newer dh wrote it.
    pub fn load(dir: &EngineDir) -> Result<Option<Self>> {
        match durable::read_json(&dir.record(), RECORD_SCHEMA) {
            Ok(Some(record)) => Ok(Some(record)),
            Ok(None) if !dir.exists() => Ok(None),
            Ok(None) => Err(incomplete(&dir.record())),
            Err(error) if error.kind() == ErrorKind::Storage => Err(error.with_hint(REMOVE_HINT)),
            Err(error) => Err(error),
        }
    }

    /// Writes the record. The caller holds the lock.
    ///
    /// # Errors
    /// `Storage`; the old record stays.
    pub fn save(&self, dir: &EngineDir) -> Result<()> {
        durable::write_json(&dir.record(), self)
    }

    /// Sets a state and why.
    pub fn set_state(&mut self, state: MachineState, reason: Option<StateReason>) {
        self.state = state;
        self.state_reason = reason;
    }

    /// Returns the machine as a backend describes it.
    pub fn describe(self, attachments: BTreeMap<DeviceName, VolumeId>) -> Machine {
        Machine {
            id: self.id,
            engine: self.engine,
            environment: self.environment,
            user: self.user,
            state: self.state,
            state_reason: self.state_reason,
            launched_at: self.launched_at,
            public_ip: None,
            engine_type: self.engine_type,
            instance_type: INSTANCE_TYPE.into(),
            boot_disk_gb: self.boot_disk_gb,
            zone: super::types::INSTANCE_TYPE.into(),
            attachments,
        }
    }
}

/// Returns whether a machine in this state needs a supervisor.
pub fn has_power(state: MachineState) -> bool {
    !matches!(state, MachineState::Stopped | MachineState::Terminated)
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is true as it stands.
    Keep,
    /// The machine is stopped, for this reason; what is left of its processes must go.
    Stopped(StateReason),
    /// It was being terminated; that must be finished.
    Terminate,
}

/// Judges the record of a machine whose lock nobody holds.
pub fn judge(record: &MachineRecord, host_boot: &str, now: Timestamp) -> Verdict {
    let stopped = |cause, message: &str| Verdict::Stopped(StateReason { cause, message: message.into(), at: now });
    if !has_power(record.state) {
        return Verdict::Keep;
    }
    if record.state == MachineState::Terminating {
        return Verdict::Terminate;
    }
    let rebooted = record.boot.as_ref().is_some_and(|boot| boot.host != host_boot);
    match (&record.state_reason, record.state) {
        // It was being stopped when its supervisor ended: the reason for that is the better answer.
        (Some(reason), MachineState::Stopping) => Verdict::Stopped(reason.clone()),
        _ if rebooted && record.state == MachineState::Hibernated => {
            stopped(StopCause::HostRebooted, "the computer it runs on was restarted; its memory is lost")
        }
        _ if rebooted => stopped(StopCause::HostRebooted, "the computer it runs on was restarted"),
        _ if record.boots == 0 => stopped(StopCause::Died, "its launch was cut off before it had power"),
        (_, MachineState::Pending) => stopped(StopCause::Died, "its supervisor ended while it was starting"),
        _ => stopped(StopCause::Died, "its supervisor was killed"),
    }
}

/// Derives a machine's id from the key of its launch: the upper 68 bits of FNV-1a's 128. Must never change, or a launch
/// that is repeated by a newer dh makes a second machine.
pub fn machine_id(key: &IdempotencyKey) -> Result<MachineId> {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = key.as_str().bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    MachineId::new(format!("i-{:017x}", hash >> 60))
}

/// Returns which boot of this computer we are in.
///
/// # Errors
/// When `/proc` can't be read.
pub fn host_boot_id() -> Result<String> {
    let text = std::fs::read_to_string(HOST_BOOT_ID)
        .map_err(|source| io_error("cannot read", Path::new(HOST_BOOT_ID), source))?;
    Ok(text.trim().to_owned())
}

/// Gives a machine a new boot id; its agent counts idle time anew.
///
/// # Errors
/// `Storage`.
pub fn renew_boot_id(dir: &EngineDir) -> Result<()> {
    let (path, new) = (dir.boot_id(), dir.path().join("boot-id.new"));
    std::fs::write(&new, random_hex(32)?)
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(|source| io_error("cannot write", &path, source))
}

/// Returns random hexadecimal digits, 64 at most.
pub(super) fn random_hex(digits: usize) -> Result<String> {
    let mut bytes = [0u8; 32];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| io_error("cannot read", Path::new("/dev/urandom"), errno.into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(digits).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::OperationId;

    pub fn record(state: MachineState, host: Option<&str>) -> MachineRecord {
        let key = IdempotencyKey::for_step(&OperationId::new("op-0123456789ab").unwrap(), "launch_machine");
        MachineRecord {
            schema: RECORD_SCHEMA,
            id: machine_id(&key).unwrap(),
            key,
            engine: EngineName::new("work").unwrap(),
            environment: EnvironmentName::new("dev").unwrap(),
            user: UserName::new("alice").unwrap(),
            engine_type: "cpu".into(),
            boot_disk_gb: SizeGb::new(50).unwrap(),
            state,
            state_reason: None,
            launched_at: Timestamp::UNIX_EPOCH,
            boots: u64::from(host.is_some()),
            boot: host.map(|host| Boot { host: host.into(), supervisor: 1, cgroups: Vec::new() }),
            tags: BTreeMap::new(),
        }
    }

    fn cause(verdict: Verdict) -> StopCause {
        match verdict {
            Verdict::Stopped(reason) => reason.cause,
            other => panic!("{other:?}"),
        }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_machine_without_supervisor_died_or_its_host_was_restarted() {
        for state in [MachineState::Pending, MachineState::Running, MachineState::Hibernated, MachineState::Stopping] {
            assert_eq!(cause(judge(&record(state, Some("a")), "a", NOW)), StopCause::Died, "{state:?}");
            assert_eq!(cause(judge(&record(state, Some("a")), "b", NOW)), StopCause::HostRebooted, "{state:?}");
        }
    }

    #[test]
    fn one_that_was_being_stopped_keeps_that_reason() {
        let mut stopping = record(MachineState::Stopping, Some("a"));
        let reason = StateReason { cause: StopCause::Idle, message: "idle for 30 minutes".into(), at: NOW };
        stopping.state_reason = Some(reason.clone());
        assert_eq!(judge(&stopping, "b", NOW), Verdict::Stopped(reason));
    }

    #[test]
    fn stopped_stays_and_terminating_is_finished() {
        assert_eq!(judge(&record(MachineState::Stopped, Some("a")), "b", NOW), Verdict::Keep);
        assert_eq!(judge(&record(MachineState::Terminating, Some("a")), "a", NOW), Verdict::Terminate);
    }

    #[test]
    fn a_launch_cut_off_before_power_is_told_apart() {
        match judge(&record(MachineState::Pending, None), "a", NOW) {
            Verdict::Stopped(reason) => assert!(reason.message.contains("cut off"), "{}", reason.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_key_is_the_same_machine_for_ever() {
        let id = |step: &str| {
            machine_id(&IdempotencyKey::for_step(&OperationId::new("op-0123456789ab").unwrap(), step)).unwrap()
        };
        assert_eq!(id("launch_machine").as_str(), "i-db2018f185e3cf363");
        assert_ne!(id("launch_machine"), id("launch_machinf"));
    }

    #[test]
    fn a_record_is_read_back() {
        let data = tempfile::tempdir().unwrap();
        let written = record(MachineState::Running, Some("a"));
        let dir = EngineDir::of(data.path(), &written.id);
        assert_eq!(MachineRecord::load(&dir).unwrap(), None);
        std::fs::create_dir_all(dir.path()).unwrap();
        for text in [None, Some("{ not")] {
            text.iter().for_each(|text| std::fs::write(dir.record(), text).unwrap());
            let error = MachineRecord::load(&dir).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Storage, "a machine that cannot be read is not one that is gone");
            assert!(error.message().contains("machine.json"), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("dh engine terminate")), "{error:?}");
        }
        written.save(&dir).unwrap();
        assert_eq!(MachineRecord::load(&dir).unwrap(), Some(written));
    }

    #[test]
    fn every_boot_has_an_id_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let dir = EngineDir::new(dir.path());
        renew_boot_id(&dir).unwrap();
        let first = std::fs::read_to_string(dir.boot_id()).unwrap();
        renew_boot_id(&dir).unwrap();
        assert_eq!(first.len(), 32);
        assert_ne!(std::fs::read_to_string(dir.boot_id()).unwrap(), first);
    }
}
