//! Studio volumes of the local backend.
//!
//! As root with loop devices a volume is a sparse image, and attaching it gives its machine a loop device under the name
//! that an EBS volume has on EC2. Otherwise it is a directory. A volume keeps the backing it was made with.
//!
//! One lock orders everything that changes a volume or a loop device, among all processes. Each call first records what
//! is to be, then makes it so; repeating a call that was cut off finishes it.

mod power;
mod record;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::durable;
use super::loopdev;
use super::map::io_error;
use crate::domain::{
    DeviceName, EnvironmentName, Error, ErrorKind, IdempotencyKey, MachineId, Result, SizeGb, Volume, VolumeId,
};
use crate::ports::{AttachVolume, CreateVolume};
pub use power::{power_off, power_on};
pub use record::{Backing, Held, VolumeRecord};

/// How long a call waits for others that change volumes.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

pub use crate::domain::Filesystem;

impl Filesystem {
    /// Returns the name that `mount` and `blkid` know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

impl std::fmt::Display for Filesystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Filesystem {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        [Self::Ext4, Self::Xfs].into_iter().find(|filesystem| filesystem.as_str() == text).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, format!("{text:?} is not a filesystem for studios"))
                .with_hint("give ext4 or xfs")
        })
    }
}

/// The volumes below a data directory.
#[derive(Debug, Clone)]
pub struct Volumes {
    data: PathBuf,
    filesystem: Filesystem,
    directories_only: bool,
}

impl Volumes {
    /// Looks after the volumes of a data directory; new ones get this filesystem. No I/O.
    pub fn new(data: &Path, filesystem: Filesystem) -> Self {
        Self { data: data.to_owned(), filesystem, directories_only: false }
    }

    /// Makes new volumes directories, even where images are possible.
    pub fn with_directories_only(self) -> Self {
        Self { directories_only: true, ..self }
    }

