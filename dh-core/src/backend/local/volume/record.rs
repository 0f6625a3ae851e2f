//! A volume as stored: one directory with `volume.json` and an image or `files/`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Filesystem;
use crate::backend::local::durable::{read_json, sync_parent, write_json};
use crate::backend::local::map::io_error;
use crate::domain::{
    Attachment, AttachmentState, DeviceName, EnvironmentName, IdempotencyKey, MachineId, Result, SizeGb, UserName,
    Volume, VolumeId,
};

/// The version of `volume.json`.
pub(super) const SCHEMA: u64 = 1;

const CAVEAT: &str = "a directory on this machine: its size is recorded, not enforced";
/// Begins the name of a directory that is not yet, or no longer, a volume.
const SCRATCH: &str = ".scratch-";

/// What a volume is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// A sparse file with a filesystem in it.
    Image,
    /// A directory.
    Directory,
}

/// Who holds a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The machine.
    pub machine: MachineId,
    /// Under which name.
    pub device: DeviceName,
    /// Under which epoch of the studio.
    pub epoch: u64,
}

/// The content of `volume.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct VolumeRecord {
    /// The version of this form.
    pub schema: u64,
    /// Its id, also the directory's name.
    pub id: VolumeId,
    /// The key it was created under.
    pub key: IdempotencyKey,
    /// Its owner.
    pub user: UserName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Its size.
    pub size_gb: SizeGb,
    /// What it is made of.
    pub backing: Backing,
    /// The filesystem it gets, or has.
    pub filesystem: Filesystem,
    /// Who holds it.
    pub attachment: Option<Held>,
    /// The highest epoch it was ever attached under.
    pub epoch: u64,
}

impl VolumeRecord {
    /// Reads a volume's record; `None` when there is no such volume.
    ///
    /// # Errors
    /// `Storage`, `Incompatible`.
    pub fn load(volumes: &Path, id: &VolumeId) -> Result<Option<Self>> {
        if !super::is_hex_id(id.as_str(), "vol-") {
            return Ok(None);
        }
        read_json(&volumes.join(id.as_str()).join("volume.json"), SCHEMA)
    }

    /// Returns the image's path; only an [`Backing::Image`] has one.
    pub fn image(&self, volumes: &Path) -> PathBuf {
        volumes.join(self.id.as_str()).join("image")
    }

    /// Returns the directory of the files; only a [`Backing::Directory`] has one.
    pub fn files(&self, volumes: &Path) -> PathBuf {
        volumes.join(self.id.as_str()).join("files")
    }

    /// Makes the volume: whole under a scratch name first, so that a kill leaves nothing that looks like a volume.
    pub(super) fn create(&self, volumes: &Path) -> Result<()> {
        let scratch = volumes.join(format!("{SCRATCH}{}", self.id));
        let make = || -> io::Result<()> {
            remove_all(&scratch)?;
            std::fs::create_dir(&scratch)?;
            match self.backing {
                Backing::Image => {
                    let image = File::create(scratch.join("image"))?;
                    image.set_len(self.size_gb.bytes())?;
                    image.sync_all()
                }
                Backing::Directory => std::fs::create_dir(scratch.join("files")),
            }
        };
        let dir = volumes.join(self.id.as_str());
        make()
            .map_err(|source| io_error("cannot make", &scratch, source))
            .and_then(|()| write_json(&scratch.join("volume.json"), self))
            .and_then(|()| {
                std::fs::rename(&scratch, &dir)
                    .and_then(|()| sync_parent(&dir))
                    .map_err(|source| io_error("cannot make", &dir, source))
            })
            .inspect_err(|_| {
                // What can't be removed now is removed by the next sweep.
                let _ = remove_all(&scratch);
            })
    }

    /// Writes a changed record.
    pub(super) fn save(&self, volumes: &Path) -> Result<()> {
        write_json(&volumes.join(self.id.as_str()).join("volume.json"), self)
    }

    /// Takes the volume out of the list in one step; [`sweep`] then removes its data.
    pub(super) fn retire(&self, volumes: &Path) -> Result<()> {
        let dir = volumes.join(self.id.as_str());
        let scratch = volumes.join(format!("{SCRATCH}{}", self.id));
        remove_all(&scratch)
            .and_then(|()| std::fs::rename(&dir, &scratch))
            .and_then(|()| sync_parent(&dir))
            .map_err(|source| io_error("cannot delete", &dir, source))
    }
}

/// Reads all volumes, by id.
pub(super) fn load_all(volumes: &Path) -> Result<Vec<VolumeRecord>> {
    let mut records = Vec::new();
    for name in names(volumes)? {
        // A volume that is deleted meanwhile is none.
        if let Ok(id) = VolumeId::new(name)
            && let Some(record) = VolumeRecord::load(volumes, &id)?
        {
            records.push(record);
        }
    }
    records.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(records)
}

/// Removes what creations and deletions that were cut off have left. Callers hold the lock.
pub(super) fn sweep(volumes: &Path) -> Result<()> {
    for name in names(volumes)?.into_iter().filter(|name| name.starts_with(SCRATCH)) {
        let scratch = volumes.join(name);
        remove_all(&scratch).map_err(|source| io_error("cannot delete", &scratch, source))?;
    }
    Ok(())
}

fn names(volumes: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(volumes) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io_error("cannot read", volumes, source)),
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn remove_all(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl From<VolumeRecord> for Volume {
    fn from(record: VolumeRecord) -> Self {
        Self {
            id: record.id,
            user: record.user,
            environment: record.environment,
            size_gb: record.size_gb,
            zone: "local".into(),
            attachment: record.attachment.map(|held| Attachment {
                machine: held.machine,
                device: held.device,
                state: AttachmentState::Attached,
            }),
            caveat: (record.backing == Backing::Directory).then(|| CAVEAT.into()),
        }
    }
}
