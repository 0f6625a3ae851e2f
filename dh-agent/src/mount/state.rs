//! `mounts.json`: what is to be mounted on this engine, and under which epochs. The engine's fstab.

use std::collections::BTreeMap;
use std::time::Duration;

use dh_core::backend::local::durable::{lock, read_json, write_json};
use dh_core::backend::local::map::io_error;
use dh_core::domain::{DeviceName, Result, SizeGb, UserName, VolumeId};
use serde::{Deserialize, Serialize};

use super::place::Place;

const SCHEMA: u64 = 1;

/// The content of `mounts.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mounts {
    schema: u64,
    /// What is mounted, or about to be.
    #[serde(default)]
    pub mounts: BTreeMap<VolumeId, Mounted>,
    /// The highest epoch under which each volume was ever mounted here; outlives the unmount.
    #[serde(default)]
    pub epochs: BTreeMap<VolumeId, u64>,
    /// Volumes found blank whose formatting has begun, with the epoch then. As long as that epoch lasts nothing else
    /// can have written to the volume, so that what lies on it is our own half-made filesystem.
    #[serde(default)]
    pub formatting: BTreeMap<VolumeId, u64>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mounted {
    pub user: UserName,
    pub epoch: u64,
    pub size_gb: SizeGb,
    pub device: DeviceName,
}

impl Default for Mounts {
    fn default() -> Self {
        Self { schema: SCHEMA, mounts: BTreeMap::new(), epochs: BTreeMap::new(), formatting: BTreeMap::new() }
    }
}

/// Reads the state.
pub fn load(place: &Place) -> Result<Mounts> {
    Ok(read_json(&place.var().join("mounts.json"), SCHEMA)?.unwrap_or_default())
}

/// Changes the state, one process at a time; writes nothing when nothing changed.
pub fn update(place: &Place, change: impl FnOnce(&mut Mounts)) -> Result<()> {
    let var = place.var();
    std::fs::create_dir_all(&var).map_err(|source| io_error("cannot make", &var, source))?;
    let _lock = lock(&var.join("mounts.lock"), Duration::from_secs(30))?;
    let before = load(place)?;
    let mut after = before.clone();
    change(&mut after);
    if after == before { Ok(()) } else { write_json(&var.join("mounts.json"), &after) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_of_version_1_is_still_read() {
        let text = r#"{"schema":1,"mounts":{"vol-0123456789abcdef0":{"user":"alice","epoch":3,"size_gb":100,"device":"/dev/sdf"}},
            "epochs":{"vol-0123456789abcdef0":3},"formatting":{}}"#;
        let mounts: Mounts = serde_json::from_str(text).unwrap();
        assert_eq!(mounts.mounts.values().next().unwrap().epoch, 3);
        assert_eq!(serde_json::from_str::<Mounts>(r#"{"schema":1}"#).unwrap(), Mounts::default());
    }
}