    /// Creates a volume; the same key returns the volume it created before.
    ///
    /// # Errors
    /// `Conflict` when the key was used for another user or environment; `Storage`.
    pub fn create(&self, request: &CreateVolume) -> Result<Volume> {
        let _lock = self.lock()?;
        let id = volume_id(&request.key)?;
        if let Some(record) = self.load(&id)? {
            if (&record.key, &record.user, &record.environment) == (&request.key, &request.user, &request.environment) {
                return Ok(record.into());
            }
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("volume {id} was created under that key for another request"),
            )
            .with_hint("begin a new operation: `dh studio create`"));
        }
        let image = !self.directories_only && loopdev::usable();
        let record = VolumeRecord {
            schema: record::SCHEMA,
            id: id.clone(),
            key: request.key.clone(),
            user: request.user.clone(),
            environment: request.environment.clone(),
            size_gb: request.size_gb,
            backing: if image { Backing::Image } else { Backing::Directory },
            filesystem: self.filesystem,
            attachment: None,
            epoch: 0,
        };
        record.create(&volumes_dir(&self.data))?;
        Ok(record.into())
    }

    /// Describes a volume; `None` when it does not exist.
    ///
    /// # Errors
    /// `Storage`, `Incompatible`.
    pub fn describe(&self, id: &VolumeId) -> Result<Option<Volume>> {
        Ok(self.load(id)?.map(Volume::from))
    }

    /// Lists the volumes of an environment, by id.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub fn list(&self, environment: &EnvironmentName) -> Result<Vec<Volume>> {
        let records = record::load_all(&volumes_dir(&self.data))?;
        Ok(records.into_iter().filter(|record| record.environment == *environment).map(Volume::from).collect())
    }

    /// Joins a volume to a machine, whether that has power or not; one joined there under that name is left alone.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` with context `reason` = `volume_in_use`, `device_in_use` or `stale_epoch`; `Denied` when
    /// the volume is an image and this process can't use it.
    pub fn attach(&self, request: &AttachVolume) -> Result<()> {
        let _lock = self.lock()?;
        let engine = self.engine_dir(&request.machine)?;
        let records = record::load_all(&volumes_dir(&self.data))?;
        let before =
            records.iter().find(|record| record.id == request.volume).ok_or_else(|| missing(&request.volume))?;
        let others = records.iter().filter(|record| record.id != request.volume);
        let attachment = decide_attach(before, others, request)?;
        require_usable(before)?;
        power::release_leaked(&self.data, &records)?;
        let after = VolumeRecord { epoch: attachment.epoch, attachment: Some(attachment), ..before.clone() };
        let volumes = volumes_dir(&self.data);
        after.save(&volumes)?;
        power::plug_in(&engine, &volumes, &after).inspect_err(|_| {
            // The epoch stays used. A failure here too leaves an attachment that `attach` or `detach` finishes.
            let undone = VolumeRecord { attachment: before.attachment.clone(), ..after.clone() };
            if let Err(error) = undone.save(&volumes) {
                tracing::warn!(volume = %undone.id, error = %error.full_message(), "attach could not be undone");
            }
        })
    }

    /// Parts a volume from a machine; one not joined to it, or missing, is left alone.
    ///
    /// # Errors
    /// `Conflict` with context `reason` = `volume_busy` while it is mounted.
    pub fn detach(&self, volume: &VolumeId, machine: &MachineId) -> Result<()> {
        let _lock = self.lock()?;
        let Some(record) = self.load(volume)? else { return Ok(()) };
        if record.attachment.as_ref().is_none_or(|held| held.machine != *machine) {
            return Ok(());
        }
        require_usable(&record)?;
        let volumes = volumes_dir(&self.data);
        power::pull_out(&engines_dir(&self.data).join(machine.as_str()), &volumes, &record)?;
        VolumeRecord { attachment: None, ..record }.save(&volumes)
    }

    /// Makes a volume larger; one of that size or more is left alone. The filesystem grows at the next mount.
    ///
    /// # Errors
    /// `NotFound`; `Storage`.
    pub fn grow(&self, id: &VolumeId, size_gb: SizeGb) -> Result<()> {
        let _lock = self.lock()?;
        let record = self.load(id)?.ok_or_else(|| missing(id))?;
        if record.size_gb >= size_gb {
            return Ok(());
        }
        let volumes = volumes_dir(&self.data);
        if record.backing == Backing::Image {
            require_usable(&record)?;
            let image = record.image(&volumes);
            let enlarge = || -> std::io::Result<()> {
                let file = File::options().write(true).open(&image)?;
                // Never below what is there: a grow that was cut off may have asked for more.
                file.set_len(size_gb.bytes().max(file.metadata()?.len()))?;
                file.sync_all()
            };
            enlarge().map_err(|source| io_error("cannot enlarge", &image, source))?;
            loopdev::refresh_capacity(&canonical(&image)?)?;
        }
        VolumeRecord { size_gb, ..record }.save(&volumes)
    }

    /// Deletes a volume and its data. A missing one is success.
    ///
    /// # Errors
    /// `Conflict` while it is attached.
    pub fn delete(&self, id: &VolumeId) -> Result<()> {
        let _lock = self.lock()?;
        let volumes = volumes_dir(&self.data);
        if let Some(record) = self.load(id)? {
            if let Some(held) = &record.attachment {
                return Err(Error::new(ErrorKind::Conflict, format!("volume {id} is attached to {}", held.machine))
                    .with_context("reason", "volume_in_use")
                    .with_hint("detach it first: `dh studio detach`"));
            }
            if record.backing == Backing::Image {
                require_usable(&record)?;
                loopdev::release_all(&canonical(&record.image(&volumes))?)?;
            }
            record.retire(&volumes)?;
        }
        record::sweep(&volumes)
    }

    /// Returns the volumes attached to a machine, by device name.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub fn attached_to(&self, machine: &MachineId) -> Result<Vec<(DeviceName, VolumeId)>> {
        Ok(self.attachments()?.remove(machine).unwrap_or_default().into_iter().collect())
    }

    /// Returns what is attached to every machine, in one reading of all volumes.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub fn attachments(&self) -> Result<BTreeMap<MachineId, BTreeMap<DeviceName, VolumeId>>> {
        let mut machines = BTreeMap::<_, BTreeMap<_, _>>::new();
        for record in record::load_all(&volumes_dir(&self.data))? {
            if let Some(held) = record.attachment {
                machines.entry(held.machine).or_default().insert(held.device, record.id);
            }
        }
        Ok(machines)
    }

    fn load(&self, id: &VolumeId) -> Result<Option<VolumeRecord>> {
        VolumeRecord::load(&volumes_dir(&self.data), id)
    }

    fn lock(&self) -> Result<File> {
        let volumes = volumes_dir(&self.data);
        std::fs::create_dir_all(&volumes).map_err(|source| io_error("cannot make", &volumes, source))?;
        durable::lock(&self.data.join("volumes.lock"), LOCK_PATIENCE)
    }

    fn engine_dir(&self, machine: &MachineId) -> Result<PathBuf> {
        let dir = engines_dir(&self.data).join(machine.as_str());
        if is_hex_id(machine.as_str(), "i-") && dir.is_dir() {
            return Ok(dir);
        }
        Err(Error::new(ErrorKind::NotFound, format!("no machine {machine}"))
            .with_hint("list the engines there are: `dh engine list`"))
    }
}

