//! What a machine sees of its volumes: devices while it has power, nothing without.

use std::fs::File;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::{Backing, LINK_PREFIX, Volumes, by_id, canonical, device_link, record, volumes_beside, volumes_dir};
use crate::backend::local::map::io_error;
use crate::backend::local::{loopdev, mountinfo};
use crate::domain::{Error, ErrorKind, MachineId, Result};

/// How long a filesystem may stay busy at power-off: the last references of killed processes take a moment to go.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(3);

/// Gives a machine the devices of the volumes attached to it, and removes those of others. Repeatable.
///
/// # Errors
/// `Storage`; `Denied` when a volume is an image and this process can't use loop devices.
pub fn power_on(engine_dir: &Path) -> Result<()> {
    let machine = Powered::find(engine_dir)?;
    let _lock = machine.volumes.lock()?;
    let records = record::load_all(&machine.volumes_dir())?;
    release_leaked(&machine.volumes.data, &records)?;
    let (mine, _) = machine.split(&records);
    let wanted: Vec<PathBuf> = mine.iter().map(|record| device_link(&by_id(engine_dir), &record.id)).collect();
    for link in links(engine_dir)?.into_iter().filter(|link| !wanted.contains(link)) {
        remove_link(&link)?;
    }
    for record in mine {
        super::require_usable(record)?;
        plug_in(engine_dir, &machine.volumes_dir(), record)?;
    }
    Ok(())
}

/// Takes a machine's volumes out of its sight: writes everything back, unmounts everything below its disk, frees its
/// loop devices. They stay attached. Repeatable.
///
/// A filesystem that a process outside the machine keeps busy is unmounted lazily. Its device stays until that process
/// lets go of it: until then the volume can't be detached, and the machine's next power-on finds the same device.
///
/// # Errors
/// `Storage`, `Denied`.
pub fn power_off(engine_dir: &Path) -> Result<()> {
    let machine = Powered::find(engine_dir)?;
    let disk = match engine_dir.join("disk").canonicalize() {
        Ok(disk) => disk,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error("cannot find", engine_dir, source)),
    };
    // Outside the lock: writing back may take long, and touches this machine's devices only.
    for mount in mountinfo::mounts_below(&disk)?.into_iter().rev() {
        sync_and_unmount(&mount.mount_point)?;
    }
    let _lock = machine.volumes.lock()?;
    let records = record::load_all(&machine.volumes_dir())?;
    for record in machine.split(&records).0 {
        match pull_out(engine_dir, &machine.volumes_dir(), record) {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                tracing::warn!(volume = %record.id, error = %error, "the volume's device stays until it is let go of");
            }
            other => other?,
        }
    }
    for link in links(engine_dir)? {
        remove_link(&link)?;
    }
    Ok(())
}

/// A machine's directory, its id, and the volumes beside it.
struct Powered {
    id: MachineId,
    volumes: Volumes,
}

impl Powered {
    fn find(engine_dir: &Path) -> Result<Self> {
        let not_a_machine =
            || Error::new(ErrorKind::InvalidArgument, format!("{} is not a machine's directory", engine_dir.display()));
        let name = engine_dir.file_name().and_then(|name| name.to_str()).ok_or_else(not_a_machine)?;
        let volumes = volumes_beside(engine_dir)?;
        let data = volumes.parent().ok_or_else(not_a_machine)?;
        Ok(Self { id: MachineId::new(name)?, volumes: Volumes::new(data, super::Filesystem::default()) })
    }

    fn volumes_dir(&self) -> PathBuf {
        volumes_dir(&self.volumes.data)
    }

    /// Parts all records into this machine's and the others'.
    fn split<'a>(
        &self,
        records: &'a [record::VolumeRecord],
    ) -> (Vec<&'a record::VolumeRecord>, Vec<&'a record::VolumeRecord>) {
        records.iter().partition(|record| record.attachment.as_ref().is_some_and(|held| held.machine == self.id))
    }
}

/// Makes a volume's device and the link by which its machine finds it. Callers hold the lock.
pub(super) fn plug_in(engine: &Path, volumes: &Path, record: &record::VolumeRecord) -> Result<()> {
    let target = match record.backing {
        Backing::Image => loopdev::ensure(&canonical(&record.image(volumes))?)?,
        Backing::Directory => canonical(&record.files(volumes))?,
    };
    let link = device_link(&by_id(engine), &record.id);
    let new = link.with_extension("new");
    let make = || -> io::Result<()> {
        std::fs::create_dir_all(by_id(engine))?;
        ignore_missing(std::fs::remove_file(&new))?;
        symlink(&target, &new)?;
        std::fs::rename(&new, &link)
    };
    make().map_err(|source| io_error("cannot make", &link, source))
}

/// Undoes [`plug_in`], and whatever still shows the machine a directory volume's files. Callers hold the lock.
pub(super) fn pull_out(engine: &Path, volumes: &Path, record: &record::VolumeRecord) -> Result<()> {
    match record.backing {
        Backing::Image => loopdev::release_all(&canonical(&record.image(volumes))?)?,
        Backing::Directory => {
            let files = canonical(&record.files(volumes))?;
            for link in entries(&engine.join("disk/studios"))? {
                if std::fs::read_link(&link).is_ok_and(|target| target == files) {
                    remove_link(&link)?;
                }
            }
        }
    }
    remove_link(&device_link(&by_id(engine), &record.id))
}

/// Frees the loop devices that no attachment accounts for: left by kills, and by filesystems that were busy at
/// power-off. Those still busy stay. Callers hold the lock.
pub(super) fn release_leaked(data: &Path, records: &[record::VolumeRecord]) -> Result<()> {
    let volumes = canonical(&volumes_dir(data))?;
    for (device, file) in loopdev::all()? {
        let Ok(below) = file.strip_prefix(&volumes) else { continue };
        let attached = records
            .iter()
            .any(|record| record.attachment.is_some() && below.parent() == Some(Path::new(record.id.as_str())));
        if !attached && let Err(error) = loopdev::release(&device) {
            tracing::warn!(device = %device.display(), error = %error.full_message(), "a device without a volume stays");
        }
    }
    Ok(())
}

fn sync_and_unmount(mount_point: &Path) -> Result<()> {
    let failed = |source: io::Error| io_error("cannot unmount", mount_point, source);
    match File::open(mount_point) {
        Ok(dir) => rustix::fs::syncfs(&dir).map_err(|errno| failed(errno.into()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let deadline = Instant::now() + UNMOUNT_PATIENCE;
    loop {
        match unmount(mount_point, UnmountFlags::NOFOLLOW) {
            // EINVAL: it is mounted no more.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(Errno::BUSY) => {
                tracing::warn!(path = %mount_point.display(), "still in use at power-off; unmounted lazily");
                return unmount(mount_point, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                    .map_err(|errno| failed(errno.into()));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

fn links(engine: &Path) -> Result<Vec<PathBuf>> {
    let mut links = entries(&by_id(engine))?;
    links.retain(|link| link.file_name().is_some_and(|name| name.to_string_lossy().starts_with(LINK_PREFIX)));
    Ok(links)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(io_error("cannot read", dir, source)),
    }
}

fn remove_link(link: &Path) -> Result<()> {
    ignore_missing(std::fs::remove_file(link)).map_err(|source| io_error("cannot remove", link, source))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