/// Where all machines' directories are.
fn engines_dir(data: &Path) -> PathBuf {
    data.join("engines")
}

/// Where all volumes' directories are.
fn volumes_dir(data: &Path) -> PathBuf {
    data.join("volumes")
}

/// Returns the link under which a volume's device appears below a directory of `by-id` links.
pub fn device_link(by_id: &Path, volume: &VolumeId) -> PathBuf {
    by_id.join(format!("{LINK_PREFIX}{}", volume.as_str().replacen('-', "", 1)))
}

const LINK_PREFIX: &str = "nvme-Amazon_Elastic_Block_Store_";

/// Returns the directory of `by-id` links of a machine of the local backend.
fn by_id(engine: &Path) -> PathBuf {
    engine.join("disk/dev/by-id")
}

/// Returns the volumes directory that a machine's directory lies beside: `data/engines/<machine>`.
///
/// # Errors
/// `InvalidArgument` when the path is not that of a machine.
pub fn volumes_beside(engine_dir: &Path) -> Result<PathBuf> {
    match engine_dir.parent().and_then(Path::parent) {
        Some(data) => Ok(volumes_dir(data)),
        None => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{} is not a machine's directory", engine_dir.display()),
        )),
    }
}

/// What an attach leads to: a refusal, or the attachment that is to be.
fn decide_attach<'a>(
    volume: &VolumeRecord,
    mut others: impl Iterator<Item = &'a VolumeRecord>,
    request: &AttachVolume,
) -> Result<Held> {
    let refuse = |reason: &'static str, message: String, hint: &str| {
        Err(Error::new(ErrorKind::Conflict, message).with_context("reason", reason).with_hint(hint))
    };
    let id = &volume.id;
    if request.epoch < volume.epoch {
        return refuse(
            "stale_epoch",
            format!("volume {id} was attached under epoch {} already, {} is older", volume.epoch, request.epoch),
            "another operation came first: see `dh studio status`",
        );
    }
    if let Some(held) = &volume.attachment
        && (&held.machine, held.device) != (&request.machine, request.device)
    {
        return refuse(
            "volume_in_use",
            format!("volume {id} is attached to {} as {}", held.machine, held.device),
            "detach it first: `dh studio detach`",
        );
    }
    let holds_device = |held: &Held| (&held.machine, held.device) == (&request.machine, request.device);
    if let Some(other) = others.find(|other| other.attachment.as_ref().is_some_and(holds_device)) {
        return refuse(
            "device_in_use",
            format!("{} of {} is taken by volume {}", request.device, request.machine, other.id),
            "attach it under another device name",
        );
    }
    Ok(Held { machine: request.machine.clone(), device: request.device, epoch: request.epoch })
}

/// Refuses an image volume where this process can't use loop devices.
fn require_usable(record: &VolumeRecord) -> Result<()> {
    if record.backing == Backing::Directory || loopdev::usable() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Denied,
        format!("volume {} is a disk image, which only root with loop devices can use", record.id),
    )
    .with_hint("run dh as root, as when the studio was created; a studio created without root is a directory"))
}

fn missing(id: &VolumeId) -> Error {
    Error::new(ErrorKind::NotFound, format!("no volume {id}")).with_hint("list the studios there are: `dh studio list`")
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|source| io_error("cannot find", path, source))
}

/// Whether a text is the prefix and 17 hexadecimal digits, and so fit to be a directory's name here.
fn is_hex_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|hex| {
        hex.len() == 17 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// Derives a volume's id from the key of its creation: 128-bit FNV-1a, of which the upper 68 bits. Must never change,
/// and need resist nobody: the key is stored with the volume and compared.
fn volume_id(key: &IdempotencyKey) -> Result<VolumeId> {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = key.as_str().bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    VolumeId::new(format!("vol-{:017x}", hash >> 60))
}

#[cfg(test)]
mod tests;
